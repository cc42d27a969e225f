import errno
from concurrent.futures import ThreadPoolExecutor

import pytest

from search_spaces.core.errors import DataError
from trainables.data.cache import cache_root, cached_folder


class Maker:
    """Count how often it made a folder of two files."""

    def __init__(self):
        self.times = 0

    def __call__(self, folder):
        self.times += 1
        (folder / "large").write_bytes(bytes(range(256)) * 1000)
        (folder / "small").write_bytes(b"x")
        return {"number": 7}


def test_where(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache/sparse-search"


def test_made_once(cache):
    make = Maker()
    assert cached_folder("a", make) == cached_folder("a", make) == (cache / "a", {"number": 7})
    assert cached_folder("b", make)[0] == cache / "b"
    assert make.times == 2


def cut_short(folder):
    (folder / "large").write_bytes((folder / "large").read_bytes()[:-1])


def zeroed(folder):
    (folder / "large").write_bytes(bytes(256_000))


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        zeroed,
        lambda folder: (folder / "small").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text('{"files": {}}'),
    ],
)
def test_made_again_when_damaged(damage):
    make = Maker()
    folder, _ = cached_folder("a", make)
    damage(folder)
    assert cached_folder("a", make)[1] == {"number": 7}
    assert make.times == 2
    assert (folder / "large").stat().st_size == 256_000
    cached_folder("a", make)
    assert make.times == 2


def test_nothing_half_made_is_left_or_used(cache):
    def fail(folder):
        (folder / "large").write_bytes(b"x")
        raise DataError("unreadable")

    with pytest.raises(DataError, match="unreadable"):
        cached_folder("a", fail)
    (cache / "a.partial").mkdir()
    (cache / "a.partial/left by a kill").write_bytes(b"x")
    folder, _ = cached_folder("a", Maker())
    assert sorted(path.name for path in folder.iterdir()) == ["large", "manifest.json", "small"]
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["a"]


def test_at_the_same_time_it_is_made_once():
    make = Maker()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cached_folder("a", make), range(8)))
    assert make.times == 1
    assert len(set(map(str, found))) == 1


def test_a_full_disk_names_the_variable(cache):
    def fail(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError) as caught:
        cached_folder("a", fail)
    assert str(caught.value) == (
        f"prepared pictures cannot be written to {cache} (No space left on device); "
        "make room, or name another folder in $SPARSE_SEARCH_CACHE"
    )


def test_a_file_in_the_way_names_the_variable(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SPARSE_SEARCH_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(DataError, match=r"name another folder in \$SPARSE_SEARCH_CACHE"):
        cached_folder("a", Maker())
