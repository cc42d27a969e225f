"""Drawings of pictures with heat maps of their patches, or with the masks that were found, as PNG.

Source of the overlay: Lecouat et al., arXiv:1812.07832 (2018), Figure 3; it gives neither colours nor blending.
Shapes: I pictures, P patches of each, N = I·P, K classes, C channels, H W pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sparse_search.results.files import write_atomically
from sparse_search.results.predictions import artefact_folder
from trainables.core.grid import Grid
from trainables.core.method import Labelled
from trainables.data.patches import reassemble
from trainables.metrics.masks import FOREGROUND
from trainables.metrics.pictures import PictureRule, heat_maps

_ALPHA = 0.4
_COLOURS = "inferno"
_SHOWN = (3, 1)
"""Number of pictures on the sheet of a run: with findings, and without."""

_MASKS = 4
"""Number of pictures on the sheet of masks."""

_INCHES = 3.0


def write_sheet(
    results: Path,
    run: Mapping[str, Any],
    images: Labelled,
    probs_NK: NDArray[np.float64],
    rule: PictureRule,
    threshold: float | None,
) -> None:
    """Draw a few validation pictures of a run beside its predictions.

    Does nothing where images are whole or of more than two classes, which have no threshold. OSError if it cannot be
    written.
    """
    if images.grid is None or threshold is None:
        return
    labels_I = _picture_labels(images, images.grid)
    shown = [index for label, count in zip((1, 0), _SHOWN, strict=True) for index in _first(labels_I, label, count)]
    path = artefact_folder(results, run) / "heat_maps.png"
    write_atomically(path, _drawn(images, images.grid, probs_NK, rule, threshold, shown))


def write_mask_sheet(results: Path, run: Mapping[str, Any], images: Labelled, probs_IHW: NDArray[np.float64]) -> None:
    """Draw the first validation pictures of a run with the outlines of true and found masks; OSError if it cannot."""
    assert images.masks_IHW is not None
    count = min(_MASKS, len(images))
    figure = Figure(figsize=(_INCHES * count, 1.1 * _INCHES), layout="constrained")
    for index, axis in enumerate(figure.subplots(1, count, squeeze=False)[0]):
        picture_CHW, true_HW = images.images_NCHW[index].numpy(), images.masks_IHW[index].numpy()
        axis.imshow(picture_CHW[0] if len(picture_CHW) == 1 else picture_CHW.transpose(1, 2, 0), cmap="gray")
        for mask_HW, colour in ((true_HW, "cyan"), (probs_IHW[index] >= FOREGROUND, "yellow")):
            if mask_HW.any():
                _outline(axis, mask_HW, picture_CHW.shape[1:], colour)
        axis.set_axis_off()
        axis.set_title(f"picture {index}", fontsize=8, loc="left")
    write_atomically(artefact_folder(results, run) / "masks.png", _png(figure))


def overlays(
    images: Labelled, probs_NK: NDArray[np.float64], rule: PictureRule, threshold: float
) -> Iterator[tuple[str, bytes]]:
    """Yield file name and PNG of each picture; nothing where images are whole or of more than two classes."""
    if images.grid is None or probs_NK.shape[1] != 2:
        return
    labels_I = _picture_labels(images, images.grid)
    for index, label in enumerate(labels_I):
        yield f"{index:04d}-class{label}.png", _drawn(images, images.grid, probs_NK, rule, threshold, [index])


def _first(labels_I: NDArray[np.int64], label: int, count: int) -> Sequence[int]:
    return [int(index) for index in np.flatnonzero(labels_I == label)[:count]]


def _picture_labels(images: Labelled, grid: Grid) -> NDArray[np.int64]:
    labels_I: NDArray[np.int64] = images.labels_N.numpy().reshape(-1, grid.num_patches).max(1)
    return labels_I


def _drawn(
    images: Labelled,
    grid: Grid,
    probs_NK: NDArray[np.float64],
    rule: PictureRule,
    threshold: float,
    shown: Sequence[int],
) -> bytes:
    """Return a PNG of pictures below each other, on the right with the heat map and outlines of the masks."""
    probs_IPK = probs_NK.reshape(-1, grid.num_patches, probs_NK.shape[1])[list(shown)]
    patches = images.images_NCHW.numpy().reshape(-1, grid.num_patches, *images.images_NCHW.shape[1:])[list(shown)]
    pictures_ICHW = reassemble(patches.reshape(-1, *patches.shape[2:]), grid)
    maps_IHW = heat_maps(probs_IPK[:, :, 1], grid, *pictures_ICHW.shape[2:])
    labels_I, scores_I = _picture_labels(images, grid)[list(shown)], rule.scores(probs_IPK)[:, 1]
    figure = Figure(figsize=(2.35 * _INCHES, 1.1 * _INCHES * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 2, squeeze=False)
    lowest, highest = float(maps_IHW.min()), float(maps_IHW.max())
    for row, (index, picture_CHW) in enumerate(zip(shown, pictures_ICHW, strict=True)):
        grey_HW = picture_CHW.mean(0)  # below colours that mean something
        axes[row, 0].imshow(grey_HW if len(picture_CHW) == 1 else picture_CHW.transpose(1, 2, 0), cmap="gray")
        axes[row, 1].imshow(grey_HW, cmap="gray")
        heat = axes[row, 1].imshow(maps_IHW[row], cmap=_COLOURS, alpha=_ALPHA, vmin=lowest, vmax=highest)
        for axis in axes[row]:
            axis.set_axis_off()
        if images.masks_IHW is not None and images.masks_IHW[index].any():
            _outline(axes[row, 1], images.masks_IHW[index].numpy(), picture_CHW.shape[1:])
        axes[row, 0].set_title(f"picture {index}, class {labels_I[row]}", fontsize=8, loc="left")
        named = int(scores_I[row] > threshold)
        words = f"score {scores_I[row]:.3f}, above {threshold:.3f} is class 1: {named}"
        axes[row, 1].set_title(words, fontsize=8, loc="left")
    figure.colorbar(heat, ax=axes[:, 1], shrink=0.6, label="probability of class 1 in a patch, blurred")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _outline(axis: Any, mask_HW: NDArray[np.bool_], size: tuple[int, ...], colour: str = "cyan") -> None:
    height, width = size
    rows, columns = (np.linspace(0, end - 1, count) for end, count in zip((height, width), mask_HW.shape, strict=True))
    axis.contour(columns, rows, mask_HW, levels=[0.5], colors=colour, linewidths=0.5)
