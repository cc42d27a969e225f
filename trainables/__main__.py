"""One trial without Ray: `python -m trainables sparse --dataset digits --shots 5`."""

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

from search_spaces.core.errors import ConfigError, UserError
from search_spaces.core.yaml_files import parse_yaml, read_yaml
from trainables.core.conditions import CONDITIONS, SELECTIONS
from trainables.core.shots import read_shots, shots_title, told_at_start
from trainables.metrics.table import METRICS

TRIAL_FLAGS = ("dataset", "shots", *(condition.name for condition in CONDITIONS))
_TINY = 0.01
QUIET_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when trained, 1 when training diverged, 2 for a user's mistake."""
    options = _parser().parse_args(arguments)
    from trainables.training.processes import forget_launcher  # it loads torch

    forget_launcher(unless_launched=True)
    with nullcontext() if _is_main_process() else redirect_stdout(StringIO()), _stages_told():
        try:
            return _train(options)
        except (UserError, OSError) as mistake:
            text = " ".join(str(mistake).split())
            print("error: " + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("\nstopped" + (", the same command goes on from the last checkpoint" if options.checkpoints else ""))
            return 130


@contextmanager
def _stages_told() -> Iterator[None]:
    """Print what of a trial is found in the cache, and what is made for it."""
    stages, handler = logging.getLogger("trainables.training.stages"), logging.StreamHandler(sys.stdout)
    level = stages.level
    handler.setFormatter(logging.Formatter("  %(message)s"))
    stages.addHandler(handler)
    stages.setLevel(logging.INFO)
    try:
        yield
    finally:
        stages.removeHandler(handler)
        stages.setLevel(level)


def _is_main_process() -> bool:
    """Tell if this is the process that speaks: under `accelerate launch` all others train the same, silently."""
    return os.environ.get("RANK") in (None, "0")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainables",
        description="Train one configuration of one method on a few-shot problem, in plain PyTorch, and print its "
        "validation scores.",
        epilog="examples:\n"
        "  python -m trainables supervised --dataset digits --shots 5 --set classifier=resnet10t\n"
        "  python -m trainables sparse --dataset pneumoniamnist --shots 10 --set width=16 --set lr=1e-3\n"
        "  python -m trainables --config best.yaml      # what `sparse-search export` wrote, trained again",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_what(parser)
    _add_how(parser.add_argument_group("how it is trained"))
    return parser


def _add_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "method",
        nargs="?",
        help="sparse, ssgnet(_generators), ssl_gan, convnet, resnet, supervised, pixels, constant(_masks), "
        "(ssgnet_)segmenter, or your own as module:ATTRIBUTE",
    )
    add("--config", type=Path, metavar="FILE", help="an exported configuration; other options change it")
    add(
        "--dataset",
        help="a name from `sparse-search datasets`, or a path to your images, with @SIDE and "
        ":ROWSxCOLUMNS if you like (default: digits)",
    )
    root = "where data files lie ($SPARSE_SEARCH_DATA, else ~/.medmnist)"
    add("--data-root", type=Path, metavar="DIR", help=root)
    shots = "labelled images per class, or in all where pictures have masks; or `all` there are (default: 5)"
    add("--shots", type=read_shots, metavar="N|all", help=shots)
    draw = "which few-shot draw; repeatable"
    add("--label-set", type=int, action="append", dest="label_sets", metavar="N", help=draw)
    add("--preset", help="named settings of the method, e.g. paper or reference for sparse")
    change = "one setting; repeatable"
    add("--set", action="append", default=[], dest="changes", metavar="FIELD=VALUE", help=change)


def _add_how(group: Any) -> None:
    for condition in CONDITIONS:
        if condition.type is bool:
            group.add_argument(condition.flag, action="store_true", default=None, help=condition.help)
        elif condition.type is int:
            group.add_argument(condition.flag, type=int, metavar="N", help=condition.help)
        else:
            group.add_argument(condition.flag, help=condition.help)
    resume = "save here; the same command then resumes after a kill"
    group.add_argument("--checkpoints", type=Path, metavar="DIR", help=resume)


def _trial_values(options: argparse.Namespace) -> dict[str, Any]:
    """Return the trial that file and flags describe, as plain values; flags win."""
    import torch

    device = "gpu" if torch.cuda.is_available() else "cpu"
    values: dict[str, Any] = {"dataset": "digits", "shots": 5, "threads": os.cpu_count() or 1, "device": device}
    if options.config:
        values = read_yaml(options.config)
        values.pop("evidence", None)
    elif not options.method:
        raise ConfigError("name a method (e.g. `python -m trainables sparse`) or give --config FILE")
    given = {name: getattr(options, name) for name in (*TRIAL_FLAGS, "method", "label_sets")}
    return values | {name: value for name, value in given.items() if value is not None}


def _with_settings(trial: Any, preset: str | None, changes: Sequence[str]) -> Any:
    """Return the trial with a preset's settings and single changes on top of its own."""
    from search_spaces.core.config import read_config, write_config

    config_type = type(trial.config)
    values = write_config(trial.config)
    if preset:
        config_type.preset(preset)  # known?
        values |= config_type.presets[preset]
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: expected FIELD=VALUE")
        values |= parse_yaml(f"{name}: {value}", f"--set {change}") if value.strip() else {name: ""}
    return replace(trial, config=read_config(config_type, values))


def _train(options: argparse.Namespace) -> int:
    from trainables.metrics.averaging import AVERAGE
    from trainables.training.prediction import DivergedError
    from trainables.training.trial import Trial

    values = _trial_values(options)
    try:
        if AVERAGE in values:
            return _train_average(values, options)
        return _train_trial(_with_settings(Trial.from_dict(values), options.preset, options.changes), options)
    except DivergedError as why:
        print(f"{why}")
        return 1


def _train_trial(trial: Any, options: argparse.Namespace) -> int:
    under = trial.conditions
    problem = f"{trial.method} on {trial.dataset}, {shots_title(trial.shots)}"
    print(f"{problem}, {under.images:,} images, {under.threads} threads")
    _prepare(trial, options)
    ends = [end for end, _ in _train_runs(trial, options)]
    _print_summary(
        [dict(end.selected) for end in ends], SELECTIONS[under.selection]
    )  # training ends with an evaluation
    return 0


def _train_average(values: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Train members one after the other and print the scores of what they say together."""
    from trainables.metrics.averaging import AVERAGE
    from trainables.training.average import Average
    from trainables.training.prediction import Predicted

    if options.method or options.preset or options.changes:
        raise ConfigError(
            f"{options.config} is an average, whose members have settings of their own: leave out METHOD, --preset and "
            "--set, or export one configuration with `sparse-search export --single`"
        )
    average = Average.from_dict(values)
    first = average.members[0].trial
    print(f"average of {len(average.members)} on {first.dataset}, {shots_title(first.shots)}")
    _prepare(first, options)
    each = []
    for place, member in enumerate(average.members, 1):
        print(f"member {place} of {len(average.members)}: {member.predictor}, weight {member.weight:.3g}")
        each.append(list(_train_runs(member.trial, options)))
    results = [
        {AVERAGE: average.score([Predicted(end.predictions, end.pool_means) for end, _ in runs], runs[0][1])}
        for runs in zip(*each, strict=True)
    ]
    _print_summary(results, 1)
    return 0


def _prepare(trial: Any, options: argparse.Namespace) -> None:
    from trainables.data.source import prepare

    if words := told_at_start([trial.shots], trial.conditions.validation):
        print(words)
    prepare(trial.dataset, options.data_root, _preparation(trial.dataset), trial.find_method().kind)


def _train_runs(trial: Any, options: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    """Train the runs of a trial; yield how each ends, and the labels of its validation images."""
    from trainables.training.prediction import DivergedError
    from trainables.training.run import runs_of_trial, with_folds

    for run in runs_of_trial(with_folds(trial, options.data_root)):
        try:
            yield _train_run(run, options)
        except DivergedError as why:
            raise DivergedError(f"label set {run.label_set}: diverged: {why}") from why


def _preparation(dataset: str) -> Callable[[int, int], None]:
    """Print now and then how many pictures of a dataset are prepared."""
    printed = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal printed
        if done == total or time.monotonic() - printed > QUIET_SECONDS:
            printed = time.monotonic()
            print(f"{dataset}: {done}/{total} pictures prepared", flush=True)

    return tell


def _train_run(run: Any, options: argparse.Namespace) -> tuple[Any, Any]:
    from trainables.training.checkpoint import Checkpoints

    task = run.task(options.data_root)
    folder = options.checkpoints / run.run_id(task.provenance.content_hash) if options.checkpoints else None
    checkpoints = Checkpoints(folder) if folder else None
    sizes = f"{len(task.labelled)} labelled, {len(task.unlabelled_NCHW)} unlabelled, {len(task.validation)} validation"
    if task.labelled.grid:
        sizes += f" patches of {task.labelled.grid} a picture"
    print(f"label set {run.label_set}" + (f" fold {run.fold}" if run.fold else "") + f": {sizes}", flush=True)
    printed = time.monotonic()
    hidden_labels_M = run.hidden_labels(options.data_root)
    for progress in run.train(task, checkpoints=checkpoints, hidden_labels_M=hidden_labels_M):
        if progress.scores or time.monotonic() - printed > QUIET_SECONDS:
            printed = time.monotonic()
            print(_line(run.trial.conditions.images, progress), flush=True)
    if folder and progress.artefacts and _is_main_process():
        _write_artefacts(folder / "artefacts", progress.artefacts)
    if progress.collapse:
        print(f"  collapsed: {progress.collapse}")
    return progress, task.validation.labels_N.numpy()


def _write_artefacts(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    print(f"  {len(files)} files to look at in {folder}")


def _line(images: int, progress: Any) -> str:
    line = f"  {progress.images:{len(f'{images:,}')},}/{images:,} images  {progress.train_seconds:6.1f} s"
    losses = dict(progress.losses)
    accuracy = losses.pop("pseudo_accuracy", None)
    parts = [f"{name} {value:.4g}" for name, value in list(losses.items())[:4]]
    if progress.scores:
        parts = [_score_text(name, scores) for name, scores in progress.scores.items()]
    if accuracy is not None:
        parts.append(f"pseudo-label accuracy {accuracy:.4f}")
    if progress.replayed:
        parts.append("(from checkpoint)")
    return "  ".join([line, *parts])


def _score_text(predictor: str, scores: Any) -> str:
    metric, value = next((METRICS[name], value) for name, value in scores.values.items() if value is not None)
    text = f"{value:.2g}" if 0 < abs(value) < _TINY else f"{value:.4f}"
    return f"{predictor}: {metric.words} {text}"


def _print_summary(results: list[dict[str, Any]], num_averaged: int) -> None:
    """Print the scores that runs are judged by, their mean, with every digit: the same command prints the same."""
    evaluations = f", mean of the last {num_averaged} evaluations" if num_averaged > 1 else ""
    print(f"validation scores{evaluations}" + (f", mean of {len(results)} runs" if len(results) > 1 else ""))
    for predictor in results[0]:
        scores = [result[predictor] for result in results]
        names = (metric.name for metric in METRICS.values() if metric.is_column)
        known = {name: [s.metric(name) for s in scores if s.metric(name) is not None] for name in names}
        line = "  ".join(f"{name} {statistics.fmean(values)!r}" for name, values in known.items() if values)
        print(f"  {predictor:12s} {line}")


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know no `…`
    sys.exit(main())
