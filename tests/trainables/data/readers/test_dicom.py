"""DICOM files of all kinds, made by pydicom, give what its own handling gives, and never who is on them."""

import builtins
import logging
import warnings
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pydicom = pytest.importorskip("pydicom", reason="DICOM needs pydicom: pip install '.[dicom]'")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut  # noqa: E402
from pydicom.uid import (  # noqa: E402
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from search_spaces.core.errors import DataError  # noqa: E402
from sparse_search.cli.app import app  # noqa: E402
from trainables.data.readers.dicom import dicom_header, read_dicom  # noqa: E402
from trainables.data.readers.mask_pixels import read_mask  # noqa: E402
from trainables.data.readers.picture_files import content_of, header_of, read_picture, shared_format  # noqa: E402
from trainables.data.source import open_source, prepare  # noqa: E402

CANARY = "Zaphod^Beeblebrox"


def pixels_of(bits, *, signed=False, shape=(6, 8), seed=0):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    values = np.random.default_rng(seed).integers(low, high, shape)
    values.flat[:2] = low, high - 1
    width = 8 if bits <= 8 else 16
    return values.astype(f"{'' if signed else 'u'}int{width}")


def dataset_of(pixels, bits=None, *, photometric="MONOCHROME2", **elements):
    """A picture about whom everything is known, with further elements."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.PatientName = dataset.ReferringPhysicianName = dataset.OtherPatientNames = CANARY
    dataset.PatientID = dataset.InstitutionName = dataset.StudyDescription = dataset.PatientComments = CANARY
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def table(entries, *, first=0, bits=16):
    """A look-up table."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(entries), first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return [item]


def expected_of(path):
    """Bytes by pydicom's functions, from the file as a whole, and its range mapped to 0..255."""
    dataset = pydicom.dcmread(path)
    stored = dataset.pixel_array
    values = apply_modality_lut(stored, dataset)
    bits, signed = dataset.BitsStored, dataset.PixelRepresentation
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if "ModalityLUTSequence" in dataset:
        low, high = 0, 2 ** dataset.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    elif "RescaleSlope" in dataset:
        low, high = (end * dataset.RescaleSlope + dataset.RescaleIntercept for end in (low, high))
    if "VOILUTSequence" in dataset:
        low, high = 0, 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    seen = apply_voi_lut(values.astype(np.int64) if "VOILUTSequence" in dataset else values, dataset)
    if "WindowWidth" not in dataset:
        low, high = sorted((low, high))
    bytes_HW = np.rint(255 * (seen.astype(np.float64) - low) / (high - low))
    return 255 - bytes_HW if dataset.PhotometricInterpretation == "MONOCHROME1" else bytes_HW


RESCALED = {"RescaleSlope": 2.5, "RescaleIntercept": -100}
WINDOW = {"WindowCenter": 40, "WindowWidth": 80}
KINDS = {
    "plain": {},
    "rescaled": RESCALED,
    "falling": {"RescaleSlope": -1, "RescaleIntercept": 300},
    "windowed": WINDOW,
    "rescaled and windowed": RESCALED | WINDOW,
    "falling and windowed": {"RescaleSlope": -1, "RescaleIntercept": 90} | WINDOW,
    "first of two windows": {"WindowCenter": [40, 1000], "WindowWidth": [80, 9]},
    "exact": WINDOW | {"VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": WINDOW | {"VOILUTFunction": "SIGMOID"},
    "table": {"VOILUTSequence": table(np.arange(256)[::-1] ** 2 // 16, bits=12)},
    "table before window": {"VOILUTSequence": table(range(0, 1024, 4), bits=10)} | WINDOW,
    "modality table": {"ModalityLUTSequence": table(np.arange(256) ** 2)},
    "empty window": {"WindowCenter": None, "WindowWidth": None},
}


@pytest.fixture
def write(tmp_path):
    def written(dataset, name="a.dcm", syntax=ExplicitVRLittleEndian):
        if syntax.is_encapsulated:
            dataset.compress(syntax, encoding_plugin="")
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return written


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True), (16, False), (16, True)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # in pydicom, of a sigmoid far from its centre
def test_grey_values_are_those_of_pydicom(write, kind, bits, signed, photometric):
    pixels = pixels_of(bits, signed=signed)
    if kind in ("table", "table before window", "modality table"):
        pixels = np.clip(pixels, 0, 255)  # beyond a table's ends pydicom counts round
    path = write(dataset_of(pixels, bits, photometric=photometric, **KINDS[kind]))
    found = np.asarray(read_dicom(path))
    assert np.array_equal(found, expected_of(path))
    assert len(np.unique(found)) > 1
    assert (found.dtype, header_of(path)) == (np.uint8, (True, (8, 6), bits))


@pytest.mark.parametrize(
    ("stored", "elements", "shown"),
    [
        ([0, 2048, 4095], {}, [0, 128, 255]),
        ([0, 1024, 1064, 1104, 4095], {"RescaleSlope": 1, "RescaleIntercept": -1024} | WINDOW, [0, 0, 129, 255, 255]),
        ([0, 100, 4095], {"VOILUTSequence": table([0, 255], first=100, bits=8)}, [0, 0, 255]),
        ([0, 5, 4095], {"ModalityLUTSequence": table([9, 65535], first=4)}, [0, 255, 255]),
    ],
)
def test_values_by_hand(write, stored, elements, shown):
    path = write(dataset_of(np.array([stored], dtype=np.uint16), 12, **elements))
    assert np.asarray(read_dicom(path)).tolist() == [shown]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless,
                                    JPEG2000Lossless, JPEGLSLossless])  # fmt: skip
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_storage_changes_nothing(write, syntax, bits):
    pixels = pixels_of(bits, shape=(32, 32))
    plain = write(dataset_of(pixels, bits, **WINDOW), "plain.dcm")
    stored = write(dataset_of(pixels, bits, **WINDOW), "stored.dcm", syntax)
    assert np.array_equal(np.asarray(read_dicom(stored)), np.asarray(read_dicom(plain)))


def test_jpeg_within_dicom(tmp_path):
    grey, stream = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8), BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=95)
    dataset = dataset_of(grey)
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = encapsulate([stream.getvalue()]), JPEGBaseline8Bit
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path := tmp_path / "jpeg.dcm", enforce_file_format=True)
    with Image.open(stream) as decoded:
        assert np.array_equal(np.asarray(read_dicom(path)), np.asarray(decoded))


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planar", [0, 1])
def test_colours(write, photometric, planar):
    pixels = pixels_of(8, shape=(6, 8, 3))
    dataset = dataset_of(pixels, photometric=photometric)
    if planar:
        dataset.PlanarConfiguration, dataset.PixelData = 1, pixels.transpose(2, 0, 1).tobytes()
    path = write(dataset)
    found = np.asarray(read_dicom(path))
    assert np.array_equal(found, pydicom.dcmread(path).pixel_array)
    assert np.array_equal(found, pixels) == (photometric == "RGB")
    assert not dicom_header(path).is_grey


def test_colours_of_a_palette(write):
    pixels, colours = pixels_of(8), np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    dataset = dataset_of(pixels, photometric="PALETTE COLOR")
    for name, values in zip(("Red", "Green", "Blue"), colours, strict=True):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", values.tobytes())
    path = write(dataset)
    assert np.array_equal(np.asarray(read_dicom(path)), np.rint(colours.T[pixels] / 257))
    assert np.array_equal(np.asarray(read_dicom(path)), np.rint(apply_color_lut(pixels, pydicom.dcmread(path)) / 257))


def test_it_is_a_picture_as_others_are(write):
    pixels = pixels_of(12, shape=(8, 8))
    path = write(dataset_of(pixels, 12), "a.DICOM")
    bytes_HW = np.rint(pixels * (255 / 4095)).astype(np.uint8)
    assert shared_format([path]) == (1, 8)
    assert np.array_equal(read_picture(path, 3, 8), np.broadcast_to(bytes_HW, (3, 8, 8)))
    Image.fromarray(bytes_HW).save(png := path.with_suffix(".png"))
    assert content_of(path, 1) == content_of(png, 1)
    assert np.array_equal(read_picture(path, 1, 5), read_picture(png, 1, 5))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("white", [1, 255])
def test_masks_are_read_as_stored(write, photometric, white):
    marked = np.eye(6, dtype=bool)
    drawn = marked if photometric == "MONOCHROME2" else ~marked
    path = write(dataset_of((drawn * white).astype(np.uint16), 16, photometric=photometric, **WINDOW))
    assert np.array_equal(read_mask(path, path, (6, 6)), marked)


def frames(dataset):
    dataset.NumberOfFrames = 3
    dataset.PixelData *= 3


def without_pixels(dataset):
    for name in ("PixelData", "Rows", "Columns"):
        delattr(dataset, name)


def other_colours(dataset):
    dataset.PhotometricInterpretation = "HSV"


def no_window(dataset):
    dataset.WindowCenter, dataset.WindowWidth = 3, 0


def too_few(dataset):
    dataset.PixelData = dataset.PixelData[:20]


def without_range(dataset):
    dataset.RescaleSlope, dataset.RescaleIntercept = 0, 0


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (frames, "has 3 frames; expected one picture: save the frames as files of their own"),
        (without_pixels, "holds no picture; expected DICOM with pixels of integers: remove it"),
        (other_colours, "has colours of a kind that is not read; expected grey, RGB, YBR or a palette"),
        (no_window, "cannot be read as a DICOM picture: repair or remove it"),
        (too_few, "cannot be read as a DICOM picture: repair or remove it"),
        (without_range, "cannot be read as a DICOM picture: repair or remove it"),
    ],
)
def test_what_is_refused_is_told_in_one_line_without_names(write, harm, message):
    dataset = dataset_of(pixels_of(12), 12)
    harm(dataset)
    path = write(dataset)
    with pytest.raises(DataError) as caught:
        read_picture(path, 1, 8)
    assert str(caught.value) == f"{path} {message}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("content", [b"", b"no picture", bytes(200), bytes(128) + b"DICM", bytes(128) + b"DICM" * 99])
def test_damaged_files(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.dcm (cannot be read as a DICOM picture|holds no picture)"):
        read_picture(tmp_path / "a.dcm", 1, 8)


def test_files_cut_anywhere_are_refused(write, tmp_path):
    whole = write(dataset_of(pixels_of(12), 12)).read_bytes()
    for end in range(0, len(whole), 7):
        path = tmp_path / "cut.dcm"
        path.write_bytes(whole[:end])
        with pytest.raises(DataError) as caught:
            read_picture(path, 1, 8)
        assert "Zaphod" not in str(caught.value)


def test_too_large_a_picture(write, monkeypatch):
    path = write(dataset_of(pixels_of(8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(DataError, match=r"a\.dcm has more than 0 million pixels; expected fewer: make it smaller"):
        read_picture(path, 1, 8)


@pytest.mark.parametrize("syntax", [MPEG2MPML, JPEGLosslessSV1])
def test_a_compression_that_is_not_known(tmp_path, syntax):
    dataset = dataset_of(pixels_of(8))
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = encapsulate([bytes(64)]), syntax
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path := tmp_path / "film.dcm", enforce_file_format=True)
    if syntax == JPEGLosslessSV1 and find_spec("libjpeg"):
        pytest.skip("pylibjpeg-libjpeg is installed and reads it")
    words = rf"film\.dcm is compressed as {syntax.name.split()[0]} .*, which no installed library reads: decompress it"
    with pytest.raises(DataError, match=words):
        read_picture(path, 1, 8)


@pytest.fixture
def scans(write):
    """A folder of classes, each with DICOM files of both photometric kinds and one that is passed over."""
    for kind in ("benign", "malignant"):
        for number in range(4):
            pixels = pixels_of(12, shape=(8, 8), seed=number + 10 * (kind == "malignant"))
            photometric = f"MONOCHROME{1 + number % 2}"
            path = write(dataset_of(pixels, 12, photometric=photometric), f"scans/train/{kind}/{number}.dcm")
        path.with_suffix("").write_bytes(path.read_bytes())
    return path.parents[2]


def test_nobody_is_named(scans, caplog, monkeypatch):
    """Neither in messages nor in what is read: elements about people are not even kept in memory."""
    caplog.set_level(logging.DEBUG)
    kept = []
    real = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **o: kept.append(real(*a, **o)) or kept[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(str(scans))
        source = open_source(str(scans))
    result = CliRunner().invoke(app, ["datasets", str(scans)])
    assert result.exit_code == 0
    assert (
        "2 files that are no PNG, JPEG, BMP, TIFF or DICOM passed over (train/benign/3, train/malignant/3)"
        in caplog.text
    )
    assert "Zaphod" not in caplog.text + result.output + repr(source)
    assert kept
    assert all("Zaphod" not in str(dataset) and "PatientName" not in dataset for dataset in kept)


def test_values_of_persons_that_break_the_standard_are_not_quoted(write, caplog):
    dataset = dataset_of(pixels_of(8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.add_new("PatientAge", "AS", CANARY)
        dataset.add_new("StudyDate", "DA", CANARY)
        dataset.add_new("StudyInstanceUID", "UI", CANARY)
        path = write(dataset)
    assert read_picture(path, 1, 8).shape == (1, 8, 8)
    assert "Zaphod" not in caplog.text


def test_without_pydicom_one_line_says_what_to_install(scans, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError) as caught:
        open_source(str(scans))
    path = scans / "train/benign/0.dcm"
    assert str(caught.value) == f"{path} is a DICOM file; to read it: pip install 'sparse-search[dicom]'"


def test_lesion_pictures_and_masks(write, tmp_path):
    for number in range(10):
        pixels = pixels_of(12, shape=(40, 40), seed=number)
        write(dataset_of(pixels, 12, **WINDOW), f"scans/images/{number}.dcm")
        mask = np.zeros((40, 40), np.uint8)
        mask[:4, : 4 * (number % 2)] = 255
        write(dataset_of(mask), f"scans/masks/{number}.dcm")
    source = open_source(f"{tmp_path / 'scans'}@32")
    assert source.class_names == ("healthy", "lesion")
    assert sorted(source.labels("train").tolist() + source.labels("test").tolist()) == [0] * 5 + [1] * 5
    assert open_source(f"{tmp_path / 'scans'}@32", kind="segmentation").channels == 3


def test_a_table_may_name_them(write, tmp_path):
    lines, expected = ["path,label"], []
    for number in range(20):
        path = write(dataset_of(pixels_of(12, shape=(8, 8), seed=number), 12, **WINDOW), f"scans/{number}.dcm")
        lines.append(f"scans/{number}.dcm,{'ab'[number % 2]}")
        expected.append(read_picture(path, 1, 8).tobytes())
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    source = open_source(str(tmp_path / "labels.csv"))
    found = [image.tobytes() for split in source.splits for image in source.images(split)]
    assert sorted(found) == sorted(expected)


def test_pictures_that_hardly_show_anything_are_told(write, tmp_path, caplog):
    for number in range(12):
        pixels = 4 * pixels_of(8, shape=(8, 8), seed=number).astype(np.int16)  # of 16 bits with a sign, and no window
        write(dataset_of(pixels), f"scans/train/{'ab'[number % 2]}/{number}.dcm")
    prepare(str(tmp_path / "scans"))
    assert "pictures of more than 8 bits are shown in 4 of 256 grey levels: stretch their values" in caplog.text
