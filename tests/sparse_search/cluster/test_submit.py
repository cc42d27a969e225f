"""Sweeps sent to a cluster: what is packed, what is refused, and whole ones on a head with a dashboard and a token."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import yaml
from optuna.trial import TrialState
from ray.job_submission import JobDetails, JobStatus

from search_spaces.core.errors import ClusterError, ConfigError
from sparse_search.cluster import submit
from sparse_search.cluster.submit import Cluster, Submission, pack
from sparse_search.results.store import Store
from sparse_search.search.journal_file import Journal
from sparse_search.versions import versions

from ..conftest import TINY

needs_dashboard = pytest.mark.skipif(find_spec("aiohttp") is None, reason="needs ray[default]")

ROOT = Path(__file__).parents[3]
CALL = "from sparse_search.cli.app import main; main()"
TOKEN = "0123456789abcdef" * 4


def write_sweep(folder, **changes):
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def start(folder, *arguments, **environment):
    environment = environ(PYTHONPATH=str(ROOT), **environment)
    return subprocess.Popen(
        [sys.executable, "-c", CALL, *map(str, arguments)], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c,
    )  # fmt: skip


def heed_ctrl_c():
    """Undo what a shell does to a suite in the background, whose processes would all ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def call(folder, *arguments, **environment):
    process = start(folder, *arguments, **environment)
    out, error = process.communicate(timeout=300)
    assert TOKEN not in out + error
    return process.returncode, out, error


def environ(**changes):
    """Of this process, without what it says about Ray."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | changes


def wait_for(condition, seconds=240):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.2)


# ---- what is sent


def test_a_job_is_run_with_paths_on_the_cluster(tmp_path):
    path = write_sweep(tmp_path)
    sent = Submission(path, "~/my results", "/data; rm -rf /", retry_failed=True)
    echo = sent.entrypoint.replace("exec python -c", "printf '%s\\n'")
    lines = subprocess.run(["sh", "-c", echo], capture_output=True, text=True, env={"HOME": "/home/me"}, check=True)
    assert lines.stdout.splitlines() == [
        CALL, "run", "sweep.yaml", "--results", "/home/me/my results", "--data-root", "/data; rm -rf /",
        "--retry-failed",
    ]  # fmt: skip


def test_a_job_is_named_by_what_it_does(tmp_path):
    path = write_sweep(tmp_path)
    stems = [Submission(path).stem, Submission(path, "/elsewhere").stem, Submission(path, data_root="/data").stem]
    assert stems[0] == Submission(path).stem
    write_sweep(tmp_path, images=160)
    stems.append(Submission(path).stem)
    assert len(set(stems)) == 4
    assert all(stem.startswith("tiny-") for stem in stems)


@pytest.mark.parametrize("option", ["results", "data_root"])
def test_a_relative_path_would_be_lost_with_the_job(tmp_path, option):
    with pytest.raises(ConfigError, match=rf"--{option.replace('_', '-')} results: .* on the cluster"):
        Submission(tmp_path / "sweep.yaml", **{option: "results"})


def test_the_package_runs_by_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine_sent.py").write_text("from trainables.constant import METHOD\n")
    (tmp_path / "unrelated.npz").write_bytes(bytes(1000))
    path = write_sweep(tmp_path, methods={"mine_sent:METHOD": {}})
    folder = tmp_path / "package"
    folder.mkdir()
    size = pack(Submission(path), folder)
    assert 0 < size < 3 * 2**20
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "COMMIT", "mine_sent.py", "search_spaces", "sparse_search",
        f"sparse_search-{versions()['sparse-search']}.dist-info", "sweep.yaml", "trainables",
    ]  # fmt: skip
    assert not list(folder.rglob("__pycache__"))
    tell = (
        "from sparse_search.search import sweep_file as f; from sparse_search import versions as v; import pathlib; "
        "print(f.__file__, *v.versions().values(), f.load_sweep(pathlib.Path('sweep.yaml')).methods[0].name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", tell], cwd=folder, capture_output=True, text=True, env=environ(PYTHONPATH=""), check=True
    )
    assert done.stdout.split() == [
        str(folder / "sparse_search/search/sweep_file.py"), *filter(None, versions().values()), "mine_sent:METHOD"
    ]  # fmt: skip


def test_data_among_the_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(submit, "MAX_BYTES", 4 * 2**20)
    own = tmp_path / "mine_large"
    own.mkdir()
    (own / "__init__.py").write_text("from trainables.constant import METHOD\n")
    (own / "scans.npz").write_bytes(bytes(5 * 2**20))
    path = write_sweep(tmp_path, methods={"mine_large:METHOD": {}})
    folder = tmp_path / "package"
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"expected at most 4; the largest file is mine_large/scans.npz \(5 MB\)"):
        pack(Submission(path), folder)


# ---- what is refused before anything is sent


def test_without_ray_default_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ClusterError, match=r"pip install 'sparse-search\[cluster\]'"):
        Cluster("http://127.0.0.1:8265")


@needs_dashboard
@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:8265", "expected the dashboard's, http://HOST:8265"), ("http://127.0.0.1:9", "nothing answers at")],
    ids=["no scheme", "nobody there"],
)
def test_an_address_where_nobody_is_does_not_hang(address, words):
    began = time.monotonic()
    with pytest.raises(ClusterError, match=words):
        Cluster(address)
    assert time.monotonic() - began < 10


class Breaking:
    """Jobs whose log breaks off twice while it grows, as over a bad connection."""

    def __init__(self, exit_code):
        self.exit_code = exit_code
        self.logs = ["1/3\n2", "1/3\n2/3\n", "1/3\n2/3\n3/3\n"]

    async def tail_job_logs(self, name):
        text = self.logs.pop(0)
        for start in range(0, len(text), 3):
            yield text[start : start + 3]
        if self.logs:
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_info(self, name):
        if len(self.logs) == 1:
            raise ConnectionError("connection refused")
        status = JobStatus.RUNNING if self.logs else JobStatus.FAILED
        return JobDetails(
            type="SUBMISSION", submission_id=name, status=status, entrypoint="", driver_exit_code=self.exit_code,
            message="The actor died.\nIts node is gone.",
        )  # fmt: skip

    def get_job_logs(self, name):
        return "1/3\n2/3\n3/3\nfailed\n"


def following(exit_code):
    cluster, said = object.__new__(Cluster), []
    cluster.address, cluster._client = "http://there", Breaking(exit_code)
    return lambda: cluster.follow("tiny-1", said.append), said


@needs_dashboard
def test_a_log_is_shown_once_over_a_connection_that_breaks():
    follow, said = following(exit_code=1)
    assert follow() == 1
    assert "".join(said) == "1/3\n2/3\n3/3\nfailed\n"


@needs_dashboard
def test_a_job_that_fails_outside_the_sweep_says_why():
    follow, said = following(exit_code=None)
    with pytest.raises(ClusterError, match=r"tiny-1 failed outside the sweep: Its node is gone\.; submit it again"):
        follow()
    assert "".join(said).endswith("failed\n")


# ---- whole sweeps on a head of its own


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def head():
    """A Ray head with dashboard and token: its address, and the variables of one who knows the token."""
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)  # short: sockets lie below it
        (folder / "token").write_text(TOKEN)
        known = {"HOME": name, "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        gcs, dashboard, agent, agent_grpc, metrics, env_agent, client = free_ports(7)
        command = [
            Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={gcs}",
            "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={env_agent}",
            f"--ray-client-server-port={client}", f"--temp-dir={folder / 'ray'}", "--num-cpus=2",
            "--object-store-memory=100000000", "--disable-usage-stats",
        ]  # fmt: skip
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = environ(RAY_AUTH_MODE="token", RAY_raylet_start_wait_time_s="240", PATH=path, **known)
        environment.pop("PYTHONPATH", None)  # it has the code that is sent, and no other
        log = (folder / "log").open("w")
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{dashboard}"
        try:
            wait_for(lambda: answers(dashboard) or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield address, known
        finally:
            family = [process, *process.children(recursive=True)]
            process.terminate()
            _, left = psutil.wait_procs(family, timeout=20)
            for each in left:
                each.kill()
            psutil.wait_procs(left, timeout=10)
            log.close()


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def records(folder):
    results = folder / "results"
    return {r["record_id"]: r for r in Store(results).records()} if results.exists() else {}


def num_running(folder):
    storage = Journal(folder / "results/sweeps/tiny/journal.log")
    studies = storage.get_all_studies()
    return sum(len(storage.get_all_trials(s._study_id, states=(TrialState.RUNNING,))) for s in studies)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@needs_dashboard
def test_a_sweep_is_followed_left_stopped_and_finished_by_the_same_command(head, tmp_path):
    address, known = head
    (tmp_path / "own_method.py").write_text("from trainables.constant import METHOD\n")
    path = write_sweep(
        tmp_path, images=4000, evaluate_every=500, methods=TINY["methods"] | {"own_method:METHOD": {}}, workers=1
    )
    line = ("submit", path, "--address", address, "--results", tmp_path / "results")

    def say(*more):
        return call(tmp_path, *line, *more, **known)

    assert "never submitted" in say("--status")[1]
    first = start(tmp_path, *line, **known)
    wait_for(lambda: len(records(tmp_path)) >= 1)
    first.send_signal(signal.SIGINT)
    out, error = first.communicate(timeout=60)
    assert first.returncode == 130, error
    assert "MB to http://127.0.0.1" in out
    assert f"follow it:  sparse-search submit {path}" in out
    assert ": running\n" in say("--status")[1]

    second = start(tmp_path, *line, **known)
    wait_for(lambda: len(records(tmp_path)) >= 2)
    code, out, error = say("--stop")
    assert code == 0, error
    assert "-1: stopped\nstopped; nothing is lost" in out
    out, error = second.communicate(timeout=60)
    assert second.returncode == 130, error
    assert "running there already as tiny-" in out
    assert "starting Ray" in out  # from its beginning
    before = records(tmp_path)
    assert len(before) < 7

    code, out, error = say()
    assert code == 0, error
    assert "5/5" in out
    assert out.count("1/1") >= 2
    after = records(tmp_path)
    assert before.items() <= after.items()
    runs = Counter((r["method"], r["number"], r["label_set"]) for r in after.values())
    assert set(runs.values()) == {1}
    assert Counter(method for method, _, _ in runs) == {"supervised": 5, "constant": 1, "own_method:METHOD": 1}
    assert all(r["versions"]["commit"] == versions()["commit"] for r in after.values())
    assert num_running(tmp_path) == 0
    assert "-2: succeeded\n" in say("--status")[1]


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@needs_dashboard
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "asks for its token and got none: copy ~/.ray/auth_token"),
        ({"RAY_AUTH_MODE": "token"}, "asks for its token and got none: copy ~/.ray/auth_token"),
        ({"RAY_AUTH_TOKEN": "f" * 64}, "asks for its token and got another: copy ~/.ray/auth_token"),
    ],
    ids=["none", "none though asked for", "another"],
)
def test_who_has_no_token_is_told_what_to_do(head, tmp_path, variables, words):
    address, _ = head
    arguments = ("submit", write_sweep(tmp_path), "--address", address)
    code, out, error = call(tmp_path, *arguments, HOME=str(tmp_path), **variables)
    assert code == 2, out
    assert words in error
    assert "f" * 64 not in error
    assert error.count("\n") == 1
