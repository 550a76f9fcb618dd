"""The bench tells everything it promises, of the training that every build does, and counts right."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lora_worker.bench import launches
from lora_worker.bench.arithmetic import _pass, matrix_product
from lora_worker.bench.launches import count_launches, one_by_one
from lora_worker.bench.measure import count, measure
from lora_worker.bench.options import RECIPE, TOY, parse
from lora_worker.bench.packages import missing_packages, say_missing
from lora_worker.bench.recipe import SETTINGS
from lora_worker.bench.report import counted_numbers, numbers, report, report_counted, write_json
from lora_worker.models import load_models
from lora_worker.random_base import SDXL, RandomBase
from lora_worker.saveus import SAVEUS
from lora_worker.spans import SPANS

PYTHON = Path(__file__).parents[1]
CPU, META = torch.device("cpu"), torch.device("meta")
TINY = replace(
    TOY,
    resolution=64,
    steps=3,
    batch_size=1,
    gradient_accumulation_steps=2,
    images=2,
    sample_every=3,
    sample_steps=1,
    settings={"network": {**SETTINGS["network"], "conv_dim": 4}},
)


def test_every_row_is_there_and_the_numbers_agree(tmp_path):
    options = replace(TINY, work=tmp_path / "work", json=tmp_path / "numbers.json", trace=tmp_path / "trace.json")
    measured = numbers(measure(options, "a processor", 0.0))
    write_json(measured, options.json)
    found = json.loads(options.json.read_text())
    assert found == measured
    assert set(found) == {
        *(
            "command",
            "date",
            "device",
            "torch",
            "threads",
            "load",
            "training",
            "images_per_second",
            "seconds_per_step",
            "mfu",
        ),
        *("operations", "matrix_product", "peak_memory", "parts", "optimizer", "latents", "start", "run"),
        "traced_kernels",
    }
    assert set(found["parts"]) == {*SPANS, "rest"}
    assert sum(found["parts"].values()) == pytest.approx(found["run"]["measured"], rel=0.01)
    assert found["images_per_second"] == pytest.approx(2 / found["seconds_per_step"]["median"])
    assert found["run"]["floor"] == pytest.approx(
        found["operations"]["whole_run"] / found["matrix_product"]["operations_per_second"]
    )
    assert found["operations"]["whole_run"] == pytest.approx(
        3 * found["operations"]["per_step"] + found["operations"]["sampling"]
    )
    assert 0 < found["run"]["floor"] < found["run"]["measured"]
    assert 0 < found["mfu"] < 1
    assert 2 < found["operations"]["trained_per_image"] / found["operations"]["forward_per_image"] < 20
    assert found["latents"]["encoded"] == 4
    assert found["training"]["lora_tensors"] == 432
    assert len(list((tmp_path / "work" / "work" / "steps").iterdir())) == 3
    assert len(list((tmp_path / "work" / "work" / "samples").glob("*.png"))) == 2
    assert {event.get("name") for event in json.loads(options.trace.read_text())["traceEvents"]} >= {"backward", "text"}
    assert report(found).count(report_counted(found)) == 1
    rows = [line[:19].strip() for line in report(found).splitlines()]
    assert rows == [
        *("date", "command", "device", "trained", "", "arithmetic", "optimizer", "matrix product", "latents", "start"),
        *("peak memory", "parts", "seconds per step", "images per second", "MFU", "run", "note"),
    ]


def test_counting_alone_counts_the_same_whatever_is_saved():
    counted = counted_numbers(count(replace(TINY, sample_every=0)))
    assert counted["operations"]["sampling"] == 0
    assert counted["operations"]["whole_run"] == 3 * counted["operations"]["per_step"] > 0
    assert counted["optimizer"]["kernels"] < counted["optimizer"]["one_by_one_kernels"] / 10


def test_the_arithmetic_of_sdxl_is_what_others_counted():
    models = load_models(RandomBase("-", SDXL, "meta"), device=META, dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in models.unet.parameters()) == 2_567_463_684
    with torch.no_grad(), torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        _pass(models, (1024, 1024), torch.bfloat16)
    assert counter.get_total_flops() == pytest.approx(6.76e12, rel=0.001)


def test_kernels_are_worked_out_from_what_is_called():
    parameters = [nn.Parameter(torch.empty(8, 16, device="meta")) for _ in range(300)]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    batched = count_launches(SAVEUS(parameters).step, META)
    memory = {}
    naive = count_launches(lambda: one_by_one(parameters, memory, 1), META)
    # Four per in-place operation on 300 tensors and their like, as torch's own tables have it.
    assert batched.operations < 25 < batched.kernels < 100
    assert naive.kernels == naive.operations == 300 * 18
    assert not batched.are_counted


@pytest.mark.parametrize(
    ("sizes", "most", "kernels"),
    [([1] * 110, 110, 1), ([1] * 111, 110, 2), ([65536 * 320], 110, 1), ([65536 * 320 + 1], 110, 2), ([], 110, 0)],
)
def test_a_kernel_takes_so_many_tensors_and_chunks(sizes, most, kernels):
    assert launches._in_chunks(sizes, most) == kernels


def test_the_loop_over_parameters_does_what_saveus_does():
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 6), (3, 2, 3, 3))]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    optimizer, memory = SAVEUS(ours, lr=3e-4), {}
    for step in (1, 2, 3):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        optimizer.step()
        one_by_one(theirs, memory, step)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)


def test_a_matrix_product_has_a_speed():
    side, speed = matrix_product(CPU, torch.float32)
    assert side == 1024
    assert speed > 1e8


def test_a_gpu_gets_the_recipe_and_a_cpu_the_toy_unless_told_otherwise():
    assert replace(parse([], "cuda"), device="cuda") == RECIPE
    assert parse([], "cpu") == TOY
    assert parse(["--recipe"], "cpu") == replace(RECIPE, device="cpu")
    assert parse(["--size", "full", "--steps", "2"], "cpu") == replace(RECIPE, device="cpu", steps=2)
    chosen = parse(["--no-samples", "--set", "gradient_checkpointing=on", "--set", "unet_lr=1e-3"], "cuda")
    assert chosen == replace(RECIPE, sample_every=0, settings={"gradient_checkpointing": "on", "unet_lr": 1e-3})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--resolution", "100"], "multiple of 64, and is 100"),
        (["--buckets", "10"], "at most 9, and is 10"),
        (["--steps", "0"], "must be 1 or more"),
        (["--set", "unet_lr"], "must be like"),
        (["--toy", "--recipe"], "cannot both hold"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as exit:
        parse(arguments, "cpu")
    assert exit.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_needs_no_packages_and_missing_ones_are_named(tmp_path):
    assert missing_packages() == []
    said = say_missing(["diffusers", "pillow"])
    assert "diffusers, pillow" in said
    assert "python/requirements.lock" in said
    # An interpreter without any packages at all.
    command = [sys.executable, "-S", "-m", "lora_worker.bench"]
    help_text = subprocess.run([*command, "--help"], cwd=PYTHON, capture_output=True, text=True, check=True).stdout
    assert "--sample-every" in help_text and "examples" in help_text
    bare = subprocess.run(command, cwd=PYTHON, capture_output=True, text=True, env={"PYTHONPATH": str(PYTHON)})
    assert bare.returncode == 3
    assert "torch" in bare.stderr and "diffusers" in bare.stderr
