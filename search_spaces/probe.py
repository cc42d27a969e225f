"""Probe: heads on frozen features, one pass over the images for a whole search."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from search_spaces.core.config import require
from search_spaces.core.errors import ConfigError, suggestion
from search_spaces.core.ranges import Choice, Float, Int
from search_spaces.core.self_supervision import PretextConfig
from search_spaces.core.weights import PIXELS, backbone_names

HEAD_NAMES = ("logistic", "prototype", "knn", "label_propagation", "transductive", "discriminant")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(PretextConfig):
    """Defaults and ranges are ours, measured on four sets at 5 to 50 shots, unless a source is named."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"pixels": {"backbones": PIXELS}, "lite0": {"backbones": "lite0"}}
    )
    """Each block alone: what the pixels say, and what ImageNet adds."""

    # Features
    backbones: Annotated[str, Choice("pixels+lite0", PIXELS, "lite0")] = "pixels+lite0"
    """Blocks of features, joined by `+`: `pixels`, `lite0` to `lite2` of the extra `[weights]`, or a timm
    network as `MODEL:WEIGHTS`, a tag or the path of a file; `MODEL` alone has random weights, always the same. With a
    `pretext` its network is one more, and the only one where this is empty."""

    pretext_network: str = "resnet10t"
    """timm name of the network of `pretext`, whose features are had at `pretext_side`."""

    pixels_side: int = 28
    """Side in pixels of the images whose pixels are features; networks have them at `image_size`."""

    components: Annotated[int, Choice(0, 32, 64, 128)] = 64
    """Principal components of the unlabelled images that are left of each block; 0 leaves the block as it is."""

    scale_each: Annotated[bool, Choice(False, True)] = False
    """True divides each feature by its own spread; else a block by that of all its features."""

    joined: Annotated[bool, Choice(False, True)] = False
    """True fits each head once, to all blocks side by side; else to each block, and takes the mean of these."""

    mirrored: Annotated[bool, Choice(False, True)] = False
    """True predicts the mean over an image and its mirror image, where the data set allows mirrors."""

    # Heads
    mean_of: Annotated[str, Choice("logistic+label_propagation", "all")] = "logistic+label_propagation"
    """Heads whose mean is what a search optimises, joined by `+`, or `all`."""

    logistic_c: Annotated[float, Float(1e-4, 1e2, log=True)] = 0.01
    """Inverse of the strength of the L2 penalty; classes weigh the same."""

    prototype_temperature: Annotated[float, Float(0.01, 10.0, log=True)] = 0.1
    """Of the softmax over cosines to class means."""

    knn_k: Annotated[int, Int(1, 11)] = 11
    """Labelled images that vote."""

    knn_temperature: Annotated[float, Float(0.01, 10.0, log=True)] = 0.1
    """Of their weights: the softmax over cosines."""

    propagation_k: Annotated[int, Int(5, 50)] = 10
    """Neighbours of an image in the graph."""

    propagation_alpha: Annotated[float, Float(0.8, 0.99)] = 0.9
    """Share of what an image has from its neighbours. Source: Zhou et al. 2004."""

    propagation_gamma: Annotated[float, Float(1.0, 5.0)] = 1.0
    """Exponent of the weights of edges."""

    propagation_local: Annotated[bool, Choice(True, False)] = True
    """Weights of edges: Gaussian with a width for each image, else powers of the cosine."""

    transductive_temperature: Annotated[float, Float(0.01, 1.0, log=True)] = 0.3
    """Of the softmax over cosines to prototypes."""

    transductive_share: Annotated[float, Float(0.0, 1.0)] = 0.2
    """Share of the unlabelled images in a prototype."""

    discriminant_shrinkage: Annotated[float, Float(0.01, 1.0, log=True)] = 0.9
    """Share of the identity in the common covariance."""

    discriminant_pooled: Annotated[bool, Choice(False, True)] = False
    """Covariance of the unlabelled images, rather than of the labelled ones about their class means."""

    @property
    def averaged(self) -> tuple[str, ...]:
        """Names of the heads whose mean is searched for."""
        return HEAD_NAMES if self.mean_of == "all" else tuple(self.mean_of.split("+"))

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = backbone_names(self.backbones)
        if not all(parts) or len(set(parts)) != len(parts) or not (parts or self.has_pretext):
            raise ConfigError(f"ProbeConfig.backbones: expected different names joined by '+', got {self.backbones!r}")
        if odd := sorted({*self.averaged} - {*HEAD_NAMES}):
            raise ConfigError(f"ProbeConfig.mean_of: no head '{odd[0]}'{suggestion(odd[0], (*HEAD_NAMES, 'all'))}")
        require(self, "pixels_side", 1, 1024)
        require(self, "components", 0, 4096)
        for name in ("logistic_c", "prototype_temperature", "knn_temperature", "transductive_temperature"):
            require(self, name, 1e-6, 1e6)
        for name in ("knn_k", "propagation_k"):
            require(self, name, 1, 10_000)
        require(self, "propagation_alpha", 1e-6, 0.9999)
        require(self, "propagation_gamma", 1e-6, 100)
        require(self, "transductive_share", 0, 1)
        require(self, "discriminant_shrinkage", 1e-6, 1)
