"""Every tracker keeps a run once, however often a sweep starts; read back by the library it is written for."""

import json
from struct import unpack_from
from types import SimpleNamespace

import pytest

from sparse_search.trackers.choices import find_tracker, tracker_names
from sparse_search.trackers.following import Follower, Following


def from_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    for place in sorted(path for path in folder.glob("*/*/*") if path.is_dir()):
        events = EventAccumulator(str(place), size_guidance={"tensors": 0, "scalars": 0}).Reload()
        curves = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        metadata = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = plugin_data_pb2.HParamsPluginData.FromString(metadata).session_start_info.hparams
        yield SimpleNamespace(name=place.name, curves=curves, lr=settings["lr"].number_value, status=None)


def from_mlflow(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = (each for each in client.search_experiments() if each.name == "tiny")
    for run in client.search_runs([experiment.experiment_id]):
        curves = {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        assert run.info.status == "FINISHED"
        status = run.data.tags["sparse_search.status"]
        yield SimpleNamespace(name=run.info.run_name, curves=curves, lr=float(run.data.params["lr"]), status=status)


def entries_of(path, header=7, block=32768):
    """Entries of a file of W&B: LevelDB's log format behind a header."""
    content, place, whole = path.read_bytes(), header, b""
    while place + header <= len(content):
        if block - place % block < header:
            place += block - place % block
        size, kind = unpack_from("<HB", content, place + 4)
        whole += content[place + header : place + header + size]
        place += header + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def from_wandb(folder):
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        curves, found = {}, SimpleNamespace(status=None)
        for record in map(Record.FromString, entries_of(path)):
            if record.WhichOneof("record_type") == "run":
                found.name = record.run.display_name
                (found.lr,) = (json.loads(item.value_json) for item in record.run.config.update if item.key == "lr")
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name, value in items.items():
                if not name.startswith("_"):
                    curves.setdefault(name, []).append((record.history.step.num, value))
            summary = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update}
            found.status = summary.get("status", found.status)
            curves |= {name: [(200, value)] for name, value in summary.items() if name.startswith("final/")}
        found.curves = curves
        yield found


READERS = {"tensorboard": from_tensorboard, "mlflow": from_mlflow, "wandb": from_wandb}


def follow(name, folder, records):
    """One start of a sweep."""
    kind, said = find_tracker(name), []
    found = Following([Follower(name, kind.open(folder, "tiny"), kind.at_end_only)], said.append)
    for record in records:
        found.take(record)
    found.close()
    assert said == []


@pytest.mark.parametrize("name", tracker_names())
def test_a_run_is_kept_once_however_often_a_sweep_starts(name, growing, tmp_path, monkeypatch):
    pytest.importorskip(name, reason=f"tracker {name} needs its library: pip install '.[{name}]'")
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    follow(name, tmp_path, [growing(1)])  # and killed
    for torn in tmp_path.rglob("events.out.tfevents.*"):
        torn.write_bytes(torn.read_bytes() + b"\x18\0\0\0\0\0\0\0\xa3\x7f")  # half an entry
        torn.rename(torn.with_name("events.out.tfevents.1700000000.node.1"))  # that of an earlier process
    follow(name, tmp_path, [growing(1), growing(2), growing(2, "complete"), growing(2, "complete", label_set=1)])
    follow(name, tmp_path, [growing(2, "complete"), growing(2, "complete", label_set=1)])
    found = list(READERS[name](tmp_path))
    assert len(found) == 2
    for run in found:
        assert run.curves["supervised/auroc"] == [(100, 0.25), (200, 0.5)]
        assert run.curves["train/loss"] == [(100, pytest.approx(0.2)), (200, pytest.approx(0.1))]
        assert run.curves["final/supervised/auroc"] == [(200, pytest.approx(0.6))]
        assert run.lr == 0.01
        assert run.status in (None, "complete")
        assert "trial" in run.name
