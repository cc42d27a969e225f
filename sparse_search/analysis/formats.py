"""A ranked table as text or bytes for other programs and for papers: pure functions."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sparse_search.analysis.leaderboard import rankings
from sparse_search.results.headings import words_apart
from trainables.metrics.table import DEFAULT_METRIC, METRICS, metric_for

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
_MARKDOWN = "\\`*_{}[]<>()#+-.!|~"
_SHARED = ("dataset", "shots", "validation", "image_size", "label_sets")
_HEADERS = ("#", "method", "configuration", "label sets", "tried", "seconds")


def to_csv(ranked: pa.Table, metric: str = DEFAULT_METRIC) -> bytes:
    """Every column of one value per row; full precision, empty for null."""
    from pyarrow import csv

    buffer = BytesIO()
    plain = ranked.select([name for name in ranked.column_names if not name.endswith("_list")])
    for place, field in enumerate(plain.schema):
        if pa.types.is_string(field.type):
            plain = plain.set_column(place, field.name, _no_formulas(plain[field.name]))
    csv.write_csv(plain, buffer)
    return buffer.getvalue()


def _no_formulas(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts with an apostrophe before what a spreadsheet would compute."""
    return pc.replace_substring_regex(texts, "^([=+@\t\r]|-[^0-9.])", r"'\1")


def to_json(ranked: pa.Table, metric: str = DEFAULT_METRIC) -> bytes:
    """A list of objects with every column; null for what is missing."""
    return json.dumps(ranked.to_pylist(), indent=1, allow_nan=False).encode() + b"\n"


def to_parquet(ranked: pa.Table, metric: str = DEFAULT_METRIC) -> bytes:
    """Every column with its type, with page checksums."""
    buffer = BytesIO()
    pq.write_table(ranked, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def to_markdown(ranked: pa.Table, metric: str = DEFAULT_METRIC) -> bytes:
    """A table for each ranking, below what its rows share."""
    lines = []
    for shared, rows, title in _titled(ranked):
        by = metric_for(shared["level"], metric)
        lines += [f"**{_markdown(title)}**", ""]
        lines.append(f"| {' | '.join(_headers(by, _markdown))} |")
        lines.append("| ---: | --- | --- | ---: | ---: | ---: | ---: |")
        lines += [f"| {' | '.join(map(_markdown, cells))} |" for cells in _cells(rows, by, "–")]
        lines.append("")
    return "\n".join(lines).encode()


def to_latex(ranked: pa.Table, metric: str = DEFAULT_METRIC) -> bytes:
    """A `tabular` of booktabs for each ranking, below what its rows share."""
    lines = ["% needs \\usepackage{booktabs}"]
    for shared, rows, title in _titled(ranked):
        by = metric_for(shared["level"], metric)
        lines += [f"% {' '.join(title.split())}", r"\begin{tabular}{rllrrrr}", r"\toprule"]
        lines += [rf"{' & '.join(_headers(by, _latex))} \\", r"\midrule"]
        lines += [rf"{' & '.join(map(_latex, cells))} \\" for cells in _cells(rows, by, "--")]
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines).encode()


FORMATS: Mapping[str, Callable[[pa.Table, str], bytes]] = {
    "csv": to_csv, "json": to_json, "parquet": to_parquet, "markdown": to_markdown, "latex": to_latex,
}  # fmt: skip


def _titled(ranked: pa.Table) -> Iterator[tuple[Mapping[str, Any], list[dict[str, Any]], str]]:
    """Yield every ranking, its rows, and a title that no other of them has."""
    found = list(rankings(ranked))
    for shared, rows in found:
        words = [f"{name.replace('_', ' ')} {shared[name]}" for name in _SHARED]
        yield shared, rows, ", ".join([*words, *words_apart(shared, [other for other, _ in found], said=_SHARED)])


def _headers(metric: str, escaped: Callable[[str], str]) -> list[str]:
    first, second, third, *others = _HEADERS
    return [escaped(name) for name in (first, second, third, f"{METRICS[metric].title} [95 %]", *others)]


def _cells(rows: Sequence[Mapping[str, Any]], metric: str, dash: str) -> Iterator[list[str]]:
    """The texts of each row; the score with its interval in brackets where it has one."""
    for row in rows:
        start = f" ({row['start']})" if row["start"] else ""
        interval = "" if row["low"] is None else f" [{row['low']:.3f}{dash}{row['high']:.3f}]"
        yield [
            str(row["rank"]),
            row["predictor"],
            row["config_id"] + start,
            _number(row[metric], 3) + interval,
            str(row["num_runs"]),
            str(row["num_tried"]),
            _number(row["train_seconds"], 1),
        ]


def _number(value: float | None, digits: int) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _markdown(text: str) -> str:
    """With a backslash before what Markdown reads as its own; numbers stay as they are."""
    if text.replace(".", "").isdigit():
        return text
    return " ".join("".join(f"\\{c}" if c in _MARKDOWN and c not in "().-" else c for c in text).split())


def _latex(text: str) -> str:
    return " ".join("".join(_LATEX.get(c, c) for c in text).split())
