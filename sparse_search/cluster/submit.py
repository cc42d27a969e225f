"""Submission of a sweep to a cluster as a Ray job: packed, sent, followed, stopped; found again by the same call.

The job is `sparse-search run` on the head node, with the code of this machine. What holds there holds here: it may end
at any moment, and submitted again it goes on, from the results folder on the cluster.
"""

import asyncio
import logging
import os
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import search_spaces
import trainables
from search_spaces.core.errors import ClusterError, ConfigError, LockedError
from sparse_search.results.object_store import is_uri, objects_at
from sparse_search.search.sweep import Sweep
from sparse_search.search.sweep_file import load_sweep
from sparse_search.versions import COMMIT_FILE, versions
from trainables.core.home import from_home

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

RESULTS = "~/results"
"""Results folder on the cluster, unless another is named."""

MAX_BYTES = 50 * 2**20
"""Largest size of a package; three folders of code are below 2 MB, so more is data that lies in the wrong place."""

STOP_SECONDS = 60
"""Time that a stopped sweep has to end by itself."""

SILENCE_SECONDS = 60.0
"""Time without a line after which a connection is made anew: a sweep prints one every quarter of a minute."""

LOST_SECONDS = 120.0
"""Time without an answer after which following is given up."""

Print = Callable[[str], None]

_ENTRY = "from sparse_search.cli.app import main; main()"
_SWEEP_FILE = "sweep.yaml"
_STOPPED = 130


@dataclass(frozen=True)
class Submission:
    """Sweep to be sent, with the folders of its results and data on the cluster."""

    file: Path
    results: str = RESULTS
    data_root: str | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for option, path in (("results", self.results), ("data-root", self.data_root or "/")):
            if is_uri(path) and option == "results":
                objects_at(path)
            elif not path.startswith(("/", "~/")):
                raise ConfigError(
                    f"--{option} {path}: it names a folder on the cluster; write it from / or, in quotes, from '~/'"
                )

    @cached_property
    def sweep(self) -> Sweep:
        """Sweep in the file.

        Raises:
            ConfigError: as `load_sweep`.
        """
        return load_sweep(self.file)

    @property
    def key(self) -> dict[str, str]:
        """Metadata of a job that name what only one driver at a time may work on."""
        return {"sweep": self.sweep.name, "results": self.results}

    @cached_property
    def stem(self) -> str:
        """Beginning of the ids of its jobs: the name, and a hash of their input."""
        parts = (self.file.read_bytes(), self.results.encode(), (self.data_root or "").encode())
        return f"{self.sweep.name}-{sha256(b'|'.join(parts)).hexdigest()[:8]}"

    @property
    def entrypoint(self) -> str:
        """Shell command of a job."""
        command = ["exec python -c", shlex.quote(_ENTRY), "run", _SWEEP_FILE, "--results", _shell_path(self.results)]
        if self.data_root:
            command += ["--data-root", _shell_path(self.data_root)]
        return " ".join([*command, "--retry-failed"] if self.retry_failed else command)


def pack(submission: Submission, folder: Path) -> int:
    """Fill an empty folder with all that a job needs, and return its size in bytes.

    That is code, sweep file, and the methods of the user's own that lie in the current folder.

    Raises:
        ConfigError: more than 50 MB.
    """
    packages = (Path(search_spaces.__path__[0]), Path(trainables.__path__[0]), Path(__file__).parents[1])
    for package in packages:
        _copy(package, folder)
    for module in {plan.name.split(":")[0].split(".")[0] for plan in submission.sweep.methods if ":" in plan.name}:
        for own in (Path(module), Path(f"{module}.py")):
            if own.exists():
                _copy(own.resolve(), folder)
    shutil.copy(submission.file, folder / _SWEEP_FILE)
    found = versions()
    (folder / COMMIT_FILE).write_text(found["commit"])
    told = folder / f"sparse_search-{found['sparse-search']}.dist-info"  # else rows name the version installed there
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sparse-search\nVersion: {found['sparse-search']}\n")
    sizes = {path.relative_to(folder): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    if (total := sum(sizes.values())) > MAX_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise ConfigError(
            f"the package has {total / 2**20:.0f} MB, expected at most {MAX_BYTES // 2**20}; "
            f"the largest file is {largest} ({sizes[largest] / 2**20:.0f} MB): data belongs into --data-root"
        )
    return total


class Cluster:
    """Client for the sweeps on a Ray cluster."""

    def __init__(self, address: str) -> None:
        """Connect to a cluster by the address of its dashboard, http://HOST:8265.

        Raises:
            ClusterError: no ray[default] here, no answer there, or no valid token.
        """
        if find_spec("aiohttp") is None:
            raise ClusterError("submitting needs ray[default]: pip install 'sparse-search[cluster]'")
        _check_answer(address)
        _use_token()
        from ray.job_submission import JobSubmissionClient

        for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
            logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
        self.address = address
        with self._asking(), _variable("RAY_API_SERVER_ADDRESS", address):  # Ray prefers it to what it is given
            self._client = JobSubmissionClient(address)

    def last(self, submission: Submission) -> "JobDetails | None":
        """Return the latest job of a sweep, running or not."""
        own = (job for job in self._jobs() if submission.key.items() <= (job.metadata or {}).items())
        return max(own, key=lambda job: (not job.status.is_terminal(), job.start_time or 0), default=None)

    def submit(self, submission: Submission, say: Print) -> str:
        """Send a sweep, unless it runs there already; return the id of its job.

        Raises:
            ClusterError: the cluster refuses.
            ConfigError: sweep or package cannot be used.
            LockedError: another version of the sweep file is running with the same results.
        """
        last = self.last(submission)
        if last and not last.status.is_terminal():
            return self._running(last, submission, say)
        taken = {job.submission_id for job in self._jobs()}
        name = next(name for n in count(1) if (name := f"{submission.stem}-{n}") not in taken)
        with TemporaryDirectory() as folder:
            say(f"sending {pack(submission, Path(folder)) / 2**20:.1f} MB to {self.address}\n")
            with self._asking():
                self._client.submit_job(
                    entrypoint=submission.entrypoint,
                    submission_id=name,
                    metadata=submission.key,
                    runtime_env={
                        "working_dir": folder,
                        "env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
                    },
                )
        say(f"submitted as {name}; results go to {submission.results} there\n")
        return name

    def follow(self, name: str, say: Print) -> int:
        """Pass on the log of a job to its end; return the exit code of the sweep, 130 when it was stopped.

        Raises:
            ClusterError: the cluster answers no more, or the job failed outside the sweep.
        """
        shown, heard = 0, time.monotonic()
        while True:
            shown = asyncio.run(self._tail(name, shown, say))
            try:
                job, log = self.job(name), self.log(name)
                heard = time.monotonic()
            except ClusterError:
                if time.monotonic() - heard > LOST_SECONDS:
                    raise
            else:
                if job.status.is_terminal():
                    say(log[shown:])
                    return _exit_code(job)
            time.sleep(1)

    def stop(self, name: str) -> None:
        """End a job as Ctrl-C would, and wait for it.

        Raises:
            ClusterError: it does not end.
        """
        with self._asking():
            self._client.stop_job(name)
        until = time.monotonic() + STOP_SECONDS + 30
        while not self.job(name).status.is_terminal():
            if time.monotonic() > until:
                raise ClusterError(f"{name} has not ended within {STOP_SECONDS + 30} seconds; look at {self.address}")
            time.sleep(0.5)

    def job(self, name: str) -> "JobDetails":
        """Return what the cluster knows of a job."""
        with self._asking():
            return self._client.get_job_info(name)

    def log(self, name: str) -> str:
        """Return all that a job has printed."""
        with self._asking():
            return str(self._client.get_job_logs(name))

    def _jobs(self) -> "list[JobDetails]":
        with self._asking():
            return [job for job in self._client.list_jobs() if job.submission_id]

    def _running(self, job: "JobDetails", submission: Submission, say: Print) -> str:
        name = str(job.submission_id)
        if name.rpartition("-")[0] != submission.stem:
            raise LockedError(f"another version of this sweep is running there as {name}; end it first, with --stop")
        say(f"running there already as {name}\n")
        return name

    async def _tail(self, name: str, shown: int, say: Print) -> int:
        """Pass on a log beyond `shown` characters, until its end or a silence; return how many are shown then."""
        from aiohttp import ClientError

        position, chunks = 0, self._client.tail_job_logs(name)
        with suppress(StopAsyncIteration, TimeoutError, ClientError, RuntimeError, OSError):
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):  # `wait_for` of Python 3.11 can lose a Ctrl-C
                    chunk = await anext(chunks)
                say(chunk[max(0, shown - position) :])
                position += len(chunk)
                shown = max(shown, position)
        return shown

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn what goes wrong between here and the cluster into an error of one line."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as problem:
            raise ClusterError(
                f"{self.address} asks for its token and got {_given(problem)}: copy ~/.ray/auth_token from the head "
                "node, or set RAY_AUTH_TOKEN_PATH to a copy"
            ) from problem
        except (RuntimeError, OSError) as problem:
            raise ClusterError(f"{self.address}: {str(problem).strip().splitlines()[0]}") from problem


def _given(problem: Exception) -> str:
    return "another" if "Authentication failed" in str(problem) else "none"


def _copy(path: Path, folder: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    else:
        shutil.copy(path, folder)


def _shell_path(path: str) -> str:
    """Quote a path for a shell; `~/` is the home folder on the cluster."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _check_answer(address: str) -> None:
    """Check that anything listens there: Ray would wait for minutes.

    Raises:
        ClusterError: no address of a dashboard, or nothing there.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(f"--address {address}: expected the dashboard's, http://HOST:8265")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except OSError as problem:
        raise ClusterError(
            f"nothing answers at {parts.hostname}:{port} ({problem}); is the head node up with ray[default], "
            "and its port open or forwarded?"
        ) from problem


def _use_token() -> None:
    """Have Ray's client send a token where there is one: it does so only if a variable, read at its import, says so."""
    if "RAY_AUTH_MODE" in os.environ:
        return
    path = from_home(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
    if os.environ.get("RAY_AUTH_TOKEN") or path.is_file():
        os.environ["RAY_AUTH_MODE"] = "token"


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _exit_code(job: "JobDetails") -> int:
    if job.status == "STOPPED":
        return _STOPPED
    if job.driver_exit_code is None:
        said = (job.message or "no reason was given").strip().splitlines()
        raise ClusterError(f"{job.submission_id} failed outside the sweep: {said[-1]}; submit it again to go on")
    code = int(job.driver_exit_code)
    return code if code >= 0 else 128 - code
