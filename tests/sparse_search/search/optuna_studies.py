"""Studies for the tests of samplers and pruners.

Run as a script, this file goes on with the studies in a folder: another process, as after a restart.
"""

import sys
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from sparse_search.search.choices import (
    new_pruner,
    new_sampler,
    num_objectives,
    read_pruner,
    read_sampler,
)

OPTIONS = {"tpe": {"startup": 4}, "gp": {"startup": 6}, "cmaes": {"startup": 4, "population": 4},
           "nsga2": {"population": 4}}  # fmt: skip
PLANNED = 24


def of(name):
    """A sampler that leaves its start within a dozen trials."""
    return read_sampler({"name": name, **OPTIONS.get(name, {})})


def open_study(folder, choice, name="study", pruner=None):
    folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        directions=["maximize", "minimize"][: num_objectives(choice)],
        pruner=pruner,
        load_if_exists=True,
    )


def suggest(trial):
    """Values of a mixed space, partly conditional."""
    trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    trial.suggest_int("width", 8, 64, log=True)
    trial.suggest_int("depth", 1, 4)
    if trial.suggest_categorical("optimizer", ["sgd", "adam", "none"]) == "sgd":
        trial.suggest_float("momentum", 0.0, 0.99)
        trial.suggest_categorical("nesterov", [True, False])
    else:
        trial.suggest_float("beta", 0.5, 0.999)


def score(params):
    return 1 - 0.1 * abs(params["depth"] - 3) - abs(params.get("beta", 0.7) - 0.9) - params["lr"]


def ask(study, choice, constraints=None):
    known = len(study.get_trials(deepcopy=False))
    study.sampler = new_sampler(choice, seed=7, num_known=known, num_planned=PLANNED, constraints=constraints)
    return study.ask()


def tell(study, trial):
    """Every fourth trial is pruned, where that can be."""
    value = score(trial.params)
    if len(study.directions) == 2:
        study.tell(trial, [value, trial.params["width"] * trial.params["depth"]])
    elif trial.number % 4 == 3:
        trial.report(value - 0.1, 1)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)


def go_on(folder, name, count, restarts=False):
    """The values of the next trials of a study, one by one; the first two are starts that were enqueued."""
    choice, asked = of(name), []
    study = open_study(folder / name, choice)
    if not study.trials:
        shared = {"lr": 0.01, "width": 16, "depth": 2}
        study.enqueue_trial(shared | {"optimizer": "adam", "beta": 0.9})
        study.enqueue_trial(shared | {"optimizer": "sgd", "momentum": 0.9, "nesterov": True})
    for _ in range(count):
        study = open_study(folder / name, choice) if restarts else study
        trial = ask(study, choice)
        suggest(trial)
        asked.append(trial.params)
        tell(study, trial)
    return asked


def run(study, curve, count=1):
    """How far each new trial comes: the steps it reported, and whether it was stopped there."""
    ended = []
    for _ in range(count):
        trial = study.ask()
        for step in (1, 3, 9, 27):
            trial.report(curve(trial.number, step), step)
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                ended.append(step)
                break
        else:
            study.tell(trial, curve(trial.number, 27))
            ended.append(None)
    return ended


def pruned_study(folder, given, name="study"):
    return open_study(folder, read_sampler("random"), name, new_pruner(read_pruner(given), num_rungs=4))


if __name__ == "__main__":
    for sampler in sys.argv[2:]:
        go_on(Path(sys.argv[1]), sampler, 6)
    sys.exit()
