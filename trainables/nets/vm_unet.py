"""VM-UNet: a U-shaped network of selective scans, from images to the logits of a mask.

    images BCHW ── patches of 4 × 4 ── stage 1 ─┬─ merge ── stage 2 ─┬─ merge ── stage 3 ─┬─ merge ─┬─ stage 4
                                                │                    │                    │         │
    logits BKHW ── head ── stage 1 ── expand ───┴── + ── stage 2 ── expand ── + ── …      (skip)    + ◄ (skip)

A skip is what a stage of the encoder takes in; it is added to what the decoder's stage of that side gives out, before
that is expanded. So the first stage's input serves no skip. Inside, images are channels-last.

Departure: it gives logits, where the published network has a sigmoid inside.

Shapes: B batch, C image channels, H W pixels, K classes, h w patches, D features, I inner features, G directions,
L = hw steps, N states, R rank of the step sizes.

Source: Ruan et al., arXiv:2402.02491; the scan in four directions is that of VMamba, Liu et al., arXiv:2401.10166.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil, log

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from trainables.nets.selective_scan import selective_scan

DIRECTIONS = 4
"""Row by row, column by column, and both backwards."""

_PATCH = 4
_STEP_RANGE = (0.001, 0.1)  # of Δ in a new network, log-uniform


class SS2D(nn.Module):
    """Scans features (B, h, w, D) along rows and columns, both ways, and adds up the four; gives the same shape.

    Args:
        dim: D; inside there are I = 2 D features.
        d_state: N.
    """

    def __init__(self, dim: int, d_state: int = 16) -> None:
        super().__init__()
        inner, rank = 2 * dim, ceil(dim / 16)
        self.splits = (rank, d_state, d_state)
        self.enter = nn.Linear(dim, 2 * inner, bias=False)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.select_GXI = _uniform(DIRECTIONS, sum(self.splits), inner, bound=inner**-0.5)
        self.step_GIR = _uniform(DIRECTIONS, inner, rank, bound=rank**-0.5)
        self.step_bias_GI = nn.Parameter(_step_bias(DIRECTIONS, inner))
        log_decays_N = torch.arange(1.0, d_state + 1).log()
        self.log_decay_GIN = nn.Parameter(log_decays_N.repeat(DIRECTIONS, inner, 1))
        self.through_GI = nn.Parameter(torch.ones(DIRECTIONS, inner))
        self.norm = nn.LayerNorm(inner)
        self.leave = nn.Linear(inner, dim, bias=False)

    def forward(self, features_BhwD: Tensor) -> Tensor:
        """Features of the same shape."""
        x_BhwI, gate_BhwI = self.enter(features_BhwD).chunk(2, -1)
        x_BhwI = F.silu(self.mix(x_BhwI.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        scanned_BhwI = in_one_picture(self._scan(in_four_directions(x_BhwI)), *x_BhwI.shape[1:3])
        left_BhwD: Tensor = self.leave(self.norm(scanned_BhwI) * F.silu(gate_BhwI))
        return left_BhwD

    def _scan(self, x_BGLI: Tensor) -> Tensor:
        rank_BGLR, B_BGLN, C_BGLN = torch.split(x_BGLI @ self.select_GXI.mT, list(self.splits), -1)
        step_BGLI = (rank_BGLR @ self.step_GIR.mT).float() + self.step_bias_GI[:, None]
        decay_GIN = -self.log_decay_GIN.float().exp()
        return selective_scan(x_BGLI, F.softplus(step_BGLI), decay_GIN, B_BGLN, C_BGLN, self.through_GI)


def in_four_directions(features_BhwI: Tensor) -> Tensor:
    """Sequences (B, 4, L, I): row by row, column by column, and each of them backwards."""
    both_B2LI = torch.stack([features_BhwI.flatten(1, 2), features_BhwI.transpose(1, 2).flatten(1, 2)], 1)
    return torch.cat([both_B2LI, both_B2LI.flip(2)], 1)


def in_one_picture(sequences_BGLI: Tensor, height: int, width: int) -> Tensor:
    """The sum (B, h, w, I) of what four directions give, each put back to its place."""
    forwards_B2LI, backwards_B2LI = sequences_BGLI.chunk(2, 1)
    rows_BLI, columns_BLI = (forwards_B2LI + backwards_B2LI.flip(2)).unbind(1)
    rows_BhwI = rows_BLI.reshape(len(rows_BLI), height, width, -1)
    return rows_BhwI + columns_BLI.reshape(len(columns_BLI), width, height, -1).transpose(1, 2)


class VSSBlock(nn.Module):
    """x + SS2D(LayerNorm(x)), left out for some images at the rate `drop_path` while training."""

    def __init__(self, dim: int, d_state: int, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.scan = SS2D(dim, d_state)
        self.drop_path = DropPath(drop_path)

    def forward(self, features_BhwD: Tensor) -> Tensor:
        """Features of the same shape."""
        added_BhwD: Tensor = features_BhwD + self.drop_path(self.scan(self.norm(features_BhwD)))
        return added_BhwD


class PatchMerging(nn.Module):
    """Half the side and twice the features: (B, h, w, D) to (B, h/2, w/2, 2 D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduce = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, features_BhwD: Tensor) -> Tensor:
        """The merged features."""
        parts = [features_BhwD[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged_BhwD: Tensor = self.reduce(self.norm(torch.cat(parts, -1)))
        return merged_BhwD


class PatchExpanding(nn.Module):
    """`factor` times the side: (B, h, w, D) to (B, f h, f w, E), where a linear layer makes the f² E features."""

    def __init__(self, dim: int, features: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.widen = nn.Linear(dim, factor**2 * features, bias=False)
        self.norm = nn.LayerNorm(features)

    def forward(self, features_BhwD: Tensor) -> Tensor:
        """The expanded features."""
        f = self.factor
        parts = self.widen(features_BhwD).unflatten(-1, (f, f, -1))  # B h w f f E
        expanded_BhwE: Tensor = self.norm(parts.transpose(2, 3).flatten(3, 4).flatten(1, 2))
        return expanded_BhwE


class VMUNet(nn.Module):
    """Logits (B, K, H, W) of images (B, C, H, W) whose sides are multiples of `side_multiple`.

    Args:
        num_classes: K; 1 for a mask of two classes, whose logit is that of the foreground.
        channels: C, 1 or 3; one channel is repeated to three, as pretrained weights need it.
        dims: features of the stages, each twice those before. The published ones by default, 27.4 million parameters.
        depths: blocks of the encoder's stages.
        decoder_depths: blocks of the decoder's stages in the order in which they run, the smallest pictures first.
        d_state: N.
        drop_path: greatest rate at which a block is left out; rises from 0 with the depth.

    Raises:
        ValueError: sizes that do not belong together.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1,
        channels: int = 3,
        dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 2, 2),
        decoder_depths: Sequence[int] = (2, 2, 2, 1),
        d_state: int = 16,
        drop_path: float = 0.2,
    ) -> None:
        super().__init__()
        _check_sizes(channels, dims, depths, decoder_depths)
        self.side_multiple = _PATCH * 2 ** (len(dims) - 1)
        self.embed = nn.Conv2d(3, dims[0], _PATCH, stride=_PATCH)
        self.embed_norm = nn.LayerNorm(dims[0])
        self.encoder = nn.ModuleList(_stages(dims, depths, d_state, _rates(drop_path, sum(depths))))
        self.merges = nn.ModuleList(PatchMerging(dim) for dim in dims[:-1])
        rates = reversed(list(_rates(drop_path, sum(decoder_depths))))
        self.decoder = nn.ModuleList(_stages(dims[::-1], decoder_depths, d_state, rates))
        self.expands = nn.ModuleList(PatchExpanding(dim, dim // 2, 2) for dim in dims[:0:-1])
        self.expand_to_pixels = PatchExpanding(dims[0], dims[0] // _PATCH, _PATCH)
        self.head = nn.Conv2d(dims[0] // _PATCH, num_classes, 1)
        self.apply(_initialise)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W).

        Raises:
            ValueError: a side that is no multiple of `side_multiple`.
        """
        height, width = images_BCHW.shape[2:]
        if height % self.side_multiple or width % self.side_multiple:
            raise ValueError(f"VM-UNet takes sides that are multiples of {self.side_multiple}, not {height} x {width}")
        patches_BDhw = self.embed(images_BCHW.expand(-1, 3, -1, -1))
        features = self.embed_norm(patches_BDhw.permute(0, 2, 3, 1))
        skips = []
        for number, stage in enumerate(self.encoder):
            if number:
                features = self.merges[number - 1](features)
            skips.append(features)
            features = stage(features)
        for number, stage in enumerate(self.decoder):
            if number:
                features = self.expands[number - 1](features + skips[-number])
            features = stage(features)
        logits_BKHW: Tensor = self.head(self.expand_to_pixels(features).permute(0, 3, 1, 2))
        return logits_BKHW

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that no weight decay should touch: log A and D of the scans."""
        return {name for name, _ in self.named_parameters() if name.endswith(("log_decay_GIN", "through_GI"))}


def _check_sizes(channels: int, dims: Sequence[int], depths: Sequence[int], decoder_depths: Sequence[int]) -> None:
    if channels not in (1, 3):
        raise ValueError(f"VM-UNet takes images of 1 or 3 channels, not {channels}")
    if not len(dims) == len(depths) == len(decoder_depths) >= 1 or min(*depths, *decoder_depths, dims[0]) < 1:
        raise ValueError(f"dims {dims}, depths {depths} and decoder depths {decoder_depths} need one number a stage")
    if dims[0] % _PATCH or any(after != 2 * before for before, after in pairwise(dims)):
        raise ValueError(f"dims {dims} must double from stage to stage, and begin with a multiple of {_PATCH}")


def _rates(greatest: float, blocks: int) -> Iterator[float]:
    return (greatest * block / max(blocks - 1, 1) for block in range(blocks))


def _stages(dims: Sequence[int], depths: Sequence[int], d_state: int, rates: Iterator[float]) -> Iterator[nn.Module]:
    for dim, depth in zip(dims, depths, strict=True):
        yield nn.Sequential(*(VSSBlock(dim, d_state, next(rates)) for _ in range(depth)))


def _uniform(*shape: int, bound: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def _step_bias(*shape: int) -> Tensor:
    """Such that softplus of it is log-uniform; the inverse of softplus is v + log(1 - exp(-v))."""
    least, greatest = (log(bound) for bound in _STEP_RANGE)
    steps = torch.empty(shape).uniform_(least, greatest).exp()
    return steps + (-torch.expm1(-steps)).log()


def _initialise(module: nn.Module) -> None:
    """Linear layers as in the source; what is no layer (the scans' own parameters) stays as it was made."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
