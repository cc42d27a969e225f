"""The tests of one method as a class, for one line in a test file."""

from collections.abc import Mapping
from typing import Any

from search_spaces.core.ranges import space_of
from trainables.testing.lab import Lab
from trainables.testing.subject import Subject

try:
    import pytest
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("trainables.testing needs pytest, which is not there: pip install pytest") from missing

pytest.register_assert_rewrite("trainables.testing.checks", "trainables.testing.predictions")


def conformance(method: str, *, small: Mapping[str, Any] | None = None) -> type:
    """Return a class of tests for a method; the name that it is given must begin with `Test`.

        from trainables.testing import conformance

        TestMine = conformance("my_package.my_method:METHOD", small={"hidden_units": 8})

    They train the method's own code on synthetic tasks of its kind, on one core in some seconds. A method that
    `names_one_class` is not asked to learn; one with a `scorer` is checked as generators are.

    Args:
        method: `module:ATTRIBUTE`, or the name of a method of this package.
        small: Values of fields that make networks, batches and epochs small. Those named in
            `trainables.testing.small.SMALL`, such as `image_size`, `width` and `batch_size`, are small already.

    Raises:
        ConfigError: no such method, or `small` has values that its configuration refuses.
    """
    from trainables.testing import checks, predictions  # only now: their assertions are rewritten at the import

    subject = Subject(method, dict(small or {}))
    subject.config()
    predicting = predictions.GeneratorChecks if subject.method.scorer else predictions.PredictionChecks
    bases = (predicting,) if subject.method.names_one_class else (predicting, checks.LearningChecks)

    def pytest_generate_tests(self: Any, metafunc: pytest.Metafunc) -> None:
        if "field" in metafunc.fixturenames:
            metafunc.parametrize("field", list(space_of(subject.method.config)))

    body = {
        "subject": subject,
        "lab": Lab(subject),
        "pytest_generate_tests": pytest_generate_tests,
        "__doc__": f"Tests of {method}.",
    }
    return type("Conformance", bases, body)
