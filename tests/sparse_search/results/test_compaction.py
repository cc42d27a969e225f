"""Compaction beside writers, readers, other compactors and kills."""

import json
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from sparse_search.results import compaction
from sparse_search.results.catalog import bundle_path
from sparse_search.results.compaction import MAX_PARTS
from sparse_search.results.store import Store

NUM_WRITERS, EACH = 8, 12

WRITER = """
import json, sys
from pathlib import Path
from sparse_search.results.store import Store
store = Store(Path(sys.argv[1]))
for line in sys.stdin:
    store.write(json.loads(line))
"""

COMPACTOR = """
import sys
from pathlib import Path
from sparse_search.results.store import Store
store, done = Store(Path(sys.argv[1])), Path(sys.argv[2])
while not done.exists():
    store.compact()
"""

READER = """
import sys
from pathlib import Path
from sparse_search.results.store import Store
store, done, before = Store(Path(sys.argv[1])), Path(sys.argv[2]), 0
while not done.exists():
    names = store.runs(columns=["record_id"])["record_id"].to_pylist()
    assert len(set(names)) == len(names) >= before, (len(set(names)), len(names), before)
    before = len(names)
print(before)
"""


def start(code, *arguments):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process):
    _, errors = process.communicate()
    return process.returncode, errors


def lying(store):
    """Every file of a partition, by its path in the results folder."""
    return {path for path in store.folder.rglob("*part-*") if "set_aside" not in path.parts}


def listed(store):
    _, catalog = compaction.compact(store.folder)
    tables = store.folder / "tables"
    named = {tables / file for file, _ in catalog.summaries.values()}
    for name, each in catalog.partitions.items():
        for part in each.parts:
            named.add(bundle_path(store.folder, name, part))
            named |= {tables / table / name / f"{part.stem}.parquet" for table in part.footers}
    return named


def test_eight_writers_two_compactors_and_a_reader_lose_and_double_nothing(store, make_record, tmp_path):
    records = [make_record(n, method=f"method{n % 3}") for n in range(NUM_WRITERS * EACH)]
    done = tmp_path / "done"
    compactors = [start(COMPACTOR, store.folder, done) for _ in range(2)]
    reader = start(READER, store.folder, done)
    writers = [start(WRITER, store.folder) for _ in range(NUM_WRITERS)]
    for position, writer in enumerate(writers):
        writer.stdin.write("".join(json.dumps(record) + "\n" for record in records[position::NUM_WRITERS]))
        writer.stdin.close()
        writer.stdin = None
    assert [ended(writer) for writer in writers] == [(0, "")] * NUM_WRITERS
    done.touch()
    assert [ended(process) for process in (*compactors, reader)] == [(0, "")] * 3
    names = sorted(record["record_id"] for record in records)
    assert sorted(store.runs()["record_id"].to_pylist()) == names
    assert len(store.curves()) == 2 * len(records)
    assert sorted(record["record_id"] for record in store.records()) == names
    assert not list(store.folder.glob("records/??/*.json"))


class KilledError(BaseException):
    """Stands for SIGKILL: from then on nothing on disk changes."""


KILL_AT = [0, -1]  # operations so far, and after which one everything stops; -1: never
CHANGES = {"os.rename", "os.remove", "os.mkdir"}


@pytest.fixture(scope="module")
def kill_at():
    def hook(event, arguments):
        changes = event in CHANGES or (event == "open" and arguments[1] and set(arguments[1]) & set("wxa"))
        if KILL_AT[1] >= 0 and changes:
            KILL_AT[0] += 1
            if KILL_AT[0] > KILL_AT[1]:
                raise KilledError

    sys.addaudithook(hook)  # there is no way to remove one
    yield lambda step: KILL_AT.__setitem__(slice(None), [0, step])
    KILL_AT[1] = -1


@pytest.mark.slow
def test_a_kill_before_any_file_operation_loses_and_doubles_nothing(store, make_record, tmp_path, kill_at):
    for number in range(MAX_PARTS - 1):
        store.write(make_record(number))
        store.compact()
    records = [make_record(number) for number in range(MAX_PARTS + 1)]
    for record in records[-2:]:
        store.write(record)
    names = sorted(record["record_id"] for record in records)
    for step in count():
        killed = Store(tmp_path / "killed")
        shutil.copytree(store.folder, killed.folder)
        kill_at(step)
        try:
            killed.compact()
            survived = True
        except KilledError:
            survived = False
        kill_at(-1)
        assert sorted(killed.runs(columns=["record_id"])["record_id"].to_pylist()) == names
        assert sorted(record["record_id"] for record in killed.records()) == names
        killed.write(make_record(99))
        assert killed.compact() == 1
        assert lying(killed) == listed(killed)
        shutil.rmtree(killed.folder)
        if survived:
            break
    assert step > 20


def test_the_cost_of_a_query_does_not_depend_on_what_is_compacted(store, make_record):
    """In file operations: of records that are in the tables no query touches one, nor asks its name."""

    def operations():
        seen = []
        KILL_AT[1] = -1
        sys.addaudithook(lambda event, arguments: seen.append(event) if counting and "os." in event else None)
        counting = True
        store.compact()
        counting = False
        return len(seen)

    numbers = []
    for start_ in (0, 200):
        for number in range(start_, start_ + 200):
            store.write(make_record(number))
        store.compact()
        numbers.append(operations())
    assert numbers[0] <= numbers[1] <= numbers[0] + 5  # new records have a folder more to lie in


def test_a_foreign_file_among_the_parts_disturbs_nobody_and_stays(store, make_record):
    store.write(make_record(0))
    store.compact()
    (part,) = store.folder.glob("tables/runs/*/*/*/*.parquet")
    foreign = part.with_name("my part-1.parquet")
    foreign.write_bytes(b"not a table")
    part.with_name("notes.parquet.tmp").write_bytes(b"")
    store.write(make_record(1))
    assert len(store.runs()) == 2
    assert foreign.read_bytes() == b"not a table"


def test_the_bundles_are_the_lines_of_the_records(store, make_record):
    store.write(make_record(1))
    store.write(make_record(0))
    lines = sorted(path.read_bytes() for path in store.folder.glob("records/*/*.json"))
    store.compact()
    (bundle,) = store.folder.glob("records/*/*/*/*.jsonl")
    assert bundle.read_bytes().splitlines() == lines
