"""Features of images, computed once by anyone and kept: a pass over images that no other one has to do again.

    stages/features-KEY/about.json       what determines them besides the image, to be read by people
    stages/features-KEY/part-SHA256.pt   some images: hashes of their pixels, and their features
    stages/features-KEY.lock             held by whoever computes; the system lets go of it when that process ends

An image is known by its pixels, so configurations, label sets and folds share what they have in common, and so does
whatever is predicted later. Features are those of an image alone, whatever its neighbours, but for rounding. A pass
that is killed goes on after its last part.

Shapes: N images, B batch, C channels, H W pixels, D features.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, final

import torch
from torch import Tensor

from trainables.training.stage_cache import StageEntry

log = logging.getLogger(__name__)

PART_IMAGES = 1024
"""Most images of a part, after which a killed pass goes on."""

_KEY_BYTES = 16
_SAY_SECONDS = 10.0


@final
class FeatureStore:
    """Features by what determines them.

    Args:
        name: In messages.
        determined_by: Everything besides the image on which a feature depends, as plain values.
        begin: Makes what computes features (B, D) of images (B, C, H, W), uint8; called if any are missing.
    """

    def __init__(
        self, name: str, determined_by: Mapping[str, Any], begin: Callable[[], Callable[[Tensor], Tensor]]
    ) -> None:
        self._name, self._begin = name, begin
        self._entry = StageEntry("features", determined_by)
        self._seen: set[str] = set()
        self._rows: dict[bytes, Tensor] = {}

    def of(self, images_NCHW: Tensor) -> Tensor:
        """Return features (N, D), float32, on the CPU; what is missing is computed and kept.

        Raises:
            DataError: nothing can be written to the cache.
        """
        images_NCHW = images_NCHW.cpu()
        keys = _keys(images_NCHW)
        if not self._knows(keys):
            self._read()
        if not self._knows(keys):
            self._make(images_NCHW, keys)
        return torch.stack([self._rows[key] for key in keys])

    def _knows(self, keys: Sequence[bytes]) -> bool:
        return all(key in self._rows for key in keys)

    def _read(self) -> None:
        """Take in the parts that were written since the last look."""
        for path, part in self._entry.parts(self._seen):
            self._seen.add(path)
            self._rows.update(zip(_split(part["keys"]), part["features"], strict=True))

    def _make(self, images_NCHW: Tensor, keys: Sequence[bytes]) -> None:
        """Compute what is missing while nobody else does, after a last look at what they left."""
        if not self._entry.take(0.0):
            log.info("features %s: another trial is at them; this one waits", self._name)
            self._entry.take(-1)
        try:
            self._read()
            missing = {key: number for number, key in enumerate(keys) if key not in self._rows}
            if missing:
                self._compute(images_NCHW, list(missing.values()), list(missing))
        finally:
            self._entry.release()

    def _compute(self, images_NCHW: Tensor, numbers: Sequence[int], keys: Sequence[bytes]) -> None:
        compute, started, said = self._begin(), time.monotonic(), time.monotonic()
        for first in range(0, len(numbers), PART_IMAGES):
            part = slice(first, first + PART_IMAGES)
            features_ND = compute(images_NCHW[list(numbers[part])]).float().cpu()
            joined = torch.frombuffer(bytearray(b"".join(keys[part])), dtype=torch.uint8)
            self._seen.add(self._entry.add_part({"keys": joined, "features": features_ND}))
            self._rows.update(zip(keys[part], features_ND, strict=True))
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                log.info("features %s: %d of %d images", self._name, min(part.stop, len(numbers)), len(numbers))
        log.info("features %s: %d images in %.1f s", self._name, len(numbers), time.monotonic() - started)


def _keys(images_NCHW: Tensor) -> list[bytes]:
    """Hashes of images by shape and pixels."""
    shape = str(tuple(images_NCHW.shape[1:])).encode()
    arrays = images_NCHW.contiguous().numpy()
    return [blake2b(image.tobytes(), digest_size=_KEY_BYTES, salt=_salt(shape)).digest() for image in arrays]


def _salt(shape: bytes) -> bytes:
    return blake2b(shape, digest_size=blake2b.SALT_SIZE).digest()


def _split(keys: Tensor) -> Iterator[bytes]:
    whole = keys.numpy().tobytes()
    return (whole[first : first + _KEY_BYTES] for first in range(0, len(whole), _KEY_BYTES))
