"""Whether a cluster can be joined: its address, its token, its version.

Ray itself tries a dead address again for more than ten minutes, so each step here has a limit.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sparse_search.doctor_checks import DRIVER, Finding

CONNECT_SECONDS = 5.0
JOIN_SECONDS = 45.0

_JOIN = "import ray; ray.init(address='auto', log_to_driver=False, logging_level='ERROR')"
_START_HEAD = "start it with `ray start --head`, and set RAY_ADDRESS to the HOST:PORT that this prints"
_GIVE_TOKEN = (
    "export RAY_AUTH_MODE=token, and put the cluster's token into ~/.ray/auth_token (or the file that "
    "RAY_AUTH_TOKEN_PATH names) here and on every node; `ray get-auth-token` prints it on the head"
)
_OF_TOKENS = ("InvalidAuthToken", "AuthenticationError", "Unauthenticated", "authentication token")


def check_address(address: str) -> list[Finding]:
    """Findings about a cluster's address; all are ok when it can be joined.

    Args:
        address: As in RAY_ADDRESS; empty for this machine.
    """
    if not address:
        return [Finding("address", DRIVER, True, "this machine; RAY_ADDRESS names a cluster")]
    problem = _unreachable(address)
    if problem:
        return [problem]
    return _join(address)


def token_place(environment: Mapping[str, str] = os.environ) -> str:
    """Where Ray finds an authentication token, in its own order; empty when there is none. It is not read."""
    if environment.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    if "RAY_AUTH_TOKEN_PATH" in environment:
        path = environment["RAY_AUTH_TOKEN_PATH"]
        return path if Path(path).is_file() else ""
    return "~/.ray/auth_token" if Path("~/.ray/auth_token").expanduser().is_file() else ""


def _unreachable(address: str) -> Finding | None:
    """Why nothing can answer at an address."""
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
    """Joins in a process of its own, which can be ended when Ray does not come back."""
    try:
        done = subprocess.run([sys.executable, "-c", _JOIN], capture_output=True, text=True, timeout=JOIN_SECONDS)
        failed, told = done.returncode != 0, done.stderr
    except subprocess.TimeoutExpired as late:
        failed, told = True, (late.stderr or b"").decode(errors="replace")
    if not failed:
        uses_token = os.environ.get("RAY_AUTH_MODE") == "token"
        token = f"accepted, from {token_place()}" if uses_token else "the cluster wants none"
        return [Finding("address", DRIVER, True, f"joined {address}"), Finding("token", DRIVER, True, token)]
    return [_failed(address, told)]


def _failed(address: str, told: str) -> Finding:
    """What Ray's own words on the way to a failure come to."""
    last = next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "")
    if any(word in told for word in _OF_TOKENS):
        place = token_place()
        said = f"the cluster at {address} wants another token than that in {place}" if place else ""
        said = said or f"the cluster at {address} wants a token, and there is none here"
        return Finding("token", DRIVER, False, said, _GIVE_TOKEN)
    if "Version mismatch" in told:
        remedy = "install the cluster's versions of Ray and Python here, or yours on every node"
        return Finding("versions", DRIVER, False, last, remedy)
    said = f"{address} is open, but Ray did not join within {JOIN_SECONDS:.0f} s"
    remedy = f"is it the head's port (6379 unless told otherwise), and of the same Ray? Else {_START_HEAD}"
    return Finding("address", DRIVER, False, f"{said}: {last}" if last else said, remedy)
