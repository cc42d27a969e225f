import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from search_spaces.core.errors import ConfigError
from trainables.components.optimised_model import OptimisedModel
from trainables.training import accelerator as accelerators
from trainables.training.accelerator import new_accelerator


def test_a_device_that_is_not_there_is_a_mistake():
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="there is none here"):
            new_accelerator(precision="no", cpu=False)


def test_a_launchers_wish_does_not_override_the_trial(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "7")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "eager")
    accelerator = new_accelerator(precision="no", cpu=True, accumulate=3)
    assert accelerator.gradient_accumulation_steps == 3
    assert accelerator.mixed_precision == "no"
    assert accelerator.state.dynamo_plugin.backend.value.lower() == "no"


@pytest.fixture
def announces_amx(monkeypatch):
    monkeypatch.delenv(accelerators.ONEDNN_LIMIT)
    monkeypatch.setattr(accelerators, "_announces_amx", lambda: True)
    accelerators.cpu_runs_bf16.cache_clear()
    yield
    accelerators.cpu_runs_bf16.cache_clear()


@pytest.mark.usefixtures("announces_amx")
@pytest.mark.parametrize("code", [-4, 0])
def test_a_cpu_that_cannot_what_it_announces(code, monkeypatch):
    ended = subprocess.CompletedProcess([], code)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: ended)
    if code == 0:
        assert new_accelerator(precision="bf16", cpu=True).mixed_precision == "bf16"
        return
    with pytest.raises(ConfigError, match="set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 before the start"):
        new_accelerator(precision="bf16", cpu=True)
    new_accelerator(precision="no", cpu=True)
    monkeypatch.setenv(accelerators.ONEDNN_LIMIT, "AVX512_CORE")
    accelerators.cpu_runs_bf16.cache_clear()
    new_accelerator(precision="bf16", cpu=True)


COMPILED = f"""
import torch
from trainables.training.accelerator import new_accelerator
from tests.trainables.training.{__name__.rpartition(".")[2]} import trained
torch.set_num_threads(1)
plain, compiled = trained(False), trained(True)
print(int(torch._dynamo.utils.counters["stats"]["unique_graphs"]), (plain - compiled).abs().max().item())
"""


def trained(compile):
    """Weights of a small network after three steps."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 2)
    accelerator = new_accelerator(precision="no", cpu=True, compile=compile)
    one = OptimisedModel(nn.Sequential(*layers), accelerator, lr=1e-2, beta1=0.5, weight_decay=0.0)
    images = torch.rand(3, 1, 8, 8)
    for _ in range(3):
        one.backward_and_step(one(images).square().mean())
    return torch.cat([p.flatten() for p in one.module.parameters()]).detach()


@pytest.mark.long  # half a minute of a real compiler
@pytest.mark.parametrize("works", [True, False])
def test_compiled_networks_learn_the_same_and_without_a_compiler_all_goes_on(works, tmp_path):
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    if not works:
        environment["CXX"] = str(tmp_path / "no-compiler")
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    graphs, difference = done.stdout.split()
    warned = "nothing can be compiled here, networks run as they are" in done.stderr
    if warned and works:
        pytest.skip("no C++ compiler here")
    assert warned == (not works)
    assert len(done.stderr.splitlines()) < 5
    assert (int(graphs) >= 2) == works  # of the probe, and of the network
    assert float(difference) < (1e-4 if works else 1e-12)
