"""Weights of a sweep's finished runs: which are kept while it goes on, and which are removed.

Kept is what may belong to the best third in the end, of its study or of all studies of its data set and label budget,
which are averaged together: of 30 configurations planned the ten best so far, so that none is removed that comes back.
Best is by the class-balanced Brier score, as averages choose, and by the objective where there is none. Beyond the
limit the worst go first. Weights are an extra: a disk or storage that refuses is told of in the log, and ends nothing.
"""

import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial

from sparse_search.results.store import Store
from sparse_search.results.weights import all_weights, remove_weights, some_weights, weights_name
from sparse_search.search.journal import StudyJournal
from sparse_search.search.outcomes import BALANCED_BRIER, original_number
from trainables.training.run import runs_of_trial

log = logging.getLogger(__name__)


class _Candidate(NamedTuple):
    """A trial that was trained to its end."""

    study: str
    number: int


@dataclass
class WeightsKept:
    """Weights of the runs of a sweep."""

    store: Store
    journals: Sequence[StudyJournal]
    share: str
    """Which are kept: `third` or `all`."""

    max_bytes: float
    _sizes: dict[str, int] = field(default_factory=dict)
    _runs: dict[_Candidate, frozenset[str]] = field(default_factory=dict)

    def look(self) -> None:
        """See what is there, and tidy: also what a driver has left that was killed."""
        try:
            self._sizes = all_weights(self.store)
        except OSError as problem:
            log.warning("weights were not looked for: %s", problem)
        self.tidy()

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take note of runs that have ended, given their records, and tidy."""
        try:
            self._sizes |= some_weights(self.store, {weights_name(record) for record in records})
        except OSError as problem:
            log.warning("weights were not looked for: %s", problem)
        self.tidy()

    def tidy(self) -> None:
        """Remove the weights of this sweep's runs that are not to be kept."""
        if not self._sizes:
            return
        ended = {each for journal in self.journals for each in self._ended(journal)}
        own = {run_id for each in ended for run_id in self._runs[each]}
        kept = {run_id for each in self._within_limit() for run_id in self._runs[each]}
        gone = [name for name in self._sizes if _run_id(name) in own and not (_run_id(name) in kept and _whole(name))]
        try:
            remove_weights(self.store, gone)
        except OSError as problem:  # the next time, or the next start, tries again
            log.warning("weights were not removed: %s", problem)
            return
        for name in gone:
            del self._sizes[name]

    def _ended(self, journal: StudyJournal) -> Iterator[_Candidate]:
        """Yield the trials that need no more work, their runs known."""
        for frozen in journal.ended():
            candidate = _Candidate(journal.study.name, frozen.number)
            if candidate not in self._runs:
                trial = journal.study.trial(journal.config_of(frozen), original_number(frozen))
                runs = (run.run_id(journal.study.facts.content_hash) for run in runs_of_trial(trial))
                self._runs[candidate] = frozenset(runs)
            yield candidate

    def _within_limit(self) -> list[_Candidate]:
        """Return whose weights are kept, the best first, as many as the limit allows."""
        bytes_of = defaultdict[str, int](int)
        for name, size in self._sizes.items():
            bytes_of[_run_id(name)] += size
        kept, total = list[_Candidate](), 0
        for candidate in self._in_share():
            total += sum(bytes_of[run_id] for run_id in self._runs[candidate])
            if total > self.max_bytes:
                break
            kept.append(candidate)
        return kept

    def _in_share(self) -> list[_Candidate]:
        """Return who may belong to the best, the best first: by the better of its places in its groups."""
        places: dict[_Candidate, float] = {}
        for group in self._groups():
            ranked, size = _ranked(group)
            for place, candidate in enumerate(ranked[: ceil(size / 3) if self.share == "third" else len(ranked)]):
                places[candidate] = min(places.get(candidate, 1.0), place / size)
        return sorted(places, key=lambda candidate: (places[candidate], candidate))

    def _groups(self) -> list[list[StudyJournal]]:
        """Return what is ranked together: each study, and the searches that are averaged together."""
        together: dict[tuple[str, int], list[StudyJournal]] = defaultdict(list)
        for journal in self.journals:
            if not journal.study.confirmation:
                together[journal.study.dataset, journal.study.shots].append(journal)
        pools = [pool for pool in together.values() if len(pool) > 1]
        return [*([journal] for journal in self.journals), *pools]


def _ranked(group: Sequence[StudyJournal]) -> tuple[list[_Candidate], int]:
    """Return the complete trials of studies, the best first, and how many there may be in the end."""
    found = [(journal, frozen) for journal in group for frozen in journal.best(sys.maxsize)]
    briers = [_brier(frozen) for _, frozen in found]
    if None in briers and len(group) > 1:
        return [], 1  # objectives of several studies do not compare
    by_brier = None not in briers
    keys = [brier if by_brier else -frozen.values[0] for brier, (_, frozen) in zip(briers, found, strict=True)]
    names = [_Candidate(journal.study.name, frozen.number) for journal, frozen in found]
    statuses = [journal.status() for journal in group]
    size = sum(status.complete if status.is_over else max(status.planned, status.complete) for status in statuses)
    return [name for _, name in sorted(zip(keys, names, strict=True))], max(size, 1)


def _brier(frozen: FrozenTrial) -> float | None:
    score = frozen.user_attrs.get(BALANCED_BRIER)
    return None if score is None else float(score)


def _run_id(name: str) -> str:
    return PurePosixPath(name).parent.name


def _whole(name: str) -> bool:
    """Return False for what a kill left half written."""
    return not PurePosixPath(name).name.startswith(".")
