"""A generator trained in double precision, in as many processes as there are."""

import torch

from trainables.stylegan.gan_training import GeneratorTraining
from trainables.stylegan.generator_config import GeneratorConfig
from trainables.training.accelerator import new_accelerator

CONFIG = GeneratorConfig(
    resolution=16, channels=1, num_layers=4, channel_base=64, channel_max=4, z_dim=8, margin=4,
    batch=8, penalty_interval=2, augment="fixed", augment_p=0.5, average_kimg=0.01, magnitude_kimg=0.02,
)  # fmt: skip
STEPS = 3


def result():
    """Weights, running statistics and images after some steps."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        training = GeneratorTraining(CONFIG, new_accelerator(precision="no", cpu=True), seed=1)
        random = torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            training.step(torch.rand(CONFIG.batch, 1, 16, 16, generator=random) - 0.5)
        state = training.state_dict()
        networks = {name: state[name]["network"] for name in ("generator", "critic")} | {"average": state["average"]}
        trained = {f"{name}.{key}": value for name, each in networks.items() for key, value in each.items()}
        return trained | {"images": training.sample(5, batch=3), "random": state["random"]}
    finally:
        torch.set_default_dtype(torch.float32)
