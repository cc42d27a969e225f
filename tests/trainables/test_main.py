"""`python -m trainables` as a person meets it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import trainables
from search_spaces.constant import ConstantConfig
from trainables.__main__ import _line, _parser, _trial_values, main
from trainables.core.conditions import Conditions
from trainables.data.cache import CACHE_VARIABLE
from trainables.training.train import Progress
from trainables.training.trial import Trial

SMALL = ["--set", "classifier=test_resnet", "--set", "image_size=16", "--images", "60", "--threads", "1"]


def test_trains_and_prints_the_same_scores_again(capsys):
    arguments = ["supervised", "--dataset", "digits", "--shots", "2", "--set", "lr=1e-3", *SMALL]
    outputs = []
    for _ in range(2):
        assert main(arguments) == 0
        outputs.append(capsys.readouterr().out.partition("validation scores")[2])
    assert "balanced_accuracy" in outputs[0]
    assert outputs[0] == outputs[1]


def test_progress_names_images_and_scores(capsys):
    assert main(["constant", "--images", "200", "--evaluate-every", "100", "--label-set", "3", "--label-set", "4"]) == 0
    out = capsys.readouterr().out
    assert "  100/200 images" in out
    assert "label set 3: 50 labelled, 1097 unlabelled, 50 validation" in out
    assert "mean of 2 runs" in out


def test_tells_a_collapse_and_how_scores_were_selected(capsys):
    slow = ["--set", "lr=1e-8", "--set", "steps_per_epoch=1", "--set", "batch_size=10", "--statistics", "running"]
    slow += ["--set", "head_init=network"]  # large first logits, of one class
    arguments = ["supervised", "--shots", "2", *SMALL, *slow, "--images", "60", "--evaluate-every", "20"]
    assert main([*arguments, "--selection", "mean3", "--accumulate", "2"]) == 0
    out = capsys.readouterr().out
    scores = [float(score) for score in re.findall(r"balanced accuracy (\S+)", out)]
    assert "validation scores, mean of the last 3 evaluations\n" in out
    assert float(re.search(r"balanced_accuracy (\S+)", out)[1]) == pytest.approx(sum(scores) / 3, abs=1e-4)
    assert re.search(r"\n  collapsed: supervised names class \d for all 20 validation images\nvalidation", out)
    assert main(["constant", "--images", "50"]) == 0
    assert "collapsed" not in capsys.readouterr().out


def test_a_flag_not_given_leaves_what_a_file_says(capsys, tmp_path):
    trial = Trial(method="constant", config=ConstantConfig(), dataset="digits", shots=5,
                  conditions=Conditions(images=1, selection="mean3", accumulate=2, compile=True))  # fmt: skip
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(trial.as_dict()))
    options = _parser().parse_args(["--config", str(tmp_path / "trial.yaml")])
    assert Trial.from_dict(_trial_values(options)) == trial
    changed = _parser().parse_args(["constant", "--selection", "mean3", "--accumulate", "2", "--compile"])
    values = _trial_values(changed)
    assert (values["selection"], values["accumulate"], values["compile"]) == ("mean3", 2, True)


def test_pseudo_label_accuracy_is_on_the_line_of_its_epoch():
    losses = dict.fromkeys("abcde", 1.0) | {"pseudo_accuracy": 0.75}
    assert _line(9, Progress(3, 30, losses, {}, 1.0)).endswith("  d 1  pseudo-label accuracy 0.7500")
    assert "pseudo" not in _line(9, Progress(3, 30, {"a": 1.0}, {}, 1.0))


def test_masks_are_told_in_both_conventions(capsys, tmp_path):
    settings = {"image_size": 16, "features": 8, "stages": 2, "d_state": 2, "batch_size": 4, "steps_per_epoch": 2}
    changes = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    arguments = ["segmenter", "--dataset", "shapes@16", "--shots", "3", "--images", "16", "--evaluate-every", "8"]
    outputs = []
    for _ in range(2):
        assert main([*arguments, *changes, "--threads", "1", "--checkpoints", str(tmp_path)]) == 0
        outputs.append(capsys.readouterr().out)
    assert "label set 0: 3 labelled, 177 unlabelled, 3 validation" in outputs[0]
    assert "segmenter: dice fg 0." in outputs[0]
    assert "(from checkpoint)" in outputs[1]
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]
    assert re.search(r"dice_fg \S+  iou_fg \S+  mdice_2 \S+  miou_2 \S+$", outputs[0])


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False)])
def test_one_of_many_processes_speaks(rank, speaks, capsys, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("trainables.training.processes.is_launched", lambda: True)
    assert main(["constant", "--images", "50"]) == 0
    assert ("balanced_accuracy" in capsys.readouterr().out) == speaks
    assert main(["constnat"]) == 2
    assert "did you mean 'constant'" in capsys.readouterr().err


FOREIGN = {
    "PMI_SIZE": "4", "OMPI_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_SIZE": "4", "WORLD_SIZE": "4", "LOCAL_RANK": "0",
    "RANK": "1", "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_MIXED_PRECISION": "fp8", "SLURM_NTASKS": "4",
}  # fmt: skip


def test_what_a_foreign_launcher_left_changes_nothing(capsys, monkeypatch):
    arguments = ["supervised", "--dataset", "digits", "--shots", "2", *SMALL]
    outputs = []
    for variables in ({}, FOREIGN):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert main(arguments) == 0
        outputs.append(capsys.readouterr().out.partition("validation scores")[2])
    assert outputs[0] == outputs[1] != ""


def test_goes_on_from_checkpoints(capsys, tmp_path):
    arguments = ["constant", "--images", "200", "--evaluate-every", "100", "--checkpoints", str(tmp_path)]
    main(arguments)
    capsys.readouterr()
    main(arguments)
    assert "(from checkpoint)" in capsys.readouterr().out


def test_a_preset_and_a_change(capsys):
    small = ["--set", "width=4", "--set", "critic_width=4", "--set", "unsup_fraction=0.02", *SMALL]
    assert main(["sparse", "--preset", "reference", "--shots", "1", *small]) == 0
    assert "sparse_ens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sprase"], "did you mean 'sparse'"),
        ([], "name a method"),
        (["constant", "--shots", "5000"], "5000"),
        (["constant", "--dataset", "digit"], "did you mean 'digits'"),
        (["sparse", "--set", "percentile=1.7"], "percentile: 1.7 is impossible"),
        (["sparse", "--set", "percentile"], "expected FIELD=VALUE"),
        (["sparse", "--preset", "papr"], "did you mean 'paper'"),
        (["constant", "--validation", "full"], "'full' is unknown"),
        (["supervised", "--set", "classifier=resnet10tt"], "resnet10t"),
        (["--config", "missing.yaml"], "cannot read missing.yaml"),
        (["segmenter"], "'digits' has no masks of pictures, which segmentation needs; use one of idrid-disc, shapes"),
        (["constant", "--dataset", "shapes"], "'shapes' has no classes of images, which classification needs"),
        (["segmenter", "--set", "image_size=40"], "expected a multiple of 16, or encoder_depth below 4"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


ODD = "./two\nlines\x1b[31m\u2028and more.npz"
FEW = ["--shots", "2", "--images", "60", "--threads", "1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pixels", "--dataset", ODD], r"error: no data at './two lines\x1b[31m"),
        (["probe", *FEW], "error: a stage cannot be written to"),
        (["constant", "--checkpoints", "a file/runs", *FEW], "error: "),
        (["constant", "--config", "a folder"], "error: cannot read a folder"),
        (["constant", "--dataset", "scans"], "scans/a/0.png cannot be read as a picture; expected PNG"),
    ],
    ids=["name", "cache", "checkpoints", "config", "picture"],
)
def test_whatever_goes_wrong_is_one_line(arguments, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, "a file/cache")
    Path("a file").write_text("")
    Path("a folder").mkdir()
    for kind in "ab":
        Path("scans", kind).mkdir(parents=True)
        Path("scans", kind, "0.png").write_bytes(b"no picture")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert error.rstrip("\n").isprintable()


def test_a_process_says_it_in_one_line_too(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(trainables.__file__).parents[1])}
    command = [sys.executable, "-m", "trainables", "pixels", "--dataset", ODD]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith(r"error: no data at './two lines\x1b[31m")
    assert done.stderr.count("\n") == 1


@pytest.mark.realdata
@pytest.mark.skipif("SPARSE_SEARCH_DATA" not in os.environ, reason="set SPARSE_SEARCH_DATA to a folder of real images")
@pytest.mark.parametrize("dataset", ["pneumoniamnist", "dermamnist"])
def test_sparse_trains_on_real_images(dataset, capsys):
    small = ["--set", "width=4", "--set", "critic_width=4", "--set", "unsup_fraction=0.01", "--set", "mu=2", *SMALL]
    assert main(["sparse", "--dataset", dataset, "--shots", "5", "--label-set", "1", *small]) == 0
    out = capsys.readouterr().out
    assert "label set 1" in out
    scores = [float(score) for score in re.findall(r"balanced_accuracy (\S+)", out)]
    assert len(scores) == len(("sparse_ens", "sparse"))
    assert all(0 <= score <= 1 for score in scores)


def test_files_to_look_at_lie_beside_the_checkpoints(capsys, tmp_path):
    tiny = {"generator_images": 80, "generator_batch": 8, "generator_width": 4, "generator_channel_base": 32,
            "z_dim": 8, "steps_per_epoch": 1, "batch_size": 16, "score_images": 1}  # fmt: skip
    settings = [text for name, value in tiny.items() for text in ("--set", f"{name}={value}")]
    arguments = ["ssgnet", "--shots", "2", *SMALL, *settings, "--images", "96", "--checkpoints", str(tmp_path)]
    outputs = []
    for _ in range(2):
        assert main(arguments) == 0
        outputs.append(capsys.readouterr().out)
    assert "  generator 9: made in " in outputs[0]
    assert "11 files to look at in " in outputs[0]
    assert [p.name for p in tmp_path.glob("*/artefacts/*") if p.suffix == ".json"] == ["stages.json"]
    assert [out.splitlines()[-1] for out in outputs] == [outputs[0].splitlines()[-1]] * 2
    assert main([*arguments[:-2], "--set", "lr=1e-3"]) == 0
    assert "  generator 9: found in the cache, made in " in capsys.readouterr().out
