"""Files of MedMNIST: an npz each, fetched when it is missing."""

from trainables.data.download import download
from trainables.data.readers.npz import open_npz
from trainables.data.readers.reader import Reader
from trainables.data.readers.request import RowRequest


def open_medmnist(request: RowRequest) -> Reader:
    """The reader of a row's file, after a download where there is none.

    Raises:
        DataError: a file that cannot be fetched, or is damaged.
    """
    row, path = request.row, request.path
    return open_npz(path if path.is_file() else download(row, request.side, path), any_finding=row.any_finding)
