"""Classifiers from timm, built from a configuration's words."""

import pickle
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from search_spaces.core.errors import ConfigError
from search_spaces.core.weights import PACKAGED, check_model
from trainables.nets.weights import in_timm_names, packaged_file

_HALVES = (0.5, 0.5, 0.5)


def build_classifier(
    name: str,
    *,
    channels: int,
    num_classes: int,
    pretrained: str = "",
    dropout: float = 0.0,
    drop_path: float = 0.0,
    head_init: str = "network",
) -> nn.Module:
    """A timm network from images (B, C, H, W) to logits (B, K).

    Args:
        name: timm model name without a tag, `efficientnet_b3`.
        channels: of the images; the first convolution of pretrained weights is converted to them.
        num_classes: K; the last layer is always new unless the weights have as many classes.
        pretrained: empty for random weights, the path of a weights file, a timm tag such as `ra2_in1k`, or a name from
            `PACKAGED`, such as `lite0`.
        dropout: before the last layer.
        drop_path: rate of stochastic depth; not every timm model has it.
        head_init: start of a new last layer: `network`, timm's for this model, or `linear`, torch's. Of two classes
            EfficientNet's first logits are twenty times as large with timm's.

    Raises:
        ConfigError: an unknown model or tag, weights that cannot be had or do not fit, no stochastic depth.
    """
    _check_name(name)
    options: dict[str, Any] = {"in_chans": channels, "num_classes": num_classes, "drop_rate": dropout}
    if drop_path > 0:
        options["drop_path_rate"] = drop_path
    if not pretrained:
        return _with_head(_create(name, options), head_init, pretrained=False)
    try:
        return _with_head(_create_pretrained(name, pretrained, options), head_init, pretrained=True)
    except ConfigError:
        raise
    except _WEIGHT_PROBLEMS as why:
        reason = " ".join(str(why).split())[:200] or type(why).__name__
        raise ConfigError(f"weights '{pretrained}' of classifier '{name}' cannot be used: {reason}") from why


def _with_head(network: nn.Module, head_init: str, *, pretrained: bool) -> nn.Module:
    """The network with the last layer's start as asked for; one that came with its weights stays."""
    if head_init == "network" or not hasattr(network, "get_classifier"):  # a user's own need not have it
        return network
    head: Any = network.get_classifier()  # type: ignore[operator]
    trained_on: Any = network.pretrained_cfg if pretrained else {}
    came_with_weights = pretrained and trained_on.get("num_classes") == getattr(head, "out_features", None)
    if isinstance(head, nn.Linear) and not came_with_weights:
        head.reset_parameters()
    return network


def normalisation(network: nn.Module, pretrained: str, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and spread (C, 1, 1) of the images that a network's weights were trained with; ½ and ½ of random weights.

    Of grey images the means of those of colours.
    """
    trained_with: Any = network.pretrained_cfg if pretrained else {}
    mean_C11, spread_C11 = (_per_channel(trained_with.get(name) or _HALVES, channels) for name in ("mean", "std"))
    return mean_C11, spread_C11


def _per_channel(values: Sequence[float], channels: int) -> Tensor:
    values_C = torch.tensor(values)
    return (values_C if len(values_C) == channels else values_C.mean().repeat(channels))[:, None, None]


class LastLayerOnly(nn.Module):
    """A timm classifier whose last layer alone learns: all others keep weights and running statistics.

    Args:
        network: as from `build_classifier`; its other parameters get no gradient from now on.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self._last.requires_grad_(True)
        self.train()

    @property
    def _last(self) -> nn.Module:
        last: nn.Module = self.network.get_classifier()  # type: ignore[operator]
        return last

    def train(self, mode: bool = True) -> "LastLayerOnly":
        """Only the last layer is ever in training mode."""
        super().train(mode)
        self.network.eval()
        self._last.train(mode)
        return self

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits_BK: Tensor = self.network(images_BCHW)
        return logits_BK


# What timm, its hub client and torch.load raise for weights that are missing, unreachable, damaged or of
# another shape.
_WEIGHT_PROBLEMS: tuple[type[Exception], ...] = (
    OSError, RuntimeError, ValueError, LookupError, AttributeError, EOFError, pickle.UnpicklingError,
    SafetensorError,
)  # fmt: skip


def _create_pretrained(name: str, pretrained: str, options: dict[str, Any]) -> nn.Module:
    check_model(pretrained, name)
    path = packaged_file(pretrained) if pretrained in PACKAGED else Path(pretrained)
    if path.is_file():
        return _create_from_file(name, path, options)
    if len(path.parts) > 1 or path.suffix:
        raise ConfigError(f"pretrained weights: there is no file '{pretrained}'")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
    if pretrained not in tags:
        known = f"known: {', '.join(tags)}" if tags else "it has none; leave 'pretrained' empty"
        raise ConfigError(
            f"pretrained weights '{pretrained}' of classifier '{name}' are neither a file nor a tag; {known}"
        )
    return _create(f"{name}.{pretrained}", options | {"pretrained": True})


def _create_from_file(name: str, path: Path, options: dict[str, Any]) -> nn.Module:
    held = load_state_dict(str(path), weights_only=True)  # safely, before timm reads it in its own way
    named = in_timm_names(held, name)
    overlay = {"file": str(path)} if named.keys() == held.keys() else {"state_dict": named}
    model = _create(name, options | {"pretrained": True, "pretrained_cfg_overlay": overlay})
    # timm is silent about tensors that it does not find when the number of classes differs.
    config: Any = model.pretrained_cfg
    config.pop("state_dict", None)  # 20 MB that nobody reads again
    body = [key for key, _ in model.named_parameters() if not key.startswith(config.get("classifier") or ())]
    found = sum(key in named for key in body)
    if found < len(body):
        raise ValueError(f"it holds {found} of the model's {len(body)} tensors, by timm's names")
    return model


def _create(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, **options)
    except TypeError as why:
        if "drop_path_rate" not in str(why):
            raise
        raise ConfigError(f"classifier '{name}' has no stochastic depth; set drop_path to 0") from why
    return model


def _check_name(name: str) -> None:
    if "." not in name and timm.is_model(name):
        return
    close = get_close_matches(name, timm.list_models(), n=3)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "timm.list_models() lists all"
    raise ConfigError(f"classifier '{name}' is no timm model; {hint}")
