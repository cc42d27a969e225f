"""What the doctor finds: each check on facts, and on real folders and files."""

import shutil
import sys
from types import SimpleNamespace

import pytest
import yaml
from filelock import FileLock

from sparse_search.cli.doctor import finding_table, remedy_lines
from sparse_search.cli.printing import console
from sparse_search.cluster import node as doctor_node
from sparse_search.cluster.checks import (
    Finding,
    check_clock,
    check_data,
    check_disk,
    check_gpu,
    check_request,
    check_storage,
    check_trial,
    check_versions,
    grouped,
)
from sparse_search.cluster.doctor import _common_folder, _common_storage, _prepared, _read, _studies, nodes_of
from sparse_search.cluster.node import NOTE, examine, look_for, software, try_gpu, try_trial, use_objects, use_storage
from sparse_search.results.mirror import store_at
from sparse_search.results.object_store import objects_at

from ..conftest import TINY, studies_of


def write_sweep(folder, **changes):
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


# Versions


def test_equal_software_is_ok_and_named():
    facts = {"versions": software()}
    found = check_versions("a", facts, facts)
    assert found.ok
    assert f"python {sys.version.split()[0]}" in found.said
    assert "ray 2" in found.said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ray": "2.1.0"}, "ray 2.1.0 instead of {ray}"),
        ({"python": "3.9.1", "torch": "missing"}, "python 3.9.1 instead of {python}, torch missing instead of {torch}"),
        ({"code": "0123"}, "other source files of sparse-search"),
    ],
    ids=str,
)
def test_another_version_on_a_node_is_named(changes, said):
    own = software()
    found = check_versions("a", {"versions": own | changes}, {"versions": own})
    assert not found.ok
    assert found.said == said.format(**own)
    assert "install the driver's versions on every node" in found.remedy


def test_a_node_with_an_older_doctor_lacks_facts_but_is_understood():
    found = check_versions("a", {"versions": {"python": "3.11.0"}}, {"versions": software()})
    assert "ray missing instead of" in found.said


# Storage


@pytest.fixture
def common(tmp_path):
    """The folder of a driver that can write, with its lock held."""
    found = []
    with _common_folder(tmp_path / "results", found) as made:
        assert found[0].ok
        yield made


def test_an_object_storage_is_read_written_and_listed(bucket, monkeypatch):
    found = []
    with _common_storage(store_at(bucket), found) as common:
        facts = examine("node", common, bucket)
        assert facts["storage"]["problem"] == ""
        assert facts["free"]["results"] > 0
        assert objects_at(bucket).get(f"{common}/node") == b"node"
        found.append(check_storage("a", facts, bucket, is_seen=True))
        with monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            lost = check_storage("b", {"storage": use_objects(bucket, common, "b")}, bucket, is_seen=False)
        assert use_objects(bucket, "another", "c")["problem"] == "it does not see what the driver wrote"
    assert [finding.said for finding in found] == [f"{bucket}: read, written, listed"] * 2
    assert not lost.ok
    assert lost.said.startswith(f"{bucket}: 127.0.0.1:1 cannot be reached")
    assert "AWS_ENDPOINT_URL before Ray starts" in lost.remedy
    assert not objects_at(bucket).sizes("doctor")


def test_an_object_storage_that_the_driver_cannot_write(bucket):
    found = []
    with _common_storage(store_at("s3://none-of-that-name/results"), found) as common:
        assert common == ""
    assert [(finding.ok, "there is no bucket" in finding.said) for finding in found] == [(False, True)]


def test_shared_storage_is_read_written_renamed_and_locked(common):
    facts = {"storage": use_storage(common, "node")}
    assert facts == {"storage": {"problem": "", "lock": ""}}
    assert (common / "node").read_text() == "node"
    assert check_storage("a", facts, "/r", is_seen=True) == Finding(
        "storage", "a", True, "/r: read, written, renamed, locked"
    )


def test_another_folder_under_the_same_name_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_node, "PATIENCE_SECONDS", 0.0)
    found = check_storage("a", {"storage": use_storage(tmp_path, "node")}, "/r", is_seen=True)
    assert not found.ok
    assert found.said == "/r: it does not see what the driver wrote"
    assert "put /r on storage that every node mounts at the same path" in found.remedy


def test_a_node_that_cannot_write_is_found(tmp_path):
    (tmp_path / NOTE).write_text("")
    (tmp_path / "node").mkdir()  # root writes everywhere, but not over a folder
    (tmp_path / "node" / "file").touch()
    found = check_storage("a", {"storage": use_storage(tmp_path, "node")}, "/r", is_seen=True)
    assert found.said.startswith("/r: it cannot write there (")


def test_files_that_do_not_come_back_to_the_driver_are_found():
    found = check_storage("a", {"storage": {"problem": "", "lock": ""}}, "/r", is_seen=False)
    assert found.said == "/r: the driver does not see what it wrote"


def test_a_lock_that_stays_on_its_machine_is_found(tmp_path):
    (tmp_path / NOTE).write_text("")
    found = check_storage("a", {"storage": use_storage(tmp_path, "node")}, "/r", is_seen=True)  # nobody holds it
    assert not found.ok
    assert "a lock that the driver holds is not seen" in found.said
    assert "two drivers can run the same sweep" in found.remedy


def test_results_that_the_driver_cannot_write_are_found_and_nothing_is_left(tmp_path):
    (tmp_path / "file").touch()
    found = []
    with _common_folder(tmp_path / "file" / "results", found) as made:
        assert made is None
    assert found[0].said == f"cannot write results to {tmp_path}/file/results: Not a directory"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("existed", [True, False])
def test_the_results_folder_is_left_as_it_was(tmp_path, existed):
    results = tmp_path / "deep" / "results"
    if existed:
        results.mkdir(parents=True)
    with _common_folder(results, []) as made:
        assert made.parent == results
        with pytest.raises(TimeoutError):
            FileLock(made / "lock", timeout=0).acquire()
    assert sorted(tmp_path.rglob("*")) == ([results.parent, results] if existed else [])


# Disk and clock


def test_too_little_disk_is_named_with_how_much(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_234_000_000))
    found = list(check_disk("a", examine(results=str(tmp_path))))
    assert [(each.name, each.ok) for each in found] == [("disk of results", False), ("disk of temp", False)]
    assert found[0].said == "results: 1.2 GB free, expected 2 or more"
    assert "choose another --results" in found[0].remedy
    assert "TMPDIR" in found[1].remedy


def test_plenty_of_disk_is_told_in_steps():
    found = check_disk("a", {"free": {"results": 250e9, "temp": 2.5e9}})
    assert [each.said for each in found] == ["more than 100 GB free", "more than 2 GB free"]


def test_the_disk_of_a_folder_that_is_yet_to_be_made(tmp_path):
    assert doctor_node.free_bytes(tmp_path / "not" / "yet") == pytest.approx(shutil.disk_usage(tmp_path).free, abs=1e9)


@pytest.mark.parametrize(
    ("ahead", "said"),
    [(1.5, "within 2 s of the driver's"), (-61.2, "61 s behind the driver's"), (2.6, "3 s ahead of the driver's")],
)
def test_clocks_that_differ_are_a_warning(ahead, said):
    found = check_clock("a", ahead)
    assert found.ok
    assert found.said == said
    assert bool(found.remedy) == (abs(ahead) > 2)


# Data


def test_data_that_a_node_lacks_is_named(tmp_path):
    facts = {"data": look_for(["digits", "scans.npz"], tmp_path)}
    driver = {"data": {"digits": facts["data"]["digits"], "scans.npz": {"hash": "a"}}}
    here, missing = check_data("a", facts, driver)
    assert here.ok
    assert here.name == "data digits"
    assert not missing.ok
    assert missing.said.startswith(f"no data at 'scans.npz' (nor below {tmp_path})")
    assert "below the same --data-root" in missing.remedy


def test_data_of_another_content_is_named(tmp_path):
    facts = {"data": look_for(["digits"], tmp_path)}
    (found,) = check_data("a", facts, {"data": {"digits": {"hash": "c0ffee"}}})
    assert found.said == f"content {facts['data']['digits']['hash']} instead of the driver's c0ffee"


def test_a_sweep_that_asks_too_much_of_its_data_is_found(tiny, tmp_path):
    plan, found = tiny(shots=[5000]), []
    driver = {"data": _prepared(plan, tmp_path, console())}
    assert _studies(plan, tmp_path, driver, found) == ()
    assert "5000" in found[0].said


# Requests


def test_a_request_that_a_node_meets_says_how_many_trials_fit(tiny):
    small, large = {"CPU": 4.0, "memory": 8e9}, {"CPU": 16.0, "memory": 64e9}
    (found,) = check_request(tiny(), {"a": small, "b": large})
    assert found.ok
    assert found.said == "a trial asks for 1 CPU and 2.0 GB: 20 at a time"
    (found,) = check_request(tiny(workers=3), {"a": small, "b": large})
    assert found.said.endswith(": 3 at a time")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cpus_per_trial": 6}, "a trial asks for 6 CPUs and 2.0 GB, but no single node has that: the most are 4 CPUs"),
        ({"gpus_per_trial": 4}, "1 CPU, 4 GPUs and 2.0 GB, but no single node has that: the most are 4 CPUs, 2 GPUs"),
        (
            {"gpus_per_trial": 1, "memory_per_trial": 30},
            "1 CPU, 1 GPU and 30.0 GB, but no single node has that together: the most are 4 CPUs, 2 GPUs and 32.0 GB",
        ),
    ],
    ids=str,
)
def test_a_request_that_the_cluster_meets_only_in_all_is_refused(tiny, changes, said):
    nodes = {"a": {"CPU": 4.0, "GPU": 2.0, "memory": 8e9}, "b": {"CPU": 4.0, "GPU": 2.0, "memory": 8e9}}
    (found,) = check_request(tiny(**changes), nodes | {"c": {"CPU": 2.0, "memory": 32e9}})
    assert not found.ok
    assert said in found.said
    assert "a trial runs on one node" in found.remedy


def test_a_request_over_two_nodes_counts_places_on_different_ones(tiny):
    asks, large = tiny(processes=2, nodes_per_trial=2), {"CPU": 4.0, "memory": 8e9}
    (found,) = check_request(asks, {"a": large, "b": large | {"CPU": 3.0}})
    assert found.ok
    assert found.said == "a trial asks for 1 CPU and 2.0 GB on each of 2 nodes: 3 at a time"
    found = next(check_request(asks, {"a": large, "head": {"memory": 8e9}}))
    assert not found.ok
    assert found.said.endswith("on each of 2 nodes, but only 1 can give that")
    assert found.remedy == "lower nodes_per_trial, or add nodes"


def test_a_head_on_which_nothing_fits_is_a_warning(tiny):
    fits, head = check_request(tiny(), {"head": {"memory": 8e9}, "a": {"CPU": 4.0, "memory": 8e9}})
    assert "4 at a time" in fits.said
    assert (head.node, head.ok, head.said) == ("head", True, "no trial fits on it")


def test_one_and_a_half_gpus_are_refused_by_the_sentence_of_the_sweep(tmp_path):
    found = []
    assert _read(write_sweep(tmp_path, gpus_per_trial=1.5), found) is None
    assert "gpus_per_trial: 1.5 is impossible, expected a fraction up to 1 or a whole number" in found[0].said


# First trials


@pytest.fixture
def first_trial(tiny):
    """A first trial of a tiny sweep as the doctor trains it, with changes."""

    def make(**changes):
        (study,) = (study for study in studies_of(tiny()) if study.plan.name == "supervised")
        trial = study.trial(study.plan.settings, 0).as_dict()
        return try_trial(trial | changes, study.rungs[0].images, ".")

    return make


def test_a_first_trial_measures_its_memory_and_leaves_gpus_alone(first_trial, tiny):
    facts = first_trial()
    assert facts["problem"] == ""
    assert facts["images"] == 10 * 32, "an epoch"
    assert 1e8 < facts["peak_bytes"] < 8e9
    assert facts["touched"] is False
    (found,) = check_trial("supervised", "a", facts, tiny(memory_per_trial=8))
    assert found.ok
    assert found.said.endswith(f"GB at most in {facts['images']} images; memory_per_trial is 8 GB")


def test_a_first_trial_that_cannot_train_says_why(first_trial, tiny):
    (found,) = check_trial("supervised", "a", first_trial(dataset="nothing/here"), tiny())
    assert not found.ok
    assert "no data at 'nothing/here'" in found.said


def test_a_first_trial_is_cut_after_its_time(first_trial, monkeypatch):
    monkeypatch.setattr(doctor_node, "TRAIN_SECONDS", 0.0)
    assert first_trial(images=10_000, evaluate_every=10_000)["images"] < 1000


def test_memory_above_what_is_reserved_is_refused_with_a_proposal(tiny):
    facts = {"problem": "", "images": 4000, "peak_bytes": 2.5e9, "touched": False}
    (found,) = check_trial("sparse", "a", facts, tiny())
    assert not found.ok
    assert found.said == "2.5 GB at most in 4,000 images, but memory_per_trial is 2 GB"
    assert found.remedy == "set memory_per_trial: 3.2"


def test_the_share_of_a_gpu_is_proposed_from_what_was_taken(tiny):
    facts = {"problem": "", "images": 9, "peak_bytes": 1e9, "gpu_bytes": 4e9, "gpu_total": 80e9}
    _, found = check_trial("sparse", "a", facts, tiny(gpus_per_trial=0.5))
    assert found.ok
    assert found.said == "4.0 of the GPU's 80 GB: gpus_per_trial: 0.07 would do, 14 trials a GPU"
    _, found = check_trial("sparse", "a", facts, tiny(gpus_per_trial=0.02))
    assert not found.ok
    assert found.said == "4.0 of the GPU's 80 GB, more than gpus_per_trial: 0.02 allows"
    assert found.remedy == "set gpus_per_trial: 0.07"


def test_a_trial_on_cpus_that_wakes_a_gpu_is_a_warning(tiny):
    facts = {"problem": "", "images": 9, "peak_bytes": 1e9, "touched": True}
    _, found = check_trial("sparse", "a", facts, tiny())
    assert (found.ok, found.said) == (True, "a trial on CPUs woke a GPU")


@pytest.mark.skipif("sys.modules['torch'].cuda.is_available()", reason="there is a GPU")
def test_a_gpu_that_pytorch_does_not_see_is_found():
    found = check_gpu("a", try_gpu())
    assert not found.ok
    assert "sees no GPU where Ray has one" in found.said


# Together


def test_findings_that_differ_only_in_the_node_are_one_line():
    found = [Finding("disk", node, True, "plenty") for node in ("driver", "a", "b", "c")]
    found += [Finding("data", node, node != "b", "there" if node != "b" else "missing") for node in "abc"]
    assert [(each.name, each.node, each.said) for each in grouped(found, ["a", "b", "c"])] == [
        ("disk", "driver, all 3 nodes", "plenty"),
        ("data", "a, c", "there"),
        ("data", "b", "missing"),
    ]


def test_nodes_of_one_host_are_told_apart_and_dead_ones_left_out():
    def node(id, host, alive=True):
        return {"NodeID": id, "NodeManagerHostname": host, "Alive": alive, "Resources": {}}

    found = nodes_of([node("abcdefgh", "x"), node("bcdefghi", "x"), node("c", "y"), node("d", "y", alive=False)])
    assert [each.name for each in found] == ["x (abcdef)", "x (bcdefg)", "y"]


def test_the_table_and_the_lines_below_it():
    found = [
        Finding("disk", "a", True, "plenty"),
        Finding("clock", "a", True, "3 s ahead", "set it"),
        Finding("data", "b", False, "missing", "copy it"),
    ]
    screen = console()
    with screen.capture() as shown:
        screen.print(finding_table(found))
    assert [word in shown.get() for word in ("ok", "warning", "failed", "3 s ahead")] == [True] * 4
    assert remedy_lines(found) == ["failed: data (b): copy it", "warning: clock (a): set it"]
