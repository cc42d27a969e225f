"""Several real processes with gloo are one process on the whole batch."""

import pytest
import torch

from . import stages_processes
from .pair import COMMAND, COMMAND_AGAIN, STAGES
from .some_processes import CASES, GAN_CASES, MASK_CASES, result


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, *GAN_CASES, *MASK_CASES])
def test_processes_end_where_one_process_ends(case, of_pair):
    alone = result(case)
    # BatchNorm takes statistics of two numbers there: even in one process images that differ by 1e-14 lead 1.5e-5 apart
    nearly = 1e-4 if case.startswith("one kept image") else 1e-6
    for one in of_pair(case):
        assert one.keys() == alone.keys()
        for name, tensor in alone.items():
            if "num_batches" not in name:
                why = f"{case}, {name}"
                torch.testing.assert_close(one[name], tensor, rtol=1e-5, atol=nearly, msg=lambda m, w=why: f"{w}: {m}")


@pytest.mark.slow
def test_the_command_line_works_in_processes(of_pair):
    (first, first_silent), (again, again_silent) = of_pair(COMMAND), of_pair(COMMAND_AGAIN)
    assert [each["code"] for each in (first, first_silent, again, again_silent)] == [0] * 4
    assert first_silent["output"] == again_silent["output"] == ""
    for done in (first, again):
        assert done["output"].count("validation scores") == 1
    assert "from checkpoint" in again["output"]
    assert first["output"].splitlines()[-1] == again["output"].splitlines()[-1]


@pytest.mark.slow
def test_processes_make_and_find_the_generators_that_one_would(of_pair):
    alone, (main, other) = stages_processes.result(), of_pair(STAGES)
    assert main["first"] == main["again"] == other["first"] == other["again"]
    assert main["first"] == pytest.approx(alone["first"], rel=1e-2, abs=1e-3)
    assert len(main["entries"]) == len(alone["entries"]) == 3
    assert not {*main["entries"]} & {*alone["entries"]}, "sums in another order are other generators"
    assert (main["from"], alone["from"]) == ("found", "found")
