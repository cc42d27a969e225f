"""Commands around the answer of a search: recommend, export, aggregate, decide, reproduce, evaluate, train, predict."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from sparse_search.cli.findings import look_table, print_reproduction, print_rules
from sparse_search.cli.options import (
    DEFAULT_RESULTS,
    ByMetric,
    DataRoot,
    Exported,
    OnlyMethod,
    OnlyPretrained,
    Results,
)
from sparse_search.cli.printing import console, print_lines, training_bar
from trainables.core.shots import read_shots
from trainables.metrics.table import DEFAULT_METRIC

Checkpointed = Annotated[
    Path | None,
    typer.Option(
        "--checkpoints", metavar="DIR", help="Save here; the same command then goes on after a kill, run by run."
    ),
]
Shots = Annotated[
    int,
    typer.Option(
        parser=read_shots,
        metavar="N|all",
        help="Labelled images per class, or in all where the data set counts them so; or all there are.",
    ),
]
WithUse = Annotated[Path | None, typer.Option("-o", "--output", help="File to write with --use [default: the same].")]


def recommend_command(
    dataset: Annotated[str, typer.Option(help="The data set.")],
    shots: Shots,
    metric: ByMetric = DEFAULT_METRIC,
    average: Annotated[
        str, typer.Option(metavar="RULE", help="Weigh members by: uniform, third, tempered or greedy [default: third].")
    ] = "",
    pretrained: OnlyPretrained = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Say what to take for a data set, and what to expect of it.

    Side by side: the average of everything that was tried, the best single configuration, the defaults, and the floors
    that any method has to beat; each with the score to expect on new images and the models that it costs. Below: what
    each method adds to the average, and what having tried so many was worth. Nothing is trained; no test label is read.
    """
    from sparse_search.best.recommendation import recommend
    from sparse_search.cli.answers import print_recommendation

    print_recommendation(
        recommend(results, dataset=dataset, shots=shots, metric=metric, average=average, pretrained=pretrained)
    )


def export_command(
    dataset: Annotated[str, typer.Option(help="The data set.")],
    shots: Shots,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path("best.yaml"),
    method: OnlyMethod = None,
    config_id: Annotated[
        str | None, typer.Option(help="This configuration instead of the best; a prefix will do.")
    ] = None,
    metric: ByMetric = DEFAULT_METRIC,
    average: Annotated[
        str, typer.Option(metavar="RULE", help="Weigh members by: uniform, third, tempered or greedy [default: third].")
    ] = "",
    single: Annotated[bool, typer.Option("--single", help="One configuration, not an average.")] = False,
    pretrained: OnlyPretrained = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write the answer of a search to a file.

    It is the average of what was tried, or the best configuration. The file holds everything that
    `python -m trainables --config FILE` needs to train it again, and the evidence: scores with interval, how many
    configurations were tried, hashes of data and label sets, versions. Of an average these are its members with their
    weights. One configuration is written where fewer than six were tried, where predictions were not kept, and with
    --single or --config-id.
    """
    from sparse_search.best.export import export, title_of, write_export
    from sparse_search.results.texts import score_text

    values = export(
        results, dataset=dataset, shots=shots, method=method, config_id=config_id, metric=metric, pretrained=pretrained,
        average=average, single=single,
    )  # fmt: skip
    write_export(values, output)
    evidence = values["evidence"]
    metric = evidence["interval_95"]["metric"]  # its own, where the one that was asked for is of another kind
    typer.echo(f"{output}: {title_of(values)}, {metric} {score_text(evidence['scores'][metric], 4)} on validation")
    print_lines(evidence.get("expected", {}).get("in_words", "").split("\n"))
    typer.echo(f"train it again:  python -m trainables --config {output}")


def aggregate_command(
    exported: Exported,
    use: Annotated[
        str | None, typer.Option(help="Write the file with this rule, as AGGREGATE or AGGREGATE,THRESHOLD.")
    ] = None,
    output: WithUse = None,
    metric: ByMetric = DEFAULT_METRIC,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Compare rules that judge a picture by its patches.

    Nothing is trained. The rules are applied to stored predictions on validation pictures. Write one into the file with
    --use: reproduce and evaluate then follow it.
    """
    from sparse_search.best.export import write_export
    from sparse_search.best.picture_rules import compare_rules, with_rule
    from trainables.metrics.pictures import PictureRule

    if use is None:
        print_rules(compare_rules(exported, results, metric=metric), metric)
        return
    write_export(with_rule(exported, PictureRule(*use.split(",", 1)), results), output or exported)
    typer.echo(f"{output or exported}: pictures are judged by {use}")


def decide_command(
    exported: Exported,
    use: Annotated[str | None, typer.Option(help="Write the file with this rule: argmax or pool.")] = None,
    output: WithUse = None,
    metric: ByMetric = DEFAULT_METRIC,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Compare rules that name the class of an image.

    Nothing is trained. `argmax` names the likeliest class, `pool` the one whose probability is largest beside its mean
    on the unlabelled images. They are applied to stored predictions on validation images. Write one into the file with
    --use: reproduce and evaluate then follow it.
    """
    from sparse_search.best.decisions import compare_decisions, with_decision
    from sparse_search.best.export import write_export

    if use is None:
        print_rules(compare_decisions(exported, results, metric=metric), metric)
        return
    write_export(with_decision(exported, use, results), output or exported)
    typer.echo(f"{output or exported}: classes are named by {use}")


def reproduce_command(exported: Exported, checkpoints: Checkpointed = None, data_root: DataRoot = None) -> None:
    """Train what was exported again, and compare the scores.

    They are compared with the evidence in the file; of an average every member is trained.

    Exit code 0: the validation score is the same, or inside the interval of the file; 1: it is not.
    """
    from sparse_search.best.retrain import reproduce

    with training_bar() as tell:
        found = reproduce(exported, data_root=data_root, checkpoints=checkpoints, tell=tell)
    print_reproduction(found)
    raise typer.Exit(0 if found.is_inside else 1)


def evaluate_command(
    exported: Exported,
    why: Annotated[str, typer.Option(help="Why you look; goes into the ledger.")] = "",
    unlock_test: Annotated[bool, typer.Option("--unlock-test", help="Yes, look at the test labels.")] = False,
    on: Annotated[
        Path | None, typer.Option("--on", metavar="TABLE", help="Test images that came later: path and label.")
    ] = None,
    heat_maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw where findings were seen in every test image.")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE", help="Whose ledger keeps the look [default: the results that the file came from]."
        ),
    ] = None,
    checkpoints: Checkpointed = None,
    data_root: DataRoot = None,
) -> None:
    """Score what was exported on the test set, and log the look.

    Do it once, when everything is decided: no other command reads test labels. It trains the configuration again,
    scores its networks on validation and test images, and writes the look into the ledger before it shows it.
    """
    from sparse_search.best.retrain import evaluate

    with training_bar() as tell:
        look = evaluate(
            exported, results, why=why, unlock_test=unlock_test, on=on, heat_maps=heat_maps, data_root=data_root,
            checkpoints=checkpoints, tell=tell,
        )  # fmt: skip
    console().print(look_table([look]))


def train_command(
    exported: Exported,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to make.")] = Path("model"),
    label_set: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Draw whose labelled images teach [default: the first of the file]."),
    ] = None,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="All labelled images teach [default for data of your own].")
    ] = False,
    kept: Annotated[
        bool | None,
        typer.Option(
            "--kept/--anew",
            help="Take the weights that the search kept of the label set, or train every member [default: take them "
            "where they learned from the same labels].",
        ),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write the model as an ONNX graph as well.")] = False,
    data_root: DataRoot = None,
) -> None:
    """Make a model of what was exported, for other images.

    It is made of weights that were kept, or by training. Where the search kept the weights of a label set's runs it is
    there at once, with a network for each fold. The folder holds weights, settings and a card; nothing in it is
    executed. A training that was killed goes on when the same command is given again.
    """
    from sparse_search.best.modelled import train_model

    with training_bar() as tell:
        facts = train_model(
            exported, output, data_root=data_root, label_set=label_set, all_labels=all_labels, kept=kept, onnx=onnx,
            tell=tell, say=typer.echo,
        )  # fmt: skip
    taught = f"{facts.trained_on['labelled_images']} labelled images"
    counts = Counter(each.method for each in facts.members)
    made_of = ", ".join(f"{count} × {method}" if count > 1 else method for method, count in counts.items())
    typer.echo(f"{output}: {made_of}, trained on {taught}; read README.md there")
    typer.echo(f"predict pictures:  sparse-search predict {output} PICTURES")


def predict_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `train` wrote.")],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Pictures, folders, .npz with `images`, tables with `path`.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, .csv or .parquet.")] = Path(
        "predictions.csv"
    ),
    coverage: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Sets that hold the true class as often, such as 0.9.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write what is marked in each picture there, as PNG.")
    ] = None,
    heat_maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw where findings are seen in each picture.")
    ] = None,
    own_code: Annotated[
        bool, typer.Option("--own-code", help="Import a method that is no part of this package.")
    ] = False,
) -> None:
    """Predict pictures by a model.

    Writes a row for each, also for those that cannot be read, with the reason.
    """
    from sparse_search.best.predicted import predict_files

    with training_bar("predicting") as tell:
        found = predict_files(
            model, paths, output, coverage=coverage, masks=masks, heat_maps=heat_maps, own_code=own_code, tell=tell
        )
    unread = f", {found.num_unread} of them not read" if found.num_unread else ""
    typer.echo(f"{output}: {found.num_pictures} pictures{unread}")


BEST_COMMANDS: Mapping[str, Callable[..., None]] = {
    "recommend": recommend_command,
    "export": export_command,
    "aggregate": aggregate_command,
    "decide": decide_command,
    "reproduce": reproduce_command,
    "evaluate": evaluate_command,
    "train": train_command,
    "predict": predict_command,
}
"""Commands by name, in the order of the help."""
