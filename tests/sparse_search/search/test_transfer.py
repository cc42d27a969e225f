"""What did well elsewhere is tried first."""

import numpy as np
import pytest
from scipy.stats import rankdata

import sparse_search.search.transfer as transfer_module
from search_spaces.core.config import write_config
from search_spaces.core.errors import ResultsError
from search_spaces.supervised import SupervisedConfig
from sparse_search.search.journal import StudyJournal
from sparse_search.search.journal_file import Journal
from sparse_search.search.transfer import portfolio_for, transfer
from trainables.core.conditions import PROTOCOL

from ..conftest import TINY, studies_of


def confusion(hits):
    return ((hits, 10 - hits), (10 - hits, hits))


@pytest.fixture
def fill(store, make_record):
    """A maker of a place: learning rates, the best one first."""

    def place(dataset, rates, shots=5, **changes):
        for number, lr in enumerate(rates):
            config = write_config(SupervisedConfig(lr=lr, image_size=32))
            store.write(
                make_record(number, config=config, **{
                    "confusion": confusion(10 - number), "dataset": dataset, "content_hash": dataset, "shots": shots,
                    "protocol": PROTOCOL, "record_id": f"{number:04x}{shots:04x}{dataset}",
                    "run_id": f"{dataset}{number}{shots}", "trial_id": f"{dataset}{number}{shots}",
                    "start": "default" if lr == 1e-3 else "", **changes,
                })
            )  # fmt: skip
        return store.folder

    return place


LOW = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
HIGH = tuple(reversed(LOW))


def rates(portfolio):
    return [config.lr for config in portfolio.configs]


def test_what_is_best_in_most_places_comes_first_then_what_the_others_lack(fill):
    fill("a", LOW)
    fill("b", LOW)
    results = fill("c", HIGH)
    found = transfer(results, "supervised", size=2)
    assert rates(found) == [1e-4, 5e-3]
    assert set(found.settings) == {"a, 5 shots", "b, 5 shots", "c, 5 shots"}
    alone = transfer(results, "supervised", size=1, apart_from=("a", 5))
    assert len(alone.settings) == 2


def test_what_it_is_worth_is_told_by_leaving_each_place_out(fill):
    fill("a", LOW)
    fill("b", LOW)
    found = {place.title: place for place in transfer(fill("c", HIGH), "supervised", size=1).left_out}
    assert found["a, 5 shots"].portfolio == pytest.approx(1.0)  # b says so, and c has nothing better
    assert found["c, 5 shots"].portfolio == 0.0
    assert found["c, 5 shots"].default == pytest.approx(3 / 5)
    assert found["c, 5 shots"].random == pytest.approx(0.5)
    two = {place.title: place for place in transfer(fill("c", HIGH), "supervised", size=2).left_out}
    facts = [max(a, b) / 5 for a in range(6) for b in range(6)]
    assert two["c, 5 shots"].random == pytest.approx(sum(facts) / len(facts))


def test_r7_what_a_portfolio_is_worth_is_told_as_it_is(store, monkeypatch):
    """Ranks of configurations that were not trained there, by the formula behind the noisy ones that were."""
    rng, told, true = np.random.default_rng(0), [], []
    for _ in range(3):
        places = [place(rng) for _ in range(2)]
        monkeypatch.setattr(transfer_module, "settings_of", lambda *_, found=places: found)
        found = transfer(store.folder, "supervised", size=3).left_out
        for here, elsewhere, result in zip(places, places[::-1], found, strict=True):
            best = max(map(quality, transfer_module._greedy([elsewhere], 3)))
            true.append(np.mean([quality(config) < best for config in here.configs]))
            told.append(result.portfolio)
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.1)


def place(rng, count=24):
    draws = zip(10 ** rng.uniform(-4.5, -1.8, count), *rng.uniform(0, 0.5, (2, count)), strict=True)
    configs = tuple(
        SupervisedConfig(lr=float(lr), dropout=float(d), mixup_alpha=float(m), image_size=32) for lr, d, m in draws
    )
    scores = np.array([quality(config) for config in configs]) + rng.normal(0, 0.1, count)
    return transfer_module.Setting("a", "a", 5, configs, (rankdata(scores) - 1) / (count - 1), None)


def quality(config):
    return -((np.log10(config.lr) + 3) ** 2) - 4 * (config.dropout - 0.2) ** 2


def test_budgets_are_not_mixed(fill):
    fill("a", LOW)
    for number, lr in enumerate(HIGH):  # the same data for longer, where the others are better
        again = {"record_id": f"{number:04x}longer", "run_id": f"longer{number}", "trial_id": f"longer{number}"}
        results = fill("a", (lr,), images=5000, confusion=confusion(10 - number), **again)
    found = transfer(results, "supervised", size=2)
    assert set(found.settings) == {"a, 5 shots, trained on 200 images", "a, 5 shots, trained on 5,000 images"}
    assert set(rates(found)) == {1e-4, 5e-3}


def test_one_place_or_none(fill):
    assert transfer(fill("a", LOW), "supervised").left_out == ()
    with pytest.raises(ResultsError, match="5 complete trials of supervised"):
        transfer(fill("a", LOW), "supervised", apart_from=("a", 5))


def test_a_new_search_tries_it_behind_the_default_once(fill, store, tiny, tmp_path):
    fill("elsewhere", LOW)
    (study, *_) = studies_of(tiny(transfer=2, shots=[5]), content_hash="here")

    def begin():
        journal = StudyJournal(study, Journal(tmp_path / "journal.log"))
        journal.propose_starts()
        if not journal.has_transferred:
            journal.propose_from_elsewhere(portfolio_for(study, store))
        return journal

    begin()
    journal = begin()
    asked = [journal.ask()[1].config for _ in range(TINY["methods"]["supervised"]["trials"])]
    first = 1 + len(SupervisedConfig.presets)
    assert [config.lr for config in asked].index(1e-4) == first
    assert asked[first].classifier == "test_resnet"  # what is not searched stays the study's


def test_a_plan_without_room_takes_none(fill, store, tiny, tmp_path):
    fill("elsewhere", LOW)
    (study, *_) = studies_of(tiny(transfer=2, shots=[5]), content_hash="here")
    journal = StudyJournal(study, Journal(tmp_path / "journal.log"))
    journal.propose_starts()
    assert journal.propose_from_elsewhere(portfolio_for(study, store) * 9) == study.plan.trials - len(study.plan.starts)
