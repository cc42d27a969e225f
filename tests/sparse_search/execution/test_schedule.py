"""What the driver does when Tune breaks down, without a cluster."""

import errno
import signal
from types import SimpleNamespace

import pytest
import ray
from filelock import FileLock

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.execution import schedule
from sparse_search.execution.run import _lock
from sparse_search.execution.schedule import (
    LOOK_SECONDS,
    LOST_SECONDS,
    MAX_BREAKDOWNS,
    WAITING_SECONDS,
    LostRayError,
    Slots,
    execute,
    num_workers,
    ray_session,
)

OUT_OF_MEMORY = "RuntimeError: Caught unexpected exception: Task was killed due to the node running low on memory."


def node(alive=True, **resources):
    return {"NodeID": "a", "Alive": alive, "Resources": resources}


@pytest.fixture
def drive(tmp_path, tiny, monkeypatch):
    """Drives a sweep whose Tuners end as told: why each broke down, and how many trials had ended until then."""

    def make(*endings, problem=""):
        searcher = SimpleNamespace(num_ended=0, problem="", lost=lambda reason: told.append(reason))
        told, workers, said = [], [], []

        def fit(sweep, searcher, folder, callback):
            workers.append(searcher.slots())
            reason, searcher.num_ended = endings[len(workers) - 1]
            searcher.problem = problem
            return reason

        monkeypatch.setattr(ray, "nodes", lambda: [node(CPU=3, memory=16e9)])
        monkeypatch.setattr(schedule, "_fit", fit)
        execute(tiny(), searcher, 3, tmp_path, None, said.append)
        return workers, told, said

    return make


def test_a_breakdown_is_survived_with_fewer_trials_at_a_time(drive):
    workers, told, said = drive(("low memory", 1), ("low memory", 2), ("", 5))
    assert workers == [3, 2, 1]
    assert told == ["low memory"] * 2
    assert said[0] == "low memory; what was in training is tried again, 2 at a time"


def test_breakdowns_in_a_row_end_the_sweep(drive):
    with pytest.raises(ResultsError, match=f"low memory; {MAX_BREAKDOWNS} times in a row. Mend this"):
        drive(*[("low memory", 0)] * MAX_BREAKDOWNS)


def test_progress_in_between_makes_it_no_row(drive):
    assert drive(*[("low memory", ended) for ended in range(5)], ("", 9))[0] == [3, 2, 1, 1, 1, 1]


def test_a_problem_of_the_searcher_ends_it_at_once(drive):
    with pytest.raises(ResultsError, match="disk full; mend this, and the same command goes on"):
        drive(("", 0), problem="disk full")


def test_reasons_are_one_line():
    assert "low on memory (raise memory_per_trial)" in schedule._reason(f"Traceback …\n{OUT_OF_MEMORY}\nmore")
    assert schedule._reason("Traceback …\nValueError: no") == "Ray Tune gave up: ValueError: no"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 12),
        ({"cpus_per_trial": 3}, 3),
        ({"memory_per_trial": 5}, 4),
        ({"gpus_per_trial": 0.4}, 4),  # two on each GPU, though two GPUs hold five times as much
        ({"gpus_per_trial": 2}, 1),
        ({"workers": 1}, 1),
    ],
    ids=str,
)
def test_as_many_trials_as_the_nodes_allow(tiny, monkeypatch, changes, expected):
    nodes = [node(CPU=8.0, GPU=2.0, memory=16e9), node(CPU=4.0, memory=8e9), node(alive=False, CPU=64.0, memory=64e9)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert num_workers(tiny(**changes)) == expected


def test_a_node_that_is_about_to_leave_takes_no_trials(tiny, monkeypatch):
    nodes = [node(CPU=4.0, memory=8e9), node(CPU=2.0, memory=8e9) | {"NodeID": "leaves"}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert num_workers(tiny()) == 6
    monkeypatch.setattr("sparse_search.execution.schedule.draining_nodes", lambda: {"leaves"})
    assert num_workers(tiny()) == 4


def test_a_trial_that_fits_nowhere_is_a_clear_mistake(tiny, monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [node(CPU=2.0, memory=4e9)])
    with pytest.raises(ConfigError, match=r"asks for 1 CPU and 5.0 GB, but there are 2 CPUs and 4.0 GB; lower cpus"):
        num_workers(tiny(memory_per_trial=5))
    with pytest.raises(ConfigError, match=r"1 CPU, 1 GPU and 2.0 GB, but there are 2 CPUs, 0 GPUs and 4.0 GB"):
        num_workers(tiny(gpus_per_trial=1))


@pytest.mark.parametrize("cluster", [False, True])
@pytest.mark.parametrize("changes", [{"cpus_per_trial": 6}, {"memory_per_trial": 10}, {"gpus_per_trial": 2}], ids=str)
def test_what_only_all_nodes_together_have_is_refused(tiny, monkeypatch, changes, cluster):
    monkeypatch.setattr(ray, "nodes", lambda: [node(CPU=4.0, GPU=1.0, memory=8e9)] * 2 + [node(CPU=2.0, memory=8e9)])
    if cluster:
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ConfigError, match=r"no node has them: 4 CPUs.*; 2 CPUs"):
        num_workers(tiny(**changes))


def test_a_cluster_without_a_node_of_the_kind_is_waited_for(tiny, monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [node(CPU=4.0, memory=8e9)])
    with pytest.raises(ConfigError):
        num_workers(tiny(gpus_per_trial=1))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert num_workers(tiny(gpus_per_trial=1)) == 0


OVER_TWO = {"nodes_per_trial": 2, "processes": 2}


@pytest.mark.parametrize(("cpus", "expected"), [((2, 2), 2), ((4, 1), 1), ((4, 2, 1), 3), ((1, 1, 1), 1)], ids=str)
def test_a_trial_over_two_nodes_takes_a_place_on_each(tiny, monkeypatch, cpus, expected):
    monkeypatch.setattr(ray, "nodes", lambda: [node(CPU=float(count), memory=64e9) for count in cpus])
    assert num_workers(tiny(**OVER_TWO)) == expected


def test_a_trial_over_more_nodes_than_there_are_is_a_clear_mistake(tiny, monkeypatch):
    asks = "a trial asks for 1 CPU and 5.0 GB on each of 2 nodes, but "
    large, small = node(CPU=4.0, memory=8e9), node(CPU=4.0, memory=2e9)
    for there, said in (
        ([large], "there is only one node; lower nodes_per_trial, cpus_per_trial"),
        ([large, small, small], "only 1 of 3 nodes can give that; lower nodes_per_trial, cpus_per_trial"),
        ([small, small], "there are 4 CPUs and 2.0 GB; lower nodes_per_trial, cpus_per_trial"),
    ):
        monkeypatch.setattr(ray, "nodes", lambda there=there: there)
        with pytest.raises(ConfigError, match=asks + said):
            num_workers(tiny(memory_per_trial=5, **OVER_TWO))


def test_a_cluster_with_too_few_nodes_of_the_kind_is_waited_for(tiny, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(ray, "nodes", lambda: [node(CPU=4.0, memory=8e9), node(memory=8e9)])
    assert num_workers(tiny(**OVER_TWO)) == 0
    monkeypatch.setattr(ray, "nodes", lambda: [node(CPU=4.0, memory=8e9), node(CPU=4.0, memory=1e9)])
    with pytest.raises(ConfigError, match="only 1 of 2 nodes can give that"):
        num_workers(tiny(**OVER_TWO))


@pytest.fixture
def slots(tiny, monkeypatch):
    """A maker of looks at a cluster: the nodes of each, and the slots and what was said."""

    def make(*looks, workers=2, most=None, may_come=True, **changes):
        clock, said, counts = [0.0], [], []
        monkeypatch.setattr(schedule.time, "monotonic", lambda: clock[0])
        counting = Slots(
            tiny(**changes, **({"workers": most} if most else {})), workers, said.append, may_come=may_come
        )
        for nodes in looks:
            monkeypatch.setattr(ray, "nodes", lambda there=nodes: [node(CPU=n, memory=64e9) for n in there])
            clock[0] += LOOK_SECONDS + 0.1
            counts.append(counting())
        return counts, said

    return make


def test_slots_follow_the_nodes_and_changes_are_told(slots):
    counts, said = slots((2.0,), (2.0, 4.0), (2.0, 4.0), (4.0,), (4.0, 4.0))
    assert counts == [2, 6, 6, 4, 8]
    assert [text.split(" from")[0] for text in said] == [
        "more nodes: 6 trials at a time", "fewer nodes: 4 trials at a time", "more nodes: 8 trials at a time",
    ]  # fmt: skip
    assert slots((2.0,), (2.0, 4.0), workers=1, most=1)[0] == [1, 1]


def test_where_no_node_can_come_ray_is_lost_after_a_while(slots):
    looks = int(LOST_SECONDS / (LOOK_SECONDS + 0.1))
    assert slots((2.0,), *[()] * looks, (2.0,), *[()] * looks, may_come=False)[0][-1] == 1
    with pytest.raises(LostRayError, match="has ended"):
        slots((2.0,), *[()] * (looks + 1), may_come=False)
    assert slots((2.0,), *[()] * (looks + 1))[0][-1] == 1


def test_a_lost_ray_ends_the_sweep_with_what_to_do(tmp_path, tiny, monkeypatch):
    def fit(*_):
        raise LostRayError("Ray on this machine has ended")

    monkeypatch.setattr(schedule, "_fit", fit)
    searcher = SimpleNamespace(num_ended=0, problem="")
    with pytest.raises(ResultsError, match="has ended; nothing is lost: the same command starts it anew"):
        execute(tiny(), searcher, 3, tmp_path, None, print, may_come=False)


@pytest.fixture
def starting(monkeypatch):
    """Sets what happens as Ray starts; the Ray that other tests of this process have goes on."""

    def make(problem):
        def init(**_):
            raise problem

        monkeypatch.setattr(ray, "init", init)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return make


def test_a_long_temporary_folder_has_a_remedy(starting):
    starting(OSError("AF_UNIX path length cannot exceed 107 bytes: /very/long"))
    with pytest.raises(ConfigError, match="set RAY_TMPDIR to a short one"), ray_session():
        pass


def test_a_start_that_takes_too_long_is_told_in_a_line_with_the_log(starting, tmp_path):
    starting(
        Exception("The current node timed out during startup. This could happen because some of the raylet failed")
    )
    said = r"^Ray did not start: The current node timed out during startup; nothing is lost: .* goes on \(.*ray.log\)$"
    with pytest.raises(ResultsError, match=said), ray_session(tmp_path / "ray.log"):
        pass
    assert (tmp_path / "ray.log").exists()


def test_sigterm_while_ray_starts_is_as_ctrl_c(starting):
    starting(SystemExit(signal.SIGTERM))  # so Ray answers
    with pytest.raises(KeyboardInterrupt), ray_session():
        pass
    starting(SystemExit(3))
    with pytest.raises(SystemExit), ray_session():
        pass


@pytest.mark.parametrize(
    ("names", "address", "initialized", "shared"),
    [
        (["bash", "raylet"], "", False, True),
        (["bash", "gcs"], "", False, False),
        (["raylet"], "10.0.0.1:6379", False, False),
        (["raylet"], "", True, False),
    ],
)
def test_another_ray_on_this_machine_is_seen(names, address, initialized, shared, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: initialized)
    there = [SimpleNamespace(info={"name": name}) for name in names]
    monkeypatch.setattr(schedule.psutil, "process_iter", lambda wanted: there)
    assert schedule.is_machine_shared() == shared


def test_without_a_node_one_trial_waits_and_it_is_told_now_and_then(slots):
    looks = int(WAITING_SECONDS / (LOOK_SECONDS + 0.1))
    counts, said = slots(*[(0.0,)] * looks, (1.0,), (0.0,), workers=0)
    assert counts == [1] * (looks + 2)
    waiting = "no node can train a trial (1 CPU and 2.0 GB); waiting for one"
    assert said == [waiting, "more nodes: 1 trials at a time from now on", waiting]
    assert slots(*[(0.0,)] * (looks + 2), workers=0)[1] == [waiting] * 2


def test_slots_of_trials_over_two_nodes(slots):
    counts, said = slots((4.0,), (4.0, 1.0), (4.0, 2.0), (4.0,), workers=0, **OVER_TWO)
    assert counts == [1, 1, 2, 1]
    assert said == [
        "there are not enough nodes for a trial (1 CPU and 2.0 GB on each of 2 nodes); waiting for more",
        "more nodes: 1 trials at a time from now on",
        "more nodes: 2 trials at a time from now on",
        "there are not enough nodes for a trial (1 CPU and 2.0 GB on each of 2 nodes); waiting for more",
    ]


def test_a_sweep_in_a_folder_without_locks_has_a_remedy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(ResultsError, match=r"sweep knows no locks.*--results"), _lock(tmp_path / "sweep"):
        pass
