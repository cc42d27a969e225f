import importlib.util

import pytest

from search_spaces.core.errors import ConfigError
from sparse_search.trackers.choices import find_tracker, read_trackers, tracker_names

from ..conftest import studies_of


def test_names():
    assert tracker_names() == ["mlflow", "tensorboard", "wandb"]
    assert read_trackers("mlflow") == ("mlflow",)
    assert read_trackers(["wandb", "tensorboard"]) == ("wandb", "tensorboard")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tensorbord", "tracker 'tensorbord' is unknown; did you mean 'tensorboard'"),
        (["mlflow", "mlflow"], r"tracker: expected different names, got \['mlflow', 'mlflow'\]"),
        ({"name": "mlflow"}, "tracker '{'name': 'mlflow'}' is unknown"),
        (3, "tracker '3' is unknown"),
        ([["mlflow"]], "is unknown"),
    ],
)
def test_mistakes(tiny, given, message):
    with pytest.raises(ConfigError, match=message):
        tiny(tracker=given)


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("sparse_search.trackers.choices.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        find_tracker("wandb")
    assert str(caught.value) == "tracker wandb needs wandb: pip install 'sparse-search[wandb]', or leave it out"


@pytest.mark.parametrize("name", tracker_names())
def test_an_extra_of_its_name_brings_its_library(name):
    assert importlib.util.find_spec(f"sparse_search.trackers.kinds.{name}")
    kind = __import__(f"sparse_search.trackers.kinds.{name}", fromlist=["TRACKER"]).TRACKER
    assert (kind.library, kind.extra) == (name, name)


def test_a_tracker_is_no_part_of_what_is_searched(tiny):
    names = [[study.name for study in studies_of(tiny(**changes))] for changes in ({}, {"tracker": "mlflow"})]
    assert names[0] == names[1]
    assert tiny().tracker == ()
