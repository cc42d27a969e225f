"""The folder of a model, written whole or not at all; nothing in it executes.

    model.yaml          everything that is no tensor, and the SHA-256 of the files with tensors
    model.safetensors   tensors; of an average `member-1.safetensors` and so on
    calibration.json    scores of validation images, by which sets of classes are made
    README.md           what it is, for people
    model.onnx          where it was asked for: the same as a graph, for other programs

It is written under another name, and renamed when all of it is on the disk.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from search_spaces.core.errors import ConfigError, ModelError
from search_spaces.core.yaml_files import dump_yaml, read_yaml
from trainables.core.disk import sync
from trainables.model.calibration import Calibration
from trainables.model.facts import ModelFacts

FACTS, CALIBRATION, CARD = "model.yaml", "calibration.json", "README.md"
_AGAIN = "copy the folder again, or train it again"


class Saved(NamedTuple):
    """Everything that a folder holds for the machine."""

    facts: ModelFacts
    states: Sequence[Mapping[str, Tensor]]
    """Tensors by name, of each member."""

    calibration: Calibration


def file_names(num_members: int) -> list[str]:
    """Return the names of the files with the members' tensors."""
    if num_members == 1:
        return ["model.safetensors"]
    return [f"member-{number}.safetensors" for number in range(1, num_members + 1)]


def check_free(folder: Path) -> None:
    """Refuse a place where a model cannot be written: nothing is ever overwritten.

    Raises:
        ModelError: something is there.
    """
    if folder.exists() or folder.is_symlink():
        raise ModelError(f"{folder} exists already: name another place for the model, or remove it")


def write_model(folder: Path, saved: Saved, card: str, others: Mapping[str, bytes] | None = None) -> None:
    """Write a model, whose hashes are those of what was written; `others` are further files by name.

    Raises:
        ModelError: something is there already, or it cannot be written.
    """
    check_free(folder)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        for member, state in zip(saved.facts.members, saved.states, strict=True):
            (partial / member.file).write_bytes(save(dict(state)))
        members = tuple(replace(each, sha256=_sha256(partial / each.file)) for each in saved.facts.members)
        facts = replace(saved.facts, members=members)
        (partial / FACTS).write_text(dump_yaml(facts.as_dict()), encoding="utf-8")
        (partial / CALIBRATION).write_text(json.dumps(saved.calibration.as_dict()) + "\n", encoding="utf-8")
        (partial / CARD).write_text(card, encoding="utf-8")
        for name, content in (others or {}).items():
            (partial / name).write_bytes(content)
        for path in (*partial.iterdir(), partial):
            sync(path)
        partial.rename(folder)
    except OSError as problem:
        raise ModelError(f"cannot write {folder}: {problem.strerror or problem}") from problem
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_model(folder: Path) -> Saved:
    """Read a model.

    Raises:
        ModelError: it is missing, no model, damaged or of another format.
    """
    if not (folder / FACTS).is_file():
        what = f"holds no {FACTS}" if folder.is_dir() else "is no folder" if folder.exists() else "does not exist"
        raise ModelError(f"{folder} {what}; expected the folder of a model that `sparse-search train` wrote")
    try:
        facts = ModelFacts.from_dict(read_yaml(folder / FACTS), str(folder / FACTS))
    except ConfigError as problem:
        raise ModelError(f"{problem}: {_AGAIN}") from problem
    states = [_tensors(folder / each.file, each.sha256) for each in facts.members]
    return Saved(facts, states, _calibration(folder / CALIBRATION))


def _tensors(path: Path, sha256: str) -> Mapping[str, Tensor]:
    try:
        if _sha256(path) != sha256:
            raise ModelError(f"{path} is damaged: its bytes are not those that {FACTS} names; {_AGAIN}")
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as problem:
        raise ModelError(f"{path} cannot be read ({' '.join(str(problem).split())[:120]}); {_AGAIN}") from problem


def _calibration(path: Path) -> Calibration:
    try:
        return Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Calibration()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ModelError(f"{path} is damaged; {_AGAIN}, or remove it and do without sets") from problem


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
