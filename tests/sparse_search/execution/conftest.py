"""Fixtures of sweeps on a cluster of several nodes."""

import pytest

from .scenes import new_cluster


@pytest.fixture(scope="session")
def cluster():
    """One head for all scenes of this process, each of which brings its own nodes."""
    with new_cluster() as made:
        yield made
