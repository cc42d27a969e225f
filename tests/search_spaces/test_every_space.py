"""What every method's configuration class must satisfy; a new one is found by its file."""

import ast
import inspect
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pkgutil import iter_modules
from typing import get_type_hints

import pytest

import search_spaces
from search_spaces.core.config import MethodConfig, read_config, write_config
from search_spaces.core.ranges import conditions_of, space_of


def config_types() -> list[type[MethodConfig]]:
    modules = [import_module(f"search_spaces.{m.name}") for m in iter_modules(search_spaces.__path__) if not m.ispkg]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, MethodConfig) and value.__module__ == module.__name__
    ]


pytestmark = pytest.mark.parametrize("config_type", config_types(), ids=lambda t: t.__name__)


def test_the_default_is_legal_and_survives_writing(config_type):
    assert read_config(config_type, write_config(config_type())) == config_type()


def test_defaults_lie_inside_their_ranges(config_type):
    for name, range_ in space_of(config_type).items():
        assert getattr(config_type(), name) in range_


def test_every_end_of_every_range_is_legal(config_type):
    for name, range_ in space_of(config_type).items():
        for end in range_.ends():
            read_config(config_type, {name: end})


def test_presets_are_legal(config_type):
    for name in config_type.presets:
        assert isinstance(config_type.preset(name), config_type)


def test_conditions_stand_beside_ranges_and_name_fields(config_type):
    conditions = conditions_of(config_type)
    assert set(conditions) <= set(space_of(config_type))
    assert {when.name for whens in conditions.values() for when in whens} <= set(write_config(config_type()))


def test_configurations_are_frozen_and_hashable(config_type):
    assert hash(config_type()) == hash(config_type())
    with pytest.raises(AttributeError):
        config_type().image_size = 3


def test_every_field_is_a_plain_scalar_and_documented(config_type):
    trees = [ast.parse(inspect.getsource(each)).body[0] for each in config_type.__mro__[:-2]]  # those below the base
    documented = {
        field.target.id
        for tree in trees
        for field, doc in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
    }
    own = {field.name for field in fields(config_type)} - {field.name for field in fields(MethodConfig)}
    assert own <= documented
    assert set(get_type_hints(config_type)) >= own


def test_loading_it_is_light(config_type):
    code = (
        f"import sys, {config_type.__module__}; "
        "heavy = {'torch', 'numpy', 'ray', 'optuna', 'pandas', 'pyarrow'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
