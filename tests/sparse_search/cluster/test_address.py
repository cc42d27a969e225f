"""What the doctor says of an address: that it is none, dead, silent, no Ray's, another version's; and of tokens."""

import socket

import pytest
from ray._private.utils import check_version_info

from sparse_search.cluster import address as doctor_address
from sparse_search.cluster.address import check_address, token_source


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://head:8265", "expected HOST:PORT of the head"),
        ("ray://head:10001", "expected HOST:PORT of the head"),
        ("head", "expected HOST:PORT of the head"),
        ("no-such-host.invalid:6379", "nothing answers at no-such-host.invalid:6379"),
    ],
)
def test_an_address_that_is_none_is_named(address, said):
    (found,) = check_address(address)
    assert not found.ok
    assert said in found.said


def test_a_dead_address_is_found_at_once():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    (found,) = check_address(f"127.0.0.1:{port}")
    assert found.said == f"nothing answers at 127.0.0.1:{port} (Connection refused)"
    assert "ray start --head" in found.remedy


def test_a_host_that_keeps_silent_is_found_in_time(monkeypatch):
    def silent(address, timeout):
        assert timeout == doctor_address.CONNECT_SECONDS
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", silent)
    (found,) = check_address("10.255.255.1:6379")
    assert found.said == "10.255.255.1:6379 did not answer within 5 s"


@pytest.mark.slow
def test_a_port_behind_which_there_is_no_ray_is_found_in_time(monkeypatch):
    monkeypatch.setattr(doctor_address, "JOIN_SECONDS", 6.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        (found,) = check_address(address)
    assert f"{address} is open, but Ray cannot join it: " in found.said
    assert "is it the head's port" in found.remedy


def test_other_versions_of_the_cluster_are_told_in_one_line():
    with pytest.raises(RuntimeError) as mismatch:
        check_version_info({"ray_version": "2.1.0", "python_version": "3.9.1"}, "node")
    found = doctor_address._not_joined("head:6379", f"Traceback …\nRuntimeError: {mismatch.value}\n")
    assert found.name == "versions"
    assert found.said.startswith("the cluster has Ray 2.1.0 and Python 3.9.1; here it is Ray ")


REFUSED = (
    "[2026-11-21 22:58:16,656 W 22 22] gcs_client.cc:210: Failed to get cluster ID from GCS server: Unauthenticated: "
    "RPC error: InvalidAuthToken: Authentication token is missing or incorrect\n"
)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, "none was sent"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "mine"}, "none was sent"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "mine"}, "the one from RAY_AUTH_TOKEN is another"),
    ],
)
def test_a_missing_token_is_named(monkeypatch, variables, why):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = REFUSED * 3 + "ConnectionError: Failed to connect to Ray cluster at head:6379\n"
    found = doctor_address._not_joined("head:6379", told)
    assert (found.name, found.ok) == ("token", False)
    assert found.said == f"the cluster at head:6379 wants its token, but {why}"
    assert "mine" not in found.said + found.remedy
    assert "export RAY_AUTH_MODE=token" in found.remedy


def test_a_token_is_found_where_ray_looks_but_never_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_source({}) == ""
    assert token_source({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}) == ""
    (tmp_path / "token").write_text("secret")
    assert token_source({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}) == str(tmp_path / "token")
    assert token_source({"RAY_AUTH_TOKEN": "secret"}) == "RAY_AUTH_TOKEN"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert token_source({}) == "~/.ray/auth_token"
