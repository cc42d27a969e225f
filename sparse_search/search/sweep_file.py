"""Reader of sweep files, a strict one: every mistake is named before anything runs."""

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from math import ceil
from pathlib import Path
from typing import Any

from search_spaces.core.config import LARGEST, MethodConfig, read_config, write_config
from search_spaces.core.errors import ConfigError, suggestion
from search_spaces.core.ranges import Space, narrow, space_of
from search_spaces.core.yaml_files import read_yaml
from sparse_search.results.catalog import check_names
from sparse_search.search.choices import PrunerChoice, SamplerChoice, num_objectives, read_pruner, read_sampler
from sparse_search.search.sweep import FRESH_BLOCK, SWEEP_CONDITIONS, DatasetFacts, MethodPlan, Study, Sweep
from sparse_search.trackers.choices import read_trackers
from trainables.core.conditions import Conditions
from trainables.core.kind import Kind
from trainables.core.method import find_method
from trainables.core.shots import ALL_SHOTS
from trainables.core.shots import WORD as ALL_WORD
from trainables.metrics.table import OBJECTIVES

SPLIT_POLICIES = ("shared", "fresh")
KEPT_WEIGHTS = ("third", "all", "none")
CHOICES = {
    "objective": tuple(name for names in OBJECTIVES.values() for name in names),
    "split_policy": SPLIT_POLICIES,
    "keep_weights": KEPT_WEIGHTS,
    **{name: condition.choices for name, condition in SWEEP_CONDITIONS.items() if condition.choices},
}
MINIMA = {
    "image_size": 8, "nodes_per_trial": 1, "cpus_per_trial": 1, "workers": 1, "retries": 0, "confirm": 0,
    "confirm_label_sets": 1, "max_trials": 1, "transfer": 0,
    **{name: condition.minimum or 0 for name, condition in SWEEP_CONDITIONS.items() if condition.type is int},
}  # fmt: skip
"""The least legal value of each whole number."""

MAXIMA = {"confirm_label_sets": 1_000, "trials": 1_000_000, "image_size": 1_024}
"""The greatest legal value of some whole numbers; `LARGEST` of all others."""

LARGEST_NUMBER = 1e12
"""Largest of other numbers, far beyond all gigabytes and hours."""

YES_OR_NO = tuple(name for name, condition in SWEEP_CONDITIONS.items() if condition.type is bool)

POSITIVE = ("memory_per_trial", "max_hours", "max_memory", "max_seconds_per_image", "keep_weights_gb")
"""Numbers above 0."""

MAX_SHOWN = 80
"""Most characters of an impossible value in a message."""

EVALUATIONS = 27
"""Evaluations of a full run, unless the sweep says how often: one for the lowest rung."""


KEYS = (*(field.name for field in fields(Sweep) if field.name != "conditions"), *SWEEP_CONDITIONS)
"""Keys of a sweep file."""


def read_sweep(source: Sweep | Mapping[str, Any] | Path | str) -> Sweep:
    """Return the sweep in a YAML file, or in plain values with the same keys; a sweep is returned as it is.

    Raises:
        ConfigError: naming file, key, value and what was expected.
    """
    if isinstance(source, Sweep):
        return source
    return parse_sweep(source) if isinstance(source, Mapping) else load_sweep(Path(source))


def load_sweep(path: Path) -> Sweep:
    """Read the sweep in a YAML file; its name is the file's, unless it says another.

    Raises:
        ConfigError: naming file, key, value and what was expected.
    """
    try:
        return parse_sweep({"name": path.stem} | read_yaml(path))
    except ConfigError as problem:
        message = str(problem)
        raise ConfigError(message if str(path) in message else f"{path}: {message}") from problem


def parse_sweep(values: Mapping[str, Any]) -> Sweep:
    """Read the sweep in plain values, as a sweep file or a notebook holds them.

    Raises:
        ConfigError: naming key, value and what was expected.
    """
    for name in values:
        if name not in KEYS:
            raise ConfigError(f"a sweep has no '{name}'{suggestion(str(name), KEYS)}")
    for name in ("name", "methods", "datasets", "shots"):
        if not values.get(name):
            raise ConfigError(f"a sweep needs '{name}'")
    plain = dict(values) | {"name": str(values["name"])}
    plain["datasets"] = _items("datasets", values["datasets"], str)
    plain["shots"] = _shots(values["shots"])
    plain["label_sets"] = _items("label_sets", values.get("label_sets", Sweep.label_sets), int)
    plain["warm_start"] = _items("warm_start", values["warm_start"], str) if values.get("warm_start") else ()
    plain["tracker"] = read_trackers(values["tracker"]) if values.get("tracker") else ()
    plain["sampler"] = read_sampler(values["sampler"]) if "sampler" in values else Sweep.sampler
    plain["pruner"] = read_pruner(values["pruner"]) if "pruner" in values else _pruner_beside(plain["sampler"])
    _check_scalars(plain)
    plain.setdefault("evaluate_every", ceil(plain.get("images", Conditions.images) / EVALUATIONS))
    _check_together(plain)
    image_size = plain.get("image_size", Sweep.image_size)
    if not isinstance(values["methods"], Mapping):
        raise ConfigError("'methods' must be a mapping of method name to its plan")
    plans: dict[str, MethodPlan] = {}
    for name, body in values["methods"].items():
        check_names({"method": name})
        plans[str(name)] = _Plan(str(name), image_size, body or {}, plans).read()
    _check_kind(plans)
    plain["methods"] = _with_objectives(plans.values(), plain.get("objective"))
    plain.setdefault("objective", plain["methods"][-1].objective)
    if ALL_SHOTS in plain["shots"]:
        plain.setdefault("validation", "labelled-cv")
    plain["conditions"] = Conditions(**{name: plain.pop(name) for name in SWEEP_CONDITIONS if name in plain})
    sweep = Sweep(**plain)
    for plan in sweep.methods:  # a trial knows its own legal values: label sets, precision, budget
        Study(sweep=sweep, plan=plan, dataset="", shots=min(sweep.shots), facts=DatasetFacts("", 1, 0)).trial(
            plan.settings, 0
        )
        _check_length(plan, sweep.conditions.images)
    return sweep


def _check_length(plan: MethodPlan, images: int) -> None:
    """Check that the budget holds all epochs of a method that is scored at its end only, whatever its settings."""
    method = find_method(plan.name)
    if not method.scorer:
        return

    def length(config: MethodConfig) -> int:
        seen = epoch = 0
        while seen <= images and (size := method.epoch_images(config, 1, 0, epoch)) < sys.maxsize:
            seen, epoch = seen + size, epoch + 1
        return seen

    longest = plan.settings
    for name, range_ in plan.space.items():
        ends = (read_config(type(longest), write_config(longest) | {name: end}) for end in range_.ends())
        longest = max(longest, *ends, key=length)
    starts = {f"'{name}'": config for name, config in plan.starts.items()}
    for what, config in {**starts, "the longest configuration of its search": longest}.items():
        if length(config) > images:
            raise ConfigError(
                f"method {plan.name}: {what} needs more than the {images:,} images of a run; raise images, or leave it "
                "out with presets and search"
            )


def _pruner_beside(sampler: SamplerChoice) -> PrunerChoice:
    """Return the pruner of a sweep that names none: two objectives cannot be pruned."""
    return Sweep.pruner if num_objectives(sampler) == 1 else read_pruner("none")


def _check_together(plain: Mapping[str, Any]) -> None:
    """Refuse values that are legal alone but not beside each other."""
    if num_objectives(plain["sampler"]) > 1 and plain["pruner"].name != "none":
        raise ConfigError(f"sampler {plain['sampler'].name} has two objectives and cannot be pruned: use pruner: none")
    most = max(plain["label_sets"]) + plain.get("confirm_label_sets", Sweep.confirm_label_sets)
    _check_processes(plain)
    if plain.get("split_policy") == "fresh" and most >= FRESH_BLOCK:
        raise ConfigError(f"label_sets: with split_policy fresh they must stay below {FRESH_BLOCK}")
    if plain["name"] in plain["warm_start"]:
        raise ConfigError(f"warm_start: '{plain['name']}' is this sweep itself; name earlier ones")


def _check_processes(plain: Mapping[str, Any]) -> None:
    processes, nodes, gpus = plain.get("processes", 1), plain.get("nodes_per_trial", 1), plain.get("gpus_per_trial", 0)
    if processes % nodes:
        raise ConfigError(
            f"nodes_per_trial: {nodes} nodes cannot have equally many of {processes} process{'es' * (processes > 1)}; "
            f"set processes to a multiple of {nodes}"
        )
    here, where = processes // nodes, f"{processes}{f' on {nodes} nodes' * (nodes > 1)}"
    if processes > 1 and gpus not in (0, here):
        raise ConfigError(f"processes: {where} need a GPU each or none; set gpus_per_trial to {here} or 0")
    if here > plain.get("cpus_per_trial", 1):
        raise ConfigError(f"processes: {where} need a CPU each; raise cpus_per_trial to {here} or more")


def _check_kind(plans: Iterable[str]) -> None:
    """Check that the methods find the same in images, or make such images."""
    kinds: dict[str, Kind] = {name: find_method(name).kind for name in plans}
    if len(set(kinds.values())) > 1:
        words = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
        raise ConfigError(f"methods: {words}; a sweep is of one kind, as its objective is: write one sweep for each")


def _with_objectives(plans: Iterable[MethodPlan], of_sweep: str | None) -> tuple[MethodPlan, ...]:
    """Return the plans with what they search for: their own objective, the sweep's, or the first of their kind.

    Generators have their own where the sweep's is one of classes, which is for the other methods.
    """
    judged = [(plan, find_method(plan.name).judged_as) for plan in plans]
    is_for_others = any(kind != "generation" and of_sweep in OBJECTIVES[kind] for _, kind in judged)
    found = []
    for plan, kind in judged:
        known = OBJECTIVES[kind]
        of_this = known[0] if of_sweep is None or (kind == "generation" and is_for_others) else of_sweep
        objective = plan.objective or of_this
        if objective not in known:
            raise ConfigError(
                f"objective '{objective}' is none of {kind}, which {plan.name} does; choose one of {', '.join(known)}"
            )
        found.append(replace(plan, objective=objective))
    return tuple(found)


@dataclass(frozen=True)
class _Plan:
    """One entry below `methods:`, read step by step."""

    name: str
    image_size: int
    body: Mapping[str, Any]
    before: Mapping[str, MethodPlan]
    """Entries above this one."""

    def read(self) -> MethodPlan:
        try:
            return self._read()
        except ConfigError as problem:
            raise ConfigError(f"method {self.name}: {problem}") from problem

    def _read(self) -> MethodPlan:
        config_type = find_method(self.name).config
        known = ("trials", "settings", "search", "presets", "objective", "settings_from")
        if not isinstance(self.body, Mapping):
            raise ConfigError(f"expected {', '.join(known)}; got {self.body!r}")
        for key in self.body:
            if key not in known:
                raise ConfigError(f"there is no '{key}'{suggestion(str(key), known)}")
        given = self.body.get("settings") or {}
        if not isinstance(given, Mapping):
            raise ConfigError(f"settings: expected 'field: value' pairs, got {given!r}")
        if "image_size" in given:
            raise ConfigError("image_size stands at the top of a sweep: it is the same for every method")
        source = self._source()
        shared = _shared(source, config_type) if source else ()
        asked = self.body.get("search")
        for name in (*given, *(asked if isinstance(asked, Mapping | list) else ())):
            if source and name in shared:
                raise ConfigError(f"'{name}' comes from {source.name}: change it there, or leave settings_from out")
        if source:
            given = {name: getattr(source.settings, name) for name in shared} | dict(given)
        settings = read_config(config_type, {"image_size": self.image_size, **given})
        fixed = {*shared, *(self.body.get("settings") or {} if asked is None else ())}
        own = {name: range_ for name, range_ in space_of(config_type).items() if name not in fixed}
        space = narrow(own, asked)
        searched_before = {**source.inherited, **source.space} if source else {}
        inherited = {name: range_ for name, range_ in searched_before.items() if name in shared}
        _check_legal(settings, {**inherited, **space})
        starts = self._starts(settings, given)
        trials = self.body.get("trials", 10)
        _check_whole("trials", trials, 1)
        return MethodPlan(
            name=self.name,
            trials=max(trials, len(starts)) if space else len(starts),
            settings=settings,
            space=space,
            starts=starts,
            objective=self._text("objective", [name for names in OBJECTIVES.values() for name in names]),
            settings_from=source.name if source else "",
            inherited=inherited,
        )

    def _source(self) -> MethodPlan | None:
        """Return the entry whose best settings this one takes."""
        name = self._text("settings_from", self.before)
        if not name:
            return None
        if not _shared(self.before[name], find_method(self.name).config):
            raise ConfigError(f"settings_from: {name} has no setting in common with it")
        return self.before[name]

    def _text(self, key: str, known: Collection[str]) -> str:
        value = self.body.get(key) or ""
        if not isinstance(value, str):
            raise ConfigError(f"{key}: expected a name, got {value!r}")
        if value and value not in known:
            hint = suggestion(value, known) if known else "; it must stand below the method that it names"
            raise ConfigError(f"{key} '{value}' is unknown{hint}")
        return value

    def _starts(self, settings: MethodConfig, given: Mapping[str, Any]) -> dict[str, MethodConfig]:
        """Return the default and the presets, with the sweep's settings on top; equal ones once."""
        config_type = type(settings)
        names = self.body.get("presets")
        names = list(config_type.presets) if names is None else () if names == [] else _items("presets", names, str)
        overrides = {name: getattr(settings, name) for name in ("image_size", *given)}
        starts = {"default": settings}
        for name in names:
            config = config_type.preset(name, **overrides)
            if config not in starts.values():
                starts[name] = config
        return starts


def _shared(source: MethodPlan, config_type: type[MethodConfig]) -> tuple[str, ...]:
    """Return the settings that both methods have, besides the side of images."""
    names = {field.name for field in fields(config_type)} - {"image_size"}
    return tuple(field.name for field in fields(source.settings) if field.name in names)


def _check_legal(settings: MethodConfig, space: Space) -> None:
    for name, range_ in space.items():
        for end in range_.ends():
            try:
                read_config(type(settings), write_config(settings) | {name: end})
            except ConfigError as problem:
                raise ConfigError(f"search range of '{name}' leaves what is legal: {problem}") from problem


def _check_scalars(plain: Mapping[str, Any]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", str(plain["name"])):
        raise ConfigError(f"name '{plain['name']}' must be letters, digits, '.', '_' and '-': it names a folder")
    for name, options in CHOICES.items():
        if name in plain and plain[name] not in options:
            raise ConfigError(f"{name} '{plain[name]}' is unknown{suggestion(str(plain[name]), options)}")
    for name, low in MINIMA.items():
        if name in plain:
            _check_whole(name, plain[name], low)
    for name in (*POSITIVE, "gpus_per_trial"):
        value = plain.get(name, 1)
        above = "above" if name in POSITIVE else "from"
        if type(value) not in (int, float) or not 0 <= value <= LARGEST_NUMBER or (value == 0 and name in POSITIVE):
            most = f" to {LARGEST_NUMBER:g}" if type(value) in (int, float) and value > LARGEST_NUMBER else ""
            raise ConfigError(f"{name}: {_shown(value)} is impossible, expected a number {above} 0{most}")
    for name in YES_OR_NO:
        if name in plain and type(plain[name]) is not bool:
            raise ConfigError(f"{name}: {plain[name]!r} is impossible, expected true or false")
    gpus = plain.get("gpus_per_trial", 0)
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"gpus_per_trial: {gpus} is impossible, expected a fraction up to 1 or a whole number")


def _check_whole(name: str, value: object, low: int) -> None:
    """Refuse what is no whole number in the range of a key."""
    most = MAXIMA.get(name, LARGEST)
    if type(value) is not int or value < low:
        raise ConfigError(f"{name}: {_shown(value)} is impossible, expected a whole number from {low}")
    if value > most:
        raise ConfigError(f"{name}: {_shown(value)} is impossible, expected at most {most}")


def _shown(value: object) -> str:
    """Text of a value that was given, cut where it is long."""
    text = f"a number of {value.bit_length()} bits" if type(value) is int and value > LARGEST**4 else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _shots(given: Any) -> tuple[int, ...]:
    """Return numbers of labelled images, and `ALL_SHOTS` for `all`."""
    items = list(given) if isinstance(given, list | tuple) else [given]
    numbers = [item for item in items if item != ALL_WORD]
    _items("shots", numbers or [1], int)
    if len(items) - len(numbers) > 1:
        raise ConfigError(f"shots: expected a list of different numbers, got {given!r}")
    return tuple(ALL_SHOTS if item == ALL_WORD else item for item in items)


def _items(name: str, given: Any, kind: type) -> tuple[Any, ...]:
    items = given if isinstance(given, list | tuple) else [given]
    if not items or not all(type(item) is kind for item in items) or len(set(items)) != len(items):
        words = {int: "whole numbers", str: "names"}[kind]
        raise ConfigError(f"{name}: expected a list of different {words}, got {given!r}")
    for item in items if kind is int else ():
        _check_whole(name, item, 1 if name == "shots" else 0)
    return tuple(items)
