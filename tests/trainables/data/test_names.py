import pytest

from search_spaces.core.errors import DataError
from trainables.core.grid import Grid
from trainables.data.names import read_name


@pytest.mark.parametrize(
    ("dataset", "name", "side", "grid"),
    [
        ("idrid", "idrid", None, None),
        ("idrid@256", "idrid", 256, None),
        ("idrid:8x8", "idrid", None, Grid(8, 8)),
        ("idrid@256:8x8", "idrid", 256, Grid(8, 8)),
        ("scans/@512:4x4+16", "scans/", 512, Grid(4, 4, 16)),
        ("a@b", "a@b", None, None),
        ("a@0", "a@0", None, None),
        ("module:NAME", "module:NAME", None, None),
    ],
)
def test_parts(dataset, name, side, grid):
    assert read_name(dataset) == (name, side, grid)


@pytest.mark.parametrize("given", ["8", "8x", "0x8", "8x8+", "8 x 8", "", "8x8x8", "8x8-2"])
def test_what_is_meant_as_a_grid_must_be_one(given):
    with pytest.raises(DataError) as caught:
        read_name(f"idrid@256:{given}")
    assert str(caught.value) == (
        f"dataset 'idrid@256:{given}': '{given}' is no grid; expected ROWSxCOLUMNS or ROWSxCOLUMNS+OVERLAP, "
        "such as idrid@256:8x8"
    )


def test_an_existing_path_is_no_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans@64:2x2").mkdir()
    assert read_name("scans@64:2x2") == ("scans@64:2x2", None, None)
    assert read_name("scans@64:2x2@32:4x4") == ("scans@64:2x2", 32, Grid(4, 4))


@pytest.mark.parametrize(("grid", "text"), [(Grid(8, 8), "8x8"), (Grid(4, 4, 16), "4x4+16")])
def test_a_grid_is_written_as_it_is_read(grid, text):
    assert str(grid) == text
    assert read_name(f"x:{text}").grid == grid
