"""Users without a home folder, as in a container that runs under a mere number."""

import os
from pathlib import Path

import pytest

from sparse_search.results.ledger import look_now
from trainables.core.home import ensure_home, from_home
from trainables.data.cache import CACHE_VARIABLE, cache_root
from trainables.data.source import data_root


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for variable in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", CACHE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_with_a_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (from_home("~/a/b"), from_home("a"), from_home("/a")) == (tmp_path / "a/b", Path("a"), Path("/a"))
    ensure_home()
    assert os.environ["HOME"] == str(tmp_path)


def test_without_one_the_current_folder_takes_its_place(homeless):
    with pytest.raises(RuntimeError):
        Path.home()
    assert cache_root() == homeless / ".cache/sparse-search"
    assert data_root(None) == homeless / ".medmnist"
    assert (from_home("a"), from_home("/a")) == (Path("a"), Path("/a"))


def test_libraries_have_one_then(homeless, monkeypatch):
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    ensure_home()
    assert Path.home() == homeless


def test_the_ledger_names_a_user_without_a_name_by_number(homeless):
    values = dict.fromkeys(("why", "dataset", "content_hash", "validation", "method", "config_id"), "")
    numbers = {"shots": 1, "num_images": 1, "label_sets": [0], "test": {}, "validated": {}, "versions": {}}
    assert look_now(**values, **numbers).who.startswith(f"user {os.getuid()}@")
