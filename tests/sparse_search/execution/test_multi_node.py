"""What a trial's worker makes of its other nodes, without them. With them: test_nodes.py."""

import pickle
from dataclasses import replace

import psutil
import pytest
from ray.exceptions import ActorDiedError

from search_spaces.core.errors import DataError
from sparse_search.execution.multi_node import NodeLostError, _lost, _Node, network_variables
from trainables.training.processes import LostProcessError
from trainables.training.run import runs_of_trial
from trainables.training.trial import Trial


def test_the_network_of_an_address_is_used_unless_the_user_named_one(monkeypatch):
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    loopback = next(
        name for name, own in psutil.net_if_addrs().items() if "127.0.0.1" in [each.address for each in own]
    )
    assert network_variables("127.0.0.1") == {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": f"={loopback}"}
    assert network_variables("192.0.2.77") == {}
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    assert network_variables("127.0.0.1") == {"NCCL_SOCKET_IFNAME": f"={loopback}"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The actor died because its node has died. Node Id: 0123", NodeLostError),
        ("The actor is temporarily unavailable: RpcError", NodeLostError),
        ("The actor died unexpectedly: worker\n  process exit", LostProcessError),
    ],
)
def test_a_lost_node_is_told_from_a_lost_process(text, kind):
    class Problem(ActorDiedError):
        def __str__(self):
            return text

    found = _lost(Problem())
    assert type(found) is kind
    assert " ".join(text.split()) in str(found)


def test_other_data_on_another_node_is_refused_there():
    (run,) = runs_of_trial(Trial.from_dict({"method": "constant", "dataset": "digits", "shots": 2, "processes": 2}))
    told = _Node().train(run, range(1, 2), 0, None, "another hash", {}, {})
    assert isinstance(told, DataError)
    assert "digits on node" in str(told)
    assert "copy the same files to each" in str(told)


def test_what_nobody_expected_arrives_with_its_traceback():
    (run,) = runs_of_trial(Trial.from_dict({"method": "constant", "dataset": "digits", "shots": 2, "processes": 2}))
    told = _Node().train(replace(run, fold="x"), range(1, 2), 0, None, "", {}, {})
    assert type(told) is RuntimeError
    assert "Traceback" in str(told)


def test_a_lost_process_travels():
    lost = pickle.loads(pickle.dumps(LostProcessError("process 1", was_killed=False)))
    assert (str(lost), lost.was_killed) == ("process 1", False)
