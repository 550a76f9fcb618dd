"""The stage from end to end on the toy: repeatable, and interruptible at any moment."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import pytest
import torch
from optimizer_samples import OPTIMIZERS
from support import RecordingJob
from training_lab import (
    EVERY_LAYER,
    PROMPT,
    DoomedJob,
    Killed,
    TrainingLab,
    digest,
    metrics,
    share_models,
    steps_of,
)

from lora_worker.errors import Cancelled, WorkerError
from lora_worker.protocol import ProtocolError
from lora_worker.safetensors_file import read_safetensors, read_tensor, write_safetensors
from lora_worker.stages import train
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer
from lora_worker.visits import Visits

# diffusers hands tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


EVERY_STEP = {"state_every": {"steps": 1}}


def test_a_training_tells_its_steps_and_names_its_outputs(lab):
    job = RecordingJob()
    request = lab.request(save_steps=[1, 3], samples={"steps": [2], "prompts": [PROMPT]})
    outputs = lab.life(request, job)
    assert sorted(outputs) == ["lora", "metrics", "sample.2.0", "step.1", "step.3"]
    assert all(Path(path).is_file() for path in outputs.values())
    assert Path(outputs["step.1"]).name == "step-00000001.safetensors"
    assert Path(outputs["sample.2.0"]).name == "000002-00.png"
    told = [message["name"] for message in job.of_type("artifact")]
    # The montage is drawn beside the training.
    assert [name for name in told if name not in ("montage", "animation")] == ["step.1", "sample.2.0", "step.3"]
    assert steps_of(job) == [1, 2, 3]
    assert [message["note"] for message in job.of_type("progress")][:2] == ["loading the checkpoint", "step 1"]
    told = job.of_type("step")[0]
    assert told["learning_rates"] == {"text_encoder": 1e-4, "unet": 3e-4}
    assert told["total"] == 3 and told["grad_norm"] > 0 and told["seconds"] > 0
    lines = metrics(outputs["metrics"])
    assert [line["loss"] for line in lines] == [message["loss"] for message in job.of_type("step")]
    assert [line["epoch"] for line in lines] == [0, 0, 1]
    assert digest(outputs["lora"]) == digest(outputs["step.3"]) != digest(outputs["step.1"])


def test_a_training_is_told_to_tensorboard_step_by_step(lab):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = lab.folder / "run"
    samples = {"steps": [0, 2, 4], "prompts": [PROMPT]}
    request = lab.request(steps=4, samples=samples, state_every={"steps": 1}, events=str(folder))
    for dies_at in (1, 3):
        with pytest.raises(Killed):
            lab.life(request, DoomedJob(dies_at=dies_at))
    outputs = lab.life(request)
    assert len(list(folder.iterdir())) == 3
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    lines = metrics(outputs["metrics"])

    def told(tag):
        return [(each.step, pytest.approx(each.value)) for each in events.Scalars(tag)]

    assert told("loss/current") == [(line["step"], line["loss"]) for line in lines]
    assert told("lr/textencoder") == [(line["step"], line["learning_rates"]["text_encoder"]) for line in lines]
    assert told("norm/update_norm/unet") == [(line["step"], line["update_norms"]["unet"]) for line in lines]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["grad_norm"] > 0 and line["update_norms"]["text_encoder"] > 0 for line in lines)
    assert [each.step for each in events.Images("samples/00")] == [0, 2, 4]


@pytest.mark.parametrize(("every", "told"), [(0, [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]), (3600, [])])
def test_how_far_a_step_is_is_told_where_it_takes_long(lab, monkeypatch, every, told):
    monkeypatch.setattr(train, "MICRO_BATCHES_EVERY_S", every)
    job = RecordingJob()
    lab.life(lab.request(steps=2, batch_size=1, gradient_accumulation_steps=3), job)
    micro_batches = [message for message in job.of_type("progress") if message["unit"] == "micro-batches"]
    assert [(message["note"], message["done"]) for message in micro_batches] == [
        (f"step {step}", done) for step, done in told
    ]
    assert all(message["total"] == 3 for message in micro_batches)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_training_gives_the_same_bytes(lab, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        train_twice(lab)
    finally:
        torch.set_num_threads(before)


def train_twice(lab):
    first = lab.life(lab.request("one", **EVERY_LAYER))
    again = lab.request("two", **EVERY_LAYER, images=lab.images[::-1], gradient_checkpointing="on")
    again["state_every"] = {"steps": 1}
    for image in again["images"]:
        for name in ("latents", "latents_flipped"):
            image[name] = shutil.copy(image[name], f"{image[name]}.moved")
    second = lab.life(again)
    assert digest(first["lora"]) == digest(second["lora"])
    assert metrics(first["metrics"]) == metrics(second["metrics"])


@pytest.fixture(scope="module")
def kill_points():
    """Random, and the same in every run of the tests."""
    chance = random.Random(2)
    return [sorted(chance.sample(range(1, 6), 2)) for _ in range(2)]


@pytest.mark.parametrize("case", range(2))
@pytest.mark.parametrize("ends_by", [Killed, Cancelled])
def test_interrupted_twice_equals_uninterrupted(lab, kill_points, case, ends_by):
    plan = {"steps": 6, "save_steps": [2, 5], "state_every": {"steps": 2}}
    whole = lab.life(lab.request("whole", **plan))
    for dies_at in kill_points[case]:
        with pytest.raises(ends_by):
            lab.life(lab.request("broken", **plan), DoomedJob(dies_at=dies_at, ends_by=ends_by))
    job = RecordingJob()
    broken = lab.life(lab.request("broken", **plan), job)
    assert steps_of(job)[0] > 1 or ends_by is Killed
    assert {name: digest(path) for name, path in broken.items() if name != "metrics"} == {
        name: digest(path) for name, path in whole.items() if name != "metrics"
    }
    assert metrics(broken["metrics"]) == metrics(whole["metrics"])


def test_other_saves_and_pictures_from_life_to_life_do_not_change_the_training(lab):
    """They are no part of a training's identity. Lives end at random steps, by a kill or by a request."""
    chance = random.Random(7)
    steps = 6
    whole = lab.life(lab.request("whole", steps=steps, save_steps=[*range(1, steps + 1)]))
    for project in range(2):
        for _ in range(3):
            plan = lab.request(
                f"changing-{project}",
                steps=steps,
                save_steps=chance.sample(range(1, steps + 1), chance.randint(0, 3)),
                samples={"steps": chance.sample(range(1, steps), 1), "prompts": [PROMPT]},
                state_every={"steps": chance.randint(1, 3)},
            )
            ends_by = chance.choice([Killed, Cancelled])
            job = DoomedJob(dies_at=chance.randint(1, steps - 1), ends_by=ends_by)
            with contextlib.suppress(ends_by):
                lab.life(plan, job)
        wanted = sorted(chance.sample(range(1, steps + 1), 3))
        outputs = lab.life(lab.request(f"changing-{project}", steps=steps, save_steps=wanted))
        assert digest(outputs["lora"]) == digest(whole["lora"])
        assert metrics(outputs["metrics"]) == metrics(whole["metrics"])
        for step in wanted:
            assert digest(outputs[f"step.{step}"]) == digest(whole[f"step.{step}"])


def test_a_cancelled_training_goes_on_after_its_last_step(lab):
    request = lab.request(steps=4)
    with pytest.raises(Cancelled):
        lab.life(request, RecordingJob(cancel_after_steps=2))
    job = RecordingJob()
    lab.life(request, job)
    assert steps_of(job) == [3, 4]
    assert job.of_type("log")[0]["message"] == "Going on after step 2 of 4."
    assert [told["done"] for told in job.of_type("progress") if told["note"] == "step 3"] == [2]


def test_a_cancel_is_heard_before_the_next_micro_batch(lab, monkeypatch):
    job = RecordingJob()
    seen = []
    losses = Trainer.losses

    def counting(self, batch):
        seen.append(batch)
        if len(seen) == 5:
            job.cancel()
        return losses(self, batch)

    monkeypatch.setattr(Trainer, "losses", counting)
    request = lab.request(batch_size=1, gradient_accumulation_steps=4, steps=3)
    with pytest.raises(Cancelled):
        lab.life(request, job)
    assert len(seen) == 5
    resumed = RecordingJob()
    lab.life(request, resumed)
    assert steps_of(resumed) == [2, 3]


def test_a_finished_training_can_be_asked_for_again(lab):
    first = lab.life(lab.request(**EVERY_STEP))
    before = digest(first["lora"])
    job = RecordingJob()
    assert digest(lab.life(lab.request(**EVERY_STEP), job)["lora"]) == before
    assert steps_of(job) == [3]


def test_other_settings_start_anew_and_remove_what_was_there(lab):
    lab.life(lab.request(save_steps=[1], samples={"steps": [1], "prompts": [PROMPT]}, **EVERY_STEP))
    job = RecordingJob()
    outputs = lab.life(lab.request(seed=6, **EVERY_STEP), job)
    assert steps_of(job) == [1, 2, 3]
    assert sorted(path.name for path in (lab.folder / "work").iterdir()) == [
        *("identity", "lora.safetensors", "metrics.jsonl", "states")
    ]
    assert digest(outputs["lora"]) == digest(lab.life(lab.request("fresh", seed=6))["lora"])


def test_a_damaged_state_costs_time_and_nothing_else(lab):
    whole = lab.life(lab.request("whole", steps=4))
    with pytest.raises(Killed):
        lab.life(lab.request(steps=4, **EVERY_STEP), DoomedJob(dies_at=4))
    newest = lab.folder / "work" / "states" / "step-00000003" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\xff")
    job = RecordingJob()
    outputs = lab.life(lab.request(steps=4, **EVERY_STEP), job)
    assert steps_of(job) == [3, 4]
    assert "step-00000003" in job.warnings[0]
    assert digest(outputs["lora"]) == digest(whole["lora"])


def test_a_step_that_was_not_saved_is_gone_back_for(lab):
    whole = lab.life(lab.request("whole", steps=5, save_steps=[4]))
    with pytest.raises(Killed):
        lab.life(lab.request(steps=5, **EVERY_STEP), DoomedJob(dies_at=5))
    job = RecordingJob()
    outputs = lab.life(lab.request(steps=5, save_steps=[4], **EVERY_STEP), job)
    # The state of step 4 is at hand, and the LoRA is made from it without a step.
    assert steps_of(job) == [5]
    assert digest(outputs["step.4"]) == digest(whole["step.4"])
    job = RecordingJob()
    outputs = lab.life(lab.request(steps=5, save_steps=[2, 4]), job)
    assert steps_of(job) == [1, 2, 3, 4, 5]
    assert digest(outputs["lora"]) == digest(whole["lora"])


def test_reading_a_step_late_changes_nothing_but_when_it_is_told(lab, monkeypatch):
    plan = {"steps": 7, "save_steps": [2], "state_every": {"steps": 3}}
    usual = lab.life(lab.request("usual", **plan))
    monkeypatch.setattr(train, "reads_late", lambda device: True)
    with pytest.raises(Killed):
        lab.life(lab.request("late", **plan), DoomedJob(dies_at=4))
    with pytest.raises(Cancelled):
        lab.life(lab.request("late", **plan), RecordingJob(cancel_after_steps=1))
    job = RecordingJob()
    late = lab.life(lab.request("late", **plan), job)
    assert steps_of(job) == [6, 7]
    assert digest(late["lora"]) == digest(usual["lora"])
    assert digest(late["step.2"]) == digest(usual["step.2"])
    assert metrics(late["metrics"]) == metrics(usual["metrics"])


# Numbers that run away


def test_latents_that_are_not_finite_stop_it_and_name_the_image(lab):
    request = lab.request(steps=6, state_every={"steps": 1}, batch_size=1)
    visits = Visits(parse_train(request), prediction="epsilon", zero_terminal_snr=False)
    last = visits.micro_batches(2)[0].images[0]
    bad = next(image for image in request["images"] if image["digest"] == last.digest)
    for name in ("latents", "latents_flipped"):
        mean = read_tensor(bad[name], "mean")
        write_safetensors(bad[name], {"mean": mean * float("nan"), "logvar": mean})
    job = RecordingJob()
    with pytest.raises(WorkerError) as caught:
        lab.life(request, job)
    assert caught.value.kind == "non-finite"
    assert "step 3" in caught.value.message and "loss" in caught.value.message
    assert [problem.path for problem in caught.value.problems] == [bad["digest"]]
    assert steps_of(job) == [1, 2]
    states = lab.folder / "work" / "states"
    assert sorted(path.name for path in states.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_gradient_that_is_not_finite_stops_it_too(lab, toy_models):
    handle = toy_models.unet.conv_out.register_full_backward_pre_hook(lambda _, grads: (grads[0] * float("inf"),))
    try:
        with pytest.raises(WorkerError, match=r"step 1: its gradient is not a finite number") as caught:
            lab.life(lab.request())
    finally:
        handle.remove()
    assert caught.value.kind == "non-finite"
    assert len(caught.value.problems) == 2


def spoil(lab, request, *, step):
    """Makes the first image of that step (1-based) one whose latents are no numbers. Its digest."""
    visits = Visits(parse_train(request), prediction="epsilon", zero_terminal_snr=False)
    spoilt = visits.micro_batches(step - 1)[0].images[0].digest
    bad = next(image for image in request["images"] if image["digest"] == spoilt)
    for name in ("latents", "latents_flipped"):
        mean = read_tensor(bad[name], "mean")
        path = lab.folder / f"spoilt-{name}.safetensors"
        write_safetensors(path, {"mean": mean * float("nan"), "logvar": mean})
        bad[name] = str(path)
    return spoilt


SKIPPING = {"steps": 4, "batch_size": 1, "on_non_finite": "skip"}


def test_a_skipped_step_leaves_the_weights_as_they_were_and_is_told(lab):
    request = lab.request(**SKIPPING, save_steps=[1, 2, 3], state_every={"steps": 1})
    spoilt = spoil(lab, request, step=2)
    job = RecordingJob()
    outputs = lab.life(request, job)
    assert steps_of(job)[:2] == [1, 3]
    first, second, third = (read_tensors(outputs[f"step.{step}"]) for step in (1, 2, 3))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(second[name], third[name]) for name in first)
    assert "Step 2 was skipped" in job.warnings[0] and spoilt in job.warnings[0]
    assert "of 4 steps were skipped" in job.warnings[-1]
    lines = metrics(outputs["metrics"])
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[1]["loss"] is None and lines[1]["grad_norm"] is None


def read_tensors(path):
    return read_safetensors(path)[0]


def test_skipping_changes_nothing_where_all_numbers_are_finite(lab):
    usual = lab.life(lab.request("usual"))
    skipping = lab.life(lab.request("skipping", on_non_finite="skip"))
    assert digest(usual["lora"]) == digest(skipping["lora"])


def test_a_training_that_stopped_goes_on_from_there_when_it_may_skip(lab):
    request = lab.request(**{**SKIPPING, "on_non_finite": "stop"}, state_every={"steps": 1})
    spoil(lab, request, step=2)
    with pytest.raises(WorkerError, match="step 2"):
        lab.life(request)
    request["settings"]["on_non_finite"] = "skip"
    job = RecordingJob()
    lab.life(request, job)
    assert job.of_type("log")[0]["message"] == "Going on after step 1 of 4."


def test_too_many_skipped_steps_in_a_row_stop_it(lab, toy_models):
    request = lab.request(**{**SKIPPING, "steps": 20}, state_every={"steps": 1})
    handle = toy_models.unet.conv_out.register_full_backward_pre_hook(lambda _, grads: (grads[0] * float("inf"),))
    job = RecordingJob()
    try:
        with pytest.raises(WorkerError, match=r"step 10: .*after 9 steps that were skipped") as caught:
            lab.life(request, job)
    finally:
        handle.remove()
    assert caught.value.kind == "non-finite"
    assert len([warning for warning in job.warnings if "was skipped" in warning]) == 9


def test_weights_that_are_no_numbers_are_not_skipped_over(lab, monkeypatch):
    request = lab.request(**SKIPPING)
    spoil(lab, request, step=2)
    monkeypatch.setattr(Trainer, "is_finite", lambda self: False)
    with pytest.raises(WorkerError, match="step 2"):
        lab.life(request)


# The models afterwards


def test_the_models_are_left_as_they_were(lab, toy_models):
    lab.life(lab.request(gradient_checkpointing="on", **EVERY_LAYER))
    assert not any(module._forward_hooks for module in toy_models.unet.modules())
    assert not torch.are_deterministic_algorithms_enabled()


# Only a part of it


def test_a_training_up_to_an_earlier_step_gives_that_step_of_the_whole_one(lab):
    whole = lab.life(lab.request("whole", steps=5, save_steps=[2]))
    job = RecordingJob()
    part = lab.life(lab.request("part", steps=5, save_steps=[2], until=2), job)
    assert steps_of(job) == [1, 2]
    assert sorted(part) == ["metrics", "step.2"]
    assert digest(part["step.2"]) == digest(whole["step.2"])


def test_an_end_beyond_the_last_step_is_refused(lab):
    with pytest.raises(ProtocolError, match=r'"work.until" must be at most 3, and is 4'):
        parse_train(lab.request(until=4))


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "SAVEUS"])
def test_a_killed_training_goes_on_bit_for_bit_with_every_optimizer(lab, name):
    settings = {"optimizer": OPTIMIZERS[name], "steps": 3}
    whole = lab.life(lab.request("whole", **settings))
    broken = lab.request("broken", state_every={"steps": 1}, **settings)
    with pytest.raises(Killed):
        lab.life(broken, DoomedJob(dies_at=3))
    assert digest(lab.life(broken)["lora"]) == digest(whole["lora"])


ONE_CYCLE = {
    "kind": "python",
    "class": "torch.optim.lr_scheduler.OneCycleLR",
    "args": {"max_lr": 2e-3, "total_steps": 4, "pct_start": 0.5},
}


def test_a_killed_training_goes_on_bit_for_bit_with_a_schedule_by_its_class(lab):
    plan = {"steps": 4, "lr_scheduler": ONE_CYCLE, "optimizer": OPTIMIZERS["AdamW"], **EVERY_STEP}
    whole = lab.life(lab.request("whole", **plan))
    request = lab.request("parts", **plan)
    for dies_at in (1, 3):
        with pytest.raises(Killed):
            lab.life(request, DoomedJob(dies_at=dies_at))
    parts = lab.life(request)
    assert digest(parts["lora"]) == digest(whole["lora"])
    assert metrics(parts["metrics"]) == metrics(whole["metrics"])
    rates = [line["learning_rates"]["unet"] for line in metrics(whole["metrics"])]
    assert rates[1] == pytest.approx(2e-3) and rates[0] == pytest.approx(2e-3 / 25) and rates[3] < rates[2] < rates[1]
    _, told = read_safetensors(whole["lora"])
    assert told["ss_lr_scheduler"] == ONE_CYCLE["class"]
    assert '"total_steps": 4' in told["ss_lr_scheduler_args"]


def test_a_schedule_that_is_missing_or_would_fail_is_refused_before_a_step(lab, monkeypatch):
    job = RecordingJob()
    with pytest.raises(WorkerError, match="cannot go on after step 3"):
        lab.life(lab.request(steps=9, lr_scheduler={**ONE_CYCLE, "args": {"max_lr": 1, "total_steps": 2}}), job)
    assert steps_of(job) == []
    monkeypatch.setattr(train, "load_models", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(WorkerError, match="cannot be imported"):
        lab.life(lab.request("other", lr_scheduler={"kind": "python", "class": "nowhere.Cycle"}))
