"""Scores of generated images: their distance to real ones, and their nearness to those trained on.

All of it is in the features of a network that is given: any module from images (N, C, H, W) to features (N, D). Scores
of different networks, or of different numbers of images, do not compare: each comes with both.

- Fréchet distance (FID): |μ - μ'|² + tr(Σ + Σ' - 2 (Σ Σ')^½), biased upwards where images are few.
- Kernel distance (KID): squared maximum mean discrepancy with the kernel (xᵀy / D + 1)³, unbiased: prefer it.
- Precision and recall: the share of generated images within the real ones' manifold, and the other way round.
- Memorisation: how near generated images come to those trained on, against how near other real images do.

Sources: Heusel et al., arXiv:1706.08500; Bińkowski et al., arXiv:1801.01401; Kynkäänniemi et al., arXiv:1904.06991.
Shapes: N M images, C channels, H W pixels, D features.
"""

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainables.components.modes import evaluated

if TYPE_CHECKING:
    from torchmetrics import Metric

NUM_SUBSETS = 100
"""Over which the kernel distance is averaged."""

MAX_SUBSET = 1000
_AT_A_TIME = 1024
NEIGHBOURS = 3
"""Neighbours that a manifold's balls reach to."""


@dataclass(frozen=True)
class Memorisation:
    """Distances, of features, to the nearest image that was trained on; medians."""

    fake: float
    """From generated images."""

    held_out: float
    """From real images that were not trained on."""

    @property
    def ratio(self) -> float:
        """Below 1 generated images are nearer to the training images than other real ones; near 0 they are copies."""
        return self.fake / self.held_out if self.held_out else float("inf")


@torch.no_grad()
def features_of(images_NCHW: Tensor, network: nn.Module, *, batch: int = 64) -> Tensor:
    """Features (N, D), float32, on the CPU; computed in evaluation mode where the network lies.

    Args:
        images_NCHW: as the network wants them, on any device.
    """
    place = next(network.parameters(), torch.empty(0)).device
    with evaluated(network):
        parts = [network(images_NCHW[i : i + batch].to(place)).float().cpu() for i in range(0, len(images_NCHW), batch)]
    return torch.cat(parts)


def feature_network_hash(network: nn.Module) -> str:
    """Sixteen hexadecimal digits of its layers and weights; the same on every device."""
    digest = hashlib.blake2b(repr(network).encode(), digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def frechet_distance(real_ND: Tensor, fake_MD: Tensor) -> float:
    """FID."""
    from torchmetrics.image.fid import FrechetInceptionDistance  # two seconds

    return _distance(FrechetInceptionDistance(feature=_Given(real_ND.shape[1])), real_ND, fake_MD)[0]


def kernel_distance(real_ND: Tensor, fake_MD: Tensor) -> tuple[float, float]:
    """KID and its standard deviation over subsets of both, which are drawn alike every time."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(len(real_ND), len(fake_MD), MAX_SUBSET)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will save all extracted features in buffer")  # it must
        metric = KernelInceptionDistance(
            feature=_Given(real_ND.shape[1]), subsets=NUM_SUBSETS, subset_size=size, degree=3, gamma=None, coef=1.0
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        mean, deviation = _distance(metric, real_ND, fake_MD)
    return mean, deviation


class _Given(nn.Identity):
    """Stands for a feature network where the features are there."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def _distance(metric: "Metric", real_ND: Tensor, fake_MD: Tensor) -> list[float]:
    metric.set_dtype(torch.float64)
    metric.update(real_ND.double(), real=True)
    metric.update(fake_MD.double(), real=False)
    value = metric.compute()
    return [float(each) for each in (value if isinstance(value, tuple) else (value,))]


def precision_and_recall(real_ND: Tensor, fake_MD: Tensor) -> tuple[float, float]:
    """Shares of generated images among the real ones, and of real among the generated.

    An image is among others when it lies within the ball of one of them, which reaches to its third neighbour.
    """
    return _share_within(fake_MD, real_ND), _share_within(real_ND, fake_MD)


def _share_within(images_ND: Tensor, others_MD: Tensor) -> float:
    rank = 1 + min(NEIGHBOURS, len(others_MD) - 1)  # the first is the image itself
    radius_M = torch.cat([near.kthvalue(rank, dim=1).values for near in _distances(others_MD, others_MD)])
    return float(torch.cat([(near <= radius_M).any(1) for near in _distances(images_ND, others_MD)]).double().mean())


def _distances(images_ND: Tensor, others_MD: Tensor) -> Iterator[Tensor]:
    """Euclidean distances (n, M) of some images after the other, as all of them may be too many."""
    for start in range(0, len(images_ND), _AT_A_TIME):
        yield torch.cdist(images_ND[start : start + _AT_A_TIME], others_MD, compute_mode="donot_use_mm_for_euclid_dist")


def nearest_distances(images_ND: Tensor, others_MD: Tensor) -> Tensor:
    """Euclidean distance (N,) of each image to the nearest other."""
    return torch.cat([near.amin(1) for near in _distances(images_ND, others_MD)])


def memorisation(fake_ND: Tensor, held_out_MD: Tensor, trained_TD: Tensor) -> Memorisation:
    """Nearness of generated and of held-out images to the T that were trained on, by features."""
    nearest = [nearest_distances(each, trained_TD).median().item() for each in (fake_ND, held_out_MD)]
    return Memorisation(*nearest)


def save_grid(images_NCHW: Tensor, path: Path, *, columns: int = 8) -> None:
    """Write images in [-1, 1] of 1 or 3 channels side by side as a PNG file, row by row; no gaps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(grid_png(images_NCHW, columns=columns))


def grid_png(images_NCHW: Tensor, *, columns: int = 8) -> bytes:
    """Bytes of the PNG file that `save_grid` writes."""
    from PIL import Image

    num, channels, height, width = images_NCHW.shape
    rows = -(-num // columns)
    bytes_NHWC = ((images_NCHW.clamp(-1, 1).cpu().float() + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    empty = bytes_NHWC.new_zeros(rows * columns - num, height, width, channels)
    cells = torch.cat([bytes_NHWC, empty]).view(rows, columns, height, width, channels)
    sheet = cells.transpose(1, 2).reshape(rows * height, columns * width, channels)
    file = BytesIO()
    Image.fromarray(sheet.numpy()[:, :, 0] if channels == 1 else sheet.numpy()).save(file, format="PNG")
    return file.getvalue()
