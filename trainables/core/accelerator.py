"""Name of Accelerate's type for annotations: only what trains imports Accelerate, and a saved model does without."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator
else:
    Accelerator = Any

__all__ = ["Accelerator"]
