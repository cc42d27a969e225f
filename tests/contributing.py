"""Code of CONTRIBUTING's recipes, so that tests execute it as it is written."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks_of(heading):
    """Return the blocks of Python below a heading, in order."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)
