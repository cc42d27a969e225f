"""Orders to an opener: the function of a reader module that makes a reader of what lies at a place."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from search_spaces.core.errors import DataError
from trainables.data.catalog import DatasetInfo
from trainables.data.readers.reader import PreparationCallback


@dataclass(frozen=True, kw_only=True)
class ReaderRequest:
    """Images at a path, as a user names them."""

    path: Path
    """A file or a folder, as it was given."""

    side: int | None = None
    """Pixels to which pictures are brought; None for the reader's own choice."""

    tell: PreparationCallback | None = None
    """Told of every picture that was prepared."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names that the classes must have, in the order of their labels; None where any will do."""
        return None

    def existing(self) -> Path:
        """The path, made absolute.

        Raises:
            DataError: nothing lies there.
        """
        if not self.path.exists():
            raise DataError(f"{self.path} does not exist; put the data there, or name the folder above by --data-root")
        return self.path.resolve()


@final
@dataclass(frozen=True, kw_only=True)
class RowRequest(ReaderRequest):
    """Images of a row of the catalogue; they need not be there yet."""

    row: DatasetInfo
    side: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the row's classes."""
        return self.row.class_names
