"""The shipped suite passes a user's own method in one line, and finds what is wrong with a bad one."""

import subprocess
import sys

import pytest

from search_spaces.core.errors import ConfigError
from trainables.testing import conformance
from trainables.testing.knobs import Knobs
from trainables.testing.lab import Lab
from trainables.testing.subject import Subject

MODULE = "tests.trainables.testing.own_method"

TestOwn = conformance(f"{MODULE}:METHOD", small={"noise_side": 8})


def own(attribute):
    return conformance(f"{MODULE}:{attribute}", small={"noise_side": 8})()


def test_its_own_sizes_are_used():
    subject = Subject(f"{MODULE}:METHOD", {"noise_side": 8})
    assert (subject.config().noise_side, subject.config().image_size) == (8, 16)
    assert subject.config(noise_side=9).noise_side == 9


def test_a_size_that_there_is_not_is_told_at_once():
    with pytest.raises(TypeError, match="noise_size"):
        conformance(f"{MODULE}:METHOD", small={"noise_size": 8})
    with pytest.raises(ConfigError, match="unknown"):
        conformance("sparze")


def test_a_dead_setting_is_found(tmp_path):
    lab = Lab(Subject(f"{MODULE}:DEAF", {"noise_side": 8}))
    assert lab.is_alive("speed")
    assert not lab.is_alive("temperature")


def test_a_dead_setting_is_found_behind_a_stage_that_the_baseline_made(tmp_path):
    subject = Subject(f"{MODULE}:STAGED")
    knobs = Knobs(subject, subject.task(num_classes=2, shots=2, num_unlabelled=8), epochs=2, max_values=2)
    assert knobs.is_alive("lr")
    assert knobs.is_alive("generator_lr")
    assert not knobs.is_alive("nothing")


def test_what_is_not_put_back_is_found(tmp_path):
    with pytest.raises(AssertionError):
        own("FORGETFUL").test_two_epochs_and_two_more_are_four(tmp_path)


def test_a_look_at_held_out_labels_is_found():
    with pytest.raises(AssertionError, match="read the validation labels"):
        own("CURIOUS").test_a_learner_never_reads_validation_labels_or_masks()


def test_a_prediction_that_depends_on_its_company_is_found():
    with pytest.raises(AssertionError):
        own("SOCIABLE").test_a_prediction_does_not_depend_on_its_company()


@pytest.mark.slow
def test_without_pytest_it_says_so():
    code = "import sys; sys.modules['pytest'] = None; import trainables.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith(
        "ModuleNotFoundError: trainables.testing needs pytest, which is not there"
    )
