"""The supervised method with a witness: `witness:METHOD`. `WITNESS_LOG` names a log of which process has trained what.

A line is `rank process parent raylet epoch`: the raylet that Ray started on a node tells the node. An epoch takes
`WITNESS_SECONDS` longer, so that a moment can be hit, until there is a file named as the log and `.hurry`.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from search_spaces.supervised import SupervisedConfig
from trainables import supervised


@dataclass(frozen=True, kw_only=True)
class WitnessConfig(SupervisedConfig):
    """Of the supervised method."""


class Witness(supervised.SupervisedLearner):  # type: ignore[misc]
    def epochs(self) -> Iterator[Mapping[str, float]]:
        names = (os.environ.get("RANK", "0"), os.getpid(), os.getppid(), os.environ["RAY_RAYLET_PID"])
        for losses in super().epochs():
            log_path = Path(os.environ["WITNESS_LOG"])
            if not log_path.with_name(f"{log_path.name}.hurry").exists():
                time.sleep(float(os.environ.get("WITNESS_SECONDS", "0")))
            with log_path.open("a") as log:
                log.write(" ".join(map(str, (*names, self._epoch))) + "\n")
            yield losses


METHOD = replace(supervised.METHOD, config=WitnessConfig, build=Witness)
