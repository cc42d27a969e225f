import numpy as np
import optuna
from optuna.trial import TrialState

from tests.sparse_search.search.optuna_studies import pruned_study, run


def test_halving_keeps_the_best_third(tmp_path):
    study = pruned_study(tmp_path, {"name": "halving", "reduction": 3})
    assert run(study, lambda number, _: 0.7 + 0.1 * number, 3) == [None] * 3
    assert run(study, lambda *_: 0.1) == [1]
    assert run(study, lambda *_: 0.95) == [None]
    assert run(study, lambda _, step: 0.99 if step < 3 else 0.1) == [3]
    assert run(study, lambda _, step: 0.99 if step < 9 else 0.1) == [9]
    assert run(study, lambda _, step: 0.99 if step < 27 else 0.1) == [None]  # the last step is the end
    assert run(study, lambda _, step: float("nan")) == [1]


def test_halving_decides_the_same_after_a_restart_and_for_what_is_minimised(tmp_path):
    study = pruned_study(tmp_path, "halving")
    run(study, lambda *_: 0.5, 3)
    bad = study.ask()
    bad.report(0.1, 1)
    assert bad.should_prune()
    assert bad.should_prune()
    again = pruned_study(tmp_path, "halving")
    assert optuna.Trial(again, bad._trial_id).should_prune()
    least = optuna.create_study(pruner=study.pruner)
    run(least, lambda *_: 0.5, 3)
    assert run(least, lambda *_: 0.6) == [1]
    assert run(least, lambda *_: 0.4) == [None]


def test_halving_counts_no_failed_trial(tmp_path):
    study = pruned_study(tmp_path, "halving")
    for _ in range(3):
        trial = study.ask()
        trial.report(0.9, 1)
        study.tell(trial, state=TrialState.FAIL)
    assert run(study, lambda *_: 0.1) == [None]


def test_halving_decides_as_optuna_does(tmp_path):
    scores = np.random.default_rng(0).integers(10, size=(60, 28)) / 10
    ours = pruned_study(tmp_path, {"name": "halving", "reduction": 3})
    optunas = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    )
    ended = [run(study, lambda number, step: scores[number, step], 60) for study in (ours, optunas)]
    assert ended[0] == [None if step == 27 else step for step in ended[1]]  # Optuna also judges at the end
    assert set(ended[0]) == {1, 3, 9, None}
