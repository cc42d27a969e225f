"""Figures of the report as SVG text: plain values in, markup out; nothing is kept, no window is opened.

Colours are written as CSS variables (`--ink`, `--muted`, `--line`, `--series-0` …), so that the page decides on light
or dark; text stays text and takes the page's typeface. The same values give the same markup.
Series colours are those of Okabe & Ito (jfly.uni-koeln.de/color), which the colour-blind tell apart.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from io import StringIO
from typing import Any, ParamSpec

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_search.analysis.significance import CriticalDifference

P = ParamSpec("P")
NUM_SERIES = 6
_INK, _MUTED, _LINE = "#010203", "#040506", "#070809"
_SERIES = tuple(f"#0a0b{index:02x}" for index in range(NUM_SERIES))
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _LINE: "--line"} | {
    colour: f"--series-{index}" for index, colour in enumerate(_SERIES)
}
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "sparse-search", "text.parse_math": False, "path.simplify": False,
    "font.family": "DejaVu Sans", "font.size": 8.5, "axes.titlesize": 9, "axes.titlelocation": "left",
    "xtick.labelsize": 8, "ytick.labelsize": 8,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "text.color": _INK, "axes.labelcolor": _MUTED, "axes.edgecolor": _LINE, "xtick.color": _LINE, "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED, "ytick.labelcolor": _MUTED, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": _LINE, "grid.linewidth": 0.7, "axes.axisbelow": True, "xtick.major.size": 0,
    "ytick.major.size": 0, "legend.frameon": False, "legend.handlelength": 1.6, "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round", "lines.dash_capstyle": "round", "axes.formatter.limits": (-4, 6),
}  # fmt: skip
_WIDTH, _HEIGHT = 4.8, 3.0
"""Size of a panel, in inches of 72 units: about the width of a phone, where one unit is one pixel."""


@dataclass(frozen=True)
class Line:
    """A curve of a figure."""

    label: str
    series: int
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    faint: Sequence[tuple[Sequence[float], Sequence[float]]] = ()
    """Its parts, drawn thin behind it."""


@dataclass(frozen=True)
class Axis:
    """One axis of parallel coordinates."""

    name: str
    values: Sequence[float | str | bool | None]
    """One per configuration; None where the setting has no effect."""


def _as_svg(draw: Callable[P, tuple[Figure, str]]) -> Callable[P, Markup]:
    """Make markup of what a function draws with the words that describe it, under this module's style.

    Not for several threads at once: matplotlib's style is the process's while it draws.
    """

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Markup:
        with rc_context(_STYLE):
            figure, words = draw(*args, **kwargs)
            buffer = StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return _inline(buffer.getvalue(), words)

    return drawn


def _inline(svg: str, words: str) -> Markup:
    """An SVG file as part of a page: no prologue, no size, ids that are its own, variables for colours."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    box = svg.split('viewBox="', 1)[1].split('"', 1)[0]
    head = f'<svg viewBox="{box}" role="img" aria-label="{escape(words)}" style="--own-width: {box.split()[2]}px">'
    svg = head + svg[svg.index(">") + 1 :]
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"(font(?:-family)?: (?:[\d.]+px )?)'DejaVu Sans'", r"\1var(--sans)", svg)
    svg = re.sub(r' d="[^"]*"', lambda found: re.sub(r"(\.\d{2})\d+", r"\1", found[0]), svg)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]*)', svg))
    own = sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{own}{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{own}", svg)
    return Markup(re.sub(r"\s*\n\s*", "\n", svg).strip())  # matplotlib has escaped the texts


def _panel(rows: int = 1, height: float = _HEIGHT, **options: Any) -> tuple[Figure, list[Axes]]:
    figure = Figure((_WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, 1, squeeze=False, **options)[:, 0])


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 2 if max(map(len, labels)) < 30 else 1
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=8)


@_as_svg
def curves_figure(
    lines: Sequence[Line], *, x_label: str, y_label: str, limits: tuple[float, float] | None = None
) -> tuple[Figure, str]:
    """Curves over a common axis, such as scores during training."""
    figure, (axes,) = _panel()
    for line in lines:
        colour = _SERIES[line.series % NUM_SERIES]
        for x, y in line.faint:
            axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.3)
        axes.plot(line.x, line.y, color=colour, linestyle="--" if line.dashed else "-", label=line.label)
    axes.set(xlabel=x_label, ylabel=y_label)
    if limits:
        axes.set_ylim(*limits)
    _legend(figure, axes)
    return figure, f"{y_label} against {x_label}: {', '.join(line.label for line in lines)}"


@_as_svg
def best_so_far_figure(
    panels: Mapping[str, Sequence[Line]], dots: Mapping[str, Sequence[Line]], *, y_label: str
) -> tuple[Figure, str]:
    """Steps of the best score so far, a panel per kind of compute, with a dot for each trial."""
    figure, columns = _panel(len(panels), height=1.7 * len(panels) + 0.6, sharey=True)
    for axes, (x_label, lines) in zip(columns, panels.items(), strict=True):
        for line in dots[x_label]:
            colour = _SERIES[line.series % NUM_SERIES]
            axes.plot(line.x, line.y, "o", color=colour, markersize=2.6, alpha=0.35, markeredgewidth=0)
        for line in lines:
            colour = _SERIES[line.series % NUM_SERIES]
            axes.step(line.x, line.y, where="post", color=colour, label=line.label)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xlim(left=0)
    _legend(figure, columns[0])
    return figure, f"best {y_label} so far against {' and '.join(panels)}"


@_as_svg
def importance_figure(
    bars: Mapping[str, Sequence[tuple[str, float, bool]]], series: Mapping[str, int]
) -> tuple[Figure, str]:
    """Bars per method: (setting, share, whether it is clear); what is not clear is hollow."""
    num_bars = sum(map(len, bars.values()))
    figure = Figure((_WIDTH, 0.21 * num_bars + 0.55 * len(bars) + 0.2), layout="constrained")
    grid = figure.subplots(len(bars), 1, squeeze=False, height_ratios=list(map(len, bars.values())))
    for axes, (method, found) in zip(grid[:, 0], bars.items(), strict=True):
        colour = _SERIES[series[method] % NUM_SERIES]
        for position, (_, share, clear) in enumerate(found):
            fill = colour if clear else "none"
            axes.barh(position, share, 0.62, facecolor=fill, edgecolor=colour, linewidth=1.0 if not clear else 0)
            axes.text(share + 0.012, position, f"{100 * share:.0f} %", va="center", fontsize=7.5, color=_MUTED)
        axes.set_yticks(range(len(found)), [name for name, _, _ in found])
        axes.set(xlim=(0, 1.12), ylim=(len(found) - 0.5, -0.5), title=method)
        axes.tick_params(axis="y", labelcolor=_INK)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    return figure, f"importance of the settings of {', '.join(bars)}"


@_as_svg
def parallel_coordinates_figure(
    axes: Sequence[Axis], *, best: Sequence[int], default: int | None, series: int
) -> tuple[Figure, str]:
    """A line per configuration across one axis per setting; the best in colour, the default dashed."""
    figure = Figure((max(_WIDTH, 0.95 * len(axes) + 0.4), 3.1), layout="constrained")
    panel = figure.subplots()
    heights, ticks = zip(*(_heights(axis.values) for axis in axes), strict=True)
    for line in range(len(axes[0].values)):
        if line not in best and line != default:
            panel.plot([h[line] for h in heights], color=_MUTED, linewidth=0.8, alpha=0.35)
    if default is not None:
        panel.plot([h[default] for h in heights], color=_INK, linewidth=1.4, linestyle="--", label="default")
    for position, line in enumerate(reversed(best)):
        last = position == len(best) - 1
        label = "_" if not last else f"best {len(best)}" if len(best) > 1 else "best"
        width = 2.6 if last else 1.2
        panel.plot([h[line] for h in heights], color=_SERIES[series % NUM_SERIES], linewidth=width, label=label)
    for position, (axis, marks) in enumerate(zip(axes, ticks, strict=True)):
        panel.axvline(position, color=_LINE, linewidth=1.2, zorder=0)
        panel.text(position, 1.1, axis.name, ha="center", va="bottom", fontsize=8, rotation=0 if len(axes) < 9 else 12)
        for height, text in marks:
            panel.text(position + 0.04, height, text, fontsize=7, color=_MUTED, va="center")
    panel.set(ylim=(-0.2, 1.2), xlim=(-0.3, len(axes) - 0.45))
    panel.axis("off")
    _legend(figure, panel)
    return figure, f"configurations across {', '.join(axis.name for axis in axes)}"


def _heights(values: Sequence[float | str | bool | None]) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights of values on an axis from 0 to 1, and its marks; what has no effect lies below it."""
    from math import log

    known = [value for value in values if value is not None]
    marks = [(-0.14, "no effect")] if len(known) < len(values) else []
    numbers = [value for value in known if not isinstance(value, str | bool)]
    options = sorted({value if isinstance(value, str) else f"{value:g}" for value in known}, key=_natural)
    if len(numbers) < len(known) or len(options) <= 3:
        at = {option: (0.5 if len(options) == 1 else n / (len(options) - 1)) for n, option in enumerate(options)}
        texts = [value if isinstance(value, str) or value is None else f"{value:g}" for value in values]
        return [-0.14 if text is None else at[text] for text in texts], [*marks, *((h, t) for t, h in at.items())]
    low, high = min(numbers), max(numbers)
    scale: Callable[[float], float] = log if low > 0 and high > 30 * low else float
    span = scale(high) - scale(low)
    heights = [-0.14 if v is None else (scale(v) - scale(low)) / span for v in values]  # type: ignore[arg-type]
    return heights, [*marks, (0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]


def _natural(option: str) -> tuple[int, float, str]:
    try:
        return 0, float(option), option
    except ValueError:
        return 1, 0.0, option


@_as_svg
def critical_difference_figure(found: CriticalDifference) -> tuple[Figure, str]:
    """Methods on the axis of their mean ranks, best left; a bar joins those that are not told apart.

    Source: Demšar, J. Mach. Learn. Res. 7 (2006) 1.
    """
    ordered, bars, critical_difference = found.methods, found.cliques, found.critical_difference
    mean_ranks = dict(zip(found.methods, found.mean_ranks, strict=True))
    half = (len(ordered) + 1) // 2
    bottom = -0.9 - 0.22 * len(bars) - 0.5 * half
    figure = Figure((_WIDTH * 1.25, 0.75 + 0.42 * -bottom), layout="constrained")
    axes = figure.subplots()
    low, high = 1.0, float(max(len(ordered), 2))
    axes.plot([low, high], [0, 0], color=_INK, linewidth=1.2)
    for tick in range(1, int(high) + 1):
        axes.plot([tick, tick], [0, 0.12], color=_INK, linewidth=1.2)
        axes.text(tick, 0.2, str(tick), ha="center", va="bottom", color=_MUTED)
    axes.plot([low, min(high, low + critical_difference)], [1.0, 1.0], color=_MUTED, linewidth=2.2)
    axes.text(low, 1.12, f"critical difference {critical_difference:.2f}", va="bottom", fontsize=8, color=_MUTED)
    margin = 0.08 * (high - low)
    for position, name in enumerate(ordered):
        left = position < half
        row = position if left else len(ordered) - 1 - position
        height, rank = -0.6 - 0.22 * len(bars) - 0.5 * row, mean_ranks[name]
        end = low - margin if left else high + margin
        axes.plot([rank, rank, end], [0, height, height], color=_SERIES[0], linewidth=1.0)
        side = "right" if left else "left"
        axes.text(end, height, f" {name}  {rank:.2f} ", ha=side, va="center")
    for position, bar in enumerate(bars):
        height = -0.3 - 0.22 * position
        ends = [mean_ranks[bar[0]] - 0.02, mean_ranks[bar[-1]] + 0.02]
        axes.plot(ends, [height, height], color=_SERIES[1], linewidth=3.5)
    axes.set(ylim=(bottom, 1.6), xlim=(low - 0.55 * (high - low), high + 0.55 * (high - low)))
    axes.axis("off")
    return figure, "mean ranks: " + ", ".join(f"{name} {mean_ranks[name]:.2f}" for name in ordered)
