"""Rules against plain formulations; averages that do not depend on who comes first."""

from math import exp, log, sqrt

import numpy as np
import pytest

from search_spaces.core.errors import ConfigError
from sparse_search.analysis import average_estimates
from sparse_search.analysis.average_estimates import Draws, draws
from sparse_search.analysis.averages import (
    GREEDY_STEPS,
    RULES,
    Candidates,
    rules_for,
    standing,
    weighted,
)
from sparse_search.analysis.estimate import chosen_scores
from sparse_search.analysis.weighted_scores import SharedPredictions
from sparse_search.analysis.worth import additions, worth
from trainables.metrics.averaging import weighted_mean
from trainables.metrics.classes import score


def some_candidates(num_members=7, num_images=12, num_classes=3, num_sets=2, seed=0, **changes):
    """Candidates that know something, each something else, on images of their own for each label set."""
    rng = np.random.default_rng(seed)
    labels_N = np.tile(np.arange(num_images) % num_classes, num_sets)
    skill_M1 = rng.uniform(0, 3, num_members)[:, None, None]
    logits_MNK = rng.normal(size=(num_members, len(labels_N), num_classes)) + skill_M1 * np.eye(num_classes)[labels_N]
    probs_MNK = np.exp(logits_MNK) / np.exp(logits_MNK).sum(2, keepdims=True)
    run_N = np.repeat(np.arange(num_sets), num_images)
    return Candidates(
        tuple(f"m{number:03}" for number in range(num_members)),
        shared(changes.pop("probs_MNK", probs_MNK), labels_N, run_N, **changes),
        "argmax" if "pool_means_CRK" not in changes else "pool",
    )


def shared(probs_MNK, labels_N, runs_N, **changes):
    values = {
        "probs_CNK": probs_MNK, "named_CN": probs_MNK.argmax(2), "labels_N": labels_N, "runs_N": runs_N,
        "images_N": np.arange(len(labels_N)),
    }  # fmt: skip
    return SharedPredictions(**values | changes)


def plain_mean(candidates, value_of, only=None):
    """Mean over classes of the mean over their images."""
    by_class = []
    for label in range(candidates.num_classes):
        own = [
            value_of(n)
            for n in range(len(candidates.labels_N))
            if candidates.labels_N[n] == label
            for _ in range(1 if only is None else int(only[n]))
        ]
        if own:
            by_class.append(sum(own) / len(own))
    return sum(by_class) / len(by_class)


def plain_brier(candidates, probs_NK, only=None):
    def distance(n):
        truth = [float(k == candidates.labels_N[n]) for k in range(candidates.num_classes)]
        return sum((probs_NK[n, k] - truth[k]) ** 2 for k in range(candidates.num_classes))

    return plain_mean(candidates, distance, only)


def plain_log(candidates, probs_NK, only=None):
    return plain_mean(candidates, lambda n: log(min(max(probs_NK[n, candidates.labels_N[n]], 1e-4), 1.0)), only)


def weights_of(candidates, rule):
    found = weighted(candidates, rule)
    weights = np.zeros(len(candidates.names))
    weights[list(found.members)] = found.weights
    return weights


def test_scores_that_judge_are_means_over_classes_of_what_was_drawn():
    candidates = some_candidates()
    drawn_N = np.random.default_rng(1).integers(0, 3, len(candidates.labels_N)).astype(float)
    drawn_N[candidates.labels_N == 1] = 0  # a class that a draw lacks
    for times_N in (np.ones(len(drawn_N)), drawn_N):
        among = standing(candidates, times_N[None])
        for m, probs_NK in enumerate(candidates.probs_MNK):
            assert among.brier_BM[0, m] == pytest.approx(plain_brier(candidates, probs_NK, times_N), rel=1e-13)
            assert among.log_BM[0, m] == pytest.approx(plain_log(candidates, probs_NK, times_N), rel=1e-13)


@pytest.mark.parametrize(("num_members", "counted"), [(1, 1), (2, 1), (3, 1), (5, 1), (6, 2), (24, 8)])
def test_the_best_third_by_the_brier_score_alike(num_members, counted):
    candidates = some_candidates(num_members)
    briers = [plain_brier(candidates, probs_NK) for probs_NK in candidates.probs_MNK]
    best = sorted(range(num_members), key=briers.__getitem__)[:counted]
    assert weights_of(candidates, "third").tolist() == [1 / counted if m in best else 0 for m in range(num_members)]
    assert weights_of(candidates, "uniform").tolist() == [1 / num_members] * num_members


def test_tempered_weights():
    sure = some_candidates(9)
    sure.probs_MNK[0, 0] = np.eye(3)[(sure.labels_N[0] + 1) % 3]  # sure, and wrong: clipped
    raw = [exp(sqrt(24) * plain_log(sure, probs_NK)) for probs_NK in sure.probs_MNK]
    kept = [each if each / sum(raw) >= 0.01 else 0.0 for each in raw]
    assert 0 < kept.count(0.0) < 8
    np.testing.assert_allclose(weights_of(sure, "tempered"), np.array(kept) / sum(kept), rtol=1e-11)


def test_of_more_than_a_hundred_members_some_are_left():
    candidates = some_candidates(400)
    weights_M = weights_of(candidates, "tempered")
    raw_M = np.exp(sqrt(24) * np.array([plain_log(candidates, probs_NK) for probs_NK in candidates.probs_MNK]))
    assert ((weights_M > 0) == (raw_M / raw_M.sum() >= 1 / 400)).all()
    assert weights_M.sum() == pytest.approx(1)


def test_greedy_selection_takes_what_lowers_the_brier_score_of_the_average_most():
    candidates = some_candidates(6)
    chosen, path = [], []
    for _ in range(GREEDY_STEPS):
        tried = [
            plain_brier(candidates, np.mean([candidates.probs_MNK[each] for each in [*chosen, m]], 0)) for m in range(6)
        ]
        chosen.append(int(np.argmin(tried)))
        path.append(min(tried))
    best = chosen[: int(np.argmin(path)) + 1]
    np.testing.assert_allclose(weights_of(candidates, "greedy"), [best.count(m) / len(best) for m in range(6)])


def test_greedy_selection_waits_for_many_images():
    assert "greedy" not in rules_for(some_candidates())
    assert "greedy" in rules_for(some_candidates(3, num_images=150))
    twice = some_candidates(3, num_images=150, images_N=np.tile(np.arange(150), 2))
    assert (twice.predictions.num_images, "greedy" in rules_for(twice)) == (150, False)


@pytest.mark.parametrize("rule", RULES)
def test_an_average_of_one_is_that_one_to_the_last_digit(rule):
    candidates = some_candidates(1)
    found = weighted(candidates, rule)
    assert (found.members, found.weights, found.num_candidates) == ((0,), (1.0,), 1)


@pytest.mark.parametrize("rule", RULES)
def test_equals_are_weighed_alike_whatever_their_number(rule):
    one = some_candidates(1).probs_MNK
    candidates = some_candidates(12, probs_MNK=np.repeat(one, 12, 0))
    found = weighted(candidates, rule)
    mean_NK = weighted_mean(candidates.probs_MNK[list(found.members)], found.weights)
    np.testing.assert_allclose(mean_NK, one[0], rtol=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_names_are_in_order_and_a_member_set_aside_changes_the_name(rule):
    candidates = some_candidates(5)
    with pytest.raises(ValueError, match="ascending"):
        Candidates(("m1", "m0"), some_candidates(2).predictions)
    whole = weighted(candidates, rule)
    ids = {weighted(candidates, each).average_id for each in RULES}
    assert len(ids) == len(RULES)
    for left_out in range(5):
        there_M = np.arange(5) != left_out
        smaller = weighted(candidates, rule, there_M)
        assert smaller.average_id != whole.average_id
        assert left_out not in smaller.members
        assert smaller.num_candidates == 4


def test_an_unknown_rule():
    with pytest.raises(ConfigError, match=r"rule 'thrid' is unknown; did you mean 'third'"):
        weighted(some_candidates(), "thrid")


def test_a_class_of_one_image_cannot_be_drawn_and_left_out():
    assert draws(some_candidates(2, num_images=5, num_sets=1), "accuracy") is None


@pytest.mark.parametrize("metric", ["balanced_accuracy", "accuracy", "macro_f1", "auroc", "log_loss"])
def test_what_is_left_out_is_scored_as_everywhere_else(metric):
    candidates = some_candidates(5)
    drawn = draws(candidates, metric, 20)
    assert len(drawn.times_BN) == (4 if metric == "auroc" else 20), "sorting takes long"
    weights_BM, found_B = RULES["tempered"](standing(candidates, drawn.times_BN)), drawn.by_rule("tempered")
    for b in range(len(found_B)):
        probs_NK = np.einsum("m,mnk->nk", weights_BM[b], candidates.probs_MNK)
        left_N = drawn.times_BN[b] == 0
        runs_N = candidates.predictions.runs_N
        parts = [left_N & (runs_N == run) for run in (0, 1)] if metric == "auroc" else [left_N]
        each = [score(probs_NK[part_N], candidates.labels_N[part_N]).metric(metric) for part_N in parts]
        known = [value for value in each if value is not None]
        assert found_B[b] == pytest.approx(sum(known) / len(known), rel=1e-12)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "balanced_brier"])
def test_draws_that_are_scored_part_by_part_are_scored_alike(monkeypatch, metric):
    whole = draws(some_candidates(5), metric, 20).by_rule("tempered")
    monkeypatch.setattr(average_estimates, "_MAX_NUMBERS", 3 * some_candidates(5).probs_MNK[0].size)
    assert draws(some_candidates(5), metric, 20).by_rule("tempered") == pytest.approx(whole, rel=1e-12)


def test_classes_named_by_what_is_above_the_pool():
    pool_MRK = np.random.default_rng(5).dirichlet([1, 1, 1], (3, 2))
    candidates = some_candidates(3, pool_means_CRK=pool_MRK)
    drawn = draws(candidates, "accuracy", 5)
    probs_NK, pool_RK = candidates.probs_MNK.mean(0), pool_MRK.mean(0)
    right_N = (probs_NK / pool_RK[candidates.predictions.runs_N]).argmax(1) == candidates.labels_N
    for b, found in enumerate(drawn.by_rule("uniform")):
        assert found == pytest.approx(right_N[drawn.times_BN[b] == 0].mean())


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auroc", "balanced_brier"])
def test_the_best_one_is_chosen_by_what_was_drawn(metric):
    candidates = some_candidates(8)
    drawn = draws(candidates, metric, 30)
    assert drawn.by_choice() == pytest.approx(chosen_scores(candidates.predictions, drawn.times_BN, metric))
    only_two = np.arange(8) < 2
    some = Candidates(candidates.names[:2], candidates.predictions.take(np.arange(2)))
    assert drawn.by_choice(only_two[None]) == pytest.approx(Draws(some, metric, drawn.times_BN).by_choice())
    alone = Candidates(candidates.names[3:4], candidates.predictions.take(np.array([3])))
    assert drawn.of(3) == pytest.approx(Draws(alone, metric, drawn.times_BN).by_rule("third"))


def noise(num_members, num_images=20, seed=0):
    """Candidates that know nothing: the best of them is luck."""
    rng = np.random.default_rng(seed)
    probs_MNK = rng.dirichlet([1, 1], (num_members, num_images))
    labels_N = np.arange(num_images) % 2
    zeros_N = np.zeros(num_images, np.int64)
    names = tuple(f"m{number:03}" for number in range(num_members))
    return Candidates(names, shared(probs_MNK, labels_N, zeros_N))


def test_luck_is_not_expected_again():
    chosen, honest = [], []
    for seed in range(30):
        candidates = noise(64, seed=seed)
        scores = [score(probs_NK, candidates.labels_N) for probs_NK in candidates.probs_MNK]
        chosen.append(max(each.metric("balanced_accuracy") for each in scores))
        drawn = draws(candidates, "balanced_accuracy", 100)
        honest.append(drawn.expect(drawn.by_choice()).score)
    assert np.mean(chosen) > 0.7
    assert np.mean(honest) == pytest.approx(0.5, abs=0.04)


def test_what_a_method_adds():
    useless = noise(6, 60, seed=4)
    labels_N = np.arange(60) % 2
    logits = np.random.default_rng(0).normal(size=(6, 60, 2)) + 0.7 * np.eye(2)[labels_N]
    probs_MNK = np.concatenate([np.exp(logits) / np.exp(logits).sum(2, keepdims=True), useless.probs_MNK])
    names = tuple(f"m{number:02}" for number in range(12))
    drawn = draws(Candidates(names, shared(probs_MNK, labels_N, np.zeros(60, int))), "balanced_accuracy")
    found = additions(drawn, ("good",) * 6 + ("useless",) * 6, "uniform")
    assert [(each.method, each.num_members) for each in found] == [("good", 6), ("useless", 6)]
    assert found[0].gain.low > 0 > found[1].gain.score
    assert found[0].without.score == pytest.approx(found[1].alone.score)
    assert additions(drawn, ("one",) * 12, "third") == []


def test_a_search_among_different_good_ones_is_worth_more_averaged():
    candidates = some_candidates(24, num_images=30, num_sets=1)
    found = worth(draws(candidates, "balanced_accuracy", 200), "third")
    assert found.sizes == (1, 2, 4, 8, 16, 24)
    assert found.best[0] == found.average[0]
    assert found.average[-1].score > found.best[-1].score > found.best[0].score
    assert found.from_averaging.score == pytest.approx(found.average[-1].score - found.best[-1].score)
    assert found.from_search.score == pytest.approx(found.best[-1].score - found.best[0].score)
    assert found.risen_until in found.sizes


@pytest.mark.parametrize("rule", ["third", "tempered"])
def test_what_is_expected_of_an_average_is_what_new_images_say(rule):
    """Twenty images judge 16 configurations that share a part of their mistakes; 1,000 others tell the truth."""
    excess, held = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels_N = np.arange(1020) % 2
        shared_NK, skill_M11 = rng.normal(size=(1020, 2)), rng.uniform(0, 1.6, (16, 1, 1))
        logits_MNK = 0.9 * shared_NK + rng.normal(size=(16, 1020, 2)) + skill_M11 * np.eye(2)[labels_N]
        probs_MNK = np.exp(logits_MNK) / np.exp(logits_MNK).sum(2, keepdims=True)
        names = tuple(f"m{number:02}" for number in range(16))
        candidates = Candidates(names, shared(probs_MNK[:, :20], labels_N[:20], np.zeros(20, int)))
        made = weighted(candidates, rule)
        mean_NK = weighted_mean(probs_MNK[list(made.members), 20:], made.weights)
        truth = score(mean_NK, labels_N[20:]).metric("balanced_accuracy")
        drawn = draws(candidates, "balanced_accuracy", 100)
        found = drawn.expect(drawn.by_rule(rule))
        excess.append(found.score - truth)
        held.append(found.low <= truth <= found.high)
    assert np.mean(excess) == pytest.approx(0, abs=0.02)
    assert np.mean(held) >= 0.92
