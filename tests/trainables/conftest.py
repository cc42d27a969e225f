"""Tasks for tests that are run for every method."""

from functools import partial

import pytest

from trainables.core.method import find_method, method_names


@pytest.fixture
def make_task(make_task, request):
    """A maker of tasks that the method can solve, where the test is about a method by `name`."""
    callspec = getattr(request.node, "callspec", None)
    name = callspec.params.get("name") if callspec else None
    return partial(make_task, kind=find_method(name).kind) if name in method_names() else make_task
