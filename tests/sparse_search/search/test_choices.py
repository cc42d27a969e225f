import subprocess
import sys

import pytest

from search_spaces.core.errors import ConfigError
from sparse_search.search.choices import PrunerChoice, SamplerChoice, num_startup, read_pruner, read_sampler
from tests.sparse_search.search.optuna_studies import PLANNED


def test_choices_are_equal_when_they_mean_the_same():
    plain = read_sampler("tpe")
    assert plain == SamplerChoice("tpe") == read_sampler({"name": "tpe", "startup": "auto", "candidates": 24})
    chosen = read_sampler({"candidates": 8, "startup": 10, "name": "tpe"})
    assert chosen == read_sampler({"name": "tpe", "startup": 10, "candidates": 8}) != plain
    assert len({plain, chosen, read_sampler("tpe")}) == 2
    assert (str(plain), str(chosen)) == ("tpe", "tpe startup=10 candidates=8")
    assert read_pruner({"name": "halving", "reduction": 2}) == PrunerChoice("halving")
    assert PrunerChoice("none") != SamplerChoice("none")


def test_random_trials_at_the_start():
    expected = {"tpe": 8, "random": 0, "qmc": 0, "gp": 8, "cmaes": 8, "nsga2": 4}
    assert {name: num_startup(read_sampler(name), PLANNED) for name in expected} == expected
    assert num_startup(read_sampler({"name": "tpe", "startup": 20}), PLANNED) == 20
    assert num_startup(read_sampler({"name": "nsga2", "population": 12}), PLANNED) == 12
    assert [num_startup(read_sampler("tpe"), planned) for planned in (3, 300)] == [4, 10]


@pytest.mark.parametrize(
    ("read", "given", "message"),
    [
        (read_sampler, "tpee", "sampler 'tpee' is unknown; did you mean 'tpe'? Known: cmaes, gp,"),
        (read_sampler, 3, "sampler: expected a name, or {name: …, option: value}, got 3. Names: cmaes, gp, nsga2,"),
        (read_sampler, None, "expected a name"),
        (read_sampler, ["tpe"], "expected a name"),
        (read_sampler, {"startup": 3}, "expected a name"),
        (read_sampler, {"name": ["tpe"]}, "expected a name"),
        (read_sampler, {"name": "tpe", "starup": 3}, "sampler tpe has no option 'starup'; did you mean 'startup'?"),
        (read_sampler, {"name": "tpe", 3: 3}, "sampler tpe has no option '3'"),
        (read_sampler, {"name": "random", "startup": 3}, "sampler random has no option 'startup': it has none"),
        (read_sampler, {"name": "tpe", "startup": 0}, "startup: 0 is impossible, expected 1 … 1000, whole, or auto"),
        (read_sampler, {"name": "tpe", "startup": "many"}, "startup: 'many' is impossible"),
        (read_sampler, {"name": "tpe", "startup": 2.5}, "startup: 2.5 is impossible"),
        (read_sampler, {"name": "tpe", "startup": None}, "startup: None is impossible"),
        (read_sampler, {"name": "tpe", "candidates": True}, "candidates: True is impossible"),
        (read_sampler, {"name": "qmc", "sequence": "sobel"}, "'sobel' is impossible, expected sobol | halton"),
        (read_sampler, {"name": "nsga2", "crossover": 1.5}, "crossover: 1.5 is impossible, expected 0 … 1"),
        (read_sampler, {"name": "cmaes", "population": [4]}, "population: [4] is impossible"),
        (read_pruner, "asha", "pruner 'asha' is unknown. Known: halving, hyperband, median, none."),
        (read_pruner, {"name": "halving", "reduction": 1}, "reduction: 1 is impossible, expected 2 … 10, whole"),
        (read_pruner, {"name": "halving", "reduction": 3.0}, "reduction: 3.0 is impossible"),
        (read_pruner, {"name": "median", "reduction": 3}, "pruner median has no option 'reduction'. Known: startup."),
    ],
)  # fmt: skip
def test_a_mistake_is_named(read, given, message):
    with pytest.raises(ConfigError) as caught:
        read(given)
    assert message in str(caught.value)


def test_heavy_libraries_wait_until_they_are_needed():
    heavy = ("torch", "cmaes", "scipy.stats")
    code = (
        "import sys; from sparse_search.search import choices; "
        "found = [choices.find_sampler(name) for name in choices.sampler_names()]; "
        "found += [choices.find_pruner(name) for name in choices.pruner_names()]; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
