"""The conditions of a trial: everything besides method, configuration, data and label sets that a score depends on.

One field of `Conditions` is one condition, and all that is known of it stands beside it, once: its default, its
meaning, its legal values, and what it does to a score. Derived from that are the identity of trials and runs, the
columns of their rows, which rows share a ranking, what an exported file holds, which earlier trials a search may learn
from, the flags of `python -m trainables` and the keys of a sweep file. Nothing here loads torch.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from inspect import cleandoc
from typing import Any, Literal, get_args, get_type_hints

from search_spaces.core.errors import ConfigError, suggestion

PROTOCOL = 5
"""Version of everything that makes scores comparable but is no field: splits, seeds, metrics, when to evaluate."""

Validation = Literal["realistic", "labelled-cv", "official"]
VALIDATION_MODES: tuple[Validation, ...] = get_args(Validation)

SELECTIONS: Mapping[str, int] = {"last": 1, "mean3": 3}
"""Rules that say which scores a run is judged by: the mean over so many of its last evaluations."""

PRECISIONS = ("no", "bf16")
DEVICES = ("cpu", "gpu")


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """Facts that are written beside a field of `Conditions`."""

    meaning: str
    """One phrase, which is also the help of its flag; legal values and default are added to it."""

    changes: Literal["scores", "digits"]
    """`scores`: rows that differ in it never share a ranking. `digits`: the same computation, rounded otherwise."""

    why: str
    """Reason for `changes`."""

    words: str = ""
    """Text of a heading that tells a value from others, with the value at `{}`."""

    choices: tuple[str, ...] = ()
    """Legal values of a text."""

    minimum: int | None = None
    """Least legal value of a number."""

    is_repetition: bool = False
    """Another value asks the same question again, so that a search may learn from its answers."""

    is_in_sweep: bool = True
    """A key of the sweep file; the others follow from the resources that a sweep gives to a trial."""

    is_always_in_identity: bool = False
    """For the conditions that the first trials had. A later one is left out of the identity while it has its default:
    what was trained before it existed is then still known by its name."""

    column: str = ""
    """Name in records and rows, where it is not the field's."""

    default_before: str = ""
    """Value of what was trained before there was such a condition, where that is not the default."""

    default_here: str = ""
    """Value that the flag stands for when it is not given, where that is not the default."""


@dataclass(frozen=True, kw_only=True)
class Condition(_Facts):
    """Everything that is known of one condition; `CONDITIONS` lists them."""

    name: str
    type: type
    default: Any

    @property
    def flag(self) -> str:
        """Name of its option on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def help(self) -> str:
        """Text beside its flag."""
        marked = [f"{choice} (default)" if choice == self.default else choice for choice in self.choices]
        if self.default_here:
            return f"{self.meaning}{': ' * bool(marked)}{' or '.join(self.choices)} (default: {self.default_here})"
        if marked:
            return f"{self.meaning}: {', '.join(marked[:-1])} or {marked[-1]}"
        return self.meaning if self.type is bool else f"{self.meaning} (default: {self.default})"

    @property
    def described(self) -> str:
        """Line of the documentation of `Conditions`."""
        what = {"scores": "scores", "digits": "last digits only"}[self.changes]
        return f"* `{self.name}`: {self.help}. It changes {what}: {self.why}."

    def heading(self, value: Any) -> str:
        """Words that tell a value from others in a heading."""
        return (self.words or f"{self.name.replace('_', ' ')} {{}}").format(value)

    def check(self, value: Any) -> None:
        """Refuse an illegal value.

        Raises:
            ConfigError: naming the condition, the value and what was expected.
        """
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name} '{value}' is unknown{suggestion(str(value), self.choices)}")
        if self.minimum is not None and value < self.minimum:
            raise ConfigError(f"{self.name}: {value} is impossible, expected at least {self.minimum}")


def _facts(**facts: Any) -> Mapping[str, Any]:
    return {"facts": facts}


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions that the trials of a sweep have in common, and under which alone their scores compare.

    Raises:
        ConfigError: a value is illegal.
    """

    validation: Validation = field(
        default="realistic",
        metadata=_facts(
            meaning="where the validation images come from",
            choices=VALIDATION_MODES,
            changes="scores",
            why="other images are scored, more or fewer of them, and `labelled-cv` trains on fewer labels",
            words="{} validation",
            is_always_in_identity=True,
        ),
    )
    folds: int = field(
        default=5,
        metadata=_facts(
            meaning="most parts of the labelled images that validate in turn in `labelled-cv`; never more than there "
            "are shots, or with `shots: all` images, or groups, of the rarest class",
            minimum=2,
            changes="scores",
            why="the fewer, the fewer labels each training has",
            words="{} folds",
        ),
    )
    images: int = field(
        default=27_000,
        metadata=_facts(
            meaning="images to train on in each run, labelled and unlabelled, each time one is seen",
            minimum=1,
            changes="scores",
            why="training for longer is another, mostly a better, network",
            words="trained on {:,} images",
            is_always_in_identity=True,
        ),
    )
    evaluate_every: int = field(
        default=1_000,
        metadata=_facts(
            meaning="images between evaluations",
            minimum=1,
            changes="scores",
            why="training ends at an evaluation, which moves to the end of a cycle, and `mean3` averages over three",
            words="evaluated every {:,} images",
            is_always_in_identity=True,
        ),
    )
    selection: str = field(
        default="last",
        metadata=_facts(
            meaning="scores a run is judged by, those of its last evaluation or the mean of its last three",
            choices=tuple(SELECTIONS),
            changes="scores",
            why="a mean over evaluations is another, less noisy, quantity",
            words="scores by {}",
            is_always_in_identity=True,
        ),
    )
    aggregate: str = field(
        default="mean",
        metadata=_facts(
            meaning="how a picture's score comes from its patches",
            choices=("mean", "top25", "top10", "max", "noisy_or"),
            changes="scores",
            why="pictures are judged by another number",
            words="pictures by {} of patches",
            is_always_in_identity=True,
        ),
    )
    threshold: str = field(
        default="youden",
        metadata=_facts(
            meaning="how the score is chosen above which a picture is named class 1",
            choices=("youden", "f1", "sensitivity90", "half"),
            changes="scores",
            why="pictures are named otherwise at the same score",
            words="threshold by {}",
            is_always_in_identity=True,
        ),
    )
    decision: str = field(
        default="argmax",
        metadata=_facts(
            meaning="how the class of an image is named: the likeliest, or that whose probability is largest beside "
            "its mean on the unlabelled images",
            choices=("argmax", "pool"),
            changes="scores",
            why="images are named otherwise at the same probabilities",
            words="classes named by {}",
        ),
    )
    statistics: str = field(
        default="both",
        metadata=_facts(
            meaning="training images that BatchNorm's statistics are taken from anew before each evaluation",
            choices=("both", "unlabelled", "labelled", "running"),
            changes="scores",
            why="the same weights predict otherwise; running statistics lag behind weights for some hundred steps",
            words="BatchNorm statistics: {}",
            default_before="running",
        ),
    )
    seed: int = field(
        default=0,
        metadata=_facts(
            meaning="seed of initialisation and training",
            changes="scores",
            why="configurations of one seed are paired, as they begin alike on the same label set; a ranking over "
            "several seeds would let the luckier initialisation win",
            words="seed {}",
            is_repetition=True,
            is_always_in_identity=True,
        ),
    )
    precision: str = field(
        default="no",
        metadata=_facts(
            meaning="Accelerate's mixed precision, where no is fp32",
            choices=PRECISIONS,
            changes="scores",
            why="bf16 keeps eight bits of every number: small gradients vanish, and training takes another path",
            words="mixed precision {}",
            is_always_in_identity=True,
        ),
    )
    device: str = field(
        default="cpu",
        metadata=_facts(
            meaning="where it is trained",
            choices=DEVICES,
            changes="digits",
            why="the same operations in another order; who trains on both is to rank them together",
            is_in_sweep=False,
            is_always_in_identity=True,
            column="processor",
            default_here="gpu where there is one; with --config: as recorded",
        ),
    )
    threads: int = field(
        default=1,
        metadata=_facts(
            meaning="CPU threads of each process",
            minimum=1,
            changes="digits",
            why="sums are taken in another order",
            is_in_sweep=False,
            is_always_in_identity=True,
            default_here="all cores; with --config: as recorded",
        ),
    )
    processes: int = field(
        default=1,
        metadata=_facts(
            meaning="processes that share each batch, on whichever machines",
            minimum=1,
            changes="digits",
            why="gradients, and statistics of batches, are those of the whole batch, added up in another order",
            is_always_in_identity=True,
        ),
    )
    accumulate: int = field(
        default=1,
        metadata=_facts(
            meaning="batches whose gradients are averaged before each step",
            minimum=1,
            changes="scores",
            why="fewer, larger steps for the same images",
            words="{} batches a step",
            is_always_in_identity=True,
        ),
    )
    compile: bool = field(
        default=False,
        metadata=_facts(
            meaning="compile the networks: slow to start, made for long runs on a GPU",
            changes="digits",
            why="the same operations, fused",
            is_always_in_identity=True,
        ),
    )

    def __post_init__(self) -> None:
        for condition in CONDITIONS:
            condition.check(getattr(self, condition.name))

    def as_dict(self) -> dict[str, Any]:
        """Return every condition by its name, as plain values."""
        return {condition.name: getattr(self, condition.name) for condition in CONDITIONS}

    def as_columns(self) -> dict[str, Any]:
        """Return every condition by the name that it has in records and rows."""
        return {condition.column: getattr(self, condition.name) for condition in CONDITIONS}

    def identity(self) -> dict[str, Any]:
        """Return what of the conditions names a trial: without later ones that have their default."""
        return {
            condition.name: value
            for condition in CONDITIONS
            if (value := getattr(self, condition.name)) != condition.default or condition.is_always_in_identity
        }


def _conditions() -> tuple[Condition, ...]:
    hints = get_type_hints(Conditions)
    found = []
    for each in fields(Conditions):
        if each.default is MISSING or "facts" not in each.metadata:
            raise TypeError(f"{each.name}: a condition needs a default and its facts")
        kind = type(each.default)
        if kind not in (bool, int, str) or not (hints[each.name] is kind or kind is str):
            raise TypeError(f"{each.name}: a condition is a text, a whole number or yes or no, as its default is")
        facts = {"column": each.name} | each.metadata["facts"]
        found.append(Condition(name=each.name, type=kind, default=each.default, **facts))
    return tuple(found)


CONDITIONS = _conditions()
"""All of them, in order."""

Conditions.__doc__ = "\n".join([cleandoc(Conditions.__doc__ or ""), "", *(each.described for each in CONDITIONS)])

RANKING_CONDITIONS = tuple(condition.column for condition in CONDITIONS if condition.changes == "scores")
"""Columns in which rows of one ranking are equal."""

ROUNDING_CONDITIONS = tuple(condition.column for condition in CONDITIONS if condition.changes == "digits")
"""Columns of the others, whose rows share a ranking."""
