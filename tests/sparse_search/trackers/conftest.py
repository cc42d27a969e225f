"""A run as it grows, for trackers."""

import pytest


@pytest.fixture
def growing(make_record):
    """A maker of the record of one run after so many of its two evaluations, in training or ended."""

    def made(num_points, status="", number=3, **changes):
        record = make_record(number, sweep="tiny", study="supervised digits 5-shot 0a1b", lr=0.01, **changes)
        record["curve"] = record["curve"][:num_points]
        for index, point in enumerate(record["curve"]):
            point["scores"]["supervised"] = point["scores"]["supervised"] | {"auroc": 0.25 * (index + 1)}
        return record | {"status": status}

    return made
