"""Kinds of input that `bench/fuzz.py` makes, and how the product reads each."""

import io
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import numpy as np
import optuna
import torch
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from bench.fuzz_tables import make_table, read_table
from bench.mutations import changed_bytes, changed_text, changed_values
from bench.startup import record
from search_spaces.core.config import read_config, write_config
from search_spaces.core.methods import config_of
from search_spaces.core.yaml_files import dump_yaml, parse_yaml
from sparse_search.analysis.leaderboard import board
from sparse_search.best.export import read_export
from sparse_search.results import ledger, records
from sparse_search.results.catalog import SetAsideWarning
from sparse_search.results.store import Store
from sparse_search.search import journal_file
from sparse_search.search.sweep_file import load_sweep, parse_sweep
from trainables.core.method import find_method
from trainables.data.readers.mask_pixels import read_mask
from trainables.data.readers.npz import open_npz
from trainables.data.readers.picture_files import read_picture, shared_format
from trainables.data.source import open_source
from trainables.training.checkpoint import Checkpoints
from trainables.training.checkpoint import _digest as checkpoint_digest
from trainables.training.stage_cache import StageEntry
from trainables.training.stage_cache import _digest as stage_digest
from trainables.training.trial import Trial


@dataclass(frozen=True)
class Kind:
    """Kind of input."""

    name: str
    make: Callable[[Random], Any]
    read: Callable[[Any, Path], bool]
    """Reads an input in an empty folder; True if it was accepted, False if refused or set aside."""


class LostError(Exception):
    """Good content that cannot be had any more; a find."""


SWEEP: dict[str, Any] = {
    "name": "first", "datasets": ["digits"], "shots": [1, 5], "label_sets": [0, 1], "images": 2000, "image_size": 32,
    "sampler": "tpe", "pruner": "median", "objective": "accuracy", "cpus_per_trial": 1, "max_hours": 1.5,
    "retries": 1,
    "methods": {
        "supervised": {"trials": 4, "settings": {"weight_decay": 0.01}, "search": {"lr": [0.0001, 0.01]}},
        "pixels": {"trials": 2},
    },
}  # fmt: skip
METHODS = ("supervised", "sparse", "probe", "ssl_gan", "ssgnet", "pixels")


def _text_of(rng: Random, values: dict[str, Any]) -> bytes:
    """YAML of changed values, or changed YAML."""
    if rng.random() < 0.7:
        return dump_yaml(changed_values(rng, values)).encode(errors="surrogatepass")
    return changed_bytes(rng, dump_yaml(values).encode())


def read_sweep_file(content: bytes, folder: Path) -> bool:
    (folder / "sweep.yaml").write_bytes(content)
    load_sweep(folder / "sweep.yaml")
    return True


def make_config(rng: Random) -> tuple[str, Any]:
    method = rng.choice(METHODS)
    return method, changed_values(rng, write_config(config_of(method)()))


def read_method_config(given: tuple[str, Any], folder: Path) -> bool:
    method, values = given
    found = read_config(config_of(method), values)
    if read_config(type(found), json.loads(json.dumps(write_config(found)))) != found:
        raise LostError("it does not come back from JSON")
    return True


def exported() -> dict[str, Any]:
    """An exported configuration as `export` writes it."""
    evidence = {
        "predictor": "supervised", "config_id": "123456789abc", "scores": {"accuracy": 0.75, "balanced_accuracy": 0.7},
        "interval_95": {"metric": "balanced_accuracy", "low": 0.6, "high": 0.8}, "content_hash": "c0ffee",
        "dataset": "digits", "run_ids": ["run-1", "run-2"], "versions": {"torch": "2"}, "results": "results",
    }  # fmt: skip
    config = write_config(config_of("supervised")())
    trial = {"method": "supervised", "config": config, "dataset": "digits", "shots": 5, "label_sets": [0, 1]}
    return trial | {"images": 2000, "precision": "no", "device": "cpu", "evidence": evidence}


def read_exported(content: bytes, folder: Path) -> bool:
    """Read as `evaluate` does, and as `python -m trainables --config` does."""
    path = folder / "best.yaml"
    path.write_bytes(content)
    values = parse_yaml(content.decode(errors="replace"), "best.yaml")
    values.pop("evidence", None)
    trial = Trial.from_dict(values)
    if not trial.trial_id:
        raise LostError("no name")
    Trial.from_dict(read_export(path)[0])
    return True


def sealed(values: Any) -> bytes:
    """Encode anything as a record with a valid checksum."""
    body = json.dumps(values, separators=(",", ":")).encode()[:-1]
    return body + records._end(body)


GOOD = tuple(f"{number:012x}" for number in (1, 2, 3))


@cache
def filled() -> Path:
    """A results folder with good records, of which one is not in the tables yet."""
    store = Store(Path(mkdtemp()) / "results")
    store.prepare()
    for number in (1, 2, 3):
        store.write(record(number))
        if number < 3:
            store.compact()
    return store.folder


def _copied(folder: Path) -> Store:
    shutil.copytree(filled(), folder / "results")
    return Store(folder / "results")


def check_store(store: Store, good: Sequence[str] = GOOD) -> bool:
    """Ask a store everything; True if nothing had to be set aside.

    Raises:
        LostError: a good record cannot be had.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        listed = set(store.runs()["record_id"].to_pylist())
        store.curves()
        board(store)
        known = {each["record_id"] for each in store.records() if isinstance(each.get("record_id"), str)}
        found = [name for name in good if store.find(name)]
    if lost := [name for name in good if name not in listed or name not in known or name not in found]:
        raise LostError(f"{', '.join(lost)} cannot be had any more")
    return not any(issubclass(each.category, SetAsideWarning) for each in said)


def make_record(rng: Random) -> tuple[bool, bytes]:
    """True for a line of a bundle whose tables are lost, False for a file of its own; and its bytes."""
    good = {**record(9), "record_id": "00ffff", "schema_version": records.SCHEMA_VERSION}
    if rng.random() < 0.75:
        return rng.random() < 0.3, sealed(changed_values(rng, good))
    return rng.random() < 0.3, changed_bytes(rng, sealed(good))


def read_record(given: tuple[bool, bytes], folder: Path) -> bool:
    in_bundle, line = given
    store = _copied(folder)
    if in_bundle:
        bundle = next((store.folder / "records").rglob("*.jsonl"))
        bundle.write_bytes(bundle.read_bytes() + line + b"\n")
        shutil.rmtree(store.folder / "tables")
    else:
        path = store.path_of("00ffff")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(line)
    accepted = check_store(store)
    store.find("00ffff")
    return accepted


def make_catalogue(rng: Random) -> bytes:
    """A catalogue with a valid checksum and other values, or a damaged one."""
    content = (filled() / "tables/catalog.json").read_bytes()
    if rng.random() < 0.5:
        return sealed(changed_values(rng, records.decode(content, "it") | {"schema_version": records.SCHEMA_VERSION}))
    return changed_bytes(rng, content)


def read_catalogue(content: bytes, folder: Path) -> bool:
    store = _copied(folder)
    (store.folder / "tables/catalog.json").write_bytes(content)
    return check_store(store)


LOOK = ledger.Look(
    when="2026-01-01T00:00:00+00:00", who="a@b", why="all is decided", dataset="digits", content_hash="c0ffee", shots=5,
    validation="realistic", label_sets=[0], method="supervised", config_id="123456789abc", num_images=20, versions={},
    test={"supervised": {"balanced_accuracy": 0.8, "accuracy": 0.75, "low": 0.7, "high": 0.9}},
    validated={"supervised": {"balanced_accuracy": 0.9}},
)  # fmt: skip


def make_look(rng: Random) -> bytes:
    values = asdict(LOOK) | {"number": 2, "previous": "", "identity": "0"}
    values["label_sets"] = list(LOOK.label_sets)
    if rng.random() < 0.75 and isinstance(changed := changed_values(rng, values), dict):
        return ledger._sealed(changed)
    return changed_bytes(rng, ledger._sealed(values))


def read_look(content: bytes, folder: Path) -> bool:
    ledger.write_look(folder, LOOK)
    (folder / "ledger/20260101T000000Z-00002-abcdefabcdef.json").write_bytes(content)
    found, doubts = ledger.readable_looks(folder), ledger.ledger_doubts(folder)
    if LOOK not in [ledger.Look(**{**asdict(each), "label_sets": each.label_sets}) for each in found]:
        raise LostError("the good look cannot be had any more")
    if len(found) == 1 and not doubts:
        raise LostError("a look is neither read nor named")
    ledger.look_rows(folder)
    ledger.num_looks(folder)
    if ledger.count_looks(folder) < 2:
        raise LostError("a look that is not counted")
    ledger.write_look(folder, LOOK)
    return len(found) == 2


@cache
def journal() -> list[dict[str, Any]]:
    """Entries of a study with a few trials."""
    path = Path(mkdtemp()) / "journal.log"
    storage = journal_file.Journal(path)
    study = optuna.create_study(storage=storage, study_name="one", sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(3):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)})
        trial.report(0.5, number)
        trial.set_user_attr("images", 20)
        study.tell(trial, 0.5)
    return [journal_file.decode_entry(line) for line in path.read_bytes().splitlines()]


def make_journal(rng: Random) -> bytes:
    entries = deepcopy(journal())
    number = rng.randrange(len(entries))
    if rng.random() < 0.7:
        entries[number] = changed_values(rng, entries[number])
        lines = [journal_file.encode_entry(each) for each in entries if isinstance(each, dict)]
    else:
        lines = [journal_file.encode_entry(each) for each in entries]
        lines[number] = changed_bytes(rng, lines[number])
    return b"".join(lines)


def read_journal(content: bytes, folder: Path) -> bool:
    path = folder / "journal.log"
    path.write_bytes(content)
    journal_file.mend_journal(path)
    storage = journal_file.Journal(path)
    for study in storage.get_all_studies():
        storage.get_all_trials(study._study_id)
    return True


@cache
def archive() -> bytes:
    """Npz file in MedMNIST's layout."""
    content, rng = io.BytesIO(), np.random.default_rng(0)
    images = {f"{split}_images": rng.integers(0, 255, (6, 8, 8), dtype=np.uint8) for split in ("train", "val")}
    labels = {f"{split}_labels": np.arange(6).reshape(6, 1) % 2 for split in ("train", "val")}
    np.savez(content, **images, **labels)
    return content.getvalue()


def make_npz(rng: Random) -> bytes:
    if rng.random() < 0.5:
        return changed_bytes(rng, archive())
    arrays = dict(np.load(io.BytesIO(archive())))
    name = rng.choice(sorted(arrays))
    shape = rng.choice(
        ((), (0,), (6,), (6, 1), (5, 1), (6, 8, 8), (6, 8, 8, 3), (6, 8, 9), (0, 8, 8), (6, 2), (2**20,))
    )
    kind = rng.choice(("u1", "i1", "i8", "u8", "f4", "f8", "?", "U3", "c16", "M8[s]", "S5", ">i8", ">u1"))
    filling = rng.choice((0, 1, 5, -1 if kind in ("i1", "i8", "f4", "f8", ">i8") else 1))
    arrays[name] = np.full(shape, filling, dtype="i8").astype(kind)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def read_npz(content: bytes, folder: Path) -> bool:
    (folder / "own.npz").write_bytes(content)
    reader = open_npz(folder / "own.npz")
    reader.digest()
    source = open_source(str(folder / "own.npz"))
    for split in source.splits:
        source.class_counts(split)
        source.images(split)
        sum(map(len, reader.contents(split)))
    return True


def state() -> dict[str, Any]:
    """State of a tiny network."""
    return {"network": {"weight": torch.arange(6.0).reshape(2, 3)}, "step": 7, "rates": [0.1, 0.2]}


@cache
def saved(epoch: int | None) -> bytes:
    """A checkpoint's bytes, or those of a stage."""
    content = io.BytesIO()
    torch.save(state() if epoch is None else {"epoch": epoch, "state": state()}, content)
    return content.getvalue()


def make_checkpoint(rng: Random) -> tuple[bool, bytes]:
    """True if its name has the right hash; and its bytes."""
    if rng.random() < 0.4:
        content = io.BytesIO()
        torch.save(changed_values(rng, {"epoch": 3, "state": {"step": 7, "rates": [0.1]}}), content)
        return True, content.getvalue()
    return rng.random() < 0.7, changed_bytes(rng, saved(3))


def _placed(folder: Path, stem: str, given: tuple[bool, bytes], digest: Callable[[Path], str]) -> None:
    is_right, content = given
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "new").write_bytes(content)
    (folder / "new").replace(folder / f"{stem}-{digest(folder / 'new') if is_right else '0' * 16}.pt")


def read_checkpoint(given: tuple[bool, bytes], folder: Path) -> bool:
    checkpoints = Checkpoints(folder)
    checkpoints.save(2, state())
    checkpoints.wait()
    _placed(folder, "epoch-000003", given, checkpoint_digest)
    found = checkpoints.load()
    if found is None:
        raise LostError("the checkpoint before cannot be had any more")
    return found[0] != 2


def make_stage(rng: Random) -> tuple[bool, bytes]:
    return rng.random() < 0.7, changed_bytes(rng, saved(None))


def read_stage(given: tuple[bool, bytes], folder: Path) -> bool:
    entry = StageEntry("fuzz", {"folder": str(folder)})
    good = entry.add_part(state())
    _placed(entry.folder, "made", given, stage_digest)
    _placed(entry.folder, "part", given, stage_digest)
    parts = dict(entry.parts([]))
    if good not in parts:
        raise LostError("the good part cannot be had any more")
    return entry.read() is not None


FORMATS = (("PNG", "L"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "L"), ("JPEG", "RGB"), ("BMP", "RGB"),
           ("TIFF", "L"), ("TIFF", "RGB"), ("PNG", "1"), ("PNG", "I;16"), ("TIFF", "F"))  # fmt: skip


@cache
def picture(form: str, mode: str) -> bytes:
    """A picture whose left half is dark."""
    values_HW = np.zeros((8, 8), dtype=np.uint8)
    values_HW[:, 4:] = 255
    content = io.BytesIO()
    shown = Image.fromarray(values_HW)
    shown = Image.fromarray(values_HW.astype(np.uint16)) if mode == "I;16" else shown.convert(mode)
    shown.save(content, form)
    return content.getvalue()


def make_picture(rng: Random) -> bytes:
    return changed_bytes(rng, picture(*rng.choice(FORMATS)))


def read_one_picture(content: bytes, folder: Path) -> bool:
    path = folder / "picture.png"
    path.write_bytes(content)
    channels, side = shared_format([path])
    read_picture(path, channels, side)
    return True


DICOM_KINDS = ("plain", "windowed", "table", "deflated", "JPEG 2000", "run lengths")


@cache
def dicom(kind: str) -> bytes:
    """A DICOM file of a picture of 12 bits, whose left half is dark."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    dataset.PatientName, dataset.PhotometricInterpretation = "Nobody", "MONOCHROME1"
    dataset.Rows = dataset.Columns = 32
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.repeat(np.array([[9, 4000]], np.uint16), 16, 1).repeat(32, 0).tobytes()
    if kind == "windowed":
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.WindowCenter, dataset.WindowWidth = 2, -100, 40, 80
    if kind == "table":
        (item := Dataset()).add_new("LUTDescriptor", "US", [4096, 0, 12])
        item.add_new("LUTData", "US", list(range(4096)))
        dataset.VOILUTSequence = [item]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = (
        uid.DeflatedExplicitVRLittleEndian if kind == "deflated" else uid.ExplicitVRLittleEndian
    )
    if kind in ("JPEG 2000", "run lengths"):
        dataset.compress(uid.JPEG2000Lossless if kind == "JPEG 2000" else uid.RLELossless, generate_instance_uid=False)
    dataset.save_as(content := io.BytesIO(), enforce_file_format=True)
    return content.getvalue()


def make_dicom(rng: Random) -> bytes:
    return changed_bytes(rng, dicom(rng.choice(DICOM_KINDS)))


def read_one_dicom(content: bytes, folder: Path) -> bool:
    path = folder / "picture.dcm"
    path.write_bytes(content)
    channels, side = shared_format([path])
    read_picture(path, channels, side)
    read_mask(path, path, (32, 32))
    return True


def read_one_mask(content: bytes, folder: Path) -> bool:
    (folder / "mask.png").write_bytes(content)
    read_mask(folder / "mask.png", folder / "picture.png", (8, 8))
    return True


DATA_NAMES = ("digits", "digits@28", "shapes@32", "shapes:2x2", "digits:2x2+1", "folder/own.npz", "~/own")
METHOD_NAMES = ("trainables.pixels:METHOD", "json:loads", "supervised", "trainables.heads.knn:METHOD")


def make_name(rng: Random) -> tuple[str, str]:
    what = rng.choice(("dataset", "method", "sweep"))
    names = {"dataset": DATA_NAMES, "method": METHOD_NAMES, "sweep": ("first", "second.3_4-a")}[what]
    return what, changed_text(rng, rng.choice(names))


def read_any_name(given: tuple[str, str], folder: Path) -> bool:
    what, name = given
    if what == "dataset":
        open_source(name)
    elif what == "method":
        find_method(name)
    else:
        parse_sweep(SWEEP | {"name": name})
    return True


KINDS = (
    Kind("records", make_record, read_record),
    Kind("catalogue", make_catalogue, read_catalogue),
    Kind("ledger", make_look, read_look),
    Kind("journal", make_journal, read_journal),
    Kind("npz", make_npz, read_npz),
    Kind("tables", make_table, read_table),
    Kind("checkpoints", make_checkpoint, read_checkpoint),
    Kind("stages", make_stage, read_stage),
    Kind("pictures", make_picture, read_one_picture),
    Kind("masks", make_picture, read_one_mask),
    Kind("dicom", make_dicom, read_one_dicom),
    Kind("exports", lambda rng: _text_of(rng, exported()), read_exported),
    Kind("sweeps", lambda rng: _text_of(rng, SWEEP), read_sweep_file),
    Kind("configurations", make_config, read_method_config),
    Kind("names", make_name, read_any_name),
)
