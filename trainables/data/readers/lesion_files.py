"""A folder of one's own pictures with lesion masks.

Layout: `images/*`, and the masks of a picture either as `masks/<lesion>/<stem>.*`, one for each kind of lesion, or as
`masks/<stem>.*`; a name may have an ending such as `_mask` (`mask_rules.Names`). What is marked in them says
`mask_pixels`. A missing mask means: no such lesion. Pictures that nobody has looked at lie in `unlabelled/*`: the pool.

Every class is shared out 60 % train, 20 % val, 20 % test; the test part is fixed by the content hash, the others are
drawn anew for each label set. With a pool there is no test part.
"""

from collections.abc import Sequence
from pathlib import Path

from search_spaces.core.errors import DataError
from trainables.data.names import PREPARED_SIDES
from trainables.data.readers.files import pictures_below, pool_below
from trainables.data.readers.lesion_reader import LesionFolder
from trainables.data.readers.mask_rules import TEST_SHARE, VAL_SHARE, Picture, with_masks
from trainables.data.readers.passed_over import refuse_unread_masks, words_about
from trainables.data.readers.picture_files import SUFFIXES, channels_and_sizes
from trainables.data.readers.reader import Reader
from trainables.data.readers.request import ReaderRequest
from trainables.data.readers.resize_cache import open_lesions

DEFAULT_SIDE = 1024
"""Side in pixels, unless all pictures are squares of one side. Source: Lecouat et al., arXiv:1812.07832."""


def open_lesion_folder(request: ReaderRequest) -> Reader:
    """The reader of a folder, prepared at the side that is asked for or that suits its pictures.

    Raises:
        DataError: files that are missing, do not match, or cannot be read; a side out of range.
    """
    listed = list_lesion_folder(request.existing())
    return open_lesions(listed, side_of(listed, request.side), request.tell)


def list_lesion_folder(folder: Path) -> LesionFolder:
    """List pictures and masks, and open none.

    Raises:
        DataError: no picture, two pictures of one name, a mask without a picture.
    """
    files = pictures_below(folder, "images/*", "masks/*", "masks/*/*")
    images = [file.place for file in files if file.place.startswith("images/")]
    if not images:
        raise DataError(f"folder {folder / 'images'} holds no picture ({', '.join(SUFFIXES)}); add some")
    masks = [file.place for file in files if file.place.startswith("masks/")]
    pictures = with_masks(folder, images, masks)
    refuse_unread_masks(folder, images, masks)
    pool = pool_below(folder)
    files = tuple(sorted((*files, *pool)))
    notes = (*_words(pictures), *words_about(folder, {file.place for file in files}))
    return LesionFolder(
        folder,
        pictures,
        files,
        test_share=0.0 if pool else TEST_SHARE,
        val_share=VAL_SHARE,
        notes=notes,
        pool=tuple(Picture(file.place) for file in pool),
    )


def _words(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """Words about what a missing mask is taken for, as it might mean something else."""
    healthy = sum(not picture.masks for picture in pictures)
    told = f"{healthy} pictures of images/ have no mask: read as healthy; move them to unlabelled/ if nobody looked"
    return (told,) if healthy else ()


def side_of(listed: LesionFolder, asked: int | None) -> int:
    """Side to prepare, in pixels.

    Raises:
        DataError: it is out of range, or the header of a picture cannot be read.
    """
    low, high = PREPARED_SIDES
    if asked is not None and not low <= asked <= high:
        raise DataError(
            f"{listed.folder}: pictures with masks are made {low} to {high} pixels wide, not {asked}: use @SIDE"
        )
    if asked is not None:
        return asked
    _, sizes = channels_and_sizes([listed.folder / picture.place for picture in (*listed.pictures, *listed.pool)])
    width, height = next(iter(sizes))
    return width if len(sizes) == 1 and width == height and low <= width <= high else DEFAULT_SIDE
