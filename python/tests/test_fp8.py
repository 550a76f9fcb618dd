"""Frozen weights in fp8: what they are off by, what they cost, and that all that is computed with them is right."""

from __future__ import annotations

import pytest
import torch
from network_samples import KINDS
from support import RecordingJob
from test_kinds import made, moved
from torch.nn import functional
from training_lab import TrainingLab, digest, metrics, share_models

from lora_worker.adapters import applied
from lora_worker.base_bytes import base_bytes, loaded_bytes
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.fp8 import FP8, Fp8Conv2d, Fp8Linear, layers_of, split, weight_of, whole
from lora_worker.lora_file import write_lora
from lora_worker.models import load_models
from lora_worker.protocol import ProtocolError
from lora_worker.safetensors_file import read_safetensors
from lora_worker.stages import train


@pytest.fixture(scope="module")
def models(toy_checkpoint):
    return load_models(toy_checkpoint, device="cpu", dtype=torch.float32, fp8_base="on")


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def normal(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def predicted(models):
    context, pooled = models.text.encode(["fox", "hill, tree"])
    return models.predict(normal(2, 4, 8, 8), torch.tensor([3, 700]), context, pooled, torch.full((2, 6), 64.0))


def encoders(models):
    return models.text.one, models.text.two


def off_by(weight, again):
    return ((again - weight).norm() / weight.norm()).item()


@pytest.mark.parametrize("shape", [(64, 48), (16, 8, 3, 3)])
@pytest.mark.parametrize("deviation", [10, 0.03, 3e-6])
def test_weights_of_any_size_are_off_by_the_same_share(shape, deviation):
    weight = normal(*shape) * deviation
    q, scale = split(weight)
    assert (q.dtype, scale.shape) == (FP8, (shape[0], *[1] * (len(shape) - 1)))
    assert off_by(weight, whole(q, scale)) == pytest.approx(0.026, abs=0.002)
    # sd-scripts casts as they are: what is small goes below the smallest number.
    assert off_by(weight, weight.to(FP8).float()) > (0.9 if deviation < 1e-3 else 0.02)


def test_each_row_has_its_own_factor_and_rows_of_zeros_stay_zeros():
    weight = normal(4, 256) * torch.tensor([[1e-4], [1.0], [0.0], [300.0]])
    again = whole(*split(weight))
    assert torch.equal(again[2], torch.zeros(256))
    for row in (0, 1, 3):
        assert off_by(weight[row], again[row]) < 0.03


def test_no_weight_is_off_by_more_than_a_sixteenth_and_none_overflows():
    weight = normal(8, 4096).clamp(min=-2, max=2)
    weight[:, 0] = torch.tensor([448.0, 447.9, 449.0, 896.0, 2.0**-20, 1e30, 3.5, 1.75])
    again = whole(*split(weight))
    large = weight.abs() > weight.abs().amax(1, keepdim=True) * 2**-13
    assert ((again - weight).abs()[large] <= weight.abs()[large] / 16).all()


def test_what_is_computed_with_is_the_same_in_bf16_and_in_fp32():
    weight = normal(32, 64).bfloat16()
    q, scale = split(weight)
    assert scale.dtype == torch.bfloat16
    assert torch.equal(whole(q, scale).float(), whole(q, scale.float()))


@pytest.mark.parametrize("shape", ["linear", "conv", "strided"])
def test_layers_compute_and_differentiate_as_with_the_whole_weight(shape):
    if shape == "linear":
        layer, x = Fp8Linear(24, 16, dtype=FP8, device="meta"), normal(2, 5, 24)
    else:
        stride = 2 if shape == "strided" else 1
        layer, x = Fp8Conv2d(6, 8, 3, stride, 1, dtype=FP8, device="meta"), normal(2, 6, 7, 9)
    q, scale = split(normal(*layer.weight.shape, seed=2))
    layer.weight = torch.nn.Parameter(q, requires_grad=False)
    layer.bias = torch.nn.Parameter(normal(layer.bias.numel(), seed=3), requires_grad=False)
    layer.register_buffer("scale", scale)
    x.requires_grad_()

    def reference(x):
        weight = weight_of(layer)
        if shape == "linear":
            return functional.linear(x, weight, layer.bias)
        return functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding)

    found, wanted = layer(x), reference(x)
    assert torch.equal(found, wanted)
    into = normal(*found.shape, seed=4)
    assert torch.equal(*(torch.autograd.grad(each, x, into)[0] for each in (found, wanted)))


def test_autograd_keeps_no_whole_weight(models):
    """Otherwise memory would be saved only until the first forward pass."""
    kept = []
    layer = next(layer for _, layer in layers_of(models.unet) if isinstance(layer, Fp8Linear))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(torch.zeros(1, layer.in_features, requires_grad=True))
    assert [tensor.dtype for tensor in kept if tensor.shape == layer.weight.shape] == [FP8]


def test_large_weights_take_a_byte_and_all_that_is_counted_is_there(models, toy_models, toy_checkpoint):
    layers = [each for model in (models.unet, *encoders(models)) for each in layers_of(model)]
    stored = sum(layer.weight.untyped_storage().nbytes() for _, layer in layers)
    assert stored == sum(layer.weight.numel() for _, layer in layers)
    assert base_bytes(models.architecture, dtype=torch.float32, fp8_base="on") == loaded_bytes(models)
    assert base_bytes(models.architecture, dtype=torch.float32) == loaded_bytes(toy_models)
    # The toy's norms, embeddings and biases count for more than SDXL's.
    usual, small = (base_bytes(models.architecture, dtype=torch.bfloat16, fp8_base=fp8) for fp8 in ("off", "unet"))
    assert small.unet < 0.53 * usual.unet
    assert small.text_encoders == usual.text_encoders


def test_the_rounding_is_told_and_shows_little_in_what_is_predicted(models, toy_models):
    assert models.fp8_error == pytest.approx(0.0265, abs=0.001)
    assert toy_models.fp8_error == 0
    with torch.no_grad():
        exact, rough = predicted(toy_models), predicted(models)
    assert 0.001 < off_by(exact, rough) < 0.1


def test_a_training_on_fp8_weights_says_so_and_so_does_its_file(lab):
    job = RecordingJob()
    outputs = lab.life(lab.request(steps=1, mixed_precision="bf16", fp8_base="on"), job)
    assert any("fp8 are off by 2." in message["message"] for message in job.of_type("log"))
    metadata = read_safetensors(outputs["lora"])[1]
    assert (metadata["ss_fp8_base"], metadata["ss_fp8_base_unet"]) == ("True", "False")


@pytest.fixture(scope="module")
def rounded(models, toy_checkpoint):
    """The same weights, each stored as it is computed with."""
    plain_models = load_models(toy_checkpoint, device="cpu", dtype=torch.float32)
    pairs = ((models.unet, plain_models.unet), *zip(encoders(models), encoders(plain_models), strict=True))
    for stored, plain in pairs:
        for name, layer in layers_of(stored):
            plain.get_submodule(name).weight.data = weight_of(layer)
    return plain_models


@pytest.mark.parametrize("kind", ["locon", "dora", "dora of columns", "loha", "lokr", "full"])
def test_networks_learn_the_same_beside_weights_in_fp8_and_their_files_show_it(models, rounded, kind, tmp_path):
    network = KINDS[kind]
    gradients, seen = [], []
    for base in (rounded, models):
        learned = moved(made(base, network))
        learned.attach()
        predicted(base).square().mean().backward()
        learned.remove()
        gradients.append({name: parameter.grad for name, parameter in learned.named_parameters()})
        write_lora(tmp_path / "lora.safetensors", learned, {}, dtype=torch.float32)
        with applied(base, tmp_path / "lora.safetensors"), torch.no_grad():
            seen.append(predicted(base))
    assert torch.allclose(*seen, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert (gradient is None) == (other is None), name
        assert gradient is None or torch.allclose(gradient, other, rtol=1e-3, atol=1e-5 * gradient.abs().max()), name


def test_going_on_after_a_stop_gives_the_same_and_other_weights_give_another_lora(lab):
    whole_life = lab.life(lab.request("one", steps=3, fp8_base="unet", state_every={"steps": 1}))
    stopped = RecordingJob(cancel_after_steps=2)
    request = lab.request("two", steps=3, fp8_base="unet", state_every={"steps": 1})
    with pytest.raises(Cancelled):
        lab.life(request, stopped)
    again = lab.life(request)
    assert digest(again["lora"]) == digest(whole_life["lora"])
    assert metrics(again["metrics"]) == metrics(whole_life["metrics"])
    exact = lab.life(lab.request("three", steps=3))
    assert digest(exact["lora"]) != digest(whole_life["lora"])
    parsed = [
        train.parse(lab.request(**how)).identity("facts") for how in ({}, {"fp8_base": "off"}, {"fp8_base": "on"})
    ]
    assert parsed[0] == parsed[1] != parsed[2]


def test_apples_gpus_are_told_to_have_no_such_numbers(lab, monkeypatch):
    monkeypatch.setattr(train, "torch_device", lambda: torch.device("mps"))
    with pytest.raises(WorkerError, match="8-bit"):
        lab.life(lab.request(fp8_base="on"))


def test_another_word_is_refused(lab):
    with pytest.raises(ProtocolError, match="fp8_base"):
        train.parse(lab.request(fp8_base="vae"))
