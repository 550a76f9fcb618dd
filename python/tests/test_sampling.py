"""Pictures from prompts: repeatable, private in their randomness, and as the schedule's formulas say."""

from __future__ import annotations

import os
from dataclasses import replace

import adapter_samples
import numpy as np
import pytest
import torch
from adapter_samples import Maker
from support import RecordingJob

from lora_worker import adapters, kept_models, worker
from lora_worker.adapter_targets import modules_by_name
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.models import Models
from lora_worker.protocol import ProtocolError, Request
from lora_worker.safetensors_file import write_safetensors
from lora_worker.sampling import SamplePrompt, _scheduler, render
from lora_worker.stages import sample as sample_stage
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


def test_a_picture_that_ran_out_of_memory_is_computed_in_smaller_pieces(toy_models, toy_vae, monkeypatch):
    wanted = np.asarray(render(toy_models, toy_vae, PROMPT), dtype=int)
    predict, decode = Models.predict, toy_vae.decode
    refused = []

    def scarce(models, latents, *rest):
        if len(latents) > 1:
            refused.append("both at once")
            raise torch.OutOfMemoryError("played")
        return predict(models, latents, *rest)

    def scarce_decode(*args, **kwargs):
        if refused.count("decode") < 2:
            refused.append("decode")
            raise torch.OutOfMemoryError("played")
        return decode(*args, **kwargs)

    monkeypatch.setattr(Models, "predict", scarce)
    monkeypatch.setattr(toy_vae, "decode", scarce_decode)
    found = np.asarray(render(toy_models, toy_vae, PROMPT), dtype=int)
    assert refused.count("both at once") == 2 * PROMPT.steps
    assert refused.count("decode") == 2
    assert np.abs(found - wanted).max() <= 1


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


class CancelledAfter(RecordingJob):
    """Is asked so many times whether it is cancelled before it says so."""

    def __init__(self, questions):
        super().__init__()
        self.questions = questions

    @property
    def cancelled(self):
        self.questions -= 1
        return self.questions < 0


def lora_files(models, folder):
    """One that changes text and pictures, and one that changes pictures alone."""
    modules = modules_by_name(models)
    names = ["lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_unet_output_blocks_1_1_proj_out"]
    samples = [adapter_samples.lora(Maker(modules[name].weight, seed)) for seed, name in enumerate(names)]
    files = {"both": zip(names, samples, strict=True), "unet": [(names[1], samples[1])]}
    for file, pairs in files.items():
        tensors = {f"{name}.{part}": tensor for name, sample in pairs for part, tensor in sample.parts.items()}
        write_safetensors(folder / f"{file}.safetensors", tensors)
    return {file: str(folder / f"{file}.safetensors") for file in files}


def request(checkpoint, folder, loras):
    items = [
        {"name": f"{place}", "lora": lora, "prompt": FIELDS, "output": str(folder / f"{place}.png")}
        for place, lora in enumerate(loras)
    ]
    return parse({"op": "sample", "checkpoint": str(checkpoint), "mixed_precision": "fp32", "items": items})


def test_each_picture_has_its_own_weights_and_shares_what_it_can(toy_checkpoint, toy_models, tmp_path, monkeypatch):
    files = lora_files(toy_models, tmp_path)
    loras = [
        None,
        {"path": files["both"], "strength": 1, "blocks": None},
        {"path": files["both"], "strength": 1, "blocks": {"OUT01": 1}},
        {"path": files["both"], "strength": 0.5, "blocks": {"TE1": 2}},
        {"path": files["both"], "strength": 0, "blocks": None},
        {"path": files["unet"], "strength": 1, "blocks": None},
        {"path": files["both"], "strength": 1, "blocks": {"OUT01": 1, "TE1.0": 1}},
    ]
    encoded, opened = [], []
    encode_really, read_really = sample_stage.encode, adapters.read_adapters
    monkeypatch.setattr(sample_stage, "encode", lambda *given: encoded.append(1) or encode_really(*given))
    monkeypatch.setattr(adapters, "read_adapters", lambda *given: opened.append(given[1]) or read_really(*given))
    run(request(toy_checkpoint, tmp_path, loras), RecordingJob())
    bytes_of = [(tmp_path / f"{place}.png").read_bytes() for place in range(len(loras))]
    none, whole, out, text, zero, unet, named = bytes_of
    assert zero == none and unet == out and named == whole
    assert len({none, whole, out, text}) == 4
    # Twice the weight at half the strength: the captions of `whole`, `text` and `named` are the same.
    assert len(encoded) == 2
    assert opened == [files["both"], files["unet"], files["both"]]
    # In another order, and alone, each is what it was.
    run(request(toy_checkpoint, tmp_path, loras[::-1]), RecordingJob())
    assert [(tmp_path / f"{place}.png").read_bytes() for place in range(len(loras))] == bytes_of[::-1]


def test_a_second_request_loads_nothing_and_renders_the_same(toy_checkpoint, toy_models, tmp_path, monkeypatch):
    kept_models.forget_models()
    loaded = []
    load_really = kept_models.load_models
    monkeypatch.setattr(
        kept_models, "load_models", lambda *given, **how: loaded.append(1) or load_really(*given, **how)
    )
    lora = {"path": lora_files(toy_models, tmp_path)["both"], "strength": 1, "blocks": None}
    run(request(toy_checkpoint, tmp_path, [None, lora]), RecordingJob())
    first = [(tmp_path / f"{place}.png").read_bytes() for place in range(2)]
    run(request(toy_checkpoint, tmp_path, [None, lora]), RecordingJob())
    assert [(tmp_path / f"{place}.png").read_bytes() for place in range(2)] == first
    assert len(loaded) == 1
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(toy_checkpoint.read_bytes())
    run(request(copy, tmp_path, [None]), RecordingJob())
    os.utime(copy, ns=(0, 0))
    run(request(copy, tmp_path, [None]), RecordingJob())
    assert len(loaded) == 3, "another file, and one that was written anew"


def test_networks_that_something_failed_with_are_not_used_again(toy_checkpoint, tmp_path, monkeypatch):
    run(request(toy_checkpoint, tmp_path, [None]), RecordingJob())
    with pytest.raises(Cancelled):
        run(request(toy_checkpoint, tmp_path, [None, None]), CancelledAfter(1))
    loaded = []
    load_really = kept_models.load_models
    monkeypatch.setattr(
        kept_models, "load_models", lambda *given, **how: loaded.append(1) or load_really(*given, **how)
    )
    run(request(toy_checkpoint, tmp_path, [None]), RecordingJob())
    assert loaded == [1]


def test_work_that_needs_the_memory_gets_it(toy_checkpoint, tmp_path):
    run(request(toy_checkpoint, tmp_path, [None]), RecordingJob())
    for op, is_kept in [("grid", True), ("measure", True), ("frobenius", False)]:
        with pytest.raises(ProtocolError):
            worker._do(Request(1, op, {"op": op}), RecordingJob())
        assert bool(kept_models._kept) == is_kept


# A picture of two steps asks once, and before each of its passes of the UNet.
@pytest.mark.parametrize(("questions", "pictures"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (6, 2)])
def test_a_cancel_is_heard_between_pictures_and_within_one(toy_checkpoint, tmp_path, questions, pictures):
    job = CancelledAfter(questions)
    with pytest.raises(Cancelled):
        run(request(toy_checkpoint, tmp_path, [None, None, None]), job)
    assert len(job.of_type("artifact")) == len(list(tmp_path.glob("*.png"))) == pictures


def test_the_stage_renders_in_half_precision(toy_checkpoint, tmp_path):
    item = {"name": "s", "lora": None, "prompt": FIELDS, "output": str(tmp_path / "s.png")}
    run(
        parse({"op": "sample", "checkpoint": str(toy_checkpoint), "mixed_precision": "bf16", "items": [item]}),
        RecordingJob(),
    )
    assert (tmp_path / "s.png").stat().st_size > 100
