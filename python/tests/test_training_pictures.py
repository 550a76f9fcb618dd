"""Pictures while a training goes on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support import RecordingJob
from training_lab import PROMPT, DoomedJob, Killed, TrainingLab, digest, share_models, steps_of

from lora_worker import adapters, training_pictures
from lora_worker.errors import Cancelled, non_finite
from lora_worker.sampling import SamplePrompt, render

# diffusers hands tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def test_pictures_show_what_the_saved_lora_shows(lab, toy_models, toy_vae):
    outputs = lab.life(lab.request(save_steps=[2], samples={"steps": [2], "prompts": [PROMPT]}))
    with adapters.applied(toy_models, outputs["step.2"]):
        wanted = render(toy_models, toy_vae, SamplePrompt.parse(PROMPT))
    assert np.array_equal(np.asarray(Image.open(outputs["sample.2.0"])), np.asarray(wanted))


def test_pictures_do_not_change_the_training(lab):
    bare = lab.life(lab.request("bare"))
    pictured = lab.life(lab.request("pictured", samples={"steps": [1, 2], "prompts": [PROMPT]}))
    assert digest(bare["lora"]) == digest(pictured["lora"])


def test_a_picture_from_before_a_kill_is_kept_and_a_missing_one_rendered(lab):
    samples = {"steps": [2], "prompts": [PROMPT, {**PROMPT, "seed": 2}]}
    request = lab.request(samples=samples, state_every={"steps": 3}, steps=4)
    with pytest.raises(Killed):
        lab.life(request, DoomedJob(dies_at=3))
    first, second = (lab.folder / "work" / "samples" / f"000002-0{index}.png" for index in range(2))
    wanted = digest(second)
    first.write_bytes(b"kept")
    second.unlink()
    job = RecordingJob()
    lab.life(request, job)
    assert [message["name"] for message in job.of_type("artifact")] == ["sample.2.1"]
    assert first.read_bytes() == b"kept"
    assert digest(second) == wanted


def test_pictures_of_other_prompts_are_forgotten(lab):
    request = lab.request(samples={"steps": [2], "prompts": [PROMPT]})
    with pytest.raises(Killed):
        lab.life(request, DoomedJob(dies_at=3))
    old = digest(lab.folder / "work" / "samples" / "000002-00.png")
    request["samples"]["prompts"] = [{**PROMPT, "prompt": "hill"}]
    outputs = lab.life(request)
    assert digest(outputs["sample.2.0"]) != old


def test_a_cancel_is_heard_within_a_picture(lab, toy_models):
    job = RecordingJob()
    request = lab.request(samples={"steps": [2], "prompts": [{**PROMPT, "steps": 1000}]}, state_every={"seconds": 3600})
    passes = []

    def count(*_):
        if len(job.of_type("step")) == 2:
            passes.append(1)
            if len(passes) == 3:
                job.cancel()

    handle = toy_models.unet.conv_in.register_forward_pre_hook(count)
    try:
        with pytest.raises(Cancelled):
            lab.life(request, job)
    finally:
        handle.remove()
    assert len(passes) == 3
    request["samples"]["prompts"][0]["steps"] = 1
    resumed = RecordingJob()
    outputs = lab.life(request, resumed)
    assert steps_of(resumed) == [3]
    assert "sample.2.0" in outputs


def test_a_picture_that_cannot_be_rendered_is_a_warning(lab, monkeypatch):
    def failing(*_, **__):
        raise non_finite("no numbers")

    monkeypatch.setattr(training_pictures, "render", failing)
    job = RecordingJob()
    outputs = lab.life(lab.request(samples={"steps": [2], "prompts": [PROMPT]}), job)
    assert "sample.2.0" not in outputs and "lora" in outputs
    assert "no numbers" in job.warnings[0]
