"""SSGNet trained twice, in as many processes as there are: generators are made, then found."""

import json

from trainables.data.cache import cache_root
from trainables.testing.tasks import make_task

from .test_ssgnet import entries, run


def losses(progress):
    """Losses of every epoch, by epoch and name."""
    return {f"{each.epoch}.{name}": value for each in progress for name, value in each.losses.items()}


def result():
    """Losses of both trainings, the generators in the cache, and where the second one's last is from."""
    first, again = list(run(make_task())), list(run(make_task()))
    stages = json.loads(again[-1].artefacts.get("stages.json", "{}"))
    origin = stages.get("generator 2", {}).get("origin", "")
    return {
        "first": losses(first),
        "again": losses(again),
        "entries": entries(cache_root(), "generator"),
        "from": origin,
    }
