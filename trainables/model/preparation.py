"""Pictures brought to the form of those that a model was trained on, by the same code.

Shapes: N pictures, C channels, H W pixels, S pixels of a side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search_spaces.core.errors import DataError
from trainables.data.readers.lesion_reader import LesionReader
from trainables.data.readers.picture_files import resized_picture
from trainables.data.readers.resize_cache import Form, form_of, reduced, squared
from trainables.data.source import Source

CHANNELS = (1, 3, 4)
"""Numbers of channels that an array of pictures may have."""


@final
@dataclass(frozen=True)
class Preparation:
    """Way in which a picture becomes an image, or is then cut into patches."""

    channels: int
    side: int
    reduction: Mapping[str, Any] | None = None
    """Of pictures with lesions: sizes and compression that all were brought to first."""

    def __call__(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Return pixels (C, S, S) of a picture as it is shown."""
        if self.reduction is None:
            return resized_picture(picture, self.channels, self.side)
        form = Form.from_dict(self.reduction, self.channels, self.side)
        return squared(reduced(picture, form), form)


def reduction_of(source: Source) -> dict[str, Any] | None:
    """Return the sizes and the compression that a dataset's pictures are brought to first; None of most datasets."""
    reader = source.reader
    return form_of(reader.listed, source.side).as_dict() if isinstance(reader, LesionReader) else None


def are_channels_first(images: NDArray[Any]) -> bool:
    """Tell whether pictures in an array have their channels before rows and columns, and not behind."""
    return images.ndim == 4 and images.shape[1] in CHANNELS and images.shape[3] not in CHANNELS


def fitted(images: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8]:
    """Return pixels (N, C, S, S) of pictures in an array.

    Args:
        images: bytes, grey (N, H, W) or with channels first, (N, C, H, W), or last, (N, H, W, C).
        preparation: What is done to each.

    Raises:
        DataError: another form.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not all(images.shape[1:]):
        raise DataError(
            f"images are {images.dtype} of shape {images.shape}; expected uint8 of shape (N, H, W), (N, C, H, W) or "
            "(N, H, W, C)"
        )
    if are_channels_first(images):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 4 and images.shape[3] not in CHANNELS:
        raise DataError(f"images of shape {images.shape} have no 1, 3 or 4 channels, first or last")
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    form = (len(images), preparation.channels, preparation.side, preparation.side)
    found = np.empty(form, np.uint8)
    for pixels, image in zip(found, images, strict=True):
        pixels[:] = preparation(Image.fromarray(np.ascontiguousarray(image)))
    return found
