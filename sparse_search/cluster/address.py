"""Check of whether a cluster can be joined: its address, its token, its version.

Ray itself tries a dead address again for more than ten minutes, so each step here has a limit.
"""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sparse_search.cluster.checks import DRIVER, Finding
from trainables.core.home import from_home

CONNECT_SECONDS = 5.0
JOIN_SECONDS = 45.0

_JOIN = "import ray; ray.init(address='auto', log_to_driver=False, logging_level='ERROR')"
_START_HEAD = "start it with `ray start --head`, and set RAY_ADDRESS to the HOST:PORT that this prints"
_GIVE_TOKEN = (
    "export RAY_AUTH_MODE=token, and put the cluster's token into ~/.ray/auth_token (or the file that "
    "RAY_AUTH_TOKEN_PATH names) here and on every node; `ray get-auth-token` prints it on the head"
)
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
_LOG_PREFIX = re.compile(r"^\[[^]]*\] (\S+:\d+: )?")


def check_address(address: str) -> list[Finding]:
    """Check a cluster's address; all findings are ok when it can be joined.

    Args:
        address: As in RAY_ADDRESS; empty for this machine.
    """
    if not address:
        return [Finding("address", DRIVER, True, "this machine, as RAY_ADDRESS is not set")]
    problem = _unreachable(address)
    if problem:
        return [problem]
    return _join(address)


def token_source(environment: Mapping[str, str] = os.environ) -> str:
    """Return the source of an authentication token, in Ray's own order; empty when there is none. It is not read."""
    if environment.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    if "RAY_AUTH_TOKEN_PATH" in environment:
        path = environment["RAY_AUTH_TOKEN_PATH"]
        return path if Path(path).is_file() else ""
    return "~/.ray/auth_token" if from_home("~/.ray/auth_token").is_file() else ""


def _unreachable(address: str) -> Finding | None:
    """Return why nothing can answer at an address; None where something may."""
    host, _, port = address.rpartition(":")
    if address in ("auto", "local"):
        return None
    if "://" in address or not host or not port.isdigit():
        said = f"RAY_ADDRESS is {address}; expected HOST:PORT of the head, such as 10.0.0.1:6379"
        remedy = "set it so on a machine of the cluster; from elsewhere use `sparse-search submit`"
        return Finding("address", DRIVER, False, said, remedy)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except TimeoutError:
        said = f"{address} did not answer within {CONNECT_SECONDS:.0f} s"
        return Finding("address", DRIVER, False, said, f"open the head's ports to this machine, or {_START_HEAD}")
    except (OSError, OverflowError) as problem:
        said = f"nothing answers at {address} ({getattr(problem, 'strerror', None) or problem})"
        return Finding("address", DRIVER, False, said, f"the head is not running there: {_START_HEAD}")
    return None


def _join(address: str) -> list[Finding]:
    """Join in a process of its own, which can be ended when Ray does not come back."""
    command = [sys.executable, "-c", _JOIN]
    limit = {"RAY_gcs_server_request_timeout_seconds": str(int(JOIN_SECONDS / 2))}  # it says more than we can
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=JOIN_SECONDS, env=os.environ | limit
        )
    except subprocess.TimeoutExpired as late:
        return [_not_joined(address, (late.stderr or b"").decode(errors="replace"))]
    if done.returncode:
        return [_not_joined(address, done.stderr)]
    token = f"sent, from {token_source()}" if _sends_token() else "none was sent, and none was asked for"
    return [Finding("address", DRIVER, True, f"joined {address}"), Finding("token", DRIVER, True, token)]


def _sends_token() -> bool:
    """Return True where Ray sends a token: to an explicit address not by itself, even where it finds one."""
    return os.environ.get("RAY_AUTH_MODE") == "token"


def _not_joined(address: str, told: str) -> Finding:
    """Return the finding that Ray's own words on the way to a failure come to."""
    if "Version mismatch" in told:
        cluster, here = (f"Ray {ray} and Python {python}" for ray, python in _VERSIONS.findall(told)[:2])
        remedy = "install the cluster's versions of Ray and Python here, or these on every node"
        return Finding("versions", DRIVER, False, f"the cluster has {cluster}; here it is {here}", remedy)
    if "InvalidAuthToken" in told:
        sent = f"the one from {token_source()} is another" if _sends_token() else "none was sent"
        return Finding("token", DRIVER, False, f"the cluster at {address} wants its token, but {sent}", _GIVE_TOKEN)
    if "No node info found" in told:
        said = f"the cluster at {address} is alive, but this machine is none of its nodes"
        remedy = f"`ray start --address={address}` here, or run this on a node; from elsewhere `sparse-search submit`"
        return Finding("address", DRIVER, False, said, remedy)
    last = next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "it gave no reason in time")
    said = f"{address} is open, but Ray cannot join it: {_LOG_PREFIX.sub('', last)}"
    remedy = "is it the head's port (6379 unless told otherwise)? Look at the logs below /tmp/ray/session_latest there"
    return Finding("address", DRIVER, False, said, remedy)
