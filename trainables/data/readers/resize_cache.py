"""Pictures with lesion masks, brought to one size: done once, then kept.

Every picture is first reduced to the smallest width and height in the folder, and then compressed once as the smallest
one is, where that is a JPEG: else sharpness and the traces of compression would tell those that come small from those
that come large. It is then made square and divided by its own maximum. A mask goes straight from its own size to the
final one, a pixel being marked where any of those it stands for is, so no lesion is too small.

Of pictures that are equal when reduced only one counts, so that none lies in two splits: one with lesions, where there
is one. A healthy one does not count either when it is equal to one that is known to be of another kind, nor one of the
pool when it is equal to any other.

Shapes: N pictures, C channels, H W pixels of a picture, S of a side.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from search_spaces.core.errors import DataError
from trainables.data.cache import CacheFacts, cached_folder
from trainables.data.partition import UNLABELLED
from trainables.data.readers.lesion_reader import CLASS_NAMES, LesionFolder, LesionReader, Prepared
from trainables.data.readers.mask_pixels import read_mask
from trainables.data.readers.mask_rules import Picture, train_and_test
from trainables.data.readers.picture_files import channels_and_sizes, header_of, opened
from trainables.data.readers.reader import PreparationCallback
from trainables.data.readers.shown import shown, shown_size

VERSION = 2
"""Number of the rules by which pixels and splits are made here; another one is another cache."""

_THREADS = 2
_REDUCING_GAP = 2.0  # times the final size, to which neighbours are averaged first: faster, and as sharp

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Form:
    """Format that all pictures are brought to."""

    channels: int
    smallest: tuple[int, int]
    """Width and height in pixels, of any picture."""

    side: int
    compression: Mapping[str, Any] | None = None
    """Options with which Pillow saves a JPEG like the smallest picture; None where that is no JPEG."""

    def as_dict(self) -> dict[str, Any]:
        """Return sizes and compression as plain values, without channels and side."""
        options = self.compression
        tables = None if options is None else [list(table) for table in options["qtables"].values()]
        compression = None if options is None else {"qtables": tables, "subsampling": options["subsampling"]}
        return {"smallest": list(self.smallest), "compression": compression}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], channels: int, side: int) -> Self:
        """Read what `as_dict` gave."""
        width, height = values["smallest"]
        return cls(channels, (width, height), side, values["compression"])


class _Done(NamedTuple):
    place: str
    identity: str
    """Equal for equal pictures."""

    label: int
    content: bytes = b""
    """Pixels, then packed masks; nothing for a picture that only serves to be compared."""

    share: float | None = None
    """Marked share; None of a picture without a mask."""


def open_lesions(listed: LesionFolder, side: int, tell: PreparationCallback | None = None) -> LesionReader:
    """The reader of a folder at a side in pixels, prepared unless that was done before.

    The first time takes minutes and tells how far it is; the next ones take as long as reading the files' bytes.

    Raises:
        DataError: a picture or a mask that cannot be read or is of another size, a class that is empty, a full disk.
    """
    digest = listed.digest
    folder, facts = cached_folder(f"pictures-{digest}-{side}-v{VERSION}", partial(_prepare, listed, side, tell))
    prepared = Prepared(
        images_NCSS=np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False),
        masks_NSb=np.load(folder / "masks.npy", mmap_mode="r", allow_pickle=False),
        labels_N=np.array(facts["labels"], dtype=np.int64),
        num_train=facts["num_train"],
        places=tuple(facts["places"]),
        left_out=facts["left_out"],
        shares=facts["marked"],
    )
    return LesionReader(listed, prepared)


def resized_mask(mask_HW: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The mask (side, side), marked where any pixel is that falls there; enlarged where it was smaller."""
    for axis, length in enumerate(mask_HW.shape):
        mask_HW = np.logical_or.reduceat(mask_HW, np.arange(side) * length // side, axis=axis)
    return mask_HW


def brightened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels divided by the greatest value of all channels, in 0..255; black stays black."""
    greatest = max(int(pixels.max()), 1)
    scaled: NDArray[np.uint8] = np.rint(np.minimum(np.arange(256) * (255 / greatest), 255)).astype(np.uint8)
    return np.take(scaled, pixels)


def reduced(picture: Image.Image, form: Form) -> Image.Image:
    """The picture at the smallest size, grey or RGB; as it is where it has this size."""
    picture = shown(picture, form.channels)
    if picture.size == form.smallest:
        return picture
    small = picture.resize(form.smallest, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    return _compressed(small, form.compression)


def squared(picture: Image.Image, form: Form) -> NDArray[np.uint8]:
    """Pixels (C, S, S) of a picture at the smallest size."""
    resized = np.asarray(picture.resize((form.side, form.side), Image.Resampling.BILINEAR), dtype=np.uint8)
    return brightened(resized.reshape(form.side, form.side, form.channels).transpose(2, 0, 1))


def _compressed(picture: Image.Image, compression: Mapping[str, Any] | None) -> Image.Image:
    if compression is None:
        return picture
    stream = BytesIO()
    picture.save(stream, "JPEG", **compression)
    return Image.open(stream, formats=["JPEG"]).convert(picture.mode)


def form_of(listed: LesionFolder, side: int) -> Form:
    """Return the form of a folder's pictures, from their headers."""
    paths = [listed.folder / picture.place for picture in (*listed.pictures, *listed.pool)]
    channels, sizes = channels_and_sizes(paths)
    smallest = min(width for width, _ in sizes), min(height for _, height in sizes)
    return Form(channels, smallest, side, _compression(paths) if len(sizes) > 1 else None)


def _compression(paths: Sequence[Path]) -> Mapping[str, Any] | None:
    """The options for Pillow of the picture with the fewest pixels; None where it is no JPEG."""
    with opened(min(paths, key=lambda path: prod(header_of(path).size))) as picture:
        if not isinstance(picture, JpegImageFile):
            return None
        return {"qtables": picture.quantization, "subsampling": get_sampling(picture)}


def _prepare(listed: LesionFolder, side: int, tell: PreparationCallback | None, folder: Path) -> CacheFacts:
    pictures = [*listed.pictures, *listed.pool]
    form = form_of(listed, side)
    items = [*pictures, *listed.others]
    read: list[_Done] = []
    with (folder / "all").open("wb") as stream:
        for done in _side_by_side(partial(_read, listed.folder, form), items):
            stream.write(done.content)
            of_pool = len(listed.pictures) <= len(read) < len(pictures)
            read.append(done._replace(content=b"", label=UNLABELLED if of_pool else done.label))
            if tell:
                tell(len(read), len(items))
    equal_to = _left_out(read, num_pictures=len(pictures))
    rows = np.array([row for row in range(len(pictures)) if read[row].place not in equal_to])
    labels_N = np.array([read[row].label for row in rows], dtype=np.int64)
    num_pool = int((labels_N == UNLABELLED).sum())  # its pictures come after the others
    num_known = len(rows) - num_pool
    _check_classes(labels_N[:num_known], listed.folder)
    parts = train_and_test(labels_N[:num_known], listed.digest, listed.test_share)
    order = np.concatenate([parts["train"], np.arange(num_known, len(rows)), parts["test"]])
    _write_in_order(folder, rows[order].tolist(), form)
    return {
        "labels": labels_N[order].tolist(),
        "num_train": len(parts["train"]) + num_pool,
        "places": [read[row].place for row in rows[order]],
        "left_out": equal_to,
        "marked": [read[row].share for row in rows[order]],
    }


def _read(folder: Path, form: Form, item: Picture | str) -> _Done:
    place = item if isinstance(item, str) else item.place
    with opened(folder / place) as picture:
        size = shown_size(picture)
        small = reduced(picture, form)
    identity = sha256(small.tobytes()).hexdigest()
    if isinstance(item, str):
        return _Done(place, identity, -1)
    mask_HW = np.zeros(size[::-1], dtype=np.bool_)
    for mask in item.masks:
        mask_HW |= read_mask(folder / mask, folder / place, size)
    mask_SS = resized_mask(mask_HW, form.side)
    content = squared(small, form).tobytes() + np.packbits(mask_SS, axis=-1).tobytes()
    return _Done(place, identity, int(mask_SS.any()), content, float(mask_SS.mean()) if item.masks else None)


def _side_by_side(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in the order of the items, few of them at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * _THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _left_out(read: Sequence[_Done], num_pictures: int) -> dict[str, str]:
    """Places of pictures that do not count, and the place of the one each is equal to."""
    pictures, others = read[:num_pictures], read[num_pictures:]
    marked, healthy, pool = ([done for done in pictures if done.label == label] for label in (1, 0, UNLABELLED))
    first: dict[str, str] = {}
    for done in (*marked, *others, *healthy, *pool):
        first.setdefault(done.identity, done.place)
    return {done.place: first[done.identity] for done in pictures if first[done.identity] != done.place}


def _check_classes(labels_N: NDArray[np.int64], folder: Path) -> None:
    for label, name in enumerate(CLASS_NAMES):
        if label not in labels_N:
            wanted = "without any lesion pixel" if label == 0 else "with a lesion pixel"
            raise DataError(f"{folder} holds no {name} picture, that is one {wanted}, among {len(labels_N)}: add some")


def _write_in_order(folder: Path, rows: Sequence[int], form: Form) -> None:
    """Pictures and masks into a file each, from the one that has them in the order in which they were read."""
    image = (form.channels, form.side, form.side)
    mask = (form.side, -(-form.side // 8))
    image_bytes, mask_bytes = int(np.prod(image)), int(np.prod(mask))
    unordered = folder / "all"
    with (
        unordered.open("rb") as source,
        (folder / "images.npy").open("wb") as images,
        (folder / "masks.npy").open("wb") as masks,
    ):
        _write_header(images, (len(rows), *image))
        _write_header(masks, (len(rows), *mask))
        for row in rows:
            source.seek(row * (image_bytes + mask_bytes))
            images.write(source.read(image_bytes))
            masks.write(source.read(mask_bytes))
    unordered.unlink()


def _write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": "|u1"})
