"""Tree-structured Parzen estimators over all parameters together; running trials count as bad.

Of a long study the model is made of an excerpt: the best trials, which is all that it takes for good, and of the
others an even share. An ask takes no longer then, however many trials are known.

Source: Bergstra et al., NeurIPS 2011; Watanabe, arXiv:2304.11127 (multivariate, groups, constant liar).
"""

from collections.abc import Container
from typing import Annotated, Any, cast, final

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search_spaces.core.ranges import Int
from sparse_search.search.judged import is_feasible
from sparse_search.search.outcomes import ascending_value
from sparse_search.search.sampler import Ask, Sampler, Startup, random_startup, startup_trials

MAX_MODELLED = 500
"""Finished trials that a model is made of."""

NUM_GOOD = 25
"""Trials that TPE takes for good at most: the tenth of 250."""


def excerpt(study: Study) -> list[FrozenTrial]:
    """Return the trials that a model is made of, in their order: all that are running, and `MAX_MODELLED` finished."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))
    finished = [frozen for frozen in trials if frozen.state.is_finished()]
    if len(finished) <= MAX_MODELLED:
        return trials
    finished.sort(key=lambda frozen: _rank(study, frozen))
    good, others = finished[:NUM_GOOD], sorted(finished[NUM_GOOD:], key=_number)
    count = MAX_MODELLED - NUM_GOOD
    share = [others[position * len(others) // count] for position in range(count)]
    running = [frozen for frozen in trials if not frozen.state.is_finished()]
    return sorted([*good, *share, *running], key=_number)


def _number(frozen: FrozenTrial) -> int:
    return frozen.number


def _rank(study: Study, frozen: FrozenTrial) -> tuple[float, ...]:
    """Return the place of a finished trial in TPE's order: complete, then as far as it came, then the infeasible."""
    step, value = max(frozen.intermediate_values.items(), default=(-1, None))
    is_pruned = frozen.state == TrialState.PRUNED
    return (not is_feasible(frozen), is_pruned, -step * is_pruned,
            -ascending_value(study, value if is_pruned else frozen.value))  # fmt: skip


class _Excerpt:
    """A study of fewer trials, as far as Optuna's sampler looks at one."""

    def __init__(self, study: Study) -> None:
        self._study, self._trials = study, excerpt(study)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [frozen for frozen in self._trials if states is None or frozen.state in states]


@final
class _BoundedTPESampler(TPESampler):
    """Optuna's sampler of one ask, which is shown an excerpt."""

    _shown: Study | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are sampled together."""
        return super().infer_relative_search_space(self._excerpt_of(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values of the parameters that are sampled together."""
        return super().sample_relative(self._excerpt_of(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of another parameter."""
        return super().sample_independent(self._excerpt_of(study), trial, param_name, param_distribution)

    def _excerpt_of(self, study: Study) -> Study:
        if self._shown is None:
            self._shown = cast(Study, _Excerpt(study))
        return self._shown


def build(ask: Ask, *, startup: Startup = "auto", candidates: Annotated[int, Int(1, 1000)] = 24) -> BaseSampler:
    """Make Optuna's sampler; of `candidates` draws from the good trials' density the most promising is proposed."""
    return _BoundedTPESampler(
        multivariate=True,
        group=True,
        constant_liar=True,
        n_startup_trials=startup_trials(startup, ask.num_planned),
        n_ei_candidates=candidates,
        seed=ask.seed,
        constraints_func=ask.constraints,
    )


SAMPLER = Sampler(build, num_startup=random_startup)
