"""A new condition is one field in one file: everything that knows of conditions learns it from there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_search.results.store import Store
from sparse_search.search.sweep import DatasetFacts
from sparse_search.search.sweep_file import parse_sweep
from trainables.training.run import runs_of_trial

from .sparse_search.conftest import make_record  # noqa: F401

ROOT = Path(__file__).parents[1]
CONDITIONS = "trainables/core/conditions.py"

FIELD = """    rotation: int = field(
        default=0,
        metadata=_facts(
            meaning="degrees by which training images are turned",
            minimum=0,
            changes="scores",
            why="other images are learned",
            words="turned by {} degrees",
        ),
    )

    def __post_init__"""

SEEN = """
import json, sys
from pathlib import Path
from sparse_search.best.export import _trial
from sparse_search.results.headings import words_apart
from sparse_search.results.rows import RUN_SCHEMA
from sparse_search.results.store import Store
from sparse_search.results.trials import RANKING, TRIAL_SCHEMA
from sparse_search.search.sweep import DatasetFacts
from sparse_search.search.sweep_file import parse_sweep
from sparse_search.search.transfer import SEARCH
from sparse_search.search.warm_start import _comparable
from trainables.training.run import runs_of_trial
from trainables.training.trial import Trial

def study(**changes):
    sweep = parse_sweep({"name": "s", "datasets": ["digits"], "shots": [2], "methods": {"constant": {}}, **changes})
    return sweep.studies({("digits", 2): DatasetFacts("a", 20, 400)})[0]

def refused(values):
    try:
        study(**values)
    except Exception as problem:
        return str(problem)

plain, turned = study(), study(rotation=90)
trial = turned.trial(turned.plan.settings, 0)
known = {name: "" for name in RANKING}
print(json.dumps({
    "names": [plain.name, turned.name],
    "ids": [each.trial(each.plan.settings, 0).trial_id for each in (plain, turned)],
    "runs": [runs_of_trial(each.trial(each.plan.settings, 0))[0].run_id("c") for each in (plain, turned)],
    "refused": [refused({"rotation": "much"}), refused({"rotation": -1})],
    "written": trial.as_dict()["rotation"],
    "read": Trial.from_dict(trial.as_dict()) == trial,
    "record": trial.conditions.as_columns()["rotation"],
    "column": str(RUN_SCHEMA.field("rotation").type),
    "kept": "rotation" in TRIAL_SCHEMA.names,
    "ranked": "rotation" in RANKING,
    "transfer": "rotation" in SEARCH,
    "warm": _comparable(trial.conditions)["rotation"],
    "words": words_apart(known | {"rotation": 90}, [known | {"rotation": 0}]),
    "exported": _trial({name: 0 for name in TRIAL_SCHEMA.names} | {"config_json": "{}", "label_set_list": [0],
                       "source": "", "rotation": 90})["rotation"],
    "before": Store(Path(sys.argv[1])).runs()["rotation"].to_pylist(),
}))
"""


@pytest.mark.slow
def test_a_new_condition_is_one_field(tmp_path, make_record):  # noqa: F811
    store = Store(tmp_path / "results")
    store.prepare()
    store.write(make_record(0))
    store.compact()
    sweep = {"name": "s", "datasets": ["digits"], "shots": [2], "methods": {"constant": {}}}
    (study,) = parse_sweep(sweep).studies({("digits", 2): DatasetFacts("a", 20, 400)})
    trial = study.trial(study.plan.settings, 0)
    for package in ("search_spaces", "trainables", "sparse_search"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / CONDITIONS
    text = module.read_text()
    assert text.count("    def __post_init__") == 1
    module.write_text(text.replace("    def __post_init__", FIELD))

    def run(*command):
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False,
                              env=environment)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert (
        " ".join(run("-m", "trainables", "--help").split())
        .partition("--rotation N ")[2]
        .startswith("degrees by which training images are turned (default: 0)")
    )
    assert "200/200 images" in run("-m", "trainables", "constant", "--images", "200", "--rotation", "90")
    seen = json.loads(run("-c", SEEN, str(store.folder)))
    for name, before in (
        ("names", study.name), ("ids", trial.trial_id), ("runs", runs_of_trial(trial)[0].run_id("c"))
    ):  # fmt: skip
        plain, turned = seen.pop(name)
        assert plain == before, "its default changes no name of before"
        assert turned != before
    assert seen == {
        "refused": [f"rotation: {value} is impossible, expected a whole number from 0" for value in ("'much'", "-1")],
        "written": 90,
        "read": True,
        "record": 90,
        "column": "int64",
        "kept": True,
        "ranked": True,
        "transfer": True,
        "warm": 90,
        "words": ["turned by 90 degrees"],
        "exported": 90,
        "before": [0],
    }
