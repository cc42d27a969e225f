"""The smallest configurations of a method's real code: sizes are settings, so tests need no code of their own."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from search_spaces.core.config import MethodConfig
from search_spaces.core.errors import ConfigError
from search_spaces.core.ranges import Choice, When, conditions_of, space_of
from trainables.core.method import Method

SMALL: Mapping[str, Any] = {
    "image_size": 16, "width": 4, "critic_width": 4, "classifier": "test_resnet", "batch_size": 8, "mu": 1,
    "lr": 1e-3, "drop_path": 0.0, "generator_width": 8, "batch_unlabelled": 8, "steps_per_epoch": 2,
    "tail": "conv_large", "features": 8, "unsup_fraction": 1.0, "encoder": "test_resnet", "encoder_depth": 3,
    "decoder_width": 4, "backbones": "pixels+test_resnet", "pretext_network": "test_resnet", "pretext_side": 16,
    "pretext_batch": 8, "pretext_images": 48, "pretext_queue": 1,
}  # fmt: skip
"""Values of fields by their names, in whatever configuration has them."""

SMALL_GENERATOR: Mapping[str, Any] = {
    "generator_layers": 4, "generator_width": 4, "generator_channel_base": 32, "generator_batch": 4, "z_dim": 8,
    "steps_per_epoch": 1, "generator_init": "unlabelled_pretrain", "pretrain_images": 2 * 4, "generator_images": 4 * 4,
    "ada_target": -0.9, "ada_share": 1.0, "score_images": 1, "feature_network": "timm:test_resnet",
}  # fmt: skip
"""Further values where StyleGAN3s are trained: two steps of the common one and of each of two classes."""

SMALL_ROUNDS: Mapping[str, Any] = {
    "generator_images": 4,
    "synthetic_images": 8,
    "round_images": 4,
    "round_init": "warm",
}
"""Values instead of those where one generator's pictures are labelled in rounds, each of one step."""

TELLING: Mapping[str, Any] = {
    "batch_size": 4, "lr": 3e-3, "dropout": 0.5, "percentile": 0.5, "ens_blend": 0.3, "patience": 1, "warm_up": 0.6,
    "average": 0.0, "discriminant_pooled": True, "pretrain_images": 6 * 4,
}  # fmt: skip
"""Further values that let settings show early: batches of which there are several, votes that change and weigh in later
passes, a plateau at the first loss that is not lower, small steps at first, no average that follows slowly, and so many
steps that ADA makes augmentation likelier, which its target above has it do, and so slowly that its speed shows."""

BRIEF: Mapping[str, Any] = {
    "batch_size": 4, "batch_unlabelled": 4, "generator_batch": 4, "steps_per_epoch": 1, "ddi": False,
}  # fmt: skip
"""Values that make an epoch and the start short (`ddi` looks at hundreds of images) and leave networks their size."""


def small_config(method: Method[Any], sizes: Mapping[str, Any] | None = None, **changes: Any) -> MethodConfig:
    """Return a configuration with small networks, images and batches.

    Args:
        method: Whose configuration it is.
        sizes: Values of fields that it must have, instead of those of `SMALL`.
        changes: Values before all others; those of fields that it lacks are left out.
    """
    known = {field.name for field in fields(method.config)}
    generator = {**SMALL_GENERATOR, **(SMALL_ROUNDS if "round_images" in known else {})}
    scored = {"score_images": 8} if method.scorer else {}
    chosen = {**SMALL, **(generator if "generator_images" in known else {}), **scored}
    values = {name: value for name, value in chosen.items() if name in known}
    config: MethodConfig = method.config(
        **{**values, **(sizes or {}), **{name: changes[name] for name in changes if name in known}}
    )
    return config


def brief_config(method: Method[Any]) -> MethodConfig:
    """Return the default configuration but for the image size and the numbers of images and steps of an epoch."""
    known = {field.name for field in fields(method.config)}
    values = {name: value for name, value in BRIEF.items() if name in known}
    try:
        small: MethodConfig = method.config(**values, image_size=16)
    except ConfigError:  # some networks take none so small
        small = method.config(**values, image_size=32)
    return small


def activating(config: MethodConfig, field: str) -> MethodConfig:
    """Return the configuration with other fields so that the conditions of one hold."""
    for when in conditions_of(type(config)).get(field, ()):
        config = activating(config, when.name)
        if not when.holds(getattr(config, when.name)):
            config = replace(config, **{when.name: _holding(config, when)})
    return config


def _holding(config: MethodConfig, when: When) -> Any:
    if when.above is None:
        return when.among[0] if when.among else when.equals
    range_ = space_of(type(config)).get(when.name)
    if range_ is None:
        return type(getattr(config, when.name))(when.above + 1)
    options = range_.options if isinstance(range_, Choice) else range_.ends()
    return next(value for value in options if when.holds(value))


def lean(num_classes: int = 2) -> dict[str, Any]:
    """Return further values where it does not matter what generators start at: a step for each of so many classes."""
    return {"generator_init": "scratch", "generator_images": 4 * num_classes}
