"""A real sweep, edited, renamed, and robbed of its journal: no run is trained twice."""

import shutil
from collections import defaultdict
from io import StringIO

import pytest
from rich.console import Console

from sparse_search.execution.run import run
from sparse_search.results.store import Store
from sparse_search.search.sweep_file import parse_sweep

from ..conftest import TINY

SWEEP = TINY | {
    "confirm": 2, "confirm_label_sets": 1, "workers": 1, "images": 1200, "evaluate_every": 200,
    "methods": {"supervised": TINY["methods"]["supervised"] | {"trials": 4}},
}  # fmt: skip


def trainings(results):
    """When and for how long each run was trained, by what it is but its selection."""
    found = defaultdict(set)
    for record in Store(results).records():
        found[
            record["config"]["lr"], record["config"]["dropout"], record["config"]["mixup_alpha"], record["label_set"]
        ].add((record["finished_at"], record["wall_seconds"]))
    return found


def call(sweep, results):
    told = StringIO()
    summary = run(parse_sweep(sweep), results, console=Console(file=told, width=300))
    assert summary.ok
    return told.getvalue()


@pytest.fixture(scope="module")
def swept(one_ray, tmp_path_factory):
    results = tmp_path_factory.mktemp("once") / "results"
    call(SWEEP, results)
    return results


@pytest.fixture
def copy(swept, tmp_path):
    return shutil.copytree(swept, tmp_path / "results")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("edit", "more"),
    [
        ({"confirm_label_sets": 2}, 1),
        ({"name": "again"}, 0),
        ({"objective": "accuracy"}, 0),
        *(
            pytest.param(edit, 0, marks=pytest.mark.long)
            for edit in ({"selection": "mean3"}, {"max_memory": 50.0}, {"cpus_per_trial": 2})
        ),
    ],
    ids=str,
)
def test_s5_an_edit_trains_the_difference_only(copy, edit, more):
    before = trainings(copy)
    call(SWEEP | {"sampler": "random"} | edit, copy)
    after = trainings(copy)
    assert all(len(each) == 1 for each in after.values())
    assert all(after[key] == each for key, each in before.items())
    label_sets = {label_set for *_, label_set in after} - {label_set for *_, label_set in before}
    assert len(label_sets) == more


@pytest.mark.slow
@pytest.mark.ray
def test_s10_a_sweep_without_its_journal_trains_nothing_again(copy):
    before = trainings(copy)
    num_records = Store(copy).num_records()
    (copy / "sweeps" / "tiny" / "journal.log").unlink()
    told = call(SWEEP, copy)
    assert "the search is built again from the records: " in told
    assert trainings(copy) == before
    assert Store(copy).num_records() == num_records
    assert "goes on with 4 of 4 trials finished" in told
