"""Files of a folder that are not read: said at the start of a run, and refused where a label hangs on them."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from search_spaces.core.errors import DataError
from trainables.data.readers.files import IGNORED
from trainables.data.readers.mask_rules import Names, name_of
from trainables.data.readers.picture_files import FORMATS, SUFFIXES

_DOCUMENTS = (".bib", ".csv", ".db", ".htm", ".html", ".ini", ".json", ".log", ".md", ".pdf", ".py", ".tsv", ".txt",
              ".url", ".xls", ".xlsx", ".xml", ".yaml", ".yml")  # fmt: skip
_NUM_TOLD = 2


def words_about(folder: Path, taken: Collection[str], *, beside: bool = False) -> tuple[str, ...]:
    """Words about files below a folder that are not read, with their number and the first of them.

    Documents, such as tables and texts, are no pictures to anybody and not told.

    Args:
        folder: Where the pictures lie.
        taken: Places of those that are read.
        beside: Masks beside their pictures are known by their names.
    """
    left = [place for place in _below(folder) if place not in taken and _suffix(place) not in _DOCUMENTS]
    masks = set(masks_beside(_pictures(left), taken)) if beside else set()
    elsewhere = [place for place in _pictures(left) if place not in masks]
    unread = [place for place in left if _suffix(place) not in SUFFIXES]
    return (
        *_told(sorted(masks), "masks beside their pictures"),
        *_told(elsewhere, "pictures in folders that are not looked into"),
        *_told(unread, f"files that are no {FORMATS}"),
    )


def masks_beside(places: Iterable[str], pictures: Iterable[str]) -> Iterator[str]:
    """Places of masks that lie in one folder with the pictures whose names they bear, such as `x_mask.png`."""
    stems: dict[str, list[str]] = {}
    for place in pictures:
        stems.setdefault(str(PurePosixPath(place).parent), []).append(name_of(place))
    names = {parent: Names(own) for parent, own in stems.items()}
    for place in places:
        own = names.get(str(PurePosixPath(place).parent))
        if own and own.is_mask(name_of(place)):
            yield place


def refuse_unread_masks(
    folder: Path, images: Iterable[str], masks: Collection[str], endings: Sequence[str] = ()
) -> None:
    """Refuse files below `masks/` that bear a picture's name but are not read: it would count as one without a mask.

    Raises:
        DataError: there is such a file.
    """
    names = Names([name_of(image) for image in images], endings)
    for place in _below(folder / "masks"):
        whole = f"masks/{place}"
        if whole not in masks and names.find(name_of(place)) is not None:
            raise DataError(
                f"mask {folder / whole} is not read; expected {FORMATS} in masks/ or masks/<lesion>/: "
                "save it as such there, or remove it"
            )


def _below(folder: Path) -> Iterator[str]:
    """Places of all files, but for hidden ones."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(IGNORED))
        for name in sorted(files):
            if not name.startswith(IGNORED):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def _pictures(places: Iterable[str]) -> list[str]:
    return [place for place in places if _suffix(place) in SUFFIXES]


def _suffix(place: str) -> str:
    return PurePosixPath(place).suffix.lower()


def _told(places: Sequence[str], what: str) -> list[str]:
    if not places:
        return []
    first = ", ".join(places[:_NUM_TOLD])
    return [f"{len(places)} {what} passed over ({first}{', …' if len(places) > _NUM_TOLD else ''})"]
