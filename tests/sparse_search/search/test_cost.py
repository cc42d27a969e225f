import json
import time

import pytest

from sparse_search.results.catalog import SetAsideWarning
from sparse_search.search.cost import Clock, cost_of


def test_time_adds_up_over_starts(tmp_path):
    path = tmp_path / "clock.json"
    path.write_text(json.dumps({"seconds": 3599.0}))
    clock = Clock(path, max_hours=1.0)
    assert not clock.is_over
    time.sleep(1.1)
    assert clock.is_over
    clock.note(busy_seconds=6.0, slot_seconds=8.0)
    again = Clock(path)
    assert again.seconds > 3600
    assert again.busy == 0.75
    assert not again.is_over  # without a limit


def test_a_run_that_a_confirmation_took_over_costs_once(store, make_record, tmp_path):
    for number, changes in enumerate(({}, {"label_sets": "0, 1", "study": "confirmation"})):
        store.write(make_record(number, run_id="same", gpu_seconds=7200.0, **changes))
    store.write(make_record(5, sweep="another", wall_seconds=1e6))
    cost = cost_of(store, "test", Clock(tmp_path / "clock.json"))
    assert (cost.num_runs, cost.images, cost.gpu_hours) == (1, 200, 2.0)
    assert cost.run_hours == pytest.approx(20 / 3600)
    assert "1 runs, 200 images" in str(cost)


@pytest.mark.parametrize("content", [b"", b"{", b"5", b'{"seconds": "x"}', b"\xff"])
def test_a_damaged_clock_begins_anew_and_says_so(tmp_path, content):
    path = tmp_path / "clock.json"
    path.write_bytes(content)
    with pytest.warns(SetAsideWarning, match=r"clock.json is damaged .*begins anew"):
        clock = Clock(path)
    assert clock.seconds < 1
    clock.note()
    assert Clock(path).seconds >= 0
