"""`ray up` and `ray submit` as in docs/cluster.md, on this machine: an SSH server of its own on a loopback port."""

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

from sparse_search.results.store import Store

from ..conftest import TINY
from .test_submit import TOKEN, answers, environ, free_ports, needs_dashboard, wait_for

ROOT = Path(__file__).parents[3]
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
CLUSTER = ROOT / "examples/cluster"

pytestmark = [
    pytest.mark.long,
    pytest.mark.ray,
    pytest.mark.slow,
    needs_dashboard,
    pytest.mark.skipif(not (SSHD and shutil.which("rsync")), reason="needs openssh-server and rsync"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an SSH server lets in nobody else"),
]


@pytest.fixture
def machine():
    """A machine to reach by SSH, with a home of its own: (folder, SSH port, Ray's port). What is started there ends."""
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        port, gcs = free_ports(2)
        (folder / "home").mkdir()
        for key in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        shutil.copy(folder / "key.pub", folder / "authorized")
        settings = (
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile {folder}/pid\nStrictModes no\n"
            f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nPermitRootLogin yes\nUsePAM no\n"
            f"SetEnv HOME={folder}/home\n"
        )
        (folder / "sshd_config").write_text(settings)
        write_profile(folder, gcs)
        Path("/run/sshd").mkdir(exist_ok=True)
        log = (folder / "sshd.log").open("w")
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdout=log, stderr=log)
        try:
            wait_for(lambda: answers(port) or server.poll() is not None)
            assert server.poll() is None, (folder / "sshd.log").read_text()
            yield folder, port, gcs
        finally:
            server.terminate()
            server.wait(20)
            end_those_at_home_in(folder / "home")
            log.close()


def write_profile(folder, gcs):
    """What a login there finds: this Python, the code that `ray up` brings, the cluster's address."""
    lines = [
        f"export PATH={Path(sys.executable).parent}:$PATH",
        "export PYTHONPATH=$HOME/sparse-search",
        f"export RAY_ADDRESS=127.0.0.1:{gcs}",  # other Rays may run on this machine
        "export RAY_AUTH_MODE=token",
        *(f"export {name}={os.environ[name]}" for name in ("ONEDNN_MAX_CPU_ISA",) if name in os.environ),
    ]
    (folder / "home/.bashrc").write_text("\n".join(lines) + "\n")


def end_those_at_home_in(home):
    def is_one(process):
        try:
            return process.environ().get("HOME") == str(home)
        except psutil.Error:
            return False

    until = time.monotonic() + 30
    while (left := [process for process in psutil.process_iter() if is_one(process)]) and time.monotonic() < until:
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=5)


def cluster_file(folder, port, gcs):
    """The example, changed where it says so, and in what one machine for all needs."""
    config = yaml.safe_load((CLUSTER / "local.yaml").read_text())
    ssh = f"ssh -i {folder}/key -p {port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    config["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": []}
    config["auth"] = {
        "ssh_user": getpass.getuser(),
        "ssh_private_key": str(folder / "key"),
        "ssh_proxy_command": f"{ssh} -W 127.0.0.1:{port} {getpass.getuser()}@127.0.0.1",
    }
    config |= {"cluster_name": folder.name, "min_workers": 0, "max_workers": 0, "setup_commands": []}
    start = config["head_start_ray_commands"][1].replace("--port=6379", f"--port={gcs}")
    config["head_start_ray_commands"] = [
        f"{start} --num-cpus=2 --include-dashboard=false --object-store-memory=100000000 --temp-dir={folder}/ray"
    ]
    config["worker_start_ray_commands"] = []
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_sweep_through_ray_up_and_ray_submit(machine, tmp_path):
    folder, port, gcs = machine
    (folder / ".ray").mkdir()
    (folder / ".ray/auth_token").write_text(TOKEN)
    here = environ(HOME=str(folder), RAY_TMPDIR=str(folder), TERM="dumb")
    config = cluster_file(folder, port, gcs)

    def ray(*arguments):
        done = subprocess.run(
            [Path(sys.executable).with_name("ray"), *map(str, arguments)], cwd=ROOT, env=here, capture_output=True,
            text=True, check=False, stdin=subprocess.DEVNULL, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    ray("up", "-y", "--no-config-cache", config)
    sent = folder / "home/sparse-search"
    assert (sent / "trainables/data/tasks.py").is_file()
    assert not (sent / ".git").exists()
    assert (folder / "home/.ray/auth_token").read_text() == TOKEN

    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(TINY))
    line = (CLUSTER / "run_sweep.py", "--", tmp_path / "sweep.yaml", "--results", tmp_path / "results")
    out = ray("submit", "--no-config-cache", config, *line)
    assert "5/5" in out
    rows = Store(tmp_path / "results").runs().to_pylist()
    assert len({(row["method"], row["number"]) for row in rows}) == 6
    assert {row["status"] for row in rows} <= {"complete", "pruned", "collapsed"}
    ray("submit", "--no-config-cache", config, *line)  # a finished sweep has nothing to do
    assert Store(tmp_path / "results").runs().num_rows == len(rows)
