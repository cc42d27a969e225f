from sparse_search.trackers.tracker import Point, run_of


def test_a_record_as_trackers_see_it(growing):
    run = run_of(growing(2, "pruned", label_set=1))
    assert run.name == "supervised digits 5-shot 0a1b · trial 3 · label set 1"
    assert run.folder == "supervised_digits_5-shot_0a1b/trial_00003-set_1-fold_0"
    assert (run.images, run.status, run.settings["lr"], run.facts["study"]) == (
        200, "pruned", 0.01, "supervised digits 5-shot 0a1b"
    )  # fmt: skip
    assert [point.images for point in run.points] == [100, 200]
    first = run.points[0].values
    assert (first["train/loss"], first["supervised/auroc"], first["supervised/accuracy"]) == (0.2, 0.25, 0.7)
    assert "train/epoch" not in first
    assert run.final["final/supervised/auroc"] == 0.6


def test_one_key_a_run_at_every_try(growing):
    keys = {run_of(growing(num, status)).key for num, status in ((0, ""), (1, ""), (2, "failed"), (2, "complete"))}
    again = growing(2) | {"number": 9}  # tried again under another number
    others = [growing(2, label_set=1), growing(2) | {"sweep": "other"}, growing(2) | {"study": "other"}]
    assert keys == {run_of(again).key}
    assert len(keys | {run_of(other).key for other in others}) == 4


def test_what_has_no_value_is_left_out(growing):
    record = growing(1)
    record["curve"][0]["losses"] = [{"epoch": 1, "loss": float("nan"), "g": 2.0}, {"epoch": 2, "g": 3}]
    record["curve"][0]["scores"] = {"supervised": {"auroc": None, "accuracy": 0.5}}
    assert run_of(record).points == (Point(100, {"supervised/accuracy": 0.5, "train/g": 3.0}),)
    assert run_of(growing(0)).points == ()
