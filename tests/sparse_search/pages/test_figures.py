import re
from copy import deepcopy
from xml.etree import ElementTree

import matplotlib
import pytest

from sparse_search.analysis.significance import CriticalDifference
from sparse_search.pages.figures import (
    Axis,
    Line,
    best_so_far_figure,
    critical_difference_figure,
    curves_figure,
    importance_figure,
    parallel_coordinates_figure,
)

LINES = [Line("<b>best</b> & $x$", 0, [0, 1, 2], [0.5, 0.7, 0.6], faint=[([0, 1], [0.4, 0.6])]), Line("b", 7, [0], [1])]


def draw_curves():
    return curves_figure(LINES, x_label="images", y_label="score")


def draw_search():
    panels = {"seconds": LINES, "images": LINES}
    return best_so_far_figure(panels, panels, y_label="score")


def draw_bars():
    return importance_figure(
        {"one": [("lr", 0.9, True), ("mu", 0.1, False)], "two": [("lr", 1.0, True)]}, {"one": 0, "two": 1}
    )


def draw_configurations():
    axes = [
        Axis("lr", [1e-4, 1e-3, 1e-2, None]),
        Axis("mode", ["a", "b", "b", "c"]),
        Axis("flip", [True, False, True, None]),
    ]
    return parallel_coordinates_figure(axes, best=[0], default=2, series=0)


def draw_differences():
    return critical_difference_figure(differences(("a", "b"), ("b", "c")))


def differences(*cliques):
    return CriticalDifference(
        methods=("a", "b", "c", "<d>"), mean_ranks=(1.0, 1.5, 2.4, 4.0), critical_difference=1.0, cliques=cliques,
        friedman_p_value=0.01, alpha=0.05, num_datasets=8,
    )  # fmt: skip


ALL = [draw_curves, draw_search, draw_bars, draw_configurations, draw_differences]


def parsed(svg):
    return ElementTree.fromstring(svg.replace("xlink:href", "href"))


@pytest.mark.parametrize("draw", ALL)
def test_every_figure_is_sound_markup_that_leaves_nothing_behind(draw):
    before = deepcopy(dict(matplotlib.rcParams))
    svg = draw()
    assert dict(matplotlib.rcParams) == before
    root = parsed(svg)
    assert root.get("aria-label")
    assert root.get("width") is None
    assert svg == draw()
    assert not re.findall(r"#(?:010203|040506|070809|0a0b)", svg)
    ids = re.findall(r' id="([^"]*)"', svg)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', svg)) == set(ids)


def test_text_stays_text():
    texts = ["".join(text.itertext()) for text in parsed(draw_curves()).iter("text")]
    assert "<b>best</b> & $x$" in texts
    assert {"images", "score"} <= set(texts)


def test_two_figures_of_a_page_share_no_name():
    one, other = (set(re.findall(r' id="([^"]*)"', draw())) for draw in (draw_curves, draw_search))
    assert one
    assert not one & other


def test_what_is_not_clear_is_hollow():
    assert draw_bars().count("fill: none; stroke: var(--series-0)") == 1


def test_a_setting_without_effect_has_a_place_of_its_own():
    assert draw_configurations().count("no effect</text>") == 2


def test_the_differences_figure_joins_what_is_not_told_apart():
    none, some = (critical_difference_figure(differences(*cliques)) for cliques in ((), (("a", "b"), ("b", "c"))))
    bars = [svg.count("stroke-width: 3.5") for svg in (none, some)]
    assert bars == [0, 2]
    assert "<d>" not in some
    assert "&lt;d&gt;" in some
