import subprocess
import sys

import pytest

from search_spaces.core.errors import DataError
from trainables.data.catalog import CATALOG

MEDMNIST = sorted(name for name, row in CATALOG.items() if row.opener == "medmnist:open_medmnist")


@pytest.fixture(scope="module")
def published():
    return pytest.importorskip("medmnist.info", reason="medmnist is not installed").INFO


def test_the_catalogue_holds_every_two_dimensional_set(published):
    assert {name for name in published if not name.endswith("3d")} == set(MEDMNIST)


@pytest.mark.parametrize("name", MEDMNIST)
def test_a_row_says_what_medmnist_publishes(name, published):
    row, theirs = CATALOG[name], published[name]
    assert row.channels == theirs["n_channels"]
    assert row.licence == theirs["license"]
    assert row.title.startswith(theirs["python_class"] + ",")
    assert row.split_sizes == tuple(theirs["n_samples"][split] for split in ("train", "val", "test"))
    assert row.sides == (28, 64, 128, 224)
    assert row.checksums == {side: theirs["MD5" if side == 28 else f"MD5_{side}"] for side in row.sides}
    if name == "chestmnist":
        assert row.any_finding
        assert row.class_names == ("no finding", "finding")
    else:
        assert row.class_names == tuple(theirs["label"].values())


def test_side():
    assert CATALOG["pathmnist"].check_side(None) == 28
    assert CATALOG["pathmnist"].check_side(64) == 64
    with pytest.raises(DataError, match="pathmnist has no images of side 32; it comes in 28, 64, 128, 224"):
        CATALOG["pathmnist"].check_side(32)


def test_any_side_of_a_range():
    assert CATALOG["idrid"].check_side(None) == 1024
    assert CATALOG["idrid"].check_side(32) == 32
    with pytest.raises(DataError, match="idrid has no images of side 31; it comes in 32 to 2048"):
        CATALOG["idrid"].check_side(31)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("catalog", {"torch", "sklearn", "medmnist", "numpy", "PIL"}),
        ("storages", {"torch", "sklearn", "medmnist", "numpy", "PIL"}),
        ("source", {"torch", "sklearn", "medmnist"}),
        ("draw", {"torch", "sklearn", "medmnist"}),
    ],
)
def test_import_is_light(module, heavy):
    code = f"import sys, trainables.data.{module}; print(*{heavy!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
