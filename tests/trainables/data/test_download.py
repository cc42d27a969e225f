import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from search_spaces.core.errors import DataError
from trainables.data.catalog import CATALOG
from trainables.data.download import download

INFO = CATALOG["pneumoniamnist"]


@pytest.fixture
def pretend(monkeypatch):
    """Put a stand-in for the medmnist package in place, whose datasets call `behave(file)` when made."""

    def pretend(behave):
        class PneumoniaMNIST:
            def __init__(self, *, split, download, root, size):
                assert (split, download) == ("val", True)
                sys.stdout.write("Using downloaded and verified file")
                behave(Path(root) / f"pneumoniamnist_{size}.npz")

        module = ModuleType("medmnist")
        module.INFO = {"pneumoniamnist": {"python_class": "PneumoniaMNIST"}}
        module.PneumoniaMNIST = PneumoniaMNIST
        monkeypatch.setitem(sys.modules, "medmnist", module)

    return pretend


def fail_halfway(file):
    file.write_bytes(b"half")
    try:
        raise OSError("Network is unreachable")
    except OSError:
        raise RuntimeError("\n    Automatic download failed! Please ...\n    much advice\n")  # noqa: B904 -- as medmnist does


def test_a_file_arrives_whole_and_alone(pretend, tmp_path, capsys):
    pretend(lambda file: file.write_bytes(b"content"))
    path = tmp_path / "new" / "folder" / "pneumoniamnist_64.npz"
    assert download(INFO, 64, path) == path
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]
    assert capsys.readouterr().out == ""


def test_a_failure_leaves_nothing_and_says_what_to_do(pretend, tmp_path, capsys):
    pretend(fail_halfway)
    path = tmp_path / "new" / "folder" / "pneumoniamnist_64.npz"
    with pytest.raises(DataError) as caught:
        download(INFO, 64, path)
    assert str(caught.value) == (
        f"pneumoniamnist: no file {path}, and fetching it failed (Network is unreachable); "
        f"put pneumoniamnist_64.npz from https://zenodo.org/records/10519652 into {path.parent}, "
        "or name its folder with --data-root"
    )
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_failure_spares_a_folder_that_was_there(pretend, tmp_path):
    pretend(fail_halfway)
    (tmp_path / "other.npz").touch()
    with pytest.raises(DataError):
        download(INFO, 64, tmp_path / "pneumoniamnist_64.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["other.npz"]


def test_without_medmnist(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(DataError, match=r"fetching it failed \(import of medmnist halted"):
        download(INFO, 64, tmp_path / "pneumoniamnist_64.npz")


def test_a_place_that_cannot_be_made(pretend, tmp_path):
    pretend(lambda file: pytest.fail("must not be tried"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="fetching it failed"):
        download(INFO, 64, tmp_path / "file" / "pneumoniamnist_64.npz")


def test_a_silent_server_is_not_waited_for(pretend, tmp_path):
    seen = []
    pretend(lambda file: (seen.append(socket.getdefaulttimeout()), file.touch()))
    download(INFO, 64, tmp_path / "pneumoniamnist_64.npz")
    assert seen == [15.0]
    assert socket.getdefaulttimeout() is None
