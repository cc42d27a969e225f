"""The contracts: what a task is, what a learner does, what a method offers.

Shapes: B batch, N images, M unlabelled images, I pictures of P patches, C channels, H W pixels, K classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, Literal, NoReturn, Protocol, Self, TypeVar, final, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor, nn

import trainables
from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError, suggestion
from trainables.core.accelerator import Accelerator
from trainables.core.conditions import Validation
from trainables.core.grid import Grid
from trainables.core.kind import Kind, MirrorAxis
from trainables.core.scores import AnyScores

Predictions = Mapping[str, NDArray[Any]]
"""Predictions by the name of the predictor: float64, or uint8 where it is images."""

PoolMeans = Mapping[str, NDArray[Any]]
"""Mean probabilities (K,) of the unlabelled training images, by the name of the predictor; of none where nobody asked.
"""

Scorer = Callable[[Predictions, PoolMeans], Mapping[str, AnyScores]]
"""Judges predictions, by the images that it was made for."""


@dataclass(frozen=True)
class Labelled:
    """Images with labels, in the same order."""

    images_NCHW: Tensor
    """uint8, on the CPU."""

    labels_N: Tensor
    """int64, in 0..K-1; zeros in a segmentation."""

    grid: Grid | None = None
    """If these are patches: each picture's follow one another, row by row."""

    masks_IHW: Tensor | None = None
    """Masks of the I pictures, bool. In a segmentation the foreground: what is to be learned. In a classification what
    makes class 1, for scoring only, and None where nobody marked it."""

    indices_I: Tensor | None = None
    """Indices of the I pictures in their split of the data set, int64: the same picture in other draws has the same.
    None where images are of no data set."""

    groups_I: Tensor | None = None
    """Groups of the I pictures, such as patients, int64; None where none are known."""

    def __post_init__(self) -> None:
        if len(self.images_NCHW) != len(self.labels_N):
            raise ValueError(f"{len(self.images_NCHW)} images but {len(self.labels_N)} labels")
        if self.grid and len(self.labels_N) % self.grid.num_patches:
            raise ValueError(f"{len(self.labels_N)} patches are no whole pictures of {self.grid.num_patches}")

    def __len__(self) -> int:
        return len(self.images_NCHW)


@dataclass(frozen=True)
class Provenance:
    """Which images a task is made of: what makes scores comparable, in one value."""

    content_hash: str
    """Hash of the data file or folder."""

    official: bool
    """True if the file is the published one, byte for byte."""

    shots: int
    """Labelled images per class, or in all."""

    label_set: int
    """Number of the few-shot draw: another number labels other images."""

    fold: int
    """Fold of `labelled-cv`; 0 in the other modes."""

    validation: Validation
    """Origin of the validation images."""

    label_set_hash: str
    """Hash of the indices that are labelled and of those that validate."""

    label_budget: int
    """Labels that the whole procedure looks at, validation included."""

    shots_in_all: bool = False
    """True if `shots` are labelled images in all, whatever their class."""

    patch_labels: Literal["", "masks", "inherited"] = ""
    """Origin of the labels of patches: pixel masks, or the picture they are of. Empty for whole images."""


@dataclass(frozen=True)
class Task:
    """A few-shot problem as a method sees it. It holds no test image, no test label and no test mask."""

    dataset: str
    kind: Kind
    num_classes: int
    """In a segmentation 2, the background among them."""

    channels: int
    labelled: Labelled
    unlabelled_NCHW: Tensor
    """uint8; may be empty. Its labels and masks were dropped before the task was made."""

    validation: Labelled
    """For scoring only: of this a learner sees the pixels alone (`as_seen`)."""

    provenance: Provenance

    asymmetric: tuple[MirrorAxis, ...] = ()
    """Axes along which a mirrored image shows something else."""


@final
class Withheld:
    """Stands where labels or masks are that a learner must not see; to touch it is an error."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by those who copy
            raise AttributeError(name)
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigError("a method read labels of validation images: only their scores may depend on these")


def as_seen(task: Task) -> Task:
    """Return a task as its learner gets it: validation images have no labels, no masks, no indices and no groups.

    Their number and their pixels stay. It guards against mistakes, not against code that draws the task again.
    """
    images = copy(task.validation)
    for name in ("labels_N", "masks_IHW", "indices_I", "groups_I"):
        object.__setattr__(images, name, Withheld())
    return replace(task, validation=images)


class Learner(Protocol):
    """A method at work on one task."""

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """Train one epoch per step and yield its mean losses.

        Holds no state of its own: everything that must survive a kill is in `state_dict`, so a fresh iterator
        after `load_state_dict` goes on where the old one stopped. Closing it early is clean. Randomness comes
        from torch's global generators, which the driver seeds anew before every epoch.
        """

    def predict(self, images_BCHW: Tensor) -> Mapping[str, Tensor]:
        """Return class probabilities (B, K) of every predictor this method trains, by name, the main one first.

        In a segmentation those of the foreground, (B, H, W), at the size of the images. A method with a `scorer` of its
        own gives what that judges.

        Args:
            images_BCHW: uint8, any device. Deterministic; changes nothing.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return all state, networks, optimisers, memories, counters, readable by `torch.load(weights_only=True)`."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""


@runtime_checkable
class ReportsPseudoLabels(Protocol):
    """A learner that can tell which labels it gave: a diagnosis beside training."""

    def pseudo_labels(self) -> Tensor | None:
        """Return labels (M,) given to the unlabelled images in the last epoch, -1 where none was given.

        None when that epoch gave none.
        """


@runtime_checkable
class FollowsBudget(Protocol):
    """A learner whose settings follow the share of the budget that is behind it, such as a decaying step size."""

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Take from the driver where training stands, before every epoch, also before the first after a resume.

        Args:
            seen: images seen so far, below `budget`.
            budget: images of the whole budget. A run that is compared before its end hears the same as one that goes
                on, as its budget is the same.
        """


@runtime_checkable
class PredictsByNetworks(Protocol):
    """A learner whose predictions come from networks that may hold BatchNorm.

    Their running statistics are taken anew before every prediction, by `predict` itself, called on training images: so
    it must put them into evaluation mode by `trainables.components.modes.evaluated`, as `predict_in_chunks` does.
    """

    def predicting_networks(self) -> Sequence[nn.Module]:
        """Return the networks that `predict` calls, averages of weights instead of what they are averages of."""


@dataclass(frozen=True)
class TaskForm:
    """Facts on a task that what predicts is built by, without any of its images."""

    kind: Kind
    num_classes: int
    channels: int
    asymmetric: tuple[MirrorAxis, ...] = ()

    @classmethod
    def of(cls, task: Task) -> Self:
        """Return the form of a task."""
        return cls(task.kind, task.num_classes, task.channels, task.asymmetric)


class Predictor(Protocol):
    """The part of a learner that predicts, in a saved model: without what trained it, on the CPU."""

    def predict(self, images_BCHW: Tensor) -> Mapping[str, Tensor]:
        """Return what the learner's `predict` would."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> object:
        """Take the tensors that a learner's `prediction_state` gave.

        Raises:
            KeyError, RuntimeError: some are missing, unknown or of another shape.
        """


@runtime_checkable
class SavesPrediction(Protocol):
    """A learner of which a model can be saved: what its method's `predictor` takes."""

    def prediction_state(self) -> Mapping[str, Tensor]:
        """Return the live tensors by name that a prediction depends on, averages instead of what they are averages of.

        BatchNorm's statistics among them are those that predict.
        """


@runtime_checkable
class HasArtefacts(Protocol):
    """A learner that has something to show."""

    def artefacts(self) -> Mapping[str, bytes]:
        """Return small files by name, such as pictures, asked for at the end of a run; they change nothing."""


C = TypeVar("C", bound=MethodConfig)


def _labelled_only(config: MethodConfig, num_labelled: int, num_unlabelled: int, epochs: int) -> int:
    return num_labelled


def _batch_size(config: MethodConfig) -> int:
    return int(getattr(config, "batch_size", 1))


def _without_cycles(config: MethodConfig, epochs: int) -> bool:
    return False


@dataclass(frozen=True)
class Method(Generic[C]):
    """Offer of a method's module, as its `METHOD`."""

    config: type[C]
    tasks: tuple[Kind, ...]
    """Kinds it can be built for; the first is what a dataset is drawn for."""

    build: Callable[[C, Task, Accelerator], Learner]
    predictors: tuple[str, ...]
    """Names that `predict` returns; a search optimises the first."""

    predictor: Callable[[C, TaskForm], Predictor] | None = None
    """Builds what predicts, with neither data nor weights from before; None where no model can be saved. Its learner
    then offers `prediction_state`."""

    epoch_images: Callable[[C, int, int, int], int] = _labelled_only
    """Images seen, labelled and unlabelled, in the epoch after so many, at least 1: what a budget counts. Given the
    configuration, the numbers of labelled and unlabelled images, and the epochs done."""

    step_images: Callable[[C], int] = _batch_size
    """Images, labelled and unlabelled, of an optimiser step: no configuration is judged before some of them."""

    cycle_ends: Callable[[C, int], bool] = _without_cycles
    """True if a cycle of its phases ends after so many epochs (1 = after the first): the moment to evaluate."""

    draws: bool = True
    """False if nothing in it is random, so that another seed gives the same."""

    names_one_class: bool = False
    """True if it gives every image the same class on purpose, so that this is no collapse."""

    scorer: Callable[[C, Labelled], Scorer] | None = None
    """Given the configuration and images with labels, what judges a method that does not predict these: generators. It
    is evaluated once, at its end, which comes where `epoch_images` is more than any budget has.

    Raises `ConfigError` where so few images judge nothing."""

    @property
    def kind(self) -> Kind:
        """Kind that a dataset is drawn for."""
        return self.tasks[0]

    @property
    def judged_as(self) -> Kind | Literal["generation"]:
        """Kind of metrics there are of it."""
        return "generation" if self.scorer else self.kind


def patch_predictor(name: str) -> str:
    """Return the name of a predictor's scores on patches, whose own name stands for the pictures they are of."""
    return f"{name}_patches"


def predictor_names(method: Method[Any], images: Labelled) -> tuple[str, ...]:
    """Return the names of all scored predictors, the main one first."""
    patches = [patch_predictor(name) for name in method.predictors if images.grid and not method.scorer]
    return (*method.predictors, *patches)


def method_names() -> list[str]:
    """Return the name of every method of the package: its plain modules, by file name."""
    return sorted(m.name for m in iter_modules(trainables.__path__) if not m.ispkg and not m.name.startswith("_"))


def find_method(name: str) -> Method[Any]:
    """Return the method of that name, or a user's own as `module:ATTRIBUTE`. Import errors propagate.

    Raises:
        ConfigError: no such method.
    """
    if ":" in name:
        return _own_method(name)
    if name not in method_names():
        raise ConfigError(f"method '{name}' is unknown{suggestion(name, method_names())} Your own: module:ATTRIBUTE")
    method: Method[Any] = import_module(f"trainables.{name}").METHOD
    return method


def _own_method(name: str) -> Method[Any]:
    module_name, _, attribute = name.partition(":")
    try:
        module = import_module(module_name)
    except (ModuleNotFoundError, ValueError, TypeError) as problem:
        missing = getattr(problem, "name", module_name)
        if not f"{module_name}.".startswith(f"{missing}."):  # what it imports is missing, not itself
            raise
        raise ConfigError(f"method '{name}': no module '{module_name}' can be imported from here") from problem
    method = vars(module).get(attribute)
    if not isinstance(method, Method):
        raise ConfigError(f"method '{name}': '{attribute}' is no trainables.core.method.Method in {module_name}")
    return method
