"""Marked pixels of a mask file, as a viewer shows it.

A pixel is marked where it is brighter than half of the brightest one, since masks that were resized or compressed have
grey edges; where all values are 0 and 1, these are meant. In a JPEG half of white decides: what is empty has traces of
compression. Of colours the brightest channel counts. On a transparent ground what is drawn is marked, be it white or
black. Values that say more than marked or not, such as a number for each of several classes, are refused.

Shapes: H W pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.readers.picture_files import opened
from trainables.data.readers.shown import has_alpha, shown_size, upright

_LOSSY, _HALF = "JPEG", 127
_MAX_NUMBER = 63
"""Brightest value up to which several values are taken for numbers of classes."""

_NUM_TOLD = 6
_NEARLY_ALL = 0.95


def read_mask(path: Path, picture_path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Marked pixels (H, W) of a mask file.

    Args:
        path: The mask.
        picture_path: Its picture.
        size: Width and height of the picture as it is shown, in pixels.

    Raises:
        DataError: a mask that cannot be decoded, is of another size than its picture, or tells more than marked or not.
    """
    with opened(path, as_stored=True) as mask:
        if shown_size(mask) != size:
            given, wanted = (f"{width}x{height}" for width, height in (shown_size(mask), size))
            raise DataError(
                f"mask {path} is {given} pixels, but its picture {picture_path} is {wanted}: make them equal"
            )
        lossy = mask.format == _LOSSY
        turned = upright(mask)
        if turned.mode == "P":
            _check_void(np.asarray(turned), path)
        values_HW = _brightness(turned)
        visible_HW = np.asarray(turned.convert("RGBA"))[..., 3] > _HALF if has_alpha(turned) else None
    if visible_HW is not None and not visible_HW.all():
        return _drawn(values_HW, visible_HW)
    marked_HW: NDArray[np.bool_] = values_HW > (_HALF if lossy else _threshold(values_HW, path))
    return marked_HW


def words_about_shares(shares: Sequence[float]) -> tuple[str, ...]:
    """Words about masks that mark nearly everything, or nothing, all of them; given their marked shares."""
    if not shares:
        return ()
    if min(shares) > _NEARLY_ALL:
        return (f"all {len(shares)} masks mark nearly everything: are black and white exchanged?",)
    return () if max(shares) else (f"none of the {len(shares)} masks marks anything",)


def _brightness(mask: Image.Image) -> NDArray[Any]:
    """Values (H, W): of colours that of the brightest channel."""
    if mask.mode == "LA":
        return np.asarray(mask)[..., 0]
    if mask.mode in ("1", "L", "I", "F") or mask.mode.startswith("I;16"):
        values_HW = np.asarray(mask)
        return values_HW.astype(np.uint8) if values_HW.dtype == np.bool_ else np.nan_to_num(values_HW)
    brightest: NDArray[Any] = np.asarray(mask.convert("RGBA"))[..., :3].max(axis=-1)
    return brightest


def _drawn(values_HW: NDArray[Any], visible_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Marked pixels where some are transparent: what is drawn, or its bright part if it is both bright and dark."""
    seen = values_HW[visible_HW]
    if not seen.size or (seen > _HALF).all() or (seen <= _HALF).all():
        return visible_HW
    bright_HW: NDArray[np.bool_] = values_HW > float(seen.max()) / 2
    return visible_HW & bright_HW


def _threshold(values_HW: NDArray[Any], path: Path) -> float:
    """Value above which a pixel is marked.

    Raises:
        DataError: values that tell more than marked or not.
    """
    _check_void(values_HW, path)
    values = np.unique(values_HW)
    brightest = float(values[-1])
    if len(values) > 2 and brightest <= _MAX_NUMBER:
        told = ", ".join(f"{value:g}" for value in values[:_NUM_TOLD].tolist())
        raise DataError(
            f"mask {path} has the values {told}{' …' if len(values) > _NUM_TOLD else ''}; expected 0 and 1, or 0 and "
            "255: set what is to be marked to 255 and all else to 0"
        )
    return max(brightest, 0.0) / 2


def _check_void(values_HW: NDArray[Any], path: Path) -> None:
    values = np.unique(values_HW)
    if values[-1] in (255, 65535) and 1 in values and np.isin(values[:-1], (0, 1)).all():
        raise DataError(
            f"mask {path} has the value {values[-1]} beside 1; expected 0 and 1, or 0 and 255: {values[-1]} often "
            "stands for pixels that nobody judged: set them to 0 or 1"
        )
