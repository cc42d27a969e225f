"""A picture as a viewer shows it: upright, with its palette and its transparency.

Pillow gives what lies in a file: a photograph may lie on its side, with a note (EXIF) of how to turn it, and what is
transparent has a colour that nobody sees. Here what is transparent is black. Grey values of 16 bits are shown in the
256 levels of a screen, 0 black and 65535 white.
"""

from struct import error as StructError

import numpy as np
from PIL import Image
from PIL.Image import Transpose
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

_ORIENTATION, _WIDTH, _HEIGHT, _KIND_OF_PAGE, _BITS, _INK = 274, 256, 257, 254, 258, 262  # tags of EXIF and TIFF
_WHITE_IS_ZERO = 0
_UPRIGHT = 1
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = (5, 6, 7, 8)
_WITH_ALPHA = ("LA", "PA", "RGBA")
_NO_EXIF = (OSError, SyntaxError, ValueError, KeyError, TypeError, StructError)


def shown(picture: Image.Image, channels: int) -> Image.Image:
    """The picture upright, grey (L) with one channel and else RGB; what is transparent is black."""
    mode = "L" if channels == 1 else "RGB"
    bits = num_bits(picture)
    turned = upright(picture)
    if bits > 8:
        return _in_bytes(picture, turned, bits).convert(mode)
    if not has_alpha(turned):
        return turned.convert(mode)
    seen = turned.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "black"), seen).convert(mode)


def num_bits(picture: Image.Image) -> int:
    """Bits of a grey value that are used, where these are 9 to 16 without a sign; else 8."""
    if picture.mode.startswith("I;16"):
        return int(picture.tag_v2.get(_BITS, (16,))[0]) if isinstance(picture, TiffImageFile) else 16
    return 16 if picture.mode == "I" and isinstance(picture, PngImageFile) else 8  # as Pillow before 11 has it


def _in_bytes(picture: Image.Image, turned: Image.Image, bits: int) -> Image.Image:
    """Grey values of 9 to 16 bits as bytes (L), rounded."""
    values_HW = np.asarray(turned).astype(np.float64)
    bytes_HW = np.rint(values_HW * (255 / (2**bits - 1))).astype(np.uint8)
    if isinstance(picture, TiffImageFile) and picture.tag_v2.get(_INK) == _WHITE_IS_ZERO:
        bytes_HW = 255 - bytes_HW  # which Pillow does for 8 bits only
    if "transparency" in picture.info:
        bytes_HW = np.where(values_HW == picture.info["transparency"], 0, bytes_HW)
    return Image.fromarray(bytes_HW)


def upright(picture: Image.Image) -> Image.Image:
    """The picture as it was taken, turned or mirrored if the file says so; decodes it."""
    orientation = _orientation(picture)
    picture.load()
    if isinstance(picture, TiffImageFile) and _ORIENTATION not in picture.tag_v2:
        return picture  # turned while it was decoded
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def shown_size(picture: Image.Image) -> tuple[int, int]:
    """Width and height in pixels of the picture when it is upright; needs only its header."""
    width, height = picture.size
    if isinstance(picture, TiffImageFile):  # versions of Pillow differ in what they say before it is decoded
        width, height = picture.tag_v2.get(_WIDTH, width), picture.tag_v2.get(_HEIGHT, height)
    return (height, width) if _orientation(picture) in _ON_THEIR_SIDE else (width, height)


def has_alpha(picture: Image.Image) -> bool:
    """True if some of the picture may be transparent."""
    return picture.mode in _WITH_ALPHA or "transparency" in picture.info


def num_pages(picture: Image.Image) -> int:
    """Pages of a TIFF, but for its thumbnails; 1 of other files."""
    if not isinstance(picture, TiffImageFile) or picture.n_frames == 1:
        return 1
    kinds = []
    for page in range(picture.n_frames):
        picture.seek(page)
        kinds.append(int(picture.tag_v2.get(_KIND_OF_PAGE, 0)))
    picture.seek(0)
    return sum(not kind & 1 for kind in kinds)


def _orientation(picture: Image.Image) -> int:
    """1 for upright, else a key of `_TURNS`; a note that cannot be read is passed over, as viewers do."""
    if isinstance(picture, TiffImageFile):
        found = picture.tag_v2.get(_ORIENTATION, _UPRIGHT)
    else:
        try:
            found = Image.Image.getexif(picture).get(_ORIENTATION, _UPRIGHT)  # that of a PNG would decode it
        except _NO_EXIF:
            return _UPRIGHT
    return found if found in _TURNS else _UPRIGHT
