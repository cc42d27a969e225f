"""What Ray says goes to a file: at the level of file descriptors, as its C++ parts know no other."""

import io
import logging
import subprocess
import sys

from sparse_search.execution.ray_log import ray_log

DUMPS = """
import logging, os, subprocess, sys
from pathlib import Path
from sparse_search.execution.ray_log import ray_log

print("before", file=sys.stderr)
with ray_log(Path("ray.log")):
    os.write(2, b"a dump\\n")
    logging.getLogger("ray.tune").error("a trial has died")
    subprocess.run(["sh", "-c", "echo of a child >&2"], check=True)
    print("progress", file=sys.stderr)
os.write(2, b"after\\n")
print("the end", file=sys.stderr)
"""


def run_there(code, folder, **options):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)


def test_dumps_go_to_the_file_and_what_python_says_where_it_went(tmp_path):
    assert run_there(DUMPS, tmp_path).stderr.splitlines() == ["before", "progress", "after", "the end"]
    told = (tmp_path / "ray.log").read_text()
    assert [line.rpartition("-- ")[2] for line in told.splitlines()] == ["a dump", "a trial has died", "of a child"]


def test_a_second_start_adds_to_it(tmp_path):
    for _ in range(2):
        run_there(DUMPS, tmp_path)
    assert (tmp_path / "ray.log").read_text().count("a dump") == 2


def test_a_process_without_standard_error_has_a_log_too(tmp_path):
    code = "\n".join(line for line in DUMPS.splitlines() if "after" not in line and "child" not in line)
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "a dump" in (tmp_path / "ray.log").read_text()
    assert done.stderr == ""


def test_a_stream_that_is_no_file_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    handlers = logging.getLogger("ray").handlers[:]
    with ray_log(tmp_path / "ray.log"):
        assert sys.stderr is stream
        logging.getLogger("ray").error("gone")
    assert logging.getLogger("ray").handlers == handlers
    assert "gone" in (tmp_path / "ray.log").read_text()
