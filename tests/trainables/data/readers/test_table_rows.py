"""Tables are read as they are meant, or refused in one line."""

import codecs
import os
from unicodedata import normalize

import pyarrow as pa
import pytest
from pyarrow import parquet

from search_spaces.core.errors import DataError
from trainables.data.readers.files import digest_of, pictures_below
from trainables.data.readers.table_rows import TableRow, rows_of_table

PLAIN = "path,label,patient\nb.png,ill,p2\na.png,calm,\nc.png,,p1\n"
ROWS = (TableRow("a.png", "calm"), TableRow("b.png", "ill", "p2"), TableRow("c.png", "", "p1"))


@pytest.fixture
def read(tmp_path):
    def read(content, name="labels.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return rows_of_table(path)

    return read


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n") + "\r\n",
        PLAIN.replace(",", " , ").replace("path", " Path "),
        "label,path,group\n,c.png,p1\ncalm,./a.png,\n\nill,x/../b.png,p2",
        'path,label,group\n"b.png","ill","p2"\na.png,calm,\nc.png,,p1',
        "path,label,patient,age\nb.png,ill,p2,3\na.png,calm,,4\nc.png,,p1,5\n",
    ],
)
def test_a_table_is_known_however_it_is_written(read, content):
    found = read(content)
    assert found.rows == ROWS
    assert found.class_names == ("calm", "ill")
    assert found.has_splits is False
    assert found.ignored == (("age",) if "age" in str(content) else ())


def test_parquet_is_the_same(tmp_path):
    columns = {"path": ["b.png", "a.png", "c.png"], "label": ["ill", "calm", None], "patient": ["p2", "", "p1"]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert rows_of_table(tmp_path / "t.parquet").rows == ROWS


@pytest.mark.parametrize("labels", [[0, 10, 2, None], [0.0, 10.0, 2.0, float("nan")]])
def test_whole_numbers_are_classes_in_their_order(tmp_path, read, labels):
    places = ["a.png", "b.png", "c.png", "d.png"]
    parquet.write_table(pa.table({"path": places, "label": labels}), tmp_path / "t.parquet")
    texts = ["" if label is None or label != label else str(label) for label in labels]
    written = read("path,label\n" + "\n".join(map(",".join, zip(places, texts, strict=True))))
    for found in (rows_of_table(tmp_path / "t.parquet"), written):
        assert found.class_names == ("0", "2", "10")
        assert [row.label for row in found.rows] == ["0", "10", "2", ""]


def test_splits_and_masks(read):
    found = read("path,label,split,mask\na.png,x,Train,m/a.png\nb.png,y,test,\nc.png,x,val,\nd.png,y,,\n")
    assert [row.split for row in found.rows] == ["train", "test", "val", "train"]
    assert found.rows[0].mask == "m/a.png"
    assert found.has_splits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; expected the columns path and label"),
        ("path,label\n", "has 0 classes .none.; expected two or more"),
        ("path,label\na.png,x\nb.png,x\nc.png,\n", "has 1 classes .'x'.; expected two or more"),
        ("file,label\na.png,x\n", "has no column 'path' among file, label"),
        ("path,class\na.png,x\n", "has no column 'label' among path, class"),
        ("path,label,path\na.png,x,b.png\n", "has two columns 'path'"),
        ("path,label,patient_id\na.png,x,1\n", "has a column 'patient_id', .* did you mean 'patient'"),
        ("path,label,groups\na.png,x,1\n", "has a column 'groups', .* did you mean 'group'"),
        ("path,label,group,patient\na.png,x,1,2\n", "has the columns 'group' and 'patient'"),
        ("path,label\na.png\n", "row 2: 1 values in 2 columns"),
        ("path,label\na.png,x,y\n", "row 2: 3 values in 2 columns"),
        ("path,label\na.png,x\n\na.png,y\n", "names a.png in rows 2 and 4 with the labels 'x' and 'y': keep one row"),
        ("path,label\na.png,x\n./a.png,x\n", "names a.png in rows 2 and 3: keep one row"),
        ("path,label\n,x\n", "row 2 has no path"),
        ("path,label\n/etc/a.png,x\n", "row 2: /etc/a.png leads out of the table's folder"),
        ("path,label\nC:\\a.png,x\n", r"row 2: C:\\a.png leads out of the table's folder"),
        ("path,label\nx/../../a.png,x\n", r"row 2: x/\.\./\.\./a.png leads out of the table's folder"),
        ("path,label\na.png,NaN\n", "row 2: 'NaN' is no class; leave the label empty"),
        ("path,label\na.png,-1\n", "row 2: '-1' is no class; leave the label empty"),
        ("path,label\na.png,unlabelled\n", "row 2: 'unlabelled' is no class"),
        ("path,label\na.png,Ill\nb.png,ill\n", "has the labels 'Ill' and 'ill': write them alike"),
        ("path,label,patient\na.png,x,P1\nb.png,y,p1\n", "has the groups 'P1' and 'p1': write them alike"),
        ("path,label,split\na.png,x,tset\n", "row 2: split 'tset' is unknown; did you mean 'test'"),
        ("path,label,split\na.png,,test\n", "row 2: an image of test needs a label"),
        ('path,label\n"a.png,x\n', "cannot be read .unexpected end of data."),
        ("path,label\nä.png,x\n".encode("latin-1"), "cannot be read .it is not UTF-8."),
    ],
)  # fmt: skip
def test_what_is_unclear_is_refused(read, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    assert "labels.csv" in str(caught.value)


def test_what_is_no_parquet_is_refused(read):
    with pytest.raises(DataError, match=r"t\.parquet cannot be read"):
        read(PLAIN, "t.parquet")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_accent_is_one_however_the_disk_writes_it(tmp_path, read, form):
    name = normalize(form, "é.png")
    (tmp_path / name).write_bytes(b"")
    for written in ("NFC", "NFD"):
        content = normalize(written, "path,label\né.png,x\nb.png,y\n")
        assert [row.place for row in read(content, f"{written}.csv").rows] == ["b.png", name]


def test_a_name_that_is_no_utf_8_is_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert digest_of(tmp_path, pictures_below(tmp_path, "*"))
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"the name of \\udcff.png in .* is not UTF-8; expected such: rename it"):
        digest_of(tmp_path, pictures_below(tmp_path, "*"))
