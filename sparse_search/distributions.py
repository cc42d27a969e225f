"""Search ranges asked of Optuna: the only place where the two meet."""

from typing import cast

from optuna.trial import Trial

from search_spaces.core.ranges import Choice, Float, Int, Range, Scalar


def suggest(trial: Trial, name: str, range_: Range) -> Scalar:
    """A value of the range, both ends included; the same one when asked again."""
    match range_:
        case Float(low, high, log):
            return trial.suggest_float(name, low, high, log=log)
        case Int(low, high, log):
            return trial.suggest_int(name, low, high, log=log)
        case Choice(options):
            return cast("Scalar", trial.suggest_categorical(name, options))
