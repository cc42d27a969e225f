"""Averages on the page of all results."""

import re

import pytest

from sparse_search.analysis.leaderboard import board
from sparse_search.pages.page import report
from tests.sparse_search.kept import fill

SKILLS = {"supervised": (0.9, 1.0, 1.1, 0.8), "probe": (0.9, 0.7)}


@pytest.fixture
def page(store, tmp_path):
    fill(store, skills=SKILLS, num_images=40)
    return report(store.folder, tmp_path / "report.html").read_text()


def test_averages_are_lines_of_the_leaderboard_with_the_ranks_that_they_have(page, store):
    ranked = board(store, every=True).ranked.to_pylist()
    shown = re.findall(r'<tr[^>]*>\n<td data-value="(\d+)">\d+</td>\n<td[^>]*>(\w+) <code>(\w+)</code>', page)
    assert [(int(rank), name, digits) for rank, name, digits in shown] == [
        (row["rank"], row["predictor"], row["config_id"][:6]) for row in ranked
    ]
    assert '<span class="start">third of 6</span>' in page


def test_what_each_method_adds_and_whether_it_was_worth_it(page):
    table = page[page.index("what a method adds") :]
    assert re.findall(r'<td class="text">(supervised|probe)</td><td>(\d)</td>', table[: table.index("</table>")])
    assert "Was the search worth it?" in page
    assert "6 tried: choosing the best is worth" in page
    assert "best of n" in page


def test_without_predictions_the_page_is_as_before(store, make_record, tmp_path):
    for number in range(5):
        store.write(make_record(number))
    page = report(store.folder, tmp_path / "report.html").read_text()
    assert "what a method adds" not in page
    assert "Was the search worth it?" not in page
