"""Weights of finished runs beside their predictions, as long as they are worth their place.

    artefacts/dataset=…/shots=…/method=…/RUN_ID/weights.safetensors

What predicts at the end of a run, so that a model is made of it without training. Which are kept is said by
`sparse_search.execution.weights_kept`; without them everything else stays as it is.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from search_spaces.core.errors import ResultsError
from sparse_search.results.mirror import MirroredStore
from sparse_search.results.object_store import at_once
from sparse_search.results.predictions import artefact_folder, artefacts_of
from sparse_search.results.store import Store
from trainables.training.kept_weights import WEIGHTS, read_weights

if TYPE_CHECKING:
    from torch import Tensor


def weights_of(results: Path | str, run: Mapping[str, Any]) -> dict[str, "Tensor"]:
    """Read the weights of a run, given its `run_id`, `dataset`, `shots` and `method`.

    Raises:
        ResultsError: they were not kept, or are damaged; or the storage does not answer.
    """
    path = artefacts_of(results, run, WEIGHTS) / WEIGHTS
    try:
        return read_weights(path)
    except FileNotFoundError as problem:
        raise ResultsError(f"weights of run {run['run_id']} were not kept") from problem
    except (OSError, ValueError) as problem:
        raise ResultsError(f"weights of run {run['run_id']} are damaged ({problem})") from problem


def weights_name(run: Mapping[str, Any]) -> str:
    """Return the name below the results of the weights of a run, with what `weights_of` needs of it."""
    return (artefact_folder(Path(), run) / WEIGHTS).as_posix()


def all_weights(store: Store) -> dict[str, int]:
    """Return the bytes of the weights of all runs, by name below the results; also of what a kill left half written.

    Raises:
        OSError: the storage does not answer, or refuses.
    """
    if isinstance(store, MirroredStore):
        sizes = store.objects.sizes("artefacts")
        return {name: size for name, size in sizes.items() if PurePosixPath(name).name == WEIGHTS}
    paths = [*store.folder.glob(f"artefacts/*/*/*/*/{WEIGHTS}"), *store.folder.glob(f"artefacts/*/*/*/*/.{WEIGHTS}.*")]
    return {path.relative_to(store.folder).as_posix(): path.stat().st_size for path in paths}


def some_weights(store: Store, names: Iterable[str]) -> dict[str, int]:
    """Return the bytes of those of some weights that are there, by name below the results.

    Raises:
        OSError: the storage does not answer, or refuses.
    """
    sizes = at_once(partial(_size, store), names := list(names))
    return {name: size for name, size in zip(names, sizes, strict=True) if size is not None}


def remove_weights(store: Store, names: Iterable[str]) -> None:
    """Remove weights by name below the results, if they are there.

    Raises:
        OSError: the storage does not answer, or refuses.
    """
    names = list(names)
    if isinstance(store, MirroredStore):
        at_once(store.objects.delete, names)
    for name in names:
        (store.folder / name).unlink(missing_ok=True)


def _size(store: Store, name: str) -> int | None:
    if isinstance(store, MirroredStore):
        return store.objects.sizes(name.rpartition("/")[0]).get(name)
    path = store.folder / name
    return path.stat().st_size if path.is_file() else None
