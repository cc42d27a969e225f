"""The 8x8 handwritten digits that scikit-learn carries: real images without a download.

Source: scikit-learn, `sklearn.datasets.load_digits`; the split is ours and fixed, the archive has none.
"""

from functools import lru_cache
from hashlib import md5
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from trainables.data.partition import SPLITS, Indices, Split, three_way_split
from trainables.data.readers.reader import ImageShape, PlainReader, Reader
from trainables.data.readers.request import ReaderRequest

_MAX_INK = 16  # pixels count the dark cells of a 4x4 block
_VAL_SHARE = 200 / 1797
_TEST_SHARE = 400 / 1797


class _Digits(NamedTuple):
    images_NHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    indices: dict[Split, Indices]


@final
class DigitsReader(PlainReader):
    """The bundled digits, grey in 0..255."""

    class_names = tuple(str(digit) for digit in range(10))
    splits: tuple[Split, ...] = SPLITS

    def labels(self, split: Split) -> NDArray[np.integer]:
        """Labels (N,) in 0..9."""
        digits = _digits()
        return digits.labels_N[digits.indices[split]]

    def image_shape(self, split: Split) -> ImageShape:
        """Sizes N, 1, 8, 8."""
        return len(_digits().indices[split]), 1, 8, 8

    def images(self, split: Split) -> NDArray[np.uint8]:
        """Pixels (N, 1, 8, 8)."""
        digits = _digits()
        return digits.images_NHW[digits.indices[split]][:, None]

    def digest(self) -> str:
        """MD5 of pixels and labels."""
        digits = _digits()
        content = digits.images_NHW.tobytes() + digits.labels_N.astype("<i8").tobytes()
        return md5(content, usedforsecurity=False).hexdigest()


def open_digits(request: ReaderRequest) -> Reader:
    """The reader of the digits, which need no file."""
    return DigitsReader()


@lru_cache(maxsize=1)
def _digits() -> _Digits:
    from sklearn.datasets import load_digits  # slow to import, and only this dataset needs it

    bunch = load_digits()
    images_NHW = np.rint(bunch.images * (255 / _MAX_INK)).astype(np.uint8)
    labels_N = bunch.target.astype(np.int64)
    indices = three_way_split(labels_N, "digits", val_share=_VAL_SHARE, test_share=_TEST_SHARE)
    return _Digits(images_NHW, labels_N, indices)
