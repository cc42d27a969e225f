"""Rankings that differ in a condition are told apart by their headings."""

import pytest

from sparse_search.analysis.formats import to_latex, to_markdown
from sparse_search.analysis.leaderboard import board, rankings
from sparse_search.cli.printing import _overview_table, _ranking_table
from sparse_search.pages.page import report
from sparse_search.results.headings import words_apart
from sparse_search.results.trials import shots_text

APART = [
    ("images", 540, "trained on 200 images", "trained on 540 images"),
    ("images", 16_200, "trained on 200 images", "trained on 16,200 images"),
    ("precision", "bf16", "mixed precision no", "mixed precision bf16"),
    ("seed", 3, "seed 0", "seed 3"),
    ("accumulate", 4, "1 batches a step", "4 batches a step"),
    ("evaluate_every", 50, "evaluated every 100 images", "evaluated every 50 images"),
]


@pytest.mark.parametrize(("name", "value", "first", "second"), APART)
def test_scores_of_different_worth_have_rankings_and_headings_of_their_own(
    store, make_record, name, value, first, second
):
    store.write(make_record(0))
    store.write(make_record(1, lr=2e-3, **{name: value}))
    found = board(store)
    shared = [each for each, _ in rankings(found.ranked)]
    assert found.ranked["rank"].to_pylist() == [1, 1]
    assert {words for one in shared for words in words_apart(one, shared)} == {first, second}


@pytest.mark.parametrize(("name", "value"), [("processor", "gpu"), ("threads", 8), ("processes", 2), ("compile", True)])
def test_what_changes_last_digits_only_shares_a_ranking(store, make_record, name, value):
    store.write(make_record(0))
    store.write(make_record(1, lr=2e-3, **{name: value}))
    assert board(store, every=True).ranked["rank"].to_pylist() == [1, 2]


def test_every_place_that_names_a_ranking_says_what_differs(store, make_record, tmp_path):
    store.write(make_record(0))
    store.write(make_record(1, lr=2e-3, images=1620, precision="bf16"))
    found = board(store)
    ranked = list(rankings(found.ranked))
    texts = [
        _ranking_table(shared, rows, found, "accuracy", words_apart(shared, [other for other, _ in ranked])).title
        for shared, rows in ranked
    ]
    assert [" · trained on 200 images · " in texts[0], " · trained on 1,620 images · " in texts[1]] == [True, True]
    overview = _overview_table(found.ranked, "accuracy")
    (under,) = (column for column in overview.columns if column.header == "under")
    assert list(under.cells) == [
        f"trained on {n} images, mixed precision {p}" for n, p in (("200", "no"), ("1,620", "bf16"))
    ]
    page = report(store.folder, tmp_path / "page.html").read_text()
    for text in (page, to_latex(found.ranked).decode()):
        assert "trained on 200 images" in text
        assert "mixed precision bf16" in text
    assert "trained on 1,620 images" in to_markdown(found.ranked).decode().replace("\\", "")


def test_one_ranking_needs_no_words(store, make_record):
    store.write(make_record(0))
    ((shared, _),) = rankings(board(store).ranked)
    assert words_apart(shared, [shared]) == []


@pytest.mark.parametrize(
    ("shots", "in_all", "words"),
    [(5, False, "5 shots"), (12, True, "12 labelled images"), (0, False, "all labels"), (0, True, "all labels")],
)
def test_how_many_are_labelled_in_words(shots, in_all, words):
    assert shots_text({"shots": shots, "shots_in_all": in_all}) == words
