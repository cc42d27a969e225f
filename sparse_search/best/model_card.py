"""A model's card: one page for people who will use it, made of nothing but what is known."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparse_search.best.kept_members import score_of_run
from sparse_search.results.texts import score_text
from trainables.metrics.table import METRICS
from trainables.model.folder import CALIBRATION, FACTS, Saved

_USE = """## Use

    sparse-search predict THIS_FOLDER PICTURES -o predictions.csv

or, without the search's libraries, `python -m trainables.model THIS_FOLDER PICTURES -o predictions.csv`, or in Python
`trainables.model.load_model(THIS_FOLDER).predict(images)`. Nothing in this folder is executed when it is loaded."""


def card(saved: Saved, title: str, evidence: Mapping[str, Any]) -> str:
    """Return the text of a model's card.

    Args:
        saved: The model.
        title: The data set's.
        evidence: As `sparse-search export` wrote it.
    """
    parts = [f"# Model for {title}", *_what(saved), _USE, *_trained(saved), *_scores(saved, evidence), *_limits(saved)]
    return "\n\n".join(parts) + "\n"


def _what(saved: Saved) -> Iterator[str]:
    facts = saved.facts
    whole = f"{facts.channels}x{facts.side}x{facts.side} pixels"
    cut = f", cut into {facts.grid} patches" if facts.grid else ""
    told = "marks" if facts.kind == "segmentation" else "tells apart"
    yield f"It takes pictures, brought to {whole}{cut}, and {told}: {', '.join(facts.class_names)}."
    rows = [f"| {each.method} | {each.predictor} | {each.weight:.3g} |" for each in facts.members]
    yield "\n".join(["| method | predictor | weight |", "|---|---|---|", *rows])
    yield f"Settings are in `{FACTS}`."


def _trained(saved: Saved) -> Iterator[str]:
    about = saved.facts.trained_on
    yield "## Trained on"
    draw = "all labelled images" if about["shots"] == "all" else f"label set {about['label_set']}"
    yield (
        f"`{about['dataset']}` (content {about['content_hash']}, label set hash {about['label_set_hash']}), {draw}: "
        f"{about['labelled_images']} labelled and {about['unlabelled_images']} unlabelled pictures; "
        f"{about['images_seen']:,} images seen, seed {about['seed']}. Labels looked at in all: {about['labels']}."
    )
    if about.get("kept_runs"):
        yield from _kept(about["kept_runs"], len(saved.facts.members))
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in saved.facts.versions.items()) + "."


def _kept(runs: Sequence[Mapping[str, Any]], num_parts: int) -> Iterator[str]:
    """Say which run of the search each file is of, and which score it had by itself."""
    metric, _ = score_of_run(runs[0])
    yield f"{len(runs)} of {num_parts} files hold weights of runs of the search, as these ended:"
    rows = [f"| `{each['file']}` | {each['fold']} | {score_text(each[metric], 4)} |" for each in runs]
    head = f"| file | fold | {METRICS[metric].title} on images that it did not learn from |"
    yield "\n".join([head, "|---|---|---|", *rows])


def _scores(saved: Saved, evidence: Mapping[str, Any]) -> Iterator[str]:
    yield "## Scores of the search"
    scores = evidence["scores"]
    known = [name for name, metric in METRICS.items() if metric.is_column and scores.get(name) is not None]
    rows = [f"| {METRICS[name].title} | {score_text(scores[name], 4)} |" for name in known]
    yield "\n".join(["| metric | validation |", "|---|---|", *rows])
    interval = evidence["interval_95"]
    if interval["low"] is not None and interval["high"] is not None:
        low, high = (score_text(interval[end], 4) for end in ("low", "high"))
        yield f"95 % interval of {METRICS[interval['metric']].title}: {low} to {high}."
    for name in ("scored_on", "best_of", "expected"):
        if evidence.get(name):
            yield f"{name.replace('_', ' ').capitalize()}: {_words(evidence[name])}."
    yield (
        f"These are scores of the runs of the search, by {len(evidence['run_ids'])} trainings, {_of_which(saved)}. "
        "What was chosen by a score is worse than it."
    )


def _of_which(saved: Saved) -> str:
    """Say what the scores of the search have to do with the weights."""
    kept = saved.facts.trained_on.get("kept_runs", ())
    if not kept:
        return "not of these weights"
    return f"{len(kept)} of which are in this folder, each with its score above; what they say together has none"


def _words(value: Any) -> str:
    """Text of a part of the evidence."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_words(each)}" for name, each in value.items())
    return score_text(value, 4) if isinstance(value, float) else str(value)


def _limits(saved: Saved) -> Iterator[str]:
    facts, calibration = saved.facts, saved.calibration
    yield "## What is not known"
    yield (
        "The model was not tested: not on the test split of its data, not on pictures of another hospital, device or "
        "population, not beside a person. It is no medical device."
    )
    if facts.kind == "segmentation":
        return
    yield f"Temperature {facts.temperature:.4g}, fitted to {facts.temperature_from}."
    if calibration.scores:
        yield (
            f"Sets of classes rest on {calibration.origin} (`{CALIBRATION}`); what they promise holds for pictures "
            "drawn as those were, on average over classes."
        )
    else:
        yield "It has no sets of classes, as no predictions on validation images were at hand."
