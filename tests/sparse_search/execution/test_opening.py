"""Journals as a driver opens them: built again where they are lost or damaged, and edits of the sweep are told."""

import re

import pytest

from search_spaces.core.config import write_config
from sparse_search.execution.opening import changes, close_orphans, ended_journals, open_journals, tell_edits
from sparse_search.execution.status import note_plans
from sparse_search.execution.worker import record_id
from sparse_search.search.outcomes import Result, search_value
from trainables.core.conditions import PROTOCOL
from trainables.training.run import runs_of_trial

from ..conftest import TINY, scores, studies_of

MEASURES = {"train_seconds": 15.0, "seconds_per_image": 15 / 200, "peak_memory_bytes": 1000}
CONFUSIONS = [((4, 1), (2, 3)), ((5, 0), (1, 4)), ((3, 2), (2, 3)), ((4, 1), (1, 4)), ((5, 0), (5, 0))]


class Scene:
    """A sweep whose driver trains nothing: it tells what a worker would have told, and writes the records."""

    def __init__(self, folder, store, tiny, make_record):
        self.path, self.store, self.tiny, self.make_record = folder / "journal.log", store, tiny, make_record
        self.said = []

    def open(self, **changes):
        self.said.clear()
        studies = studies_of(self.tiny(**({"confirm": 2, "confirm_label_sets": 2, "pruner": "halving"} | changes)))[:1]
        searches, confirmations = open_journals(self.path, studies, self.store, self.said.append)
        searches[0].propose_starts()
        return searches[0], confirmations[0]

    def train(self, journal, count=1, told=True, status=""):
        """Finish trials, the third of each five stopped early, the fifth collapsed."""
        for _ in range(count):
            trial, planned = journal.ask()
            study, kind = journal.study, trial.number % 5
            ending = status or {2: "pruned", 4: "collapsed"}.get(kind, "complete")
            point = scores(CONFUSIONS[kind])
            value = search_value(study.plan.objective, point.get)
            if len(study.rungs) > 1:
                journal.report(trial, 1, value)
            for run in runs_of_trial(planned):
                record = self.make_record(0, label_set=run.label_set) | planned.conditions.as_columns() | {
                    "record_id": record_id(run.run_id("a"), study.name, trial.number, "tiny") + f"-{ending}",
                    "run_id": run.run_id("a"), "trial_id": planned.trial_id, "num_runs": len(runs_of_trial(planned)),
                    "sweep": "tiny", "study": study.name, "number": trial.number, "content_hash": "a", "shots": 2,
                    "start": trial.user_attrs.get("start", ""), "config": write_config(planned.config),
                    "label_sets": study.label_sets_text, "protocol": PROTOCOL, "status": ending,
                }  # fmt: skip
                for each in record["curve"]:
                    each["selected"] = each["scores"] = {"supervised": point}
                self.store.write(record | ({"told": journal.told(trial, value)} if told else {}))
            if ending == "complete":
                seconds = MEASURES["train_seconds"] * len(runs_of_trial(planned))
                journal.complete(trial, value, Result(MEASURES | {"train_seconds": seconds}, (0.1, 0.9)))
            elif ending == "pruned":
                journal.prune(trial)
            else:
                journal.reject(trial, ending, "names class 0")


@pytest.fixture
def scene(tmp_path, store, tiny, make_record):
    return Scene(tmp_path, store, tiny, make_record)


def told(journal):
    """What a study knows of its finished trials."""
    return [
        (frozen.number, frozen.state, frozen.values, frozen.params, frozen.intermediate_values,
         frozen.user_attrs.get("outcome"), frozen.user_attrs.get("start"), frozen.user_attrs["config_id"],
         frozen.user_attrs.get("train_seconds"), frozen.user_attrs.get("confirms"))
        for frozen in journal._trials() if frozen.state.is_finished()
    ]  # fmt: skip


@pytest.mark.parametrize("with_told", [True, False])
def test_s10_a_journal_that_is_gone_is_built_again_from_the_records(scene, with_told):
    search, confirmation = scene.open()
    scene.train(search, 5, with_told)
    confirmation.propose_best_of(search)
    scene.train(confirmation, 2, with_told, status="complete")
    before, confirmed = told(search), told(confirmation)
    status = search.status()
    assert len(before) == 5
    scene.path.unlink()
    search, confirmation = scene.open()
    assert scene.said == [
        "the search is built again from the records: 7 finished trials are known and not trained again"
    ]
    if with_told:
        assert (told(search), told(confirmation)) == (before, confirmed)
    else:  # of before: values as the worker computes them; the mean has one rounding more
        assert [row[:2] + row[5:] for row in told(search)] == [row[:2] + row[5:] for row in before]
        assert [row[2] for row in told(search)] == [pytest.approx(row[2]) for row in before]
        assert len(told(confirmation)) == 2
    assert (search.status().finished, search.status().num_open, search.status().best) == (
        status.finished, 0, pytest.approx(status.best),
    )  # fmt: skip
    confirmation.propose_best_of(search)
    assert confirmation.status().num_open == 3 - 2
    scene.open()
    assert scene.said == []


def test_s10_numbers_stay_what_they_were_and_what_was_in_training_is_asked_again(scene):
    search, _ = scene.open()
    scene.train(search, 2)
    lost, _ = search.ask()
    scene.train(search, 1)
    scene.path.unlink()
    search, _ = scene.open()
    trials = search._trials()
    assert [frozen.user_attrs.get("outcome") for frozen in trials[: lost.number + 2]] == [None, None, "lost", None]
    assert (search.status().finished, search.status().num_open) == (3, 2)


def test_s10_a_damaged_journal_keeps_what_was_whole_and_takes_the_rest_from_the_records(scene):
    search, _ = scene.open()
    scene.train(search, 1)
    running, planned = search.ask()
    lines = scene.path.read_bytes().splitlines(keepends=True)
    scene.train(search, 3)
    before = told(search)
    after = scene.path.read_bytes().splitlines(keepends=True)
    at = len(lines) + 2
    after[at] = after[at].replace(b'"op_code":', b'"op_cude":')
    scene.path.write_bytes(b"".join(after))
    search, _ = scene.open()
    assert re.fullmatch(
        rf"line {at + 1} of the journal is damaged \(its checksum differs\); it is kept as .*", scene.said[0]
    )
    assert scene.said[1].startswith("the search is built again from the records: 4 finished trials")
    assert told(search) == before
    ((adopted, again),) = search.running()
    assert (adopted.number, again) == (running.number, planned)
    (aside,) = scene.path.parent.glob("journal.log.damaged-*")
    assert aside.read_bytes() == b"".join(after)


def test_s10_a_damaged_end_is_told_and_its_trial_goes_on(scene):
    search, _ = scene.open()
    scene.train(search, 2)
    content = scene.path.read_bytes()
    scene.path.write_bytes(content[:-4] + b"x" + content[-3:])
    search, _ = scene.open()
    assert scene.said == [f"the journal {scene.path} ended in 1 damaged line, which never happened"]
    assert len(search.running()) == 1


def test_a_new_sweep_says_nothing_of_records(scene, make_record):
    scene.store.write(make_record(0, sweep="other"))
    scene.open()
    assert scene.said == []


def test_s6_a_start_says_what_goes_on(scene):
    search, _ = scene.open()
    scene.train(search, 2)
    search.ask()
    search, _ = scene.open()
    tell_edits([search], scene.said.append)
    assert scene.said == [
        "supervised · digits · 2 shots: goes on with 2 of 5 trials finished, 1 in training is taken up"
    ]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"images": 160}, "images is 160, was 80"),
        ({"seed": 3}, "seed is 3, was 0"),
        ({"objective": "accuracy"}, "objective is accuracy, was balanced_accuracy"),
        ({"label_sets": [0, 1]}, r"label_sets is \[0, 1\], was \[0\]"),
        ({"precision": "bf16"}, "precision is bf16, was no"),
        (
            {"methods": {"supervised": TINY["methods"]["supervised"] | {"search": ["lr"]}}},
            "search: dropout is not there, was",
        ),
        ({"sampler": "nsga2", "pruner": "none"}, "rungs is|objectives have changed"),
    ],
    ids=str,
)
def test_s6_an_edit_that_begins_a_new_search_is_told(scene, edit, why):
    search, _ = scene.open()
    scene.train(search, 3)
    running, _ = search.ask()
    left = search.study.name
    edited, other = scene.open(**edit)
    tell_edits([edited], scene.said.append)
    (line,) = scene.said
    assert re.search(why, line), line
    assert line.startswith("supervised · digits · 2 shots: a new search begins, as ")
    assert f"3 finished trials of '{left}' are left behind" in line
    said = []
    assert left in close_orphans([edited, other], said.append)
    assert said == [f"1 trials in training of '{left}' are closed, as nothing asks for them"]
    back, _ = scene.open()
    assert back.study.name == left
    assert (back.status().finished, back.status().running) == (3, 0)
    again = back.ask()[0]
    assert (again.user_attrs["retry_of"], again.params) == (running.number, running.params)


@pytest.mark.parametrize(
    "edit",
    [{"cpus_per_trial": 4}, {"compile": True}, {"max_memory": 9.0}, {"cpus_per_trial": 2, "processes": 2}],
    ids=str,
)
def test_s6_what_only_rounds_otherwise_and_limits_go_on(scene, edit):
    search, confirmation = scene.open()
    scene.train(search, 5)
    confirmation.propose_best_of(search)
    scene.train(confirmation, 3, status="complete")
    edited, confirming = scene.open(**edit)
    assert edited.study.name == search.study.name
    assert (edited.status().finished, confirming.status().finished) == (5, 3)
    assert close_orphans([edited, confirming], scene.said.append) == []
    tell_edits([edited], scene.said.append)
    assert scene.said == ["supervised · digits · 2 shots: goes on with 5 of 5 trials finished"]


def test_changes_are_named_and_the_rest_counted():
    assert changes(None, {}) == "what makes its scores comparable has changed"
    assert changes({"a": "1"}, {"a": "2"}) == "a is 2, was 1"
    many = {str(n): "1" for n in range(9)}
    assert changes({}, many).endswith("3 is 1, was not there and 5 more")


def test_s10_a_kill_while_a_journal_is_built_again_loses_nothing(scene, monkeypatch):
    search, _ = scene.open()
    scene.train(search, 4)
    before = told(search)
    scene.path.unlink()
    with monkeypatch.context() as then:
        then.setattr("pathlib.Path.replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scene.open()
    search, _ = scene.open()
    assert told(search) == before


def test_s7_what_a_raised_limit_admits_is_ranked(scene):
    search, _ = scene.open(max_memory=1e-7)
    trial, planned = search.ask()
    (run,) = runs_of_trial(planned)
    name = record_id(run.run_id("a"), search.study.name, trial.number, "tiny")
    about = {"study": search.study.name, "number": trial.number, "sweep": "tiny", "run_id": run.run_id("a"), "shots": 2}
    scene.store.write(scene.make_record(0, status="infeasible") | about | {"record_id": f"{name}-infeasible"})
    search.complete(trial, 0.7, Result(MEASURES), infeasible=search.beyond_limits(MEASURES))
    assert search.status().infeasible == 1
    for _ in range(2):
        raised, _ = scene.open(max_memory=9.0)
        assert (raised.status().infeasible, raised.status().complete) == (0, 1)
        assert sorted(scene.store.runs()["status"].to_pylist()) == ["complete", "infeasible"]


@pytest.fixture
def ended(scene):
    """A sweep with all its trials finished, and its plan noted as of a file `f`."""
    search, confirmation = scene.open()
    note_plans([(search, confirmation)], "f")
    scene.train(search, 5)
    confirmation.propose_best_of(search)
    scene.train(confirmation, confirmation.status().num_open, status="complete")
    return search, confirmation


def looked_at(scene, of="f", **changes):
    edit = {"confirm": 2, "confirm_label_sets": 2, "pruner": "halving"} | changes
    return ended_journals(scene.path, studies_of(scene.tiny(**edit))[:1], of)


def test_a_sweep_that_has_ended_is_looked_at_without_the_values_of_settings(scene, ended):
    before = scene.path.read_bytes()
    (search,), (confirmation,) = looked_at(scene)
    assert [search.status(), confirmation.status()] == [journal.status() for journal in ended]
    assert search.failures() == ended[0].failures()
    assert search.checkpoints_in_use() == set()
    assert any(frozen.params for frozen in ended[0]._trials())
    assert not any(frozen.params for frozen in search._trials()), "they are most of a journal, and are not read"
    assert scene.path.read_bytes() == before


@pytest.mark.parametrize("changes", [{"of": "another file"}, {"images": 160}, {"max_memory": 1e-6}], ids=str)
def test_a_sweep_that_was_edited_has_not_ended(scene, ended, changes):
    assert looked_at(scene) is not None
    assert looked_at(scene, **changes) is None


def test_a_sweep_with_something_open_has_not_ended(scene):
    assert looked_at(scene) is None, "there is no journal"
    search, confirmation = scene.open()
    note_plans([(search, confirmation)], "f")
    scene.train(search, 4)
    assert looked_at(scene) is None
    scene.train(search, 1)
    assert looked_at(scene) is None, "nothing is confirmed"
    confirmation.propose_best_of(search)
    assert looked_at(scene) is None
    scene.train(confirmation, confirmation.status().num_open, status="complete")
    assert looked_at(scene) is not None


def test_a_damaged_journal_has_not_ended(scene, ended):
    content = scene.path.read_bytes()
    scene.path.write_bytes(content.replace(b'"supervised', b'"supervisee', 1))
    assert looked_at(scene) is None
