import pytest

from trainables.data import storages
from trainables.data.names import reader_function
from trainables.data.storages import OWN_FORMS, STORAGES, Storage, layouts_of, storage_of


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.opener)
def test_what_a_row_names_is_there(storage):
    assert callable(reader_function(storage.opener))
    assert not storage.recogniser or callable(reader_function(storage.recogniser))


@pytest.mark.parametrize(
    ("folders", "kind", "opener"),
    [
        (["a", "b"], "classification", "class_folders:open_class_folders"),
        (["images", "masks"], "classification", "lesion_files:open_lesion_folder"),
        (["images", "masks"], "segmentation", "mask_reader:open_mask_folder"),
        (["images"], "segmentation", None),
    ],
)
def test_a_folder_is_what_it_holds(tmp_path, folders, kind, opener):
    for name in folders:
        (tmp_path / name).mkdir()
    found = storage_of(tmp_path, kind)
    assert (found.opener if found else None) == opener


def test_a_file_is_what_its_name_ends_in(tmp_path):
    (tmp_path / "mine.npz").touch()
    (tmp_path / "mine.csv").touch()
    (tmp_path / "folder.npz").mkdir()
    assert storage_of(tmp_path / "mine.npz", "classification").opener == "npz:open_npz_file"
    assert storage_of(tmp_path / "mine.npz", "segmentation") is None
    assert storage_of(tmp_path / "mine.csv", "classification").opener == "table_reader:open_table"
    assert storage_of(tmp_path / "mine.csv", "segmentation") is None
    assert not storage_of(tmp_path / "folder.npz", "classification").suffix


@pytest.mark.parametrize(
    ("columns", "classes", "masks"),
    [
        ("path,label", "table_reader:open_table", None),
        ("path,Mask,patient", None, "masked_table:open_masked_table"),
        ("path,label,mask", "table_reader:open_table", "masked_table:open_masked_table"),
        ("what", "table_reader:open_table", None),
    ],
)
@pytest.mark.parametrize("name", ["", "labels.csv"])
def test_a_table_is_what_its_columns_say(tmp_path, name, columns, classes, masks):
    (tmp_path / "labels.csv").write_text(f"{columns}\n")
    (tmp_path / "pictures").mkdir()
    for kind, opener in (("classification", classes), ("segmentation", masks)):
        found = storage_of(tmp_path / name, kind)
        assert (found.opener if found else None) == opener


@pytest.mark.parametrize(
    ("place", "title"),
    [("scans", "scans"), ("scans/labels.csv", "scans"), ("scans/forty.csv", "forty"), ("scans.npz", "scans")],
)
def test_titles(tmp_path, place, title):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if not path.suffix else path.touch()
    assert storage_of(path, "classification").title_of(path) == title


def test_the_first_row_that_takes_a_path_opens_it(tmp_path, monkeypatch):
    first = Storage("digits:open_digits", "a folder of my own", recogniser="mask_rules:has_masks")
    monkeypatch.setattr(storages, "STORAGES", (first, *STORAGES))
    assert storage_of(tmp_path, "classification") is STORAGES[-1]
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    assert storage_of(tmp_path, "classification") is first
    assert "a folder of my own, or a .npz file" in layouts_of("classification")


def test_words():
    assert OWN_FORMS == "a .npz file or a .csv file or a .parquet file or a folder"
    assert layouts_of("segmentation") == (
        "labels.csv with the columns path and mask, or a .csv file with the columns path and mask, or a .parquet file "
        "with these, or images/NAME.png with masks/NAME.png in it"
    )
