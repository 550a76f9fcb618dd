"""What only a GPU does, on one that is pretended: it computes what a CPU does, in the memory that there is, and nobody
waits for it without need."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
import torch
from network_samples import KINDS
from optimizer_samples import OPTIMIZERS, SAVEUS
from pretended_gpu import pretended_gpu
from support import RecordingJob
from test_train_bench import TINY
from training_lab import PROMPT, DoomedJob, Killed, TrainingLab, digest, metrics

from lora_worker import dry_step
from lora_worker.bench import measure as bench_measure
from lora_worker.bench.launches import count_launches
from lora_worker.bench.report import numbers, report
from lora_worker.errors import Cancelled
from lora_worker.images import to_tensor
from lora_worker.models import load_models, load_vae
from lora_worker.optimizers import build_optimizer, parse_optimizer
from lora_worker.protocol import Fields
from lora_worker.safetensors_file import read_safetensors
from lora_worker.step_memory import StepMemory
from lora_worker.swapping import swap
from lora_worker.toy.pictures import draw
from lora_worker.transformer_blocks import block_bytes, swapped_blocks
from lora_worker.vae_batches import BatchEncoder, encode

# Rounding stays rounding with it, which other optimizers may enlarge.
PLAIN = {"kind": "python", "class": "torch.optim.SGD", "args": {"momentum": 0.9}}
HOW = {
    "optimizer": PLAIN,
    "steps": 3,
    "batch_size": 2,
    "save_steps": [1, 2, 3],
    "unet_lr": 0.1,
    "gradient_checkpointing": "auto",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory, toy_checkpoint):
    """Its images have one size, so that every step is as large as the one that memory is planned for, and are so large
    that not all of it is the base."""
    made = TrainingLab(tmp_path_factory.mktemp("lab"), toy_checkpoint)
    made.images = [made.image(place, (128, 128)) for place in (0, 2)]
    return made


@pytest.fixture
def gpu(monkeypatch):
    with pretended_gpu(monkeypatch) as made:
        yield made


@pytest.fixture(scope="module")
def plain(lab):
    """A training on a GPU with more memory than it needs: its outputs, job, GPU, and how its memory was planned."""
    with pytest.MonkeyPatch.context() as patch, pretended_gpu(patch) as gpu:
        plans, counted = planned(patch), []
        count = dry_step.profile
        patch.setattr(dry_step, "profile", lambda *args, **how: counted.append(count(*args, **how)) or counted[-1])
        job = RecordingJob()
        outputs = lab.life(lab.request("gpu", **HOW), job)
        return outputs, job, gpu, plans[-1], counted[-1]


@pytest.fixture
def counted_once(plain, monkeypatch):
    """What a pass of that training needs is not counted again, which takes longer here than its steps."""
    monkeypatch.setattr(dry_step, "profile", lambda *_, **__: plain[-1])


def planned(patch):
    """The plan of each step that is done from now on."""
    plans = []
    fitted = StepMemory.fitted
    patch.setattr(StepMemory, "fitted", lambda self: plans.append(self.plan) or fitted(self))
    return plans


def assert_alike(found, wanted):
    """To rounding."""
    assert found.keys() == wanted.keys()
    for output in found:
        if output == "metrics":
            losses, others = ([line.get("loss", 0) for line in metrics(each[output])] for each in (found, wanted))
            assert losses == pytest.approx(others, rel=1e-4)
        if not found[output].endswith(".safetensors"):
            continue
        one, other = read_safetensors(found[output])[0], read_safetensors(wanted[output])[0]
        assert one.keys() == other.keys()
        for name, value in other.items():
            torch.testing.assert_close(one[name], value, rtol=2e-3, atol=1e-6, msg=f"{output} {name}")


def test_a_training_gives_what_it_gives_on_a_cpu(lab, plain):
    outputs, job, *_ = plain
    assert_alike(outputs, lab.life(lab.request("cpu", **HOW)))
    assert job.warnings == []


def test_a_training_waits_for_each_step_once_and_for_nothing_else(plain):
    """Besides for its dry step, before and after."""
    _, _, gpu, *_ = plain
    assert gpu.waits == ["synchronize"] * 2 + ["event.synchronize"] * HOW["steps"]


def test_what_is_planned_is_what_is_needed(plain):
    *_, gpu, plan, _ = plain
    assert plan.bytes == pytest.approx(gpu.memory.peak, rel=0.05)


def test_a_training_is_cut_down_to_the_memory_that_there_is(lab, plain, counted_once, monkeypatch):
    outputs, _, whole, whole_plan, _ = plain
    job = RecordingJob()
    with pretended_gpu(monkeypatch, total=int(0.9 * whole.memory.peak)) as gpu:
        plans = planned(monkeypatch)
        found = lab.life(lab.request("small", **HOW), job)
    assert_alike(found, outputs)
    assert (gpu.memory.refused, job.warnings) == (0, [])
    assert len(plans[-1].checkpointed) > len(whole_plan.checkpointed) or plans[-1].micro_batch < whole_plan.micro_batch


def test_memory_that_others_take_in_the_middle_costs_a_warning_and_no_step(lab, plain, counted_once, monkeypatch):
    outputs, *_ = plain
    with pretended_gpu(monkeypatch) as gpu:

        class Crowded(RecordingJob):
            def step(self, step, *rest):
                super().step(step, *rest)
                if step == 1:
                    left = (gpu.memory.allocated + plain[3].bytes) // 2
                    gpu.memory.taken_by_others = gpu.memory.total - left

        job = Crowded()
        found = lab.life(lab.request("crowded", **HOW), job)
    assert_alike(found, outputs)
    assert gpu.memory.refused > 0
    assert job.warnings and all(re.match("The device's memory was too small", text) for text in job.warnings)


@pytest.mark.parametrize("pinnable", [2**34, 0], ids=["pinned", "ordinary memory"])
def test_swapped_blocks_come_in_time_and_leave_room(lab, plain, counted_once, monkeypatch, pinnable):
    """Also on systems that pin no memory. What they leave is planned with: it is free when the plan is made."""
    outputs, _, whole, *_ = plain
    with pretended_gpu(monkeypatch, total=int(0.9 * whole.memory.peak)) as gpu:
        gpu.pinnable = pinnable
        plans = planned(monkeypatch)
        found = lab.life(lab.request("swapped", **HOW, blocks_to_swap=20))
    assert_alike(found, outputs)
    assert gpu.memory.refused == 0
    assert not plans[-1].checkpointed
    assert plans[-1].bytes == pytest.approx(gpu.memory.peak, rel=0.05)


def test_a_training_that_is_killed_goes_on_to_the_same_bytes(lab, counted_once, monkeypatch):
    how = {**HOW, "optimizer": SAVEUS, "unet_lr": 3e-4, "batch_size": 1, "state_every": {"steps": 1}}
    with pretended_gpu(monkeypatch):
        wanted = lab.life(lab.request("whole", **how))
        with pytest.raises(Killed):
            lab.life(lab.request("cut", **how), DoomedJob(dies_at=2))
        found = lab.life(lab.request("cut", **how))
    assert {name: digest(path) for name, path in found.items() if name != "metrics"} == {
        name: digest(path) for name, path in wanted.items() if name != "metrics"
    }


def test_a_cancel_keeps_the_steps_that_are_done(lab, plain, counted_once, monkeypatch):
    outputs, *_ = plain
    with pretended_gpu(monkeypatch):
        with pytest.raises(Cancelled):
            lab.life(lab.request("cancelled", **HOW), RecordingJob(cancel_after_steps=1))
        job = RecordingJob()
        found = lab.life(lab.request("cancelled", **HOW), job)
    assert_alike(found, outputs)
    assert any(re.match("Going on after step [12] of 3", line["message"]) for line in job.of_type("log"))


def test_a_block_that_was_brought_by_half_when_memory_ran_out_is_brought_anew(toy_checkpoint, gpu):
    models = load_models(toy_checkpoint, device="cuda", dtype=torch.float32)
    inputs = torch.zeros(1, 4, 8, 8).to("cuda"), torch.tensor([3]).to("cuda"), *models.text.encode(["fox"])
    sizes = torch.full((1, 6), 64.0).to("cuda")
    with torch.no_grad():
        wanted = models.predict(*inputs, sizes).cpu()
        blocks = swapped_blocks(models.unet, 4)
        swapping = swap(models, 4)
        sizes_of_two = sorted(map(block_bytes, blocks))[-2:]
        gpu.memory.taken_by_others = gpu.memory.total - gpu.memory.allocated - sum(sizes_of_two) + 2**12
        with pytest.raises(torch.OutOfMemoryError):
            models.predict(*inputs, sizes)
        gpu.memory.taken_by_others = 0
        found = models.predict(*inputs, sizes).cpu()
    swapping.stop()
    assert torch.equal(found, wanted)


EVERYTHING = {
    "network": {**KINDS["locon"], "rank_dropout": 0.1},
    "optimizer": PLAIN,
    "unet_lr": 0.01,
    "steps": 2,
    "batch_size": 2,
    "save_steps": [1, 2],
    "fp8_base": "on",
    "blocks_to_swap": 3,
    "gradient_checkpointing": "on",
    "ema": 0.5,
    "scale_weight_norms": 1,
    "on_non_finite": "skip",
    "text_encoder_lr": 0,
    "min_snr_gamma": 5,
    "loss": {"kind": "huber", "c": 0.1, "schedule": "snr", "scale": 1.0},
    "loraplus_lr_ratio": 2,
    "samples": {"steps": [2], "prompts": [PROMPT]},
}


def test_whatever_a_training_has_meets_on_one_device(tmp_path, toy_checkpoint, monkeypatch):
    lab = TrainingLab(tmp_path, toy_checkpoint)
    mask = torch.ones(8, 8)
    mask[:4] = 0
    how = {
        **EVERYTHING,
        "images": [lab.masked(0, mask), lab.images[1]],
        "held_out": {"images": [lab.images[2]], "timesteps": [200], "steps": [2]},
    }
    wanted = lab.life(lab.request("cpu", **how))
    with pretended_gpu(monkeypatch):
        found = lab.life(lab.request("gpu", **how))
    assert_alike(found, wanted)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_does_what_it_does_on_a_cpu(name, monkeypatch):
    shapes = [(4, 8), (8, 4), (4, 8, 3, 3), (8, 4, 1, 1), (8,)]

    def optimized(device):
        generator = torch.Generator().manual_seed(2)
        drawn = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(3)]
        parameters = [torch.nn.Parameter(values.to(device)) for values in drawn[0]]
        optimizer = build_optimizer(
            parse_optimizer(Fields(OPTIMIZERS[name], "optimizer")), [{"params": parameters}], 1e-3
        )
        for gradients in drawn[1:]:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.to(device)
            optimizer.step()
        return [parameter.detach().cpu() for parameter in parameters]

    wanted = optimized("cpu")
    with pretended_gpu(monkeypatch):
        found = optimized("cuda")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_pictures_are_encoded_together_and_by_half_as_many_where_memory_runs_out(toy_checkpoint, toy_vae, monkeypatch):
    pictures = [to_tensor(draw(index, (64, 64)).image) for index in range(8)]
    wanted = [encode(toy_vae, picture[None])[0] for picture in pictures]
    with pretended_gpu(monkeypatch) as gpu:
        vae = load_vae(toy_checkpoint, device="cuda", dtype=torch.float32)
        encoder = BatchEncoder(vae, largest_pixels=64 * 64)
        together = encoder.size
        gpu.memory.peak = gpu.memory.allocated
        found = encoder.moments(pictures)
        needed = gpu.memory.peak - gpu.memory.allocated
        gpu.memory.taken_by_others = gpu.memory.total - gpu.memory.allocated - needed // 2
        again = encoder.moments(pictures)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(again, wanted, rtol=1e-4, atol=1e-4)
    assert together >= 8
    assert encoder.size in (2, 4)


def test_the_bench_measures_it_as_it_will_a_real_one(tmp_path, gpu, monkeypatch):
    # The product that keeps a GPU busy would keep a CPU busy for an hour, and there are no kernels to trace.
    monkeypatch.setattr(bench_measure, "matrix_product", lambda *_: (8192, 1e12))
    monkeypatch.setattr(bench_measure, "count_launches", lambda step, _: count_launches(step, torch.device("cpu")))
    measured = numbers(
        bench_measure.measure(replace(TINY, work=tmp_path / "work"), "a pretended GPU", time.perf_counter())
    )
    # Of events of its streams, and not by the clock.
    assert sum(measured["parts"].values()) == pytest.approx(measured["run"]["measured"], rel=0.01)
    assert 0 < measured["peak_memory"] <= gpu.memory.peak < 2**27
    assert report(measured)
