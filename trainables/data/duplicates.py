"""Pictures that a dataset holds more than once: found by their pixels, each looked at a single time.

Every picture is compared however many there are: one at a time, so that memory does not grow with the file. From
`KEPT_FROM` bytes on, what was found is kept in the cache, by the digest of the data, so that it is done once. What
follows for draws is said in `roles`.

Shapes: N pictures, H W pixels.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.errors import DataError
from trainables.data.cache import CacheFacts, cached_folder
from trainables.data.partition import UNLABELLED, Split
from trainables.data.readers.reader import PreparationCallback, Reader
from trainables.data.roles import Pictures, Roles, equal_among, left_to

VERSION = 1
"""Number of the rules by which pictures are told apart; another one is another cache."""

KEPT_FROM = 16 * 2**20
"""Bytes of pixels in a split from which on its comparison is kept."""

_DIGEST_BYTES = 16
_FILE = "contents.npy"


def roles_of(name: str, reader: Reader, *, with_val: bool = False, tell: PreparationCallback | None = None) -> Roles:
    """The roles that are left to the pictures of a dataset; looked up where this process has found them before.

    Args:
        name: The dataset's.
        reader: Gives its pictures.
        with_val: Compare with val as well, which validates.
        tell: Told of every picture that was compared, where that is kept.

    Raises:
        DataError: a picture that cannot be read.
    """
    key = (name, reader.digest(), reader.kind, *reader.image_shape("train"), with_val)
    return _roles(_Asked(key, reader, tell))


def contents_of(reader: Reader, split: Split, tell: PreparationCallback | None = None) -> list[bytes]:
    """What tells that two pictures of a split are equal: 16 bytes of each.

    Raises:
        DataError: a picture that cannot be read.
    """
    count, *_, side = shape = reader.image_shape(split)
    if reader.has_masks or prod(shape) < KEPT_FROM:  # pictures with masks lie in the cache already
        return list(_compared(reader, split))
    try:
        key = f"contents-{reader.digest()}-{side}-{split}-v{VERSION}"
        folder, _ = cached_folder(key, partial(_write, reader, split, tell))
        kept: NDArray[np.uint8] = np.load(folder / _FILE, allow_pickle=False)
    except DataError:  # no place to keep it; a picture that cannot be read is told again
        return list(_told(_compared(reader, split), count, tell))
    return [row.tobytes() for row in kept]


@final
@dataclass(frozen=True)
class _Asked:
    key: tuple[Hashable, ...]
    reader: Reader = field(compare=False)
    tell: PreparationCallback | None = field(compare=False)


@lru_cache(maxsize=16)
def _roles(asked: _Asked) -> Roles:
    splits: tuple[Split, ...] = ("train", "val") if asked.key[-1] else ("train",)
    return left_to(*(_pictures(asked.reader, split, asked.tell) for split in splits))


def _pictures(reader: Reader, split: Split, tell: PreparationCallback | None) -> Pictures:
    contents = contents_of(reader, split, tell)
    if reader.kind != "segmentation":
        return Pictures(contents, reader.labels(split).tolist())
    return Pictures(contents, _masks(reader, split, contents))


def _masks(reader: Reader, split: Split, contents: Sequence[bytes]) -> list[Hashable]:
    """What tells masks apart; only of pictures that have equals. A picture of the pool has none."""
    said: list[Hashable] = [UNLABELLED if label == UNLABELLED else None for label in reader.labels(split)]
    for members in equal_among(contents):
        masks_NHW = reader.masks(split, np.array(members))
        if masks_NHW is not None:
            for member, mask_HW in zip(members, masks_NHW, strict=True):
                said[member] = mask_HW.tobytes() if said[member] != UNLABELLED else UNLABELLED
    return said


def _compared(reader: Reader, split: Split) -> Iterator[bytes]:
    return (blake2b(content, digest_size=_DIGEST_BYTES).digest() for content in reader.contents(split))


def _told(contents: Iterable[bytes], count: int, tell: PreparationCallback | None) -> Iterator[bytes]:
    for done, content in enumerate(contents, start=1):
        yield content
        if tell:
            tell(done, count)


def _write(reader: Reader, split: Split, tell: PreparationCallback | None, folder: Path) -> CacheFacts:
    content = b"".join(_told(_compared(reader, split), reader.image_shape(split)[0], tell))
    np.save(folder / _FILE, np.frombuffer(content, dtype=np.uint8).reshape(-1, _DIGEST_BYTES))
    return {}
