"""A model of what was exported: trained, its probabilities calibrated, saved with a card that says what it is.

Members whose weights the search kept are taken as they are. The others are trained one after the other, on the same
images. A training that was killed goes on from its checkpoints, which lie beside the model until it is there.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from search_spaces.core.config import write_config
from search_spaces.core.errors import LockedError, ModelError, ResultsError
from sparse_search.best.export import read_export
from sparse_search.best.kept_members import ModelPart, check_one_answer, find_kept, words_on
from sparse_search.best.member_plans import MemberPlan, parts_to_train, with_images
from sparse_search.best.model_card import card
from sparse_search.best.retrain import ShareCallback
from sparse_search.best.stored_outputs import Outputs, num_pictures, stored_outputs
from sparse_search.versions import versions
from trainables.core.method import Learner, SavesPrediction, Task
from trainables.core.shots import ALL_SHOTS
from trainables.data.source import Source, open_source, prepare
from trainables.data.tasks import final_task
from trainables.model.calibration import Calibration, calibration_of, fit_temperature
from trainables.model.facts import ModelFacts, ModelMember
from trainables.model.folder import Saved, check_free, file_names, write_model
from trainables.model.onnx_file import ONNX, check_onnx, onnx_of
from trainables.model.preparation import reduction_of
from trainables.model.saved import assembled, judged
from trainables.nets.weights import weight_versions
from trainables.training.checkpoint import Checkpoints
from trainables.training.prediction import DivergedError, Oracle
from trainables.training.processes import forget_launcher
from trainables.training.run import Run
from trainables.training.trial import Trial

OWN, NOBODY = (
    "validation images of its own",
    "nothing: neither validation images of its own nor the results are at hand",
)


def train_model(
    exported: Path | str,
    output: Path | str,
    *,
    data_root: Path | str | None = None,
    label_set: int | None = None,
    all_labels: bool = False,
    kept: bool | None = None,
    onnx: bool = False,
    tell: ShareCallback | None = None,
    say: Callable[[str], object] | None = None,
) -> ModelFacts:
    """Make a model of what was exported, of weights that the search kept or by training, and save it.

    Args:
        exported: A file that `export` wrote.
        output: The folder to be made.
        data_root: The folder of the data files; `$SPARSE_SEARCH_DATA`, else `~/.medmnist`, when not given.
        label_set: The draw whose labelled images teach. When not given: of a data set of the catalogue the first of the
            file, of one's own all labelled images.
        all_labels: All labelled images of the train split teach, whatever the data set.
        kept: True takes the weights that the search kept of one label set, False trains every member. When not given
            they are taken where they learned from the same labels as a training would; what was not kept is trained.
        onnx: Write the model as an ONNX graph as well.
        tell: Called with what is being trained and the share of everything that is done.
        say: Called with a line on which weights were kept.

    Raises:
        ConfigError: both a label set, or kept weights, and all labels are asked for, or a library for ONNX is missing.
        ResultsError: the file is no export, the data are not those it was made from, training diverges, or kept weights
            are asked for and there are none.
        ModelError: something is at `output` already or it cannot be written, or of the method no model can be saved.
        LockedError: another process trains the same model.
    """
    values, evidence = read_export(Path(exported))
    check_one_answer(kept, all_labels=all_labels)
    plans = [with_images(plan, label_set, all_labels, kept) for plan in parts_to_train(values, evidence)]
    output, root = Path(output), Path(data_root) if data_root else None
    check_free(output)
    if onnx:
        check_onnx()
    source = _opened(plans, evidence, root, tell)
    task = _task(plans[0].trial, root)
    with _own_place(output) as place:
        found = find_kept(plans, evidence, kept)
        if say and (words := words_on(found)):
            say(words)
        untrained = [plan for plan, parts in zip(plans, found.parts, strict=True) if not parts]
        trained = _train_all(untrained, task, place, tell)
        parts = [part for of_member in found.parts for part in (of_member or [next(trained)])]
        saved = _calibrated(_saved(parts, source, task), task, plans, evidence)
        others = {ONNX: onnx_of(assembled(saved, "the model"))} if onnx else {}
        write_model(output, saved, card(saved, source.title, evidence), others)
    return saved.facts


@contextmanager
def _own_place(output: Path) -> Iterator[Path]:
    """Give a folder for checkpoints beside a model, where nobody else trains meanwhile; it goes when all went well.

    Raises:
        LockedError: another process trains there.
        ModelError: it cannot be made.
    """
    place = output.with_name(f".{output.name}.training")
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / ".lock", timeout=0)
        lock.acquire()
    except Timeout as problem:
        raise LockedError(f"another process trains {output}: wait for it, or name another place") from problem
    except OSError as problem:
        raise ModelError(f"cannot write {output}: {problem.strerror or problem}") from problem
    try:
        yield place
        shutil.rmtree(place, ignore_errors=True)
    finally:
        lock.release()


def _opened(
    plans: Sequence[MemberPlan], evidence: Mapping[str, Any], root: Path | None, tell: ShareCallback | None
) -> Source:
    """Return the data set of the first member; the others' must be the same, by whichever path they name it."""

    def told(done: int, total: int) -> None:
        if tell:
            tell("preparing pictures", done / total)

    first, kind = plans[0].trial.dataset, plans[0].trial.find_method().kind
    prepare(first, root, told, kind)
    sources = [open_source(name, root, kind=kind) for name in dict.fromkeys(plan.trial.dataset for plan in plans)]
    for source in sources:
        if source.content_hash != evidence["content_hash"]:
            raise ResultsError(
                f"{source.name} has other content ({source.content_hash[:12]}) than the file was made from "
                f"({evidence['content_hash'][:12]}); name the folder of the right data with --data-root"
            )
    return sources[0]


def _task(trial: Trial, root: Path | None) -> Task:
    under, kind = trial.conditions, trial.find_method().kind
    return final_task(
        trial.dataset, trial.shots, trial.label_sets[0], under.validation, root, kind=kind, folds=under.folds
    )


def _train_all(plans: Sequence[MemberPlan], task: Task, place: Path, tell: ShareCallback | None) -> Iterator[ModelPart]:
    forget_launcher(unless_launched=True)
    for number, plan in enumerate(plans):

        def share(done: float, before: int = number, about: str = plan.trial.method) -> None:
            if tell:
                tell(about, (before + min(done, 1.0)) / len(plans))

        yield _train(plan, task, place, share)


def _train(plan: MemberPlan, task: Task, place: Path, tell: Callable[[float], None]) -> ModelPart:
    """Train a member to its end, or from its last checkpoint on."""
    conditions = replace(plan.trial.conditions, processes=1)  # the networks are needed here
    run = Run(trial=replace(plan.trial, conditions=conditions), label_set=plan.trial.label_sets[0], fold=0)
    method, learners = plan.trial.find_method(), list[Learner]()

    def build(*given: Any) -> Learner:
        learners.append(method.build(*given))
        return learners[0]

    checkpoints = Checkpoints(place / run.run_id(task.provenance.content_hash))
    found: ModelPart | None = None
    try:
        for progress in run.train(task, method=replace(method, build=build), checkpoints=checkpoints):
            tell(progress.images / conditions.images)
            if progress.budget_images == conditions.images and isinstance(learners[0], SavesPrediction):
                state = Oracle(task, conditions.statistics).prediction_state(learners[0])
                mean_K = progress.pool_means.get(plan.predictor)
                threshold = progress.selected[plan.predictor].threshold
                found = ModelPart(plan, state, None if mean_K is None else tuple(mean_K.tolist()), threshold)
    except DivergedError as why:
        raise ResultsError(f"training diverged: {why}; another --label-set may do") from why
    if found is None:
        raise ModelError(f"of method '{plan.trial.method}' no model can be saved: its learner gives no state")
    return found


def _saved(parts: Sequence[ModelPart], source: Source, task: Task) -> Saved:
    """Put together what a folder will hold, but for what follows from validation images."""
    first, now, files = parts[0].plan.trial, versions(), file_names(len(parts))
    members = []
    for part, file in zip(parts, files, strict=True):
        plan = part.plan
        config = write_config(plan.trial.config)
        now |= weight_versions(config)
        members.append(
            ModelMember(
                method=plan.trial.method, config=config, predictor=plan.predictor, weight=plan.weight,
                pool_mean=part.pool_mean, file=file, sha256="",
            )
        )  # fmt: skip
    facts = ModelFacts(
        kind=task.kind, class_names=source.class_names, channels=source.channels, side=source.side, grid=source.grid,
        asymmetric=source.asymmetric, reduction=reduction_of(source), decision=first.conditions.decision,
        aggregate=first.conditions.aggregate, threshold=parts[0].threshold,
        trained_on=_trained_on(first, source, task) | _kept_runs(parts, files), versions=now, members=tuple(members),
    )  # fmt: skip
    return Saved(facts, [part.state for part in parts], Calibration())


def _kept_runs(parts: Sequence[ModelPart], files: Sequence[str]) -> dict[str, Any]:
    """Return the runs of the search that parts were kept of, under a name; nothing where all were trained."""
    kept = [{"file": file, **part.run} for part, file in zip(parts, files, strict=True) if part.run]
    return {"kept_runs": kept} if kept else {}


def _trained_on(trial: Trial, source: Source, task: Task) -> dict[str, Any]:
    made_of = task.provenance
    return {
        "dataset": source.name,
        "content_hash": source.content_hash,
        "official_data": source.official,
        "shots": "all" if trial.shots == ALL_SHOTS else trial.shots,
        "label_set": made_of.label_set,
        "label_set_hash": made_of.label_set_hash,
        "validation": made_of.validation,
        "labels": made_of.label_budget,
        "labelled_images": len(task.labelled) // (source.patches_per_image),
        "unlabelled_images": len(task.unlabelled_NCHW) // source.patches_per_image,
        "images_seen": trial.conditions.images,
        "seed": trial.conditions.seed,
    }


def _calibrated(saved: Saved, task: Task, plans: Sequence[MemberPlan], evidence: Mapping[str, Any]) -> Saved:
    """Choose threshold, temperature and scores of sets by images that did not teach, where there are some."""
    facts = saved.facts
    if facts.kind == "segmentation":
        return saved
    origin, judging = OWN, [_own_outputs(saved, task)]
    if task.provenance.validation == "labelled-cv":
        origin, judging = "predictions of the search, which the results keep", stored_outputs(plans, evidence)
    if not judging:
        return saved._replace(facts=replace(facts, temperature_from=NOBODY))
    if facts.threshold is not None and (origin != OWN or len(facts.members) > 1):
        facts = replace(facts, threshold=_threshold(facts, judging))
    raw_NK = np.concatenate([judged(facts, each.outputs).raw_NK for each in judging])
    labels_N = np.concatenate([_of_pictures(facts, each.labels_N) for each in judging])
    num_images = num_pictures(judging) or len(labels_N)
    words = f"{len(labels_N)} {origin}" + (f", of {num_images} images" if num_images < len(labels_N) else "")
    facts = replace(facts, temperature=fit_temperature(raw_NK, labels_N, num_images), temperature_from=words)
    return saved._replace(facts=facts, calibration=calibration_of(raw_NK, labels_N, words, num_images))


def _own_outputs(saved: Saved, task: Task) -> Outputs:
    outputs = assembled(saved, "the model").outputs(task.validation.images_NCHW)
    return Outputs(outputs, task.validation.labels_N.numpy())


def _of_pictures(facts: ModelFacts, labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of pictures, given those of images or patches."""
    grouped: NDArray[np.int64] = labels_N.reshape(-1, facts.grid.num_patches if facts.grid else 1).max(1)
    return grouped


def _threshold(facts: ModelFacts, judging: Sequence[Outputs]) -> float:
    """Score that separates the two classes best, over all pictures that did not teach."""
    grid = facts.grid
    assert grid is not None
    scores = [facts.rule.scores(each.outputs.reshape(-1, grid.num_patches, 2))[:, 1] for each in judging]
    labels = [_of_pictures(facts, each.labels_N) for each in judging]
    return facts.rule.best_threshold(np.concatenate(scores), np.concatenate(labels))
