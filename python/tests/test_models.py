"""Networks filled from a checkpoint: what lands where, and what is refused."""

from __future__ import annotations

import pytest
import torch

from lora_worker.checkpoint import Checkpoint
from lora_worker.errors import WorkerError
from lora_worker.models import load_models, load_vae, size_embedding_inputs
from lora_worker.safetensors_file import read_safetensors, write_safetensors


@pytest.fixture(scope="module")
def toy_tensors(toy_checkpoint):
    return read_safetensors(toy_checkpoint)[0]


def test_loaded_networks_are_frozen_and_in_evaluation_mode(toy_models, toy_vae):
    for model in (toy_models.unet, toy_models.text.one, toy_models.text.two, toy_vae):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_weights_are_those_of_the_file(toy_models, toy_vae, toy_tensors):
    def file(name):
        return toy_tensors[name].float()

    unet = toy_models.unet
    block = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    assert torch.equal(
        unet.get_parameter("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"), file(block)
    )

    two = toy_models.text.two
    width = toy_models.architecture.te2.width
    fused = file("conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight")
    attention = two.text_model.encoder.layers[1].self_attn
    assert torch.equal(attention.q_proj.weight, fused[:width])
    assert torch.equal(attention.k_proj.weight, fused[width : 2 * width])
    assert torch.equal(attention.v_proj.weight, fused[2 * width :])
    projection = file("conditioner.embedders.1.model.text_projection")
    assert torch.equal(two.text_projection.weight, projection.T)
    assert not torch.equal(projection, projection.T)

    query = file("first_stage_model.decoder.mid.attn_1.q.weight")
    assert torch.equal(toy_vae.decoder.mid_block.attentions[0].to_q.weight, query[:, :, 0, 0])
    # The decoder's levels are counted from the other end.
    last = file("first_stage_model.decoder.up.0.block.2.conv1.weight")
    assert torch.equal(toy_vae.decoder.up_blocks[3].resnets[2].conv1.weight, last)


def test_weights_come_in_the_dtype_asked_for(toy_checkpoint):
    models = load_models(toy_checkpoint, device="cpu", dtype=torch.bfloat16)
    assert models.dtype == torch.bfloat16
    context, pooled = models.text.encode(["cat"])
    assert (context.dtype, pooled.dtype) == (torch.bfloat16, torch.bfloat16)


def test_heads_and_activations_are_the_familys(toy_models):
    unet = toy_models.unet
    assert unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1.heads == 1
    assert unet.down_blocks[2].attentions[0].transformer_blocks[0].attn1.heads == 2
    assert toy_models.text.one.config.hidden_act == "quick_gelu"
    assert toy_models.text.two.config.hidden_act == "gelu"


def test_targets_lead_to_the_live_modules(toy_models):
    for target in toy_models.targets():
        weight = toy_models.module_of(target).weight
        assert weight.shape[:2] == (target.out_features, target.in_features)


def test_prediction_has_the_shape_of_its_latents(toy_models):
    context, pooled = toy_models.text.encode(["cat", "dog"])
    sizes = torch.tensor([size_embedding_inputs((64, 96), (0, 0), (64, 96))] * 2)
    output = toy_models.predict(torch.zeros(2, 4, 12, 8), torch.tensor([3, 900]), context, pooled, sizes)
    assert output.shape == (2, 4, 12, 8)
    assert torch.isfinite(output).all()


def test_size_numbers_are_heights_first():
    assert size_embedding_inputs((800, 600), (3, 5), (1024, 768)) == (600, 800, 5, 3, 768, 1024)


def test_text_encoder_1_without_the_inner_name_loads_the_same(toy_models, toy_tensors, tmp_path):
    prefix = "conditioner.embedders.0.transformer."
    renamed = {name.replace(f"{prefix}text_model.", prefix): tensor for name, tensor in toy_tensors.items()}
    write_safetensors(tmp_path / "flat.safetensors", renamed)
    models = load_models(tmp_path / "flat.safetensors", device="cpu", dtype=torch.float32)
    for name, tensor in toy_models.text.one.state_dict().items():
        assert torch.equal(models.text.one.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.diffusion_model.input_blocks.4.0.in_layers.2.weight", None, "it lacks what becomes"),
        ("model.diffusion_model.adapter.weight", (3, 3), 'does not have: "model.diffusion_model.adapter.weight"'),
        ("model.diffusion_model.input_blocks.4.0.in_layers.2.weight", (64, 32, 1, 1), "which does not fit"),
        ("conditioner.embedders.1.model.text_projection", (64, 32), "vector"),
        ("first_stage_model.encoder.down.1.block.7.norm1.weight", (32,), "no place for"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_tensors_name(toy_tensors, tmp_path, name, shape, message):
    tensors = dict(toy_tensors)
    if shape is None:
        del tensors[name]
    else:
        tensors[name] = torch.zeros(shape)
    path = tmp_path / "odd.safetensors"
    write_safetensors(path, tensors)
    with pytest.raises(WorkerError, match=message) as caught:
        load_models(path, device="cpu", dtype=torch.float32)
        load_vae(path, device="cpu", dtype=torch.float32)
    assert caught.value.kind == "bad-input"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("old.ckpt", b"anything", "pickled checkpoint"),
        ("renamed.safetensors", b"PK\x03\x04" + bytes(100), "pickled checkpoint"),
        ("bare.safetensors", b"\x80\x02}q\x00(X\x05\x00\x00\x00", "pickled checkpoint"),
        ("empty.safetensors", b"", "not a safetensors file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WorkerError, match=message):
        Checkpoint(tmp_path / name)


def test_a_truncated_checkpoint_is_refused(toy_checkpoint, tmp_path):
    data = toy_checkpoint.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(WorkerError, match="header describes") as caught:
        load_models(tmp_path / "cut.safetensors", device="cpu", dtype=torch.float32)
    assert "truncated" in caught.value.hint


def test_a_header_of_which_length_ever_is_no_pickle(tmp_path):
    # The length 0x30280 begins with the bytes that a pickle of protocol 2 begins with.
    name = "x" * (0x30280 - 60)
    write_safetensors(tmp_path / "long.safetensors", {name: torch.zeros(1)})
    padding = 0x30280 - int.from_bytes((tmp_path / "long.safetensors").read_bytes()[:8], "little")
    write_safetensors(tmp_path / "long.safetensors", {name + "x" * padding: torch.zeros(1)})
    assert (tmp_path / "long.safetensors").read_bytes()[:2] == b"\x80\x02"
    with Checkpoint(tmp_path / "long.safetensors") as checkpoint:
        assert len(checkpoint.shapes) == 1


def test_the_device_and_the_dtype_are_told_without_a_walk_through_all_modules(toy_models, monkeypatch):
    device, dtype = toy_models.unet.device, toy_models.unet.dtype

    def walk(*_, **__):
        raise AssertionError("all modules were walked through")

    monkeypatch.setattr(torch.nn.Module, "named_modules", walk)
    assert (toy_models.device, toy_models.dtype) == (device, dtype)
