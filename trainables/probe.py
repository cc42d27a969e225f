"""Probe: frozen features of all images, and heads on them that are fitted in milliseconds.

    f(x) ← blocks of features: pixels, pooled outputs of pretrained networks           (one pass, kept for all trials)
    with a pretext task: a network that learned from all training images without labels is one more block
    each block ← centred, its principal components, divided by their spread: all of the unlabelled images, no label
    for each block, or for all side by side, and each head: fitted to the labelled images and, where it uses them, the
    unlabelled ones; a head's probabilities are their mean over blocks
    mean(x) ← the mean of some heads' probabilities, which is what a search optimises

Heads, in `trainables.heads`: logistic regression, class means, nearest labelled images, label propagation, prototypes
with a balanced assignment of the unlabelled images, a shrunken linear discriminant. After the epochs of a pretext task
(`trainables.self_supervision.stage`), if there is one, there is one more: the pass, whose images count once for each
network whether they were computed or found (`trainables.training.feature_store`), and the fits. Every image that is
predicted passes too, is kept as well, and does not count.

Departures: none; there is no single source. Chen et al. (ICLR 2019) and Tian et al. (ECCV 2020) found linear heads on
frozen features hard to beat at few shots.

Balanced accuracy of frozen EfficientNet-Lite0 at 128 px to approach, PneumoniaMNIST, 5 / 10 / 20 / 50 shots: logistic
0.782 / 0.797 / 0.840 / 0.852, label propagation 0.830 / 0.827 / 0.846 / 0.847.

Shapes: B images, N labelled, U unlabelled, C channels, H W pixels, D features, K classes.
"""

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from typing import Any, NamedTuple, final

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.core.weights import PIXELS, backbone_names
from search_spaces.probe import ProbeConfig
from trainables.components.prediction import predict_in_chunks
from trainables.core.accelerator import Accelerator
from trainables.core.method import Learner, Method, Predictor, Task, TaskForm
from trainables.data import augment
from trainables.data.augment import to_unit
from trainables.heads import HEADS
from trainables.heads.head import Features, Head, mean_of
from trainables.heads.standard import Standard, standardise
from trainables.nets import frozen
from trainables.nets.frozen import FrozenNetwork, frozen_hash, network_hash
from trainables.self_supervision.stage import PretextStage, check_budget, pretext_images
from trainables.training.feature_store import FeatureStore

_MEAN = "mean"
_PREFIXES = {"label_propagation": "propagation"}
"""Beginnings of the settings of a head, where that is not its name."""

_BATCH_PIXELS = 2**20
"""Pixels of a batch: sixty-four images of 128 px."""

_SMALL_BATCH_PIXELS = 2**18
"""The same on one thread: memory for more is given back and taken anew at every layer, and no thread is waited for."""


@final
@dataclass(frozen=True)
class _Fitted:
    """Standards of blocks of features, and heads on groups of blocks that lie side by side."""

    standards: Sequence[Standard]
    heads: Sequence[Mapping[str, Head]]
    """By name, for each group."""

    config: ProbeConfig

    def grouped(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Features (B, D) of each group, by the standards of its blocks."""
        standard = [each.apply(block) for each, block in zip(self.standards, blocks, strict=True)]
        return [torch.cat(standard, 1)] if self.config.joined else standard

    def heard(self, groups: Sequence[Tensor]) -> dict[str, Tensor]:
        """Probabilities (B, K) by predictor, of the features of each group."""
        pairs = list(zip(self.heads, groups, strict=True))
        probs = {name: mean_of(heads[name].probabilities(each_BD) for heads, each_BD in pairs) for name in HEADS}
        return {_MEAN: mean_of(probs[name] for name in self.config.averaged), **probs}

    def state(self) -> dict[str, Tensor]:
        """Tensors by place and name."""
        parts = {f"standards.{number}": each.state() for number, each in enumerate(self.standards)}
        for number, group in enumerate(self.heads):
            parts |= {f"heads.{number}.{name}": dict(head.weights) for name, head in group.items()}
        return {f"{place}.{name}": tensor for place, part in parts.items() for name, tensor in part.items()}


@final
class ProbeLearner:
    """The standard of each block, and the heads, none until they are fitted."""

    def __init__(self, config: ProbeConfig, task: Task, accelerator: Accelerator) -> None:
        self._config, self._task = config, task
        self._mirrors = config.mirrored and "horizontal" not in task.asymmetric
        self._blocks = [
            _block(name, config, task.channels, accelerator.device) for name in backbone_names(config.backbones)
        ]
        self._pretext: PretextStage | None = None
        if config.has_pretext:
            self._pretext = PretextStage(config, config.pretext_network, task, accelerator)
            self._blocks.append(_pretext_block(self._pretext, config, task.channels, accelerator.device))
        self._epoch = 0
        self._standards: list[Standard] = []
        self._heads: list[dict[str, Head]] = []
        """By name, for each group; none as long as nothing is fitted."""
        self._loss = 0.0
        """Of the labelled images; 0 as long as nothing is fitted."""

    def epochs(self) -> Iterator[Mapping[str, float]]:
        """Pass and fit in the first epoch after those of a pretext task; others would say its loss again."""
        try:
            while True:
                self._epoch += 1
                if self._pretext and self._epoch <= self._pretext.num_epochs:
                    yield self._pretext.epoch(self._epoch - 1)
                    continue
                if not self._heads:
                    self._fit()
                yield {"cross_entropy": self._loss}
        finally:
            if self._pretext:
                self._pretext.stage.close()

    def begin_epoch(self, seen: int, budget: int) -> None:
        """Refuse a budget in which a pretext task leaves nothing for the pass."""
        if self._pretext and not self._epoch:
            counts = len(self._task.labelled), len(self._task.unlabelled_NCHW)
            needed = sum(_epoch_images(self._config, *counts, epoch) for epoch in range(self._pretext.num_epochs + 1))
            check_budget(self._config, needed, budget)

    def artefacts(self) -> dict[str, bytes]:
        """Where the network of a pretext task comes from, and its measures."""
        return {"pretext.json": json.dumps(self._pretext.facts(), indent=1).encode()} if self._pretext else {}

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the mean of heads, and of each; all alike before they are fitted."""
        return _both_ways(self._probabilities, images_BCHW, mirrors=self._mirrors)

    def prediction_state(self) -> dict[str, Tensor]:
        """Standards and heads, and the frozen networks."""
        state = self._fitted.state()
        for number, each in _networks(self._config).items():
            if self._pretext and number == len(self._blocks) - 1:
                network = self._pretext.network()
            else:
                network = FrozenNetwork(each.name, self._task.channels)
            state |= {f"networks.{number}.{key}": tensor for key, tensor in network.whole_state().items()}
        return state

    def state_dict(self) -> dict[str, Any]:
        """Standards, heads, loss and the pretext task at work; not what is in the cache, as features are."""
        heads = [{name: dict(head.weights) for name, head in group.items()} for group in self._heads]
        pretext = self._pretext.stage.state_dict() if self._pretext else {}
        standards = [each.state() for each in self._standards]
        return {"standards": standards, "heads": heads, "loss": self._loss, "epoch": self._epoch, "pretext": pretext}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self._standards = [Standard.of(each) for each in state["standards"]]
        self._heads = [{name: HEADS[name].of(each) for name, each in group.items()} for group in state["heads"]]
        self._loss, self._epoch = state["loss"], state["epoch"]
        if self._pretext:
            self._pretext.stage.load_state_dict(state["pretext"])

    def _fit(self) -> None:
        labelled, components = self._task.labelled, self._config.components or None
        count = len(labelled)
        passed = [block(torch.cat([labelled.images_NCHW, self._task.unlabelled_NCHW])) for block in self._blocks]
        blocks = [(features_ND[:count], features_ND[count:]) for features_ND in passed]
        self._standards = [
            standardise(own_ND, pool_UD, components=components, each=self._config.scale_each)
            for own_ND, pool_UD in blocks
        ]
        own, pool = (self._fitted.grouped([block[role] for block in blocks]) for role in (0, 1))
        self._heads = [self._fit_heads(*features) for features in zip(own, pool, strict=True)]
        log_NK = self._fitted.heard(own)[_MEAN].clamp_min(torch.finfo(torch.float64).tiny).log()
        self._loss = float(F.nll_loss(log_NK, labelled.labels_N))

    def _fit_heads(self, labelled_ND: Tensor, pool_UD: Tensor) -> dict[str, Head]:
        features = Features(labelled_ND, self._task.labelled.labels_N, pool_UD, self._task.num_classes)
        return {name: HEADS[name].fit(features, **_settings(name, self._config)) for name in HEADS}

    @property
    def _fitted(self) -> _Fitted:
        return _Fitted(self._standards, self._heads, self._config)

    def _probabilities(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        if not self._heads:
            size, num_classes = len(images_BCHW), self._task.num_classes
            flat_BK = torch.full((size, num_classes), 1 / num_classes, dtype=torch.float64)
            return dict.fromkeys((_MEAN, *HEADS), flat_BK)
        fitted = self._fitted
        return fitted.heard(fitted.grouped([block(images_BCHW.cpu()) for block in self._blocks]))


@final
class ProbePredictor:
    """Frozen networks, standards and heads, all to be loaded."""

    def __init__(self, config: ProbeConfig, form: TaskForm) -> None:
        self._config = config
        self._mirrors = config.mirrored and "horizontal" not in form.asymmetric
        self._num_blocks = len(backbone_names(config.backbones)) + config.has_pretext
        self._named = _networks(config)
        self._networks = {
            number: FrozenNetwork(each.name, form.channels, weighted=False) for number, each in self._named.items()
        }
        self._fitted = _Fitted((), (), config)

    def predict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """Probabilities (B, K) of the mean of heads, and of each."""
        return _both_ways(self._probabilities, images_BCHW, mirrors=self._mirrors)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of a learner."""
        num_blocks = self._num_blocks
        standards = [Standard.of(_below(state, f"standards.{number}.")) for number in range(num_blocks)]
        heads = [
            {name: HEADS[name].of(_below(state, f"heads.{number}.{name}.")) for name in HEADS}
            for number in range(1 if self._config.joined else num_blocks)
        ]
        for number, network in self._networks.items():
            network.load_whole_state(_below(state, f"networks.{number}."))
        self._fitted = _Fitted(standards, heads, self._config)

    def _probabilities(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        images_BCHW = images_BCHW.cpu()
        blocks = [
            _network_features(self._networks[number], images_BCHW, self._named[number].side)
            if number in self._networks
            else _pixels(images_BCHW, self._config)
            for number in range(self._num_blocks)
        ]
        return self._fitted.heard(self._fitted.grouped(blocks))


class _Named(NamedTuple):
    """Name of a network, and the side of the images that it sees."""

    name: str
    side: int


def _networks(config: ProbeConfig) -> dict[int, _Named]:
    """The networks that give blocks, by the blocks' numbers; that of a pretext task gives the last one."""
    names = [_Named(name, config.image_size) for name in backbone_names(config.backbones)]
    if config.has_pretext:
        names.append(_Named(config.pretext_network, config.pretext_side))
    return {number: each for number, each in enumerate(names) if each.name != PIXELS}


def _below(state: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """Tensors whose names begin so, by the rest of their names.

    Raises:
        KeyError: there are none.
    """
    found = {key.removeprefix(place): tensor for key, tensor in state.items() if key.startswith(place)}
    if not found:
        raise KeyError(f"no tensor {place}…")
    return found


def _both_ways(
    probabilities: Callable[[Tensor], dict[str, Tensor]], images_BCHW: Tensor, *, mirrors: bool
) -> dict[str, Tensor]:
    """Probabilities by predictor, of images; where it mirrors, the mean with those of their mirror images."""
    probs = probabilities(images_BCHW)
    if mirrors:
        mirrored = probabilities(images_BCHW.flip(-1))
        probs = {name: (probs_BK + mirrored[name]) / 2 for name, probs_BK in probs.items()}
    return {name: probs_BK.to(images_BCHW.device) for name, probs_BK in probs.items()}


@final
class _NetworkBlock:
    """Pooled outputs of a frozen network, from the store of features.

    Args:
        digest: Hash of its numbers, and `network` itself, each asked for when features are.
    """

    def __init__(
        self, name: str, digest: Callable[[], str], network: Callable[[], FrozenNetwork], *,
        channels: int, side: int, device: torch.device,
    ) -> None:  # fmt: skip
        self._name, self._digest, self._network = name, digest, network
        self._channels, self._side, self._device = channels, side, device

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        """Return features (N, D) on the CPU."""
        return self._store.of(images_NCHW)

    @cached_property
    def _store(self) -> FeatureStore:
        sources = [inspect.getsource(part) for part in (frozen, augment, _network_features)]
        determined_by = {
            "network": self._name, "weights": self._digest(), "side": self._side,
            "channels": self._channels, "device": self._device.type, "torch": torch.__version__,
            "timm": timm.__version__, "code": sha256("".join(sources).encode()).hexdigest(),
        }  # fmt: skip
        return FeatureStore(self._name, determined_by, self._begin)

    def _begin(self) -> Callable[[Tensor], Tensor]:
        network = self._network().to(self._device)
        return lambda images_BCHW: _network_features(network, images_BCHW, self._side)


def _network_features(network: FrozenNetwork, images_BCHW: Tensor, side: int) -> Tensor:
    """Features (B, D) of images brought to a side."""
    device = next(network.parameters()).device
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    chunk = max(1, min(256, (_SMALL_BATCH_PIXELS if alone else _BATCH_PIXELS) // side**2))
    outputs = predict_in_chunks(
        lambda unit_BCHW: {"features": network(unit_BCHW)}, images_BCHW,
        side=side, device=device, networks=(network,), chunk=chunk,
    )  # fmt: skip
    return outputs["features"]


def _pixels(images_NCHW: Tensor, config: ProbeConfig) -> Tensor:
    """Pixels (N, D) of images brought to the side of this block."""
    return to_unit(images_NCHW, config.pixels_side).flatten(1)


def _block(name: str, config: ProbeConfig, channels: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """From images (N, C, H, W), uint8, to a block of features (N, D)."""
    if name == PIXELS:
        return partial(_pixels, config=config)
    return _NetworkBlock(
        name, lambda: frozen_hash(name, channels), lambda: FrozenNetwork(name, channels),
        channels=channels, side=config.image_size, device=device,
    )  # fmt: skip


def _pretext_block(
    stage: PretextStage, config: ProbeConfig, channels: int, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """From images (N, C, H, W), uint8, to features (N, D) of the network that a pretext task made."""
    return _NetworkBlock(
        f"{config.pretext_network} after {config.pretext}", lambda: network_hash(stage.network()), stage.network,
        channels=channels, side=config.pretext_side, device=device,
    )  # fmt: skip


def _settings(head: str, config: ProbeConfig) -> dict[str, Any]:
    """Settings of a head, by the fields of the configuration that begin with its name."""
    values, prefix = vars(config), _PREFIXES.get(head, head)
    return {name: values[f"{prefix}_{name}"] for name in HEADS[head].settings if f"{prefix}_{name}" in values}


def _epoch_images(config: ProbeConfig, num_labelled: int, num_unlabelled: int, epoch: int) -> int:
    """Images of the pretext task and of the pass, for each network; then more than any budget has: all is learned."""
    num_images = num_labelled + num_unlabelled
    if epoch < config.num_pretext_epochs:
        return pretext_images(config, num_images, epoch)
    return sys.maxsize if epoch > config.num_pretext_epochs else num_images * max(1, len(_networks(config)))


def _ends_cycle(config: ProbeConfig, epoch: int) -> bool:
    """Return True if a pretext task is over and heads are fitted: before, there is nothing to compare."""
    return config.has_pretext and epoch > config.num_pretext_epochs


def predictor(config: ProbeConfig, form: TaskForm) -> Predictor:
    """Networks, standards and heads, to be loaded."""
    return ProbePredictor(config, form)


def build(config: ProbeConfig, task: Task, accelerator: Accelerator) -> Learner:
    """A learner; weights are looked for when their features are needed."""
    return ProbeLearner(config, task, accelerator)


METHOD = Method(
    ProbeConfig, ("classification",), build, predictors=(_MEAN, *HEADS), predictor=predictor,
    epoch_images=_epoch_images, step_images=lambda config: 1, cycle_ends=_ends_cycle, draws=False,
)  # fmt: skip
"""Heads on frozen features: what few labels reach without training a network."""
