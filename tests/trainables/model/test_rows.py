"""Files, folders, tables and arrays become rows; what cannot be read is one too."""

import csv
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from search_spaces.core.errors import ConfigError, DataError, ModelError
from trainables.model.inputs import unseen
from trainables.model.rows import Wanted, check_output, columns_of, rows_of, write_csv
from trainables.model.saved import assembled
from trainables.testing.tasks import make_task

from .models import model_of

TASK = make_task()
GREY_NHW = TASK.validation.images_NCHW[:, 0].numpy()


@pytest.fixture(scope="module")
def model():
    return assembled(model_of("pixels", task=TASK)[0], "it")


@pytest.fixture
def pictures(tmp_path):
    """A folder with two pictures, a third in a folder below, something else, and a picture that is none."""
    folder = tmp_path / "scans"
    (folder / "more").mkdir(parents=True)
    for name, image in zip(("b.png", "a.png", "more/c.png"), GREY_NHW, strict=False):
        Image.fromarray(image).save(folder / name)
    (folder / "notes.txt").write_text("none")
    (folder / "more" / "d.png").write_text("no picture")
    return folder


def test_a_folder_is_read_with_those_below_it(model, pictures):
    rows = list(rows_of(model, unseen([pictures])))
    assert [row["path"] for row in rows] == [
        str(pictures / name) for name in ("a.png", "b.png", "more/c.png", "more/d.png")
    ]
    probs = model.predict(GREY_NHW[[1, 0, 2]]).probs
    for row, probs_K in zip(rows, probs.tolist(), strict=False):
        assert [row[f"probability_{name}"] for name in "abc"] == probs_K
        assert row["class"] == "abc"[int(np.argmax(probs_K))]
        assert row["reason"] is None
    assert rows[3]["class"] is None
    assert "cannot be read as a picture" in rows[3]["reason"]


def test_tables_and_arrays(model, pictures):
    (pictures / "list.csv").write_text("id;path\n1;a.png\n2;gone.png\n3;notes.txt\n")
    np.savez(pictures / "new.npz", images=GREY_NHW[:2])
    np.savez(pictures / "odd.npz", pixels=GREY_NHW[:2])
    (pictures / "bad.npz").write_text("none")
    (pictures / "bad.csv").write_text("file\nx\n")
    pq.write_table(pa.table({"path": ["b.png"], "age": [3]}), pictures / "list.parquet")
    names = ("list.csv", "new.npz", "odd.npz", "bad.npz", "bad.csv", "list.parquet")
    rows = list(rows_of(model, unseen([pictures / name for name in names])))
    reasons = [row["reason"] for row in rows]
    assert [reason is None for reason in reasons] == [True, False, False, True, True, *[False] * 3, True]
    assert reasons[1] == "there is no such file"
    assert "no picture by its name" in reasons[2]
    assert "no array 'images'" in reasons[5]
    assert "no column 'path'" in reasons[7]
    assert [row["path"] for row in rows[3:5]] == [f"{pictures / 'new.npz'}#{number}" for number in (0, 1)]
    found = [[row[f"probability_{name}"] for name in "abc"] for row in rows[3:5]]
    np.testing.assert_allclose(found, model.predict(GREY_NHW[:2]).probs, rtol=1e-12)  # of three in a batch


def test_whatever_cannot_be_read_is_a_row(model, pictures):
    np.savez(pictures / "single.npz", images=np.uint8(5))
    np.save(pictures / "array.npy", GREY_NHW)
    (pictures / "array.npy").rename(pictures / "array.npz")
    np.savez_compressed(pictures / "damaged.npz", images=GREY_NHW)
    content = bytearray((pictures / "damaged.npz").read_bytes())
    content[80:90] = bytes(10)
    (pictures / "damaged.npz").write_bytes(content)
    with zipfile.ZipFile(pictures / "text.npz", "w") as archive:
        archive.writestr("images.npy", "none")
    np.savez(pictures / "narrow.npz", images=np.zeros((1, 3, 3, 5), np.uint8))
    (pictures / "long.csv").write_text(f"path\n{'a' * 5000}.png\n")
    names = ("single.npz", "array.npz", "damaged.npz", "text.npz", "long.csv", "narrow.npz")
    rows = list(rows_of(model, unseen([pictures / name for name in names])))
    assert [row["reason"] is None for row in rows] == [False] * 5 + [True]
    assert "single value" in rows[0]["reason"]
    assert "name too long" in rows[4]["reason"]


def test_backslashes_part_folders_in_a_table_as_they_do_where_it_teaches(model, pictures):
    (pictures / "list.csv").write_text("path\nmore\\c.png\n")
    (row,) = rows_of(model, unseen([pictures / "list.csv"]))
    assert row["reason"] is None


def test_a_name_that_is_no_utf_8_is_written_in_escapes(model, pictures, tmp_path):
    shutil.copy(pictures / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    rows = list(rows_of(model, unseen([tmp_path])))
    write_csv(tmp_path / "out.csv", columns_of(model, Wanted()), rows)
    assert rows[0]["reason"] is None
    assert "\\udcff.png" in (tmp_path / "out.csv").read_text()


def test_an_output_that_cannot_be_written_is_told_before_anything_is_predicted(pictures, tmp_path):
    for path in (Path(), pictures, Path(os.devnull), pictures / "a.png" / "out.csv", tmp_path / ("a" * 300)):
        with pytest.raises(ModelError, match="cannot write"):
            check_output(path)
    with pytest.raises(ModelError, match="one of what is to be predicted"):
        check_output(pictures / "a.png", [pictures, pictures / "more" / ".." / "a.png"])
    check_output(tmp_path / "new" / "out.csv", [pictures])
    assert (tmp_path / "new").is_dir()


def test_nothing_at_all_is_a_mistake(tmp_path):
    with pytest.raises(DataError, match="no picture in"):
        unseen([tmp_path])


def test_a_file_holds_every_digit(model, pictures, tmp_path):
    wanted = Wanted(coverage=0.8)
    columns, rows = columns_of(model, wanted), list(rows_of(model, unseen([pictures]), wanted))
    write_csv(tmp_path / "out" / "p.csv", columns, rows)
    with (tmp_path / "out" / "p.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["path", "class", "probability_a", "probability_b", "probability_c", "set", "reason"]
    assert [float(read[0][f"probability_{name}"]) for name in "abc"] == [rows[0][f"probability_{n}"] for n in "abc"]
    sets_NK = model.sets(model.predict(GREY_NHW[[1]]), 0.8)
    assert read[0]["set"].split(" | ") == [name for name, inside in zip("abc", sets_NK[0], strict=True) if inside]
    assert read[3]["set"] == ""
    with pytest.raises(ModelError, match="cannot write"):
        write_csv(pictures / "a.png" / "p.csv", columns, rows)


def test_masks_are_as_large_as_their_pictures(tmp_path):
    task = make_task(kind="segmentation", channels=3)
    model = assembled(model_of("segmenter", task=task)[0], "it")
    for folder, size in (("one", (16, 16)), ("two", (40, 24))):
        (tmp_path / folder).mkdir()
        pixels = task.validation.images_NCHW[0].numpy().transpose(1, 2, 0)
        Image.fromarray(pixels).resize(size).save(tmp_path / folder / "scan.png")
    wanted = Wanted(masks=tmp_path / "masks")
    rows = list(rows_of(model, unseen([tmp_path / "one", tmp_path / "two"]), wanted))
    masks = []
    for row in rows:
        with Image.open(row["mask"]) as mask:
            masks.append(np.asarray(mask))
    assert [mask.shape for mask in masks] == [(16, 16), (24, 40)]
    marked = model.predict(pixels[None]).probs[0] >= 0.5
    np.testing.assert_array_equal(masks[0] == 255, marked)
    assert rows[0]["marked_share"] == marked.mean()


def test_what_a_model_has_not_is_refused(model):
    masks = assembled(model_of("constant_masks", task=make_task(kind="segmentation"))[0], "it")
    with pytest.raises(ConfigError, match="no sets of classes"):
        columns_of(masks, Wanted(coverage=0.9))
    with pytest.raises(ConfigError, match="marks no pixels"):
        columns_of(model, Wanted(masks="masks"))


def test_it_tells_how_far_it_is_and_shows_batches(model, pictures, monkeypatch):
    monkeypatch.setattr("trainables.model.rows._BATCH_BYTES", 2 * 16 * 16)
    told, seen = [], []
    rows = list(rows_of(model, unseen([pictures]), Wanted(see=seen.append), lambda *done: told.append(done)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [len(batch.places) for batch in seen] == [2, 1]
    assert len(rows) == 4


def write_dicom(path, pixels):
    """A picture of 8 bits of somebody whose name must not be told."""
    pydicom = pytest.importorskip("pydicom", reason="DICOM needs pydicom: pip install '.[dicom]'")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientName = dataset.PatientID = SOMEBODY
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 7, 0, pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


SOMEBODY = "Zaphod^Beeblebrox"


def test_dicom_is_a_picture_of_nobody(model, tmp_path):
    write_dicom(tmp_path / "a.dcm", GREY_NHW[0])
    Image.fromarray(GREY_NHW[0]).save(tmp_path / "b.png")
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "c.dcm").write_bytes(content[: -GREY_NHW[0].size // 2])
    own, same, cut = rows_of(model, unseen([tmp_path]))
    assert (own["class"], own["reason"]) == (same["class"], None)
    for name in ("probability_a", "probability_b", "probability_c"):
        assert own[name] == pytest.approx(same[name], rel=1e-12)
    assert "c.dcm" in cut["reason"]
    assert SOMEBODY.split("^")[0] not in str([own, cut])
