"""Pictures with a mask each, for segmentation: a folder of one's own, and the optic discs of IDRiD.

A folder holds `images/*` and `masks/*`; a mask is named as its picture, or with an ending such as `_mask`
(`mask_rules.Names`). A picture has one mask of its size, which is all black where there is nothing to mark: without one
it is of the pool, which nobody has labelled, as are pictures in `unlabelled/*`. What is marked says `mask_pixels`.

Pictures are resized bilinearly and antialiased, masks by the nearest pixel, without keeping the aspect ratio.

Shapes: N pictures, H = W = S pixels.

Source of the discs: Porwal et al., Medical Image Analysis 59:101561, 2020; folders as in `idrid`.
"""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.names import PREPARED_SIDES
from trainables.data.readers.files import File, digest_of, pictures_below, pool_below
from trainables.data.readers.mask_pixels import read_mask
from trainables.data.readers.mask_rules import Picture, stem_of, with_masks
from trainables.data.readers.passed_over import refuse_unread_masks, words_about
from trainables.data.readers.picture_files import SUFFIXES, opened
from trainables.data.readers.reader import PreparationCallback
from trainables.data.readers.shown import shown

_ENDINGS = ("OD",)
_ORIGIN = "https://doi.org/10.21227/H25W98"


@final
@dataclass(frozen=True)
class MaskFolder:
    """Pictures and masks that were listed, in the order of their places; they are decoded when asked for."""

    folder: Path
    pictures: tuple[Picture, ...]
    """Each has one mask; those of the pool, which come last, have none."""

    files: tuple[File, ...]
    notes: tuple[str, ...] = ()
    """Words about files that were passed over."""

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def digest(self) -> str:
        """MD5 over places and bytes of all pictures and masks, 32 hex digits."""
        return digest_of(self.folder, self.files)

    def read(self, side: int, tell: PreparationCallback | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Pictures (N, S, S, 3) in 0..255, grey ones with three equal channels, and masks (N, S, S) of 0 and 1.

        Args:
            side: S, in pixels.
            tell: Told of every picture that was read.

        Masks of the pool are empty.

        Raises:
            DataError: a side out of range, a file that cannot be decoded, a mask of another size than its picture.
        """
        low, high = PREPARED_SIDES
        if not low <= side <= high:
            raise DataError(f"{self.folder}: pictures with masks are made {low} to {high} pixels wide, not {side}")
        images_NSS3 = np.empty((len(self), side, side, 3), dtype=np.uint8)
        masks_NSS = np.zeros((len(self), side, side), dtype=np.uint8)
        for index, picture in enumerate(self.pictures):
            image = self.folder / picture.place
            images_NSS3[index], size = _read_image(image, side)
            if picture.masks:
                masks_NSS[index] = _resized(read_mask(self.folder / picture.masks[0], image, size), side)
            if tell:
                tell(index + 1, len(self))
        return images_NSS3, masks_NSS


def list_mask_folder(folder: Path) -> MaskFolder:
    """List a folder of one's own, and open no picture.

    Raises:
        DataError: another layout, no picture, none with a mask, one with two, a mask without a picture.
    """
    for part in ("images", "masks"):
        if not (folder / part).is_dir():
            raise DataError(f"folder {folder} has no {part}/; expected images/NAME.png with masks/NAME.png: add it")
    masks = {file.place for file in pictures_below(folder, "masks/*.*")}
    images = {file.place for file in pictures_below(folder, "images/*.*")}
    refuse_unread_masks(folder, images, masks, _ENDINGS)
    found = _paired(folder, "images/*.*", "masks/*.*", may_lack=True)
    more = pool_below(folder)
    found = replace(
        found, pictures=(*found.pictures, *(Picture(file.place) for file in more)), files=(*found.files, *more)
    )
    pool = sum(not picture.masks for picture in found.pictures)
    if pool == len(found):
        raise DataError(f"folder {folder / 'masks'} holds no mask; expected masks/NAME.png for some pictures: add them")
    told = (f"{pool} pictures without a mask are of the pool, not empty",) if pool else ()
    ordered = tuple(sorted(found.pictures, key=lambda picture: (not picture.masks, picture.place)))
    left = words_about(folder, {file.place for file in found.files})
    return replace(found, pictures=ordered, notes=(*told, *left))


class _Layout(NamedTuple):
    images: str
    masks: str


_DISCS: dict[Literal["train", "test"], tuple[_Layout, _Layout]] = {
    "train": (
        _Layout("segmentation/train/images/*.*", "segmentation/train/masks/OD/*.*"),
        _Layout(
            "A. Segmentation/1. Original Images/a. Training Set/*.*",
            "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/*/*_OD.*",
        ),
    ),
    "test": (
        _Layout("segmentation/test/images/*.*", "segmentation/test/masks/OD/*.*"),
        _Layout(
            "A. Segmentation/1. Original Images/b. Testing Set/*.*",
            "A. Segmentation/2. All Segmentation Groundtruths/b. Testing Set/*/*_OD.*",
        ),
    ),
}


def find_optic_discs(folder: Path, split: Literal["train", "test"]) -> MaskFolder:
    """List the fundus pictures of an official split, 54 or 27, with the masks of their optic discs; open none.

    Args:
        folder: Where IDRiD lies, as unpacked or under plain names.
        split: The official one.

    Raises:
        DataError: files are missing.
    """
    folder = folder.absolute()
    for layout in _DISCS[split]:
        if pictures_below(folder, layout.masks):
            return _paired(folder, *layout)
    raise DataError(
        f"idrid: {folder} holds no optic discs for {split} ({_DISCS[split][0].masks}); "
        f"unpack '{_DISCS[split][1].images.split('/')[0]}' from {_ORIGIN} there"
    )


def _paired(folder: Path, images_pattern: str, masks_pattern: str, *, may_lack: bool = False) -> MaskFolder:
    images, masks = pictures_below(folder, images_pattern), pictures_below(folder, masks_pattern)
    if not images:
        raise DataError(f"{folder / images_pattern} is no picture ({', '.join(SUFFIXES)}); add some")
    pictures = with_masks(folder, [each.place for each in images], [each.place for each in masks], _ENDINGS)
    for picture in pictures:
        image, found = folder / picture.place, [str(folder / mask) for mask in picture.masks]
        if not found and not may_lack:
            pattern = PurePosixPath(masks_pattern)
            wanted = folder / pattern.with_name(pattern.name.replace("*", stem_of(picture.place), 1))
            raise DataError(f"picture {image} has no mask; expected {wanted}, all black if nothing is marked: add it")
        if len(found) > 1:
            raise DataError(f"picture {image} has the masks {' and '.join(found)}; expected one: join or remove them")
    return MaskFolder(folder, pictures, images + masks)


def _read_image(path: Path, side: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Pixels (S, S, 3), and the width and height of the picture as it is shown."""
    with opened(path) as picture:
        upright = shown(picture, channels=3)
        resized = upright.resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(resized, dtype=np.uint8), upright.size


def _resized(mask_HW: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """The mask (S, S) of 0 and 1, by the nearest pixel."""
    resized = Image.fromarray(mask_HW).resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(resized, dtype=np.uint8)
