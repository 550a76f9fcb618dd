"""Pictures from prompts: repeatable, private in their randomness, and as the schedule's formulas say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import RecordingJob

from lora_worker.errors import WorkerError
from lora_worker.models import Models
from lora_worker.sampling import SamplePrompt, _scheduler, render
from lora_worker.stages.sample import parse, run

# diffusers hands tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

PROMPT = SamplePrompt(
    prompt="roundling, red scarf", negative_prompt="blurry", width=64, height=96, seed=7, steps=3, scale=5.0
)


def pixels(image):
    return np.asarray(image).astype(int)


def test_a_picture_has_the_size_that_was_asked_for(toy_models, toy_vae):
    image = render(toy_models, toy_vae, PROMPT)
    assert (image.size, image.mode) == ((64, 96), "RGB")
    assert pixels(image).std() > 1


def test_the_same_prompt_gives_the_same_picture_and_others_another(toy_models, toy_vae):
    first = render(toy_models, toy_vae, PROMPT).tobytes()
    assert render(toy_models, toy_vae, PROMPT).tobytes() == first
    for change in ({"seed": 8}, {"prompt": "cat"}, {"negative_prompt": ""}, {"scale": 3.0}, {"steps": 4}):
        assert render(toy_models, toy_vae, replace(PROMPT, **change)).tobytes() != first, change


def test_without_guidance_the_negative_prompt_does_not_matter(toy_models, toy_vae):
    bare = replace(PROMPT, scale=1.0)
    assert (
        render(toy_models, toy_vae, bare).tobytes()
        == render(toy_models, toy_vae, replace(bare, negative_prompt="x")).tobytes()
    )


def test_rendering_leaves_global_randomness_and_gradients_alone(toy_models, toy_vae):
    before = torch.random.get_rng_state()
    with torch.enable_grad():
        render(toy_models, toy_vae, PROMPT)
        assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_first_timesteps_are_those_of_the_published_configuration(toy_models):
    scheduler = _scheduler(toy_models.architecture)
    scheduler.set_timesteps(30)
    # Leading spacing with offset 1: multiples of 1000 // 30, from the top.
    assert scheduler.timesteps.tolist() == [33.0 * index + 1 for index in reversed(range(30))]
    # sigma = sqrt((1 - a) / a), from the table of the noise schedule at t = 958.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha = torch.cumprod(1 - betas, 0)[958]
    assert scheduler.sigmas[0].item() == pytest.approx(((1 - alpha) / alpha).sqrt().item(), rel=1e-5)


def test_a_perfect_network_is_denoised_to_what_it_believes_in(toy_models, toy_vae, monkeypatch):
    """A network that always answers as if the clean latents were `truth` ends there, for both kinds of answer."""
    truth = torch.randn(1, 4, 12, 8, generator=torch.Generator().manual_seed(1))
    seen = []

    def decode(latents, return_dict):
        seen.append(latents * 0.13025)
        return (torch.zeros(1, 3, 96, 64),)

    monkeypatch.setattr(toy_vae, "decode", decode)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    for prediction in ("epsilon", "v"):

        def predict(self, latents, timesteps, context, pooled, sizes, prediction=prediction):
            assert context.shape[0] == pooled.shape[0] == sizes.shape[0] == 2
            assert sizes.tolist() == [[96, 64, 0, 0, 96, 64]] * 2
            alpha = alphas[timesteps.long()].reshape(-1, 1, 1, 1)
            noise = (latents - alpha.sqrt() * truth) / (1 - alpha).sqrt()
            return noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * truth

        monkeypatch.setattr(Models, "predict", predict)
        models = replace(toy_models, architecture=replace(toy_models.architecture, prediction=prediction))
        render(models, toy_vae, replace(PROMPT, steps=12))
        torch.testing.assert_close(seen[-1], truth, rtol=1e-3, atol=1e-3)


def test_zero_terminal_snr_begins_at_the_very_end(toy_models):
    scheduler = _scheduler(replace(toy_models.architecture, prediction="v", zero_terminal_snr=True))
    scheduler.set_timesteps(10)
    assert scheduler.timesteps[0] == 999
    assert scheduler.sigmas[0] > 1000


def test_numbers_that_run_away_are_an_error(toy_models, toy_vae, monkeypatch):
    monkeypatch.setattr(Models, "predict", lambda self, latents, *_: latents * float("nan"))
    with pytest.raises(WorkerError) as caught:
        render(toy_models, toy_vae, PROMPT)
    assert caught.value.kind == "non-finite"


FIELDS = {
    "prompt": "cat",
    "negative_prompt": "",
    "width": 64,
    "height": 64,
    "seed": 1,
    "steps": 2,
    "scale": 4,
    "sampler": "euler_a",
}


@pytest.mark.parametrize("change", [{"sampler": "ddim"}, {"width": 65}, {"height": 32}, {"steps": 0}])
def test_prompts_that_cannot_be_rendered_are_refused(change):
    with pytest.raises(WorkerError):
        SamplePrompt.parse(FIELDS | change)


def test_the_stage_writes_and_announces_each_picture(toy_checkpoint, toy_models, toy_vae, tmp_path):
    items = [
        {"name": f"s{seed}", "lora": None, "prompt": FIELDS | {"seed": seed}, "output": str(tmp_path / f"{seed}.png")}
        for seed in (1, 2)
    ]
    job = RecordingJob()
    work = parse({"op": "sample", "checkpoint": str(toy_checkpoint), "mixed_precision": "fp32", "items": items})
    assert run(work, job) == {}
    assert [message["name"] for message in job.of_type("artifact")] == ["s1", "s2"]
    first = (tmp_path / "1.png").read_bytes()
    assert first != (tmp_path / "2.png").read_bytes()
    run(work, RecordingJob())
    assert (tmp_path / "1.png").read_bytes() == first


def test_the_stage_renders_in_half_precision(toy_checkpoint, tmp_path):
    item = {"name": "s", "lora": None, "prompt": FIELDS, "output": str(tmp_path / "s.png")}
    run(
        parse({"op": "sample", "checkpoint": str(toy_checkpoint), "mixed_precision": "bf16", "items": [item]}),
        RecordingJob(),
    )
    assert (tmp_path / "s.png").stat().st_size > 100
