"""The filtered leaky ReLU as it is defined, pixel by pixel, and as transposed and strided convolutions."""

from math import sqrt

import torch.nn.functional as F

from trainables.stylegan.alias_free import LIMIT
from trainables.stylegan.equalised import SLOPE


def bent(wide, slope, limit):
    return (F.leaky_relu(wide, slope) * sqrt(2)).clamp(-limit, limit)


def filtered(maps, filter_T, stride=1):
    """Each map under the filter along both axes, without padding."""
    channels, taps = maps.shape[1], filter_T.to(maps)
    columns = F.conv2d(maps, taps.view(1, 1, -1, 1).expand(channels, -1, -1, -1), stride=(stride, 1), groups=channels)
    return F.conv2d(columns, taps.view(1, 1, 1, -1).expand(channels, -1, -1, -1), stride=(1, stride), groups=channels)


def stuffed(maps, resampling, slope=SLOPE, limit=LIMIT):
    """Zeros between the pixels and around them, low pass, leaky ReLU, low pass, every n-th pixel."""
    up, down, (before, after) = resampling.up, resampling.down, resampling.padding
    filter_up, filter_down = resampling.filters()
    batch, channels, height, width = maps.shape
    wide = maps.new_zeros(batch, channels, height, up, width, up)
    wide[:, :, :, 0, :, 0] = maps
    wide = F.pad(wide.view(batch, channels, height * up, width * up), (before, after, before, after))
    return filtered(bent(filtered(wide, filter_up * up), slope, limit), filter_down)[:, :, ::down, ::down]


def transposed(maps, resampling):
    """A transposed convolution, cropped or padded, leaky ReLU, a strided convolution."""
    up, (before, after) = resampling.up, resampling.padding
    filter_up, filter_down = resampling.filters()
    channels, taps = maps.shape[1], (filter_up * up).to(maps)
    wide = F.conv_transpose2d(
        maps, taps.view(1, 1, -1, 1).expand(channels, -1, -1, -1), stride=(up, 1), groups=channels
    )
    wide = F.conv_transpose2d(
        wide, taps.view(1, 1, 1, -1).expand(channels, -1, -1, -1), stride=(1, up), groups=channels
    )
    first = before - len(taps) + 1
    last = maps.shape[-1] * up + before + after - len(taps) + 1 - wide.shape[-1] - first
    wide = F.pad(wide, (first, last, first, last))
    return filtered(bent(wide, SLOPE, LIMIT), filter_down, resampling.down)
