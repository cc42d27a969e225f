"""Results at a URI: pulled, sent, interrupted, damaged, by two at once; against a server that speaks S3."""

import http.server
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.analysis.leaderboard import leaderboard
from sparse_search.results.catalog import SetAsideWarning
from sparse_search.results.ledger import look_now, looks, write_look
from sparse_search.results.mirror import MirroredStore, pack_records, pull, read_store, send, send_records, store_at
from sparse_search.results.object_store import Objects, StorageError, is_uri, objects_at
from sparse_search.results.predictions import artefact_folder, artefacts_of
from sparse_search.results.store import Store


def names(store):
    return sorted(record["record_id"] for record in store.records())


def fill(store, make_record, numbers, sweep="test"):
    """Writes records, and sends them; their names."""
    for number in numbers:
        store.write(make_record(number, sweep=sweep))
    send_records(store, sweep)
    return sorted(make_record(number)["record_id"] for number in numbers)


def test_a_folder_stays_a_folder(tmp_path):
    assert read_store(tmp_path) == Store(tmp_path) == store_at(str(tmp_path))
    assert not is_uri("results/s3")
    assert is_uri(Path("s3://bucket/results"))  # a path has lost one of the slashes
    assert objects_at(Path("s3://bucket/results/")) == Objects("s3://bucket/results")


def test_what_was_sent_is_read_elsewhere_and_asked_for_once(bucket, move_to, make_record, object_storage):
    sent = fill(store_at(bucket), make_record, range(30))
    move_to("elsewhere")
    assert len(leaderboard(bucket, every=True)) == 30
    before = object_storage.num_requests()
    assert names(read_store(bucket)) == sent
    assert object_storage.num_requests() - before <= 6
    move_to("here")
    assert names(read_store(bucket)) == sent  # its own come back, and are known
    assert read_store(bucket).num_records() == 30


def test_many_records_are_brought_together_and_none_is_doubled(bucket, move_to, make_record, object_storage):
    store = store_at(bucket)
    sent = fill(store, make_record, range(120))
    move_to("early")
    assert names(read_store(bucket)) == sent
    pack_records(store, "test")
    sent += fill(store, make_record, [120])
    assert len(store.objects.sizes("records")) == 2
    assert names(read_store(bucket)) == sent
    move_to("late")
    before = object_storage.num_requests()
    late = read_store(bucket)
    assert object_storage.num_requests() - before < 20
    assert names(late) == sent
    pack_records(late, "test")  # a single one is not worth it
    assert len(store.objects.sizes("records")) == 2


def test_records_that_are_brought_together_meanwhile_are_found(bucket, move_to, make_record, monkeypatch):
    store = store_at(bucket)
    sent = fill(store, make_record, range(100))
    move_to("elsewhere")
    listing = Objects.sizes

    def sizes(objects, folder):
        found = listing(objects, folder)
        monkeypatch.setattr(Objects, "sizes", listing)
        pack_records(store, "test")
        return found

    monkeypatch.setattr(Objects, "sizes", sizes)
    assert names(read_store(bucket)) == sent


def test_a_pull_that_ended_half_way_is_done_again(bucket, move_to, make_record, monkeypatch):
    sent = fill(store_at(bucket), make_record, range(8))
    move_to("elsewhere")
    getting, got = Objects.get, []

    def get(objects, name):
        got.append(name)
        if len(got) > 5:
            raise StorageError("the network is gone")
        return getting(objects, name)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "get", get)
        with pytest.raises(ResultsError, match="the network is gone"):
            read_store(bucket)
    assert 0 < len(names(store_at(bucket))) < 8
    assert names(read_store(bucket)) == sent


def test_what_could_not_be_sent_waits(bucket, move_to, make_record, monkeypatch, object_storage):
    store = store_at(bucket)
    away = MirroredStore(store.folder, objects_at(f"{bucket}?endpoint_override=127.0.0.1:1&scheme=http"))
    away.write(make_record(1))
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1 cannot be reached"):
        send_records(away, "test")
    assert names(away) == [make_record(1)["record_id"]]
    sent = fill(store, make_record, [2])
    assert not list(store.outbox("test").iterdir())
    move_to("elsewhere")
    assert names(read_store(bucket)) == sorted([make_record(1)["record_id"], *sent])


def test_what_is_damaged_here_comes_again(bucket, move_to, make_record):
    sent = fill(store_at(bucket), make_record, range(6))
    move_to("elsewhere")
    store = read_store(bucket)
    (lines,) = store.folder.glob("records/*/*/*/*.jsonl")
    lines.write_bytes(lines.read_bytes()[:-100])
    (table,) = store.folder.glob("tables/runs/*/*/*/*.parquet")
    table.write_bytes(b"")
    with pytest.warns(SetAsideWarning):
        assert len(store.runs()) == 5
    assert len(read_store(bucket).runs()) == 6
    assert names(store) == sent


def test_what_is_damaged_there_is_told_once(bucket, move_to, make_record):
    store = store_at(bucket)
    sent = fill(store, make_record, range(2))
    store.objects.put("records/test/new/cut.json", b'{"record_id":"cut"')
    move_to("elsewhere")
    with pytest.warns(SetAsideWarning, match=r"s3://.*cut\.json.*left out"):
        assert names(read_store(bucket)) == sent
    assert names(read_store(bucket)) == sent


def test_what_is_sent_in_parts_is_whole(bucket):
    objects, content = objects_at(bucket), bytes(range(256)) * 80_000  # a part has ten million bytes
    objects.put("large", content)
    assert objects.get("large") == content
    assert objects.sizes("") == {"large": len(content)}


def test_two_write_at_once(bucket, move_to, make_record):
    one = store_at(bucket)
    move_to("elsewhere")
    other = store_at(bucket)
    assert one.folder != other.folder
    sent = fill(one, make_record, range(3), sweep="one") + fill(other, make_record, range(3, 120), sweep="other")
    pack_records(other, "other")
    for store in (one, other):
        pull(store)
        assert names(store) == sorted(sent)


def test_looks_and_artefacts_travel(bucket, move_to, make_record):
    store, run = store_at(bucket), make_record(1)
    about = dict.fromkeys(
        ("why", "dataset", "content_hash", "validation", "method", "config_id"), "x"
    ) | {"shots": 5, "label_sets": [0], "num_images": 9, "test": {}, "validated": {}, "versions": {}}  # fmt: skip
    write_look(store.folder, look_now(**about))
    send(bucket, "ledger")
    folder = artefact_folder(store.folder, run)
    folder.mkdir(parents=True)
    (folder / "predictions.parquet").write_bytes(b"what it says")
    (folder / "heat_maps.png").write_bytes(b"where it looks")
    send(bucket, folder.relative_to(store.folder).as_posix())
    move_to("elsewhere")
    assert [look.why for look in looks(read_store(bucket).folder)] == ["x"]
    here = artefacts_of(bucket, run, "heat_maps.png")
    assert [path.read_bytes() for path in here.iterdir()] == [b"where it looks"]
    (artefacts_of(bucket, run) / "heat_maps.png").write_bytes(b"cut")
    assert {path.read_bytes() for path in artefacts_of(bucket, run).iterdir()} == {b"what it says", b"where it looks"}


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("ftp://host/results", "expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
        ("s3://", "expected a folder"),
        ("s3://key:secret@bucket/results", "credentials do not belong there"),
        ("s3://bucket/results?colour=red", "colour"),
    ],
)
def test_a_place_that_is_none(place, said):
    with pytest.raises(ConfigError, match=said) as problem:
        read_store(place)
    assert "secret@" not in str(problem.value)


def test_no_bucket(bucket):
    for act in (read_store, lambda place: objects_at(place).put("a", b"b")):
        with pytest.raises((ResultsError, StorageError), match="there is no bucket none-of-that-name"):
            act("s3://none-of-that-name/results")


@contextmanager
def refusing():
    """The address of a server that allows nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else content)

        do_HEAD = do_PUT = do_POST = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_no_permission_and_no_credentials(bucket, monkeypatch, tmp_path):
    with refusing() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(ResultsError, match="access denied: these credentials are not valid, or may not"):
            read_store("s3://bucket/results")
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        with pytest.raises(ResultsError, match="access denied, and no credentials were found: set AWS_ACCESS_KEY_ID"):
            read_store("s3://bucket/other")
