"""Adapters of every family change the models as their formulas say, and leave nothing behind."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from adapter_samples import FAMILIES, FAMILIES_OF_KERNELS, Maker, dora, full, ia3, loha, lora
from model_outputs import outputs, same
from torch import nn

from lora_worker import adapters
from lora_worker.adapter_targets import modules_by_name
from lora_worker.blocks import block_weight
from lora_worker.errors import WorkerError
from lora_worker.naming import lora_targets
from lora_worker.safetensors_file import write_safetensors

# Every shape and place that there is: attention, embeddings, strides, kernels, and what preset full leaves out.
CONVOLUTIONS = [
    "lora_unet_input_blocks_0_0",
    "lora_unet_input_blocks_3_0_op",
    "lora_unet_output_blocks_1_0_in_layers_2",
    "lora_unet_out_2",
]
LAYERS = [
    "lora_te1_text_model_encoder_layers_0_mlp_fc1",
    "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
    "lora_te2_text_model_encoder_layers_1_mlp_fc2",
    "lora_te2_text_projection",
    "lora_unet_time_embed_0",
    "lora_unet_label_emb_0_2",
    "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k",
    "lora_unet_output_blocks_0_0_skip_connection",
    *CONVOLUTIONS,
]
WEIGHTS = [
    (1.0, None),
    (
        -0.5,
        {"TE1": 2, "TE1.0": 0.25, "TE2": 0, "REST": 1, "IN00": 0.5, "IN03": 1, "MID01": 1.5, "OUT00": 1, "OUT01": 1},
    ),
]


def samples_of(models, family, names):
    modules = modules_by_name(models)
    return {name: family(Maker(modules[name].weight, seed)) for seed, name in enumerate(names)}


def write(path, samples):
    write_safetensors(
        path, {f"{name}.{part}": tensor for name, sample in samples.items() for part, tensor in sample.parts.items()}
    )
    return path


@contextmanager
def changed(models, samples, weights):
    """The models with other weights in them."""
    modules = modules_by_name(models)
    before = {name: (modules[name].weight, modules[name].bias) for name in samples}
    try:
        for name, sample in samples.items():
            module = modules[name]
            module.weight = nn.Parameter(sample.changed(weights[name]).float(), requires_grad=False)
            if sample.bias is not None:
                bias = module.bias if module.bias is not None else torch.zeros(module.weight.shape[0])
                module.bias = nn.Parameter((bias.double() + sample.bias(weights[name])).float(), requires_grad=False)
        yield
    finally:
        for name, (weight, bias) in before.items():
            modules[name].weight, modules[name].bias = weight, bias


@pytest.mark.parametrize("family", [*FAMILIES, *FAMILIES_OF_KERNELS], ids=lambda family: family.__name__)
def test_a_family_changes_the_models_as_a_weight_by_its_formula_would(toy_models, tmp_path, family):
    samples = samples_of(toy_models, family, CONVOLUTIONS if family in FAMILIES_OF_KERNELS else LAYERS)
    path = write(tmp_path / "lora.safetensors", samples)
    bare = outputs(toy_models)
    with adapters.applied(toy_models, path) as attached:
        for strength, blocks in WEIGHTS:
            attached.weigh(strength, blocks)
            ours = outputs(toy_models)
            attached.remove()
            with changed(toy_models, samples, {name: strength * block_weight(name, blocks) for name in samples}):
                wanted = outputs(toy_models)
            for here, there in zip(ours, wanted, strict=True):
                assert (here - there).norm() <= 2e-5 * there.norm()
            assert (ours[0] - bare[0]).norm() > 0.01 * bare[0].norm()
    assert same(outputs(toy_models), bare)


def test_norms_change_as_their_own_weights_would(toy_models, tmp_path):
    names = [
        "lora_te1_text_model_encoder_layers_0_layer_norm1",
        "lora_te2_text_model_final_layer_norm",
        "lora_unet_out_0",
        "lora_unet_input_blocks_4_0_in_layers_0",
        "lora_unet_middle_block_1_transformer_blocks_0_norm2",
    ]
    modules = modules_by_name(toy_models)
    tensors = {}
    for name in names:
        width = modules[name].weight.shape[0]
        tensors |= {f"{name}.w_norm": torch.randn(width) * 0.2, f"{name}.b_norm": torch.randn(width) * 0.2}
    write_safetensors(tmp_path / "norms.safetensors", tensors)
    bare = outputs(toy_models)
    kept = {name: (modules[name].weight, modules[name].bias) for name in names}
    try:
        for name in names:
            weight, bias = kept[name]
            modules[name].weight = nn.Parameter(weight + 0.75 * tensors[f"{name}.w_norm"], requires_grad=False)
            modules[name].bias = nn.Parameter(bias + 0.75 * tensors[f"{name}.b_norm"], requires_grad=False)
        wanted = outputs(toy_models)
    finally:
        for name in names:
            modules[name].weight, modules[name].bias = kept[name]
    with adapters.applied(toy_models, tmp_path / "norms.safetensors", strength=0.75):
        assert same(outputs(toy_models), wanted)
    assert same(outputs(toy_models), bare)
    assert all(modules[name].weight is kept[name][0] for name in names)


def mixed(models, path):
    """One file of many families, as LyCORIS writes them: each module has its own."""
    chosen = [lora, loha, full, ia3, dora]
    modules = modules_by_name(models)
    samples = {
        name: chosen[place % len(chosen)](Maker(modules[name].weight, place)) for place, name in enumerate(LAYERS)
    }
    return write(path, samples)


def test_everything_is_as_it_was_afterwards_also_when_rendering_fails(toy_models, tmp_path):
    path = mixed(toy_models, tmp_path / "mixed.safetensors")
    modules = modules_by_name(toy_models)
    parameters = {name: (modules[name].weight, modules[name].bias) for name in modules}
    bare = outputs(toy_models)
    with adapters.applied(toy_models, path):
        assert not same(outputs(toy_models), bare)
    assert same(outputs(toy_models), bare)
    with pytest.raises(ZeroDivisionError), adapters.applied(toy_models, path):
        raise ZeroDivisionError
    assert same(outputs(toy_models), bare)
    # The very same tensors, not equal ones.
    assert all(modules[name].weight is weight for name, (weight, _) in parameters.items())
    assert all(modules[name].bias is bias for name, (_, bias) in parameters.items())
    assert not any(module._forward_hooks for module in modules.values())


def test_weights_can_be_changed_again_and_again_without_the_file(toy_models, tmp_path):
    path = mixed(toy_models, tmp_path / "mixed.safetensors")
    bare = outputs(toy_models)
    turns = [(1.0, None), (1.0, {"OUT01": 1}), (0.0, None), (0.5, {"TE1": 1, "REST": -1}), (1.0, {}), (1.0, None)]
    fresh = []
    for strength, blocks in turns:
        with adapters.applied(toy_models, path, strength=strength, blocks=blocks):
            fresh.append(outputs(toy_models))
    with adapters.applied(toy_models, path) as attached:
        path.unlink()
        for (strength, blocks), wanted in zip(turns, fresh, strict=True):
            attached.weigh(strength, blocks)
            assert same(outputs(toy_models), wanted)
    assert same(fresh[2], bare) and same(fresh[4], bare) and same(fresh[0], fresh[5])
    assert not same(fresh[1], fresh[3])


def test_only_blocks_of_text_change_how_captions_are_encoded(toy_models, tmp_path):
    path = mixed(toy_models, tmp_path / "mixed.safetensors")
    bare = outputs(toy_models)
    with adapters.applied(toy_models, path, blocks={"OUT01": 1, "MID01": 1, "REST": 1}) as attached:
        assert attached.text_weights() == frozenset()
        assert same(outputs(toy_models)[1:], bare[1:])
        attached.weigh(0.5, {"TE1.0": 1, "OUT01": 1})
        assert {(name.split("_")[1], weight) for name, weight in attached.text_weights()} == {("te1", 0.5)}
        assert not torch.equal(outputs(toy_models)[1], bare[1])


def test_a_change_far_below_the_grid_of_a_bf16_weight_is_not_lost(tmp_path):
    layer = nn.Linear(64, 32, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    layer.weight.fill_(1)
    sample = lora(Maker(layer.weight, 0))
    change = adapters.change_of(
        "LoRA", {**sample.parts, "lora_up.weight": sample.parts["lora_up.weight"] * 1e-3}, layer.weight.shape, 2.0
    )
    x = torch.randn(5, 64).bfloat16()
    delta = (sample.changed(1) - layer.weight.double()) * 1e-3
    assert torch.equal((layer.weight + delta.bfloat16()), layer.weight)
    wanted = x.double() @ delta.T
    assert (change.beside(layer, x, 1.0).double() - wanted).norm() < 0.02 * wanted.norm()


def test_every_module_of_preset_full_can_be_adapted_and_is_the_one_that_training_adapts(toy_models):
    modules = modules_by_name(toy_models)
    assert all(modules[target.name] is toy_models.module_of(target) for target in toy_models.targets())
    assert len(modules) == len(set(map(id, modules.values())))
    layers = [
        module for model in (toy_models.unet, toy_models.text.one, toy_models.text.two) for module in model.modules()
    ]
    kinds = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)
    assert {id(module) for module in modules.values()} == {id(layer) for layer in layers if isinstance(layer, kinds)}


FC1 = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
NORM = "lora_unet_out_0"


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"lora_unet_elsewhere.alpha": torch.tensor(1.0)}, "lora_unet_elsewhere"),
        ({"bundle_emb.hero.string_to_param.*": torch.zeros(1, 8)}, "bundle_emb"),
        ({f"{FC1}.oft_blocks": torch.zeros(4, 8, 8)}, "OFT"),
        ({f"{FC1}.oft_blocks": torch.zeros(2, 4, 8, 8), f"{FC1}.alpha": torch.tensor(1.0)}, "BOFT"),
        ({f"{FC1}.set_weight": torch.zeros(4)}, "set_weight"),
        ({f"{FC1}.lora_up.weight": torch.zeros(4, 2)}, "lora_up.weight"),
        ({f"{FC1}.w_norm": torch.zeros(4)}, "norm"),
        ({f"{NORM}.lora_up.weight": torch.zeros(4, 1), f"{NORM}.lora_down.weight": torch.zeros(1, 4)}, "norm"),
        ({f"{NORM}.w_norm": torch.zeros(5)}, "w_norm"),
        ({f"{FC1}.diff": torch.zeros(3, 3)}, "diff"),
        ({f"{FC1}.diff_b": torch.zeros(3)}, "diff_b"),
        ({f"{FC1}.hada_w1_a": torch.zeros(3, 3)}, "hada_w1_b"),
        ({f"{FC1}.lokr_w1": torch.ones(3, 3), f"{FC1}.lokr_w2": torch.ones(3, 3)}, r"\[9, 9\]"),
        ({f"{FC1}.dora_scale": torch.ones(3, 1), f"{FC1}.diff_b": torch.zeros(1)}, FC1),
    ],
)
def test_what_cannot_be_rendered_is_refused_by_name_and_leaves_nothing(toy_models, tmp_path, tensors, named):
    modules = modules_by_name(toy_models)
    good = samples_of(toy_models, dora, LAYERS[1:3])
    all_tensors = {f"{name}.{part}": tensor for name, sample in good.items() for part, tensor in sample.parts.items()}
    write_safetensors(tmp_path / "lora.safetensors", all_tensors | tensors)
    kept = {name: module.weight for name, module in modules.items()}
    with pytest.raises(WorkerError, match=named) as error:
        adapters.read_adapters(toy_models, tmp_path / "lora.safetensors")
    assert error.value.kind == "bad-input"
    assert next(iter(tensors)).split(".")[0] in error.value.message
    assert all(modules[name].weight is weight for name, weight in kept.items())


@pytest.mark.parametrize("part", ["lora_down.weight", "lora_up.weight", "dora_scale", "alpha"])
def test_a_tensor_of_another_shape_is_named(toy_models, tmp_path, part):
    (sample,) = samples_of(toy_models, dora, [FC1]).values()
    parts = sample.parts | {part: torch.ones(2, 7)}
    write_safetensors(tmp_path / "lora.safetensors", {f"{FC1}.{name}": tensor for name, tensor in parts.items()})
    with pytest.raises(WorkerError, match=part.split(".")[0]) as error:
        adapters.read_adapters(toy_models, tmp_path / "lora.safetensors")
    assert error.value.kind == "bad-input" and FC1 in error.value.message


def test_names_are_those_of_training(toy_models):
    names = {target.name for target in lora_targets(toy_models.architecture)}
    assert names < modules_by_name(toy_models).keys()
