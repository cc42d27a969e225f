"""The benchmarks themselves: that operations are counted right, and that the table of steps can be made."""

import sys
from importlib import import_module
from pathlib import Path
from runpy import run_path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
Operations = run_path(str(ROOT / "bench/operations.py"))["Operations"]


@pytest.fixture
def lines_of(monkeypatch, capsys):
    """What a benchmark prints, a line each."""
    monkeypatch.syspath_prepend(str(ROOT))

    def run(script, *options):
        monkeypatch.setattr(sys, "argv", [script, *options])
        import_module(f"bench.{script}").main()
        return capsys.readouterr().out.splitlines()

    return run


def cells_of(lines):
    """The rows of the table among them, as long as each other, without its two lines of heading."""
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| ")]
    assert len({len(row) for row in rows}) == 1
    return rows[2:]


def count(function):
    with Operations() as operations:
        function()
    return operations.count


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_grouped_convolution_forward_and_backward(groups):
    convolution = nn.Conv2d(8, 16, 3, padding=1, groups=groups)
    images = torch.rand(2, 8, 10, 10, requires_grad=True)
    forward = 2 * (2 * 16 * 10 * 10) * (8 // groups * 3 * 3)
    assert count(lambda: convolution(images)) == forward
    assert count(lambda: convolution(images).sum().backward()) == 3 * forward
    # Images that need no gradient are not asked for theirs.
    assert count(lambda: convolution(images.detach()).sum().backward()) == 2 * forward


def test_a_transposed_convolution():
    convolution = nn.ConvTranspose2d(6, 4, 2, stride=2)
    images = torch.rand(2, 6, 5, 5)
    forward = 2 * (2 * 6 * 5 * 5) * (4 * 2 * 2)
    assert count(lambda: convolution(images)) == forward
    assert count(lambda: convolution(images).sum().backward()) == 2 * forward


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer(bias):
    layer, features = nn.Linear(20, 30, bias=bias), torch.rand(4, 20, requires_grad=True)
    forward = 2 * 4 * 20 * 30
    assert count(lambda: layer(features)) == forward
    assert count(lambda: layer(features).sum().backward()) == 3 * forward


def test_a_product_of_batches():
    assert count(lambda: torch.rand(5, 2, 3) @ torch.rand(5, 3, 4)) == 2 * 5 * 2 * 3 * 4


def test_a_gradient_that_is_differentiated_again():
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    one, two = 2 * (2 * 4 * 64) * (3 * 9), 2 * (2 * 1 * 64) * (4 * 9)

    def penalty():
        outputs = second(first(images).square())
        (slope,) = torch.autograd.grad(outputs.sum(), images, create_graph=True)
        return slope.square().sum()

    # Forward, and back to the images.
    assert count(penalty) == 2 * (one + two)
    # The way back to the images again, by its weights and by what went through it; and through the square also the
    # first convolution's forward, by its weights and by the images.
    assert count(lambda: penalty().backward()) == 2 * (one + two) + 2 * (one + two) + 2 * one


def test_inference_mode_is_counted_too():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    images = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        assert count(lambda: network(images)) == 2 * 2 * (4 * 36 * 27 + 4 * 36 * 5)


@pytest.mark.slow
def test_the_table_of_steps_is_printed(lines_of):
    lines = lines_of("sparse_step", "--quick", "--device", "cpu")
    assert f"torch {torch.__version__}" in lines[0]
    assert "1 threads, 1 repeats" in lines[0]
    steps = [row[1].split()[0] for row in cells_of(lines)]
    assert steps == 4 * ["unsupervised"] + 2 * ["supervised"] + ["evaluation"]


@pytest.mark.slow
def test_the_table_of_ssl_gans_steps_is_printed(lines_of):
    rows = cells_of(lines_of("ssl_gan_step", "--quick", "--device", "cpu"))
    assert [row[5] for row in rows] == 3 * ["fp32"] + 3 * ["bf16"]


@pytest.mark.slow
def test_the_tables_of_ssgnet_are_printed(lines_of):
    lines = lines_of("ssgnet", "--quick", "--device", "cpu")
    second = next(number for number, line in enumerate(lines) if line.startswith("| ") and "channels | batch" in line)
    stylegan3, scan = cells_of(lines[:second]), cells_of(lines[second:])
    assert [row[1].split()[0] for row in stylegan3] == ["32", "32", "1"]
    assert [row[1] for row in scan] == 2 * ["forward", "forward and backward"]


@pytest.mark.slow
def test_the_table_of_leaderboards_is_printed(lines_of):
    _, header, *rows = lines_of("leaderboard", "--quick")
    assert header.split() == ["question", "seconds", "target"]
    assert len(rows) == 7
    assert all(float(row[70:79]) > 0 for row in rows)


@pytest.mark.slow
def test_the_table_of_starts_is_printed(lines_of):
    header, *rows = lines_of("startup", "--rounds", "1")
    assert header.split() == ["command", "fastest", "median", "target"]
    assert len(rows) == 4


@pytest.mark.slow
def test_the_table_of_one_drivers_work_is_printed(lines_of):
    lines = lines_of("scale", "--trials", "20", "--slots", "6")
    first, header, _, *rows, blank, boards, _, sentence = lines
    assert first.startswith("20 trials in 20 studies over 6 slots")
    assert blank == ""
    lines = [[float(cell.replace(",", "")) for cell in row.split("|")[1:-1]] for row in rows]
    names = [name.strip() for name in header.split("|")[1:-1]]
    found = [dict(zip(names, line, strict=True)) for line in lines]
    assert [line["ended"] for line in found] == list(range(2, 21, 2))
    assert all(line["end ms"] > 0 and line["decisions/s"] > 0 and line["memory MB"] > 0 for line in found)
    for growing in ("journal MB", "records MB"):
        sizes = [line[growing] for line in found]
        assert sizes == sorted(sizes)
        assert sizes[-1] > 0
    assert boards.startswith("leaderboard: ")
    assert float(found[-1]["trials/h"]) == pytest.approx(float(sentence.split(" at ")[1].split()[0].replace(",", "")))
    assert "6 slots stay busy while their trials take" in sentence


@pytest.mark.parametrize(("counts", "grouped"), [((12, 12), False), ((8, 8, 8), False), ((18, 18), True)])
def test_what_is_estimated_without_a_test_set_is_what_comes(monkeypatch, counts, grouped):
    """A short form of the table in docs/few_labels.md."""
    monkeypatch.syspath_prepend(str(ROOT))
    bench = import_module("bench.honest_estimate")
    setting = bench.Setting(counts=counts, num_heads=24, separation=1.0, grouped=grouped)
    found = bench.summary([bench.simulate(setting, seed) for seed in range(40)])
    assert found["own"] > 0.06, "the winner's own score flatters"
    assert abs(found["bias"]) < 0.05
    assert found["holds"] >= 0.85


def test_averages_of_many_runs(lines_of):
    rows = cells_of(lines_of("averages", "--quick"))
    assert [row[1] for row in rows] == [
        "reading predictions", "all averages of a board, reading included", "recommend, reading included"
    ]  # fmt: skip
    assert all(float(row[2]) < 5 for row in rows)
