"""What only a GPU does, on one that is pretended: it computes what a CPU does, in the memory that there is, and nobody
waits for it without need."""

from __future__ import annotations

import re

import pytest
import torch
from optimizer_samples import SAVEUS
from pretended_gpu import pretended_gpu
from support import RecordingJob
from training_lab import DoomedJob, Killed, TrainingLab, digest, metrics

from lora_worker import dry_step
from lora_worker.safetensors_file import read_safetensors
from lora_worker.step_memory import StepMemory

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
            losses, others = ([line["loss"] for line in metrics(each[output])] for each in (found, wanted))
            assert losses == pytest.approx(others, rel=1e-4)
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
    with pretended_gpu(monkeypatch, total=int(0.8 * whole.memory.peak)) as gpu:
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


def test_swapped_blocks_come_in_time_and_take_less(lab, plain, counted_once, monkeypatch):
    outputs, _, _, whole_plan, _ = plain
    with pretended_gpu(monkeypatch) as gpu:
        found = lab.life(lab.request("swapped", **HOW, blocks_to_swap=3))
        print(gpu.memory.peak, whole_plan.bytes)
    assert_alike(found, outputs)
    assert gpu.memory.peak < whole_plan.bytes


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
