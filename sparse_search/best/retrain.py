"""An exported configuration, trained again: to see that it still does what it did, or to look at the test set, once.

The only module of the search that opens a test set, and it writes the look into the ledger before it shows it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.core.config import write_config
from search_spaces.core.errors import ResultsError
from sparse_search.analysis.image_intervals import score_interval
from sparse_search.best.export import read_export
from sparse_search.best.member_plans import check_predictor
from sparse_search.results.files import write_atomically
from sparse_search.results.ledger import Look, look_now, write_look
from sparse_search.results.mirror import read_store, send
from sparse_search.results.object_store import is_uri
from sparse_search.results.rows import config_id
from sparse_search.results.store import Store
from sparse_search.versions import versions
from trainables.core.method import Labelled, Learner, Task
from trainables.core.scores import AnyScores
from trainables.data.later_test import later_test_set
from trainables.data.source import prepare
from trainables.data.tasks import test_set
from trainables.metrics.averaging import AVERAGE
from trainables.metrics.classes import ClassScores
from trainables.metrics.scoring import scorer_of
from trainables.metrics.table import CLASSES, METRICS
from trainables.nets.weights import weight_versions
from trainables.training.average import Average
from trainables.training.checkpoint import Checkpoints
from trainables.training.prediction import DivergedError, Oracle, Predicted
from trainables.training.processes import forget_launcher
from trainables.training.run import Run, runs_of_trial
from trainables.training.train import Progress
from trainables.training.trial import Trial

ShareCallback = Callable[[str, float], None]
"""Called with what is being trained, and which share of everything is done."""


@dataclass(frozen=True)
class Reproduction:
    """How a configuration does when it is trained again."""

    predictor: str
    metric: str
    expected: float
    found: float
    low: float | None
    """Ends of the 95 % interval in the file; None for metrics that have none."""

    high: float | None
    changed: Mapping[str, tuple[str, str]]
    """Versions that differ from those of the file: then, and now."""

    @property
    def is_equal(self) -> bool:
        """Whether the score is the same to the last digit."""
        return self.found == self.expected

    @property
    def is_inside(self) -> bool:
        """Whether it is what the file promises: inside its interval, or equal where there is none."""
        return self.is_equal or (self.low is not None and self.high is not None and self.low <= self.found <= self.high)


def reproduce(
    exported: Path | str,
    *,
    data_root: Path | str | None = None,
    checkpoints: Path | str | None = None,
    tell: ShareCallback | None = None,
) -> Reproduction:
    """Train an exported configuration again and compare its validation score with the evidence in its file.

    Of an average its members, one after the other.

    Args:
        exported: A file that `export` wrote.
        data_root: The folder of the data files; `$SPARSE_SEARCH_DATA`, else `~/.medmnist`, when not given.
        checkpoints: A folder for checkpoints: the same call goes on after a kill, and trains no finished run again.
        tell: Called with what is being trained and the share of everything that is done.

    Raises:
        ResultsError: the file is no export, the data are not those it was made from, or training diverges.
    """
    trial, average, evidence = _read(Path(exported))
    root = Path(data_root) if data_root else None
    training = _Training(evidence, root, Path(checkpoints) if checkpoints else None, tell)
    _prepare(trial, root, tell)
    trained = training.all_of(trial, average)
    predictor, metric = evidence["predictor"], evidence["interval_95"]["metric"]
    found = _means([run.validated[predictor] for run in trained])[metric]
    now, then = _versions(trial, average), evidence["versions"]
    return Reproduction(
        predictor=predictor,
        metric=metric,
        expected=evidence["scores"][metric],
        found=found,
        low=evidence["interval_95"]["low"],
        high=evidence["interval_95"]["high"],
        changed={name: (then.get(name, ""), value) for name, value in now.items() if then.get(name, "") != value},
    )


def evaluate(
    exported: Path | str,
    results: Path | str | None = None,
    *,
    why: str,
    unlock_test: bool = False,
    on: Path | str | None = None,
    heat_maps: Path | str | None = None,
    data_root: Path | str | None = None,
    checkpoints: Path | str | None = None,
    tell: ShareCallback | None = None,
) -> Look:
    """Train an exported configuration again and score it on the test set: the only way to a test score.

    The look goes into the ledger of the results folder before it is returned.

    Args:
        exported: A file that `export` wrote.
        results: The results folder whose ledger keeps the look, or its URI; when not given, the results that the file
            came from.
        why: The reason for looking, which the ledger keeps.
        unlock_test: Must be true: the confirmation that test labels are to be read.
        on: A table of test images that came later, with the columns `path` and `label`, in place of the data set's own.
        heat_maps: A folder for a picture of each test image that shows where the first run sees findings; for
            configurations that judge images by their patches.
        data_root: The folder of the data files; `$SPARSE_SEARCH_DATA`, else `~/.medmnist`, when not given.
        checkpoints: A folder for checkpoints: the same call goes on after a kill, and trains no finished run again.
        tell: Called with what is being trained and the share of everything that is done.

    Raises:
        ResultsError: the test set is not unlocked, no reason is given, the file is no export, the data are not those it
            was made from, training diverges, or the ledger cannot be written.
    """
    _check_unlocked(unlock_test, why)
    trial, average, evidence = _read(Path(exported))
    root, results = Path(data_root) if data_root else None, results or _ledger_of(evidence)
    _prepare(trial, root, tell)
    kind = trial.find_method().kind
    unseen = later_test_set(Path(on), trial.dataset, root) if on else test_set(trial.dataset, root, kind)
    if heat_maps and (unseen.grid is None or unseen.labels_N.max() > 1):
        raise ResultsError(f"{trial.dataset} has no heat maps: they need patches of two classes, as in idrid@256:8x8")
    store = read_store(results)  # which cannot be reached is said before the training
    training = _Training(evidence, root, Path(checkpoints) if checkpoints else None, tell)
    trained = training.all_of(trial, average, unseen)
    look = _look(f"{why.strip()} (on {Path(on).name})" if on else why, trained, trial, average, evidence)
    _note(look, store, results)
    if heat_maps:
        _write_heat_maps(Path(heat_maps), unseen, trained[0], trial)
    return look


def _look(
    why: str, trained: "Sequence[_Trained]", trial: Trial, average: Average | None, evidence: Mapping[str, Any]
) -> Look:
    """Return what was seen, of a configuration or of an average."""
    names = (AVERAGE,) if average else trial.find_method().predictors
    return look_now(
        why=why.strip(),
        dataset=evidence["dataset"],
        content_hash=evidence["content_hash"],
        shots=trial.shots,
        validation=trial.conditions.validation,
        label_sets=list(trial.label_sets),
        method=AVERAGE if average else trial.method,
        config_id=evidence["config_id"] if average else config_id(trial.method, write_config(trial.config)),
        num_images=next(iter(trained[0].test.values())).num_images,
        test=_summaries([run.test for run in trained], names, same_images=True),
        validated=_summaries(
            [run.validated for run in trained], names, same_images=trial.conditions.validation == "official"
        ),
        versions=_versions(trial, average),
    )


def _ledger_of(evidence: Mapping[str, Any]) -> str:
    """Return the results that an exported file came from, which keep the looks at their test set.

    Raises:
        ResultsError: they are not there any more.
    """
    origin = evidence.get("results", "results")  # files of before do not say it
    if not isinstance(origin, str) or ("results" in evidence and not is_uri(origin) and not Path(origin).is_dir()):
        raise ResultsError(
            f"the results that this file came from ({origin}) are not there; name those whose ledger shall keep the "
            "look with --results"
        )
    return origin


def _check_unlocked(unlock_test: bool, why: str) -> None:
    if not unlock_test:
        raise ResultsError(
            "the test set is locked: look at it once, when everything is decided, with --unlock-test --why TEXT; "
            "the look is written into the ledger"
        )
    if not why.strip():
        raise ResultsError("say why you look at the test set: --why TEXT; it goes into the ledger")


def _write_heat_maps(folder: Path, unseen: Labelled, trained: "_Trained", trial: Trial) -> None:
    """Write a picture of each test image that shows where a run sees findings."""
    from sparse_search.results.heat_maps import overlays  # matplotlib takes its time

    predictor = next(iter(trained.test))
    threshold = trained.test[predictor].threshold
    if threshold is None:
        return
    for name, content in overlays(unseen, trained.said_unseen.predictions[predictor], trial.picture_rule, threshold):
        write_atomically(folder / name, content)


def _note(look: Look, store: Store, results: Path | str) -> None:
    """Writes a look into the ledger, wherever that is."""
    write_look(store.folder, look)
    try:
        send(results, "ledger")
    except OSError as problem:
        raise ResultsError(f"cannot write the test ledger: {problem}; nothing was shown") from problem


@dataclass(frozen=True)
class _Trained:
    """Scores of a run by predictor, on validation images by its own rule, on test images as its networks end."""

    validated: Mapping[str, AnyScores]
    test: Mapping[str, AnyScores]
    said: Predicted
    """What it says of validation images at its end."""

    said_unseen: Predicted
    """What it says of test images."""

    labels_N: NDArray[np.int64]
    """Of validation images."""


def _read(path: Path) -> tuple[Trial, Average | None, dict[str, Any]]:
    """Read the trial that was exported, or an average with the first of its members."""
    values, evidence = read_export(path)
    if AVERAGE not in values:
        trial = Trial.from_dict(values)
        check_predictor(trial, evidence["predictor"])
        return trial, None, evidence
    if not isinstance(evidence.get("config_id"), str) or evidence["predictor"] != AVERAGE:
        raise ResultsError(f"{path}: its evidence lacks config_id or is not of an average; export it again")
    average = Average.from_dict(values)
    return average.members[0].trial, average, evidence


def _versions(trial: Trial, average: Average | None) -> dict[str, str]:
    """Return the versions of what trains, those of pretrained weights among them."""
    found = versions()
    for each in [member.trial for member in average.members] if average else [trial]:
        found |= weight_versions(write_config(each.config))
    return found


def _prepare(trial: Trial, root: Path | None, tell: ShareCallback | None) -> None:
    def told(done: int, total: int) -> None:
        if tell:
            tell("preparing pictures", done / total)

    prepare(trial.dataset, root, told, trial.find_method().kind)


@dataclass(frozen=True)
class _Training:
    """Way in which exported trials are trained again."""

    evidence: Mapping[str, Any]
    root: Path | None
    checkpoints: Path | None
    tell: ShareCallback | None

    def all_of(self, trial: Trial, average: Average | None, unseen: Labelled | None = None) -> list[_Trained]:
        """Train each run of a trial; or those of the members of an average, and then what they say together."""
        if average is None:
            return self._all_runs(trial, unseen, (0, 1))
        count = len(average.members)
        each = [
            self._all_runs(member.trial, unseen, (place, count), f"member {place + 1} of {count}, ")
            for place, member in enumerate(average.members)
        ]
        return [_averaged(average, runs, unseen) for runs in zip(*each, strict=True)]

    def _all_runs(
        self, trial: Trial, unseen: Labelled | None, place_among: tuple[int, int], about: str = ""
    ) -> list[_Trained]:
        forget_launcher(unless_launched=True)
        runs, trained = runs_of_trial(trial), list[_Trained]()
        place, count = place_among
        for number, run in enumerate(runs):

            def share(done: float, words: str = f"{about}label set {run.label_set}", before: int = number) -> None:
                if self.tell:
                    self.tell(words, (place + (before + min(done, 1.0)) / len(runs)) / count)

            trained.append(self._train(run, share, unseen))
        return trained

    def _train(self, run: Run, tell: Callable[[float], None], unseen: Labelled | None = None) -> _Trained:
        """Trains a run to its end; the test images are predicted once, by the networks as they are then."""
        task = run.task(self.root)
        found = task.provenance.content_hash
        if found != self.evidence["content_hash"]:
            raise ResultsError(
                f"{run.trial.dataset} has other content ({found[:12]}) than the file was made from "
                f"({self.evidence['content_hash'][:12]}); name the folder of the right data with --data-root"
            )
        method, learners = run.trial.find_method(), list[Learner]()

        def build(*parts: Any) -> Learner:
            learners.append(method.build(*parts))
            return learners[0]

        test: Mapping[str, AnyScores] = {}
        asked = Predicted({})
        if unseen:  # the networks are needed here; they are those of several processes, to rounding
            run = replace(run, trial=replace(run.trial, conditions=replace(run.trial.conditions, processes=1)))
        kept = Checkpoints(self.checkpoints / run.run_id(found)) if self.checkpoints else None
        try:
            for progress in run.train(task, method=replace(method, build=build) if unseen else None, checkpoints=kept):
                tell(progress.images / run.trial.conditions.images)
                if unseen and progress.budget_images == run.trial.conditions.images:
                    asked, test = _asked(run, task, learners[0], unseen, progress)
        except DivergedError as why:
            raise ResultsError(f"training diverged on label set {run.label_set}: {why}") from why
        said = Predicted(progress.predictions, progress.pool_means)
        return _Trained(progress.selected, test, said, asked, task.validation.labels_N.numpy())


def _asked(
    run: Run, task: Task, learner: Learner, unseen: Labelled, progress: Progress
) -> tuple[Predicted, Mapping[str, AnyScores]]:
    """Return what a trained learner says of test images, and the scores of that."""
    under = run.trial.conditions
    chosen = {name: scores.threshold for name, scores in progress.selected.items()}
    asked = Oracle(task, under.statistics).ask(learner, unseen, progress.epoch, with_pool=True)
    method, rule = run.trial.find_method(), run.trial.picture_rule
    scorer = scorer_of(method, run.trial.config, unseen, rule, chosen, under.decision)
    return asked, scorer(asked.predictions, asked.pool_means)


def _averaged(average: Average, runs: Sequence[_Trained], unseen: Labelled | None) -> _Trained:
    """Return what members trained on the same label set say together."""
    first = runs[0]
    validated = average.score([run.said for run in runs], first.labels_N)
    test = {AVERAGE: average.score([run.said_unseen for run in runs], unseen.labels_N.numpy())} if unseen else {}
    return _Trained({AVERAGE: validated}, test, first.said, first.said_unseen, first.labels_N)


def _means(scores: Sequence[AnyScores]) -> dict[str, Any]:
    """Means over runs, as the leaderboard has them; None where a run has none."""
    columns = {name: [each.metric(name) for each in scores] for name in METRICS}
    return {
        name: None if None in values else fmean(v for v in values if v is not None) for name, values in columns.items()
    }


def _summaries(runs: Sequence[Mapping[str, AnyScores]], names: Sequence[str], *, same_images: bool) -> dict[str, Any]:
    """By predictor; an interval has what is scored image by image, as patches of an image are alike."""
    summaries = {}
    for name in runs[0]:
        scores = [run[name] for run in runs]
        is_of_images = name in names
        tables = [each.confusion for each in scores]
        is_of_images &= isinstance(scores[0], ClassScores)  # pixels of an image are alike too
        interval = score_interval(tables, CLASSES.default, same_images=same_images) if is_of_images else None
        low, high = interval or (None, None)
        summaries[name] = _means(scores) | {"low": low, "high": high, "runs": [each.as_dict() for each in scores]}
    return summaries
