"""Missing files of MedMNIST, fetched through the `medmnist` package."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from search_spaces.core.errors import DataError
from trainables.data.catalog import DatasetInfo

_SILENCE_SECONDS = 15.0
_ORIGIN = "https://zenodo.org/records/10519652"

# ImportError and AttributeError: medmnist missing or half installed; the others: no network, disk, checksum.
_FAILURES = (ImportError, AttributeError, KeyError, RuntimeError, OSError, AssertionError, ValueError)


def download(info: DatasetInfo, side: int, path: Path) -> Path:
    """Fetch the MedMNIST file to `path`, checked against its MD5 and put there in one step or not at all.

    Raises:
        DataError: it could not be fetched; says which file to put where.
    """
    folder = path.parent
    missing_folders = [parent for parent in path.parents if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            TemporaryDirectory(prefix=".download-", dir=folder) as waiting,
            _impatient(),
            redirect_stdout(StringIO()),
        ):
            _fetch(info, side, waiting)
            return (Path(waiting) / path.name).replace(path)
    except _FAILURES as problem:
        with suppress(OSError):
            for made in missing_folders:
                made.rmdir()
        raise DataError(
            f"{info.name}: no file {path}, and fetching it failed ({_reason(problem)}); "
            f"put {path.name} from {_ORIGIN} into {folder}, or name its folder with --data-root"
        ) from problem


def _fetch(info: DatasetInfo, side: int, folder: str) -> None:
    import medmnist  # imports torch and torchvision, and makes ~/.medmnist

    dataset = vars(medmnist)[medmnist.INFO[info.name]["python_class"]]
    # The constructor decodes one split after the download: val is the small one.
    dataset(split="val", download=True, root=folder, size=side)


@contextmanager
def _impatient() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(problem: BaseException) -> str:
    # medmnist hides the cause behind a page of advice.
    cause = problem.__context__ or problem
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
