"""Find the method and settings that work best on few labelled images, and how sure that is.

The functions of the command line, for Python and notebooks::

    import sparse_search

    sparse_search.run("sweep.yaml", results="results")
    sparse_search.leaderboard("results", dataset="pneumoniamnist", shots=5)

Each is loaded when it is first used: the import itself loads neither torch nor ray, optuna, pandas or pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparse_search.analysis.comparison import compare, compare_all
    from sparse_search.analysis.leaderboard import leaderboard
    from sparse_search.best.export import export
    from sparse_search.best.modelled import train_model
    from sparse_search.best.predicted import predict_files
    from sparse_search.best.recommendation import recommend
    from sparse_search.best.retrain import evaluate, reproduce
    from sparse_search.execution.run import run
    from sparse_search.execution.status import status
    from sparse_search.pages.page import report
    from sparse_search.results.mirror import read_store
    from sparse_search.search.sweep import Sweep
    from sparse_search.search.sweep_file import read_sweep

__all__ = [
    "Sweep",
    "compare",
    "compare_all",
    "evaluate",
    "export",
    "leaderboard",
    "predict_files",
    "read_store",
    "read_sweep",
    "recommend",
    "report",
    "reproduce",
    "run",
    "status",
    "train_model",
]

_HOMES = {
    "Sweep": "search.sweep",
    "compare": "analysis.comparison",
    "compare_all": "analysis.comparison",
    "evaluate": "best.retrain",
    "export": "best.export",
    "leaderboard": "analysis.leaderboard",
    "predict_files": "best.predicted",
    "read_store": "results.mirror",
    "read_sweep": "search.sweep_file",
    "recommend": "best.recommendation",
    "report": "pages.page",
    "reproduce": "best.retrain",
    "run": "execution.run",
    "status": "execution.status",
    "train_model": "best.modelled",
}
"""The module of each public name, below this package."""

__version__: str
"""The version of the installed distribution."""

if not TYPE_CHECKING:  # with it, type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Load a public name from its module, once (PEP 562).

        Raises:
            AttributeError: the package has no such name.
        """
        if name == "__version__":
            value = import_module("importlib.metadata").version("sparse-search")
        elif name in _HOMES:
            value = vars(import_module(f"{__name__}.{_HOMES[name]}"))[name]
        else:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'; it offers {', '.join(__all__)}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return [*__all__, "__version__"]
