"""Everything about a model that is no tensor, as plain values of its `model.yaml`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isclose, isfinite, log
from typing import Any, Self, get_args

from search_spaces.core.config import MethodConfig, read_config
from search_spaces.core.errors import ModelError, UserError
from trainables.core.grid import Grid
from trainables.core.kind import Kind
from trainables.core.method import Method, TaskForm, find_method
from trainables.data.patches import check_grid
from trainables.metrics.decisions import DECISIONS
from trainables.metrics.pictures import PictureRule
from trainables.model.calibration import MAX_LOG_TEMPERATURE

FORMAT = 1
"""Number of the format of a model's folder; another one is another folder."""

MAX_SIDE = 2**14
"""Pixels of the largest side: a picture is then 0.8 GB in memory."""

_CHANNELS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class ModelMember:
    """One trained configuration; a model has one, or is the weighted mean of several."""

    method: str
    config: Mapping[str, Any]
    predictor: str
    """Name of what predicts, of those that the method has."""

    weight: float
    pool_mean: tuple[float, ...] | None
    """Mean probabilities of the unlabelled training images; None where there were none."""

    file: str
    """Name of the file with its tensors."""

    sha256: str
    """Of that file."""

    def find(self) -> tuple[Method[Any], MethodConfig]:
        """Return the method and its configuration.

        Raises:
            ConfigError: unknown here.
        """
        method = find_method(self.method)
        return method, read_config(method.config, self.config)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Everything that a prediction needs to know besides tensors, and where the model comes from."""

    kind: Kind
    class_names: tuple[str, ...]
    """In the order of the probabilities; of a segmentation, what is marked."""

    channels: int
    side: int
    """Side of whole pictures, in pixels."""

    grid: Grid | None = None
    """Grid by which pictures are cut into patches; None for whole pictures."""

    asymmetric: tuple[str, ...] = ()
    reduction: Mapping[str, Any] | None = None
    """Sizes and compression that pictures with lesions were brought to first; None where they were only resized."""

    decision: str = "argmax"
    aggregate: str = "mean"
    threshold: float | None = None
    """Score of a picture above which it is of class 1, where it is judged by its patches."""

    temperature: float = 1.0
    temperature_from: str = ""
    """Words for the predictions that it was fitted to."""

    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """Data set, hashes, label set, number of labels."""

    versions: Mapping[str, str] = field(default_factory=dict)
    members: tuple[ModelMember, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes K that are told apart; the background of a segmentation is one."""
        return len(self.class_names) + (self.kind == "segmentation")

    @property
    def form(self) -> TaskForm:
        """Form of the task that it was trained on."""
        return TaskForm(self.kind, self.num_classes, self.channels, self.asymmetric)  # type: ignore[arg-type]

    @property
    def rule(self) -> PictureRule:
        """Rule by which a picture's score comes from its patches."""
        return PictureRule(self.aggregate)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for YAML; `from_dict` gives back equal facts."""
        return {"format": FORMAT, **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> Self:
        """Read facts from plain values; `source` names them in errors.

        Raises:
            ModelError: another format, or values that `as_dict` does not write.
        """
        if values.get("format") != FORMAT:
            raise ModelError(
                f"{source} is of format {values.get('format')}, expected {FORMAT}: use the version of sparse-search "
                "that wrote it, or train the model again"
            )
        try:
            members = tuple(_member(each) for each in values["members"])
            read = {key: value for key, value in values.items() if key != "format"} | {"members": members}
            read |= {name: _tuple(values, name) for name in ("class_names", "asymmetric")}
            read["grid"] = None if values["grid"] is None else Grid(**values["grid"])
            found = cls(**read)
            found._check()
        except (KeyError, TypeError, ValueError, AttributeError, UserError) as problem:
            raise ModelError(
                f"{source} does not describe a model ({_words(problem)}): copy the folder again, or train it again"
            ) from problem
        return found

    def _check(self) -> None:
        """Refuse what no model has.

        Raises:
            ValueError: naming it.
        """
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind '{self.kind}'")
        if not self.class_names or not all(isinstance(name, str) for name in self.class_names):
            raise ValueError("no class names")
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("two classes of one name")
        if self.channels not in _CHANNELS or type(self.side) is not int or not 0 < self.side <= MAX_SIDE:
            raise ValueError("no size of its images that there can be")
        if self.decision not in DECISIONS:
            raise ValueError(f"decision '{self.decision}'")
        weights = [each.weight for each in self.members]
        if not all(each > 0 for each in weights) or not isclose(sum(weights), 1.0):
            raise ValueError("no members with weights that add up to 1")
        if not (self.temperature > 0 and abs(log(self.temperature)) <= MAX_LOG_TEMPERATURE):
            raise ValueError(f"temperature {self.temperature}")
        if self.threshold is not None and not isfinite(self.threshold):
            raise ValueError(f"threshold {self.threshold}")
        self._check_cutting()
        for member in self.members:
            _check_member(member, self.num_classes)

    def _check_cutting(self) -> None:
        """Refuse patches that cannot be cut or judged.

        Raises:
            ValueError, UserError: naming what is odd.
        """
        PictureRule(self.aggregate)
        if self.reduction is not None:
            _check_reduction(self.reduction)
        if self.grid is not None:
            if not all(type(count) is int and count > 0 for count in (self.grid.rows, self.grid.columns)):
                raise ValueError(f"grid {self.grid}")
            check_grid(self.grid, self.side, "of the model")


def _member(values: Mapping[str, Any]) -> ModelMember:
    mean = values["pool_mean"]
    if "/" in values["file"] or not values["file"].endswith(".safetensors"):
        raise ValueError(f"file '{values['file']}' is not in the folder")
    return ModelMember(**{**values, "pool_mean": None if mean is None else tuple(mean)})


def _check_member(member: ModelMember, num_classes: int) -> None:
    for name in ("method", "predictor"):
        if not isinstance(vars(member)[name], str):
            raise ValueError(f"{name} of a member: {vars(member)[name]}")
    if not isinstance(member.config, Mapping):
        raise ValueError(f"config of a member: {member.config}")
    mean_K = member.pool_mean
    if mean_K is not None and (len(mean_K) != num_classes or not all(isfinite(share) for share in mean_K)):
        raise ValueError(f"pool_mean of a member: {mean_K}")


def _check_reduction(values: Mapping[str, Any]) -> None:
    sizes = values["smallest"]
    if len(sizes) != 2 or not all(type(size) is int and 0 < size <= MAX_SIDE for size in sizes):
        raise ValueError(f"reduction to {sizes}")
    if not isinstance(values["compression"], Mapping | None):
        raise ValueError(f"compression {values['compression']}")


def _tuple(values: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    if not isinstance(values[name], list):
        raise ValueError(f"{name} is no list")
    return tuple(values[name])


def _plain(value: Any) -> Any:
    """Lists instead of tuples, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _words(problem: Exception) -> str:
    return f"no '{problem.args[0]}'" if isinstance(problem, KeyError) else " ".join(str(problem).split())[:120]
