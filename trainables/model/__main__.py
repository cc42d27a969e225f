"""Predictions without the search's libraries: `python -m trainables.model model/ scans/ -o predictions.csv`."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from search_spaces.core.errors import UserError

_QUIET_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when the file is written, 2 for a user's mistake."""
    options = _parser().parse_args(arguments)
    try:
        return _predict(options)
    except (UserError, OSError) as mistake:
        text = " ".join(str(mistake).split())
        print("error: " + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainables.model", description="Predict pictures by a model that `sparse-search train` saved."
    )
    add = parser.add_argument
    add("model", type=Path, help="folder of the model")
    add("paths", type=Path, nargs="+", metavar="PATH", help="pictures, folders, .npz with `images`, tables with `path`")
    add("-o", "--output", type=Path, default=Path("predictions.csv"), help="file to write (default: predictions.csv)")
    add("--coverage", type=float, metavar="SHARE", help="sets that hold the true class as often, such as 0.9")
    add("--masks", type=Path, metavar="DIR", help="write what is marked in each picture there, as PNG")
    add("--own-code", action="store_true", help="import a method that is no part of this package")
    return parser


def _predict(options: argparse.Namespace) -> int:
    from trainables.model import load_model
    from trainables.model.inputs import unseen
    from trainables.model.rows import Wanted, check_output, columns_of, rows_of, write_csv

    check_output(options.output, options.paths)
    model = load_model(options.model, own_code=options.own_code)
    wanted = Wanted(coverage=options.coverage, masks=options.masks)
    rows = list(rows_of(model, unseen(options.paths), wanted, _told()))
    write_csv(options.output, columns_of(model, wanted), rows)
    failed = sum(row["reason"] is not None for row in rows)
    print(f"{options.output}: {len(rows)} pictures" + (f", {failed} of them not read" if failed else ""))
    return 0


def _told() -> Callable[[int, int], None]:
    """Return what prints now and then how many pictures are done."""
    printed = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal printed
        if time.monotonic() - printed > _QUIET_SECONDS:
            printed = time.monotonic()
            print(f"{done}/{total} pictures", file=sys.stderr, flush=True)

    return tell


if __name__ == "__main__":
    sys.exit(main())
