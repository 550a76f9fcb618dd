"""Pictures while a training goes on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support import RecordingJob
from training_lab import PROMPT, DoomedJob, Killed, TrainingLab, digest, share_models, steps_of

from lora_worker import adapters, training_montage, training_pictures
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
    pictured = lab.life(lab.request("pictured", samples={"steps": [0, 1, 2], "prompts": [PROMPT]}))
    assert digest(bare["lora"]) == digest(pictured["lora"])


def test_step_0_shows_the_base_whatever_the_network_begins_as(lab, toy_models, toy_vae):
    wanted = np.asarray(render(toy_models, toy_vae, SamplePrompt.parse(PROMPT)))
    for kind in ("locon", "dora"):
        request = lab.request(kind, samples={"steps": [0], "prompts": [PROMPT]}, steps=1)
        request["settings"]["network"]["kind"] = kind
        if kind == "dora":
            request["settings"]["network"]["wd_on_output"] = True
        outputs = lab.life(request)
        assert np.array_equal(np.asarray(Image.open(outputs["sample.0.0"])), wanted)


def test_step_0_shows_the_lora_that_a_training_begins_with(lab, toy_models, toy_vae):
    first = lab.life(lab.request("first"))
    init = {"lora": first["lora"], "digest": digest(first["lora"])}
    request = lab.request("second", samples={"steps": [0, 2], "prompts": [PROMPT]}, state_every={"steps": 1})
    request["init"] = init
    with pytest.raises(Killed):
        lab.life(request, DoomedJob(dies_at=2))
    with adapters.applied(toy_models, first["lora"]):
        wanted = np.asarray(render(toy_models, toy_vae, SamplePrompt.parse(PROMPT)))
    picture = lab.folder / "second" / "samples" / "000000-00.png"
    assert np.array_equal(np.asarray(Image.open(picture)), wanted)
    # What it began with is gone when it goes on. The samples node can still make the picture, from the LoRA.
    picture.unlink()
    outputs = lab.life(request)
    assert "sample.0.0" not in outputs and "sample.2.0" in outputs


def test_pictures_of_the_base_that_there_are_already_are_not_made_again(lab):
    samples = {"steps": [0, 1], "prompts": [PROMPT, {**PROMPT, "seed": 2}]}
    first = lab.life(lab.request("first", samples=samples, steps=1))
    given = [{"index": 1, "picture": str(lab.folder / "given.png")}]
    Image.new("RGB", (64, 64), "red").save(given[0]["picture"])
    job = RecordingJob()
    second = lab.life(lab.request("second", samples={**samples, "given": given}, steps=1), job)
    assert digest(second["sample.0.0"]) == digest(first["sample.0.0"])
    assert digest(second["sample.0.1"]) == digest(given[0]["picture"])
    assert digest(second["sample.1.1"]) == digest(first["sample.1.1"])
    assert [message["name"] for message in job.of_type("artifact")][:2] == ["sample.0.1", "sample.0.0"]


def test_the_montage_has_a_column_for_each_step_and_outlives_a_kill(lab):
    request = lab.request(
        samples={"steps": [0, 2, 4], "prompts": [PROMPT, {**PROMPT, "seed": 2}]}, state_every={"steps": 1}, steps=4
    )
    job = DoomedJob(dies_at=3)
    with pytest.raises(Killed):
        lab.life(request, job)
    folder = lab.folder / "work"
    assert {"montage", "animation"} <= {message["name"] for message in job.of_type("artifact")}
    with Image.open(folder / "animation.webp") as film:
        assert film.n_frames <= 2
    width = Image.open(folder / "montage.png").width
    lab.life(request)
    outputs = lab.life({**request, "work": str(lab.folder / "whole")})
    for name in ("montage.png", "animation.webp"):
        assert digest(folder / name) == digest(lab.folder / "whole" / name)
    with Image.open(folder / "animation.webp") as film:
        assert film.n_frames == 3
    assert Image.open(folder / "montage.png").width > width
    assert "montage" not in outputs


@pytest.mark.parametrize(
    ("which", "error", "told"),
    [
        ("save_montage", OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        # What a Pillow says that has no WebP.
        ("save_animation", KeyError("WEBP"), "KeyError: 'WEBP'"),
    ],
)
def test_a_montage_that_cannot_be_drawn_is_a_warning(lab, monkeypatch, which, error, told):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(training_montage, which, failing)
    job = RecordingJob()
    outputs = lab.life(lab.request(samples={"steps": [1, 2], "prompts": [PROMPT]}), job)
    assert "lora" in outputs
    assert [warning for warning in job.warnings if "montage" in warning] == [
        f"The montage of the training could not be drawn: {told}"
    ]


def test_a_picture_from_before_a_kill_is_kept_and_a_missing_one_rendered(lab):
    samples = {"steps": [2], "prompts": [PROMPT, {**PROMPT, "seed": 2}]}
    request = lab.request(samples=samples, state_every={"steps": 3}, steps=4)
    with pytest.raises(Killed):
        lab.life(request, DoomedJob(dies_at=3))
    first, second = (lab.folder / "work" / "samples" / f"000002-0{index}.png" for index in range(2))
    wanted = digest(second)
    Image.new("RGB", (64, 64), "red").save(first)
    kept = digest(first)
    second.unlink()
    job = RecordingJob()
    lab.life(request, job)
    assert [message["name"] for message in job.of_type("artifact")] == ["sample.2.1", "montage", "animation"]
    assert digest(first) == kept
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
