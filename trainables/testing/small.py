"""The smallest configurations of a method's real code: sizes are settings, so tests need no code of their own."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from search_spaces.core.config import MethodConfig
from trainables.core.method import Method

SMALL: Mapping[str, Any] = {
    "image_size": 16, "width": 4, "critic_width": 4, "classifier": "test_resnet", "batch_size": 8, "mu": 1,
    "lr": 1e-3, "drop_path": 0.0, "generator_width": 8, "batch_unlabelled": 8, "steps_per_epoch": 2,
    "tail": "conv_large", "features": 8,
}  # fmt: skip
"""Values of fields by their names, in whatever configuration has them."""

SMALL_GENERATOR: Mapping[str, Any] = {
    "generator_layers": 4, "generator_channel_base": 64, "generator_batch": 4, "steps_per_epoch": 2, "z_dim": 8,
    "generator_init": "unlabelled_pretrain", "pretrain_images": 3 * 8, "ada_target": -0.9, "ada_share": 1.0,
    "generator_images": 3 * 8, "score_images": 1,
}  # fmt: skip
"""Further values where StyleGAN3s are trained: two steps for each of three classes, after those that ADA needs to make
augmentation likelier, which that target has it do, and so slowly that its speed shows."""

SMALL_ROUNDS: Mapping[str, Any] = {
    "pretrain_images": 2 * 8, "generator_images": 8, "synthetic_images": 16, "round_images": 16
}  # fmt: skip
"""Values instead of those where one generator's pictures are labelled in rounds."""

LEAN: Mapping[str, Any] = {"generator_init": "scratch"}
"""Further values where it does not matter what a generator starts at."""

MANY_CLASSES: Mapping[str, Any] = {"steps_per_epoch": 1, "generator_images": 9 * 4}
"""Further values where there are nine classes."""

BRIEF: Mapping[str, Any] = {
    "image_size": 32, "batch_size": 4, "batch_unlabelled": 4, "generator_batch": 4, "steps_per_epoch": 1, "ddi": False,
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
    config: MethodConfig = method.config(**{name: value for name, value in BRIEF.items() if name in known})
    return config
