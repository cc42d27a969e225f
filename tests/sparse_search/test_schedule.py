"""What the driver does when Tune breaks down, without a cluster."""

from types import SimpleNamespace

import pytest
import ray

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search import schedule
from sparse_search.schedule import MOST_BREAKDOWNS, execute, num_workers

OUT_OF_MEMORY = "RuntimeError: Caught unexpected exception: Task was killed due to the node running low on memory."


@pytest.fixture
def drive(tmp_path, tiny, monkeypatch):
    """Drives a sweep whose Tuners end as told: why each broke down, and how many trials had ended until then."""

    def make(*endings, problem=""):
        searcher = SimpleNamespace(num_ended=0, problem="", lost=lambda reason: told.append(reason))
        told, workers, said = [], [], []

        def fit(sweep, searcher, count, folder, callback):
            workers.append(count)
            reason, searcher.num_ended = endings[len(workers) - 1]
            searcher.problem = problem
            return reason

        monkeypatch.setattr(schedule, "_fit", fit)
        execute(tiny(), searcher, 3, tmp_path, None, said.append)
        return workers, told, said

    return make


def test_a_breakdown_is_survived_with_fewer_trials_at_a_time(drive):
    workers, told, said = drive(("low memory", 1), ("low memory", 2), ("", 5))
    assert workers == [3, 2, 1]
    assert told == ["low memory"] * 2
    assert said[0] == "low memory; what was in training is tried again, 2 at a time"


def test_breakdowns_in_a_row_end_the_sweep(drive):
    with pytest.raises(ResultsError, match=f"low memory; {MOST_BREAKDOWNS} times in a row. Mend this"):
        drive(*[("low memory", 0)] * MOST_BREAKDOWNS)


def test_progress_in_between_makes_it_no_row(drive):
    assert drive(*[("low memory", ended) for ended in range(5)], ("", 9))[0] == [3, 2, 1, 1, 1, 1]


def test_a_problem_of_the_searcher_ends_it_at_once(drive):
    with pytest.raises(ResultsError, match="disk full; mend this, and the same command goes on"):
        drive(("", 0), problem="disk full")


def test_reasons_are_one_line():
    assert "low on memory (raise memory_per_trial)" in schedule._reason(f"Traceback …\n{OUT_OF_MEMORY}\nmore")
    assert schedule._reason("Traceback …\nValueError: no") == "Ray Tune gave up: ValueError: no"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 8),
        ({"cpus_per_trial": 3}, 2),
        ({"memory_per_trial": 5}, 3),
        ({"gpus_per_trial": 0.4}, 2),
        ({"workers": 1}, 1),
    ],
    ids=str,
)
def test_as_many_trials_as_the_resources_allow(tiny, monkeypatch, changes, expected):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0, "memory": 16e9})
    assert num_workers(tiny(**changes)) == expected


def test_a_trial_that_fits_nowhere_is_a_clear_mistake(tiny, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "memory": 4e9})
    with pytest.raises(ConfigError, match=r"asks for 1 CPUs and 5.0 GB, but there are 2 CPUs and 4.0 GB"):
        num_workers(tiny(memory_per_trial=5))
    with pytest.raises(ConfigError, match=r"1 CPUs and 1 GPUs and 2.0 GB, but there are 2 CPUs and 0 GPUs"):
        num_workers(tiny(gpus_per_trial=1))
