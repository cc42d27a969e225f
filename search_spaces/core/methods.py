"""The methods of this package by name, without what trains them."""

from importlib import import_module
from inspect import getmodule
from pkgutil import iter_modules

import search_spaces
from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError, suggestion


def configured_methods() -> list[str]:
    """Every method that has settings here: the plain modules of `search_spaces`."""
    return sorted(module.name for module in iter_modules(search_spaces.__path__) if not module.ispkg)


def config_of(method: str) -> type[MethodConfig]:
    """The configuration class of a method: the one that the module of its name defines.

    Raises:
        ConfigError: no such method.
    """
    if method not in configured_methods():
        raise ConfigError(f"method '{method}' is unknown{suggestion(method, configured_methods())}")
    module = import_module(f"search_spaces.{method}")
    own = (one for one in vars(module).values() if isinstance(one, type) and getmodule(one) is module)
    return next(one for one in own if issubclass(one, MethodConfig))


def about(config: type[MethodConfig]) -> str:
    """Description of a method: the first line of its module."""
    return (getattr(getmodule(config), "__doc__", None) or "").partition("\n")[0]
