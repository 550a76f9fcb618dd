"""Networks of every kind: each goes on after a kill, and its file means to readers what was trained."""

from __future__ import annotations

import json

import pytest
import torch
from network_samples import KINDS, LOKR
from support import RecordingJob
from test_network import outputs, same
from training_lab import FEW_LAYERS, DoomedJob, Killed, TrainingLab, digest, share_models

from lora_worker import adapters
from lora_worker.branches import STARTING_AT_ZERO
from lora_worker.families import family_of
from lora_worker.kronecker import factors_of
from lora_worker.lora_file import write_lora
from lora_worker.naming import norm_targets
from lora_worker.network import create
from lora_worker.network_settings import parse_network
from lora_worker.network_targets import trainable
from lora_worker.protocol import Fields, ProtocolError
from lora_worker.safetensors_file import SafetensorsReader, read_safetensors
from lora_worker.stages import decompose

ONE_OF_EACH = ("tucker", "dora", "loha", "lokr", "full")
WITH_SCALARS = ("locon with scalars", "loha with scalars", "lokr with scalars", "whole lokr with scalars")
every_kind = pytest.mark.parametrize("network", KINDS.values(), ids=KINDS.keys())
FAMILIES = {"locon": {"LoRA"}, "dora": {"LoRA"}, "loha": {"LoHa"}, "lokr": {"LoKr"}, "full": {"full", "norm"}}


def made(models, network, **changes):
    settings = parse_network(Fields({**network, **changes}, "network"))
    norms = norm_targets(models.architecture) if settings.train_norm else ()
    return create(models, [*trainable(models.targets()), *norms], settings, seed=0)


def moved(network):
    """Past its start, so that every part of it counts."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 0.002 if name.endswith(("diff", "diff_b", "_norm")) else 0.05
        parameter.data.add_(noise * scale)
    return network


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


@every_kind
def test_a_new_network_changes_nothing(toy_models, network):
    bare = outputs(toy_models)
    new = made(toy_models, network)
    new.attach()
    try:
        for found, wanted in zip(outputs(toy_models), bare, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    finally:
        new.remove()
    assert same(outputs(toy_models), bare)


@every_kind
def test_a_file_means_to_readers_what_was_trained(toy_models, tmp_path, network):
    """They read it by the families' formulas, which have tests of their own."""
    trained = moved(made(toy_models, network))
    bare = outputs(toy_models)
    trained.attach()
    wanted = outputs(toy_models)
    trained.remove()
    write_lora(tmp_path / "lora.safetensors", trained, {}, dtype=torch.float32)
    with adapters.applied(toy_models, tmp_path / "lora.safetensors"):
        found = outputs(toy_models)
    for mine, theirs, before in zip(wanted, found, bare, strict=True):
        change = (mine - before).norm()
        assert change > 1e-3 * before.norm()
        assert (mine - theirs).norm() < 1e-3 * change


@every_kind
def test_a_file_has_the_names_that_its_family_is_known_by(toy_models, network):
    tensors = made(toy_models, network).file_tensors(torch.float16)
    parts: dict[str, set[str]] = {}
    for name, tensor in tensors.items():
        module, _, part = name.partition(".")
        parts.setdefault(module, set()).add(part)
        assert tensor.dtype == (torch.float32 if part in ("alpha", "dora_scale") else torch.float16)
    assert {family_of(found) for found in parts.values()} == FAMILIES[network["kind"]]
    assert all(("alpha" in found) == (network["kind"] != "full") for found in parts.values())
    assert all(("dora_scale" in found) == (network["kind"] == "dora") for found in parts.values())


@pytest.mark.parametrize("network", [KINDS[kind] for kind in ONE_OF_EACH], ids=ONE_OF_EACH)
def test_every_kind_goes_on_bit_for_bit_after_a_kill(lab, network):
    def request(work):
        made = lab.request(work, steps=6, state_every={"steps": 2}, lr_scheduler={"kind": "constant"})
        changes = {"modules": FEW_LAYERS, "dropout": 0.1, "module_dropout": 0.1}
        if network["kind"] == "full":
            changes["modules"] = [*FEW_LAYERS, "lora_unet_output_blocks_8_0_in_layers_0"]
        else:
            changes |= {"rank_dropout": 0.1, "rank_dropout_scale": True}
        made["settings"]["network"] = {**network, **changes}
        made["settings"] |= {"unet_lr": 2e-3, "text_encoder_lr": 5e-4}
        return made

    straight = lab.life(request("straight"))["lora"]
    for dies_at in (3, 5):
        with pytest.raises(Killed):
            lab.life(request("killed"), DoomedJob(dies_at=dies_at))
    assert digest(lab.life(request("killed"))["lora"]) == digest(straight)


@pytest.mark.parametrize("kind", ["loha", "lokr", "full"])
def test_what_was_trained_can_be_extracted(toy_models, tmp_path, kind):
    write_lora(tmp_path / "lora.safetensors", moved(made(toy_models, KINDS[kind])), {}, dtype=torch.float16)
    asked = {
        "lora": str(tmp_path / "lora.safetensors"),
        "extract": 8,
        "checkpoints": None,
        "factors": str(tmp_path / "factors.safetensors"),
        "modules": str(tmp_path / "modules.json"),
    }
    decompose.run(decompose.parse(asked), RecordingJob())
    names = {target.name for target in trainable(toy_models.targets())}
    assert set(json.loads((tmp_path / "modules.json").read_text())) == names
    with SafetensorsReader(tmp_path / "factors.safetensors") as reader:
        facts = json.loads(reader.header.metadata["lorac.modules"])
    assert {facts[name]["family"] for name in names} == {{"loha": "LoHa", "lokr": "LoKr", "full": "full"}[kind]}


@pytest.mark.parametrize("kind", WITH_SCALARS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_scalar_is_in_the_file_as_a_part_of_a_factor_so_that_every_reader_has_it(toy_models, kind, dtype):
    """By the formulas that ComfyUI and LyCORIS apply to the tensors of a file, neither of which has a scalar in it."""
    network = moved(made(toy_models, KINDS[kind]))
    tensors = {name: tensor.double() for name, tensor in network.file_tensors(dtype).items()}
    assert not any(name.endswith("scalar") for name in tensors)
    with network.rounded_to(dtype):
        for name, branch in network.branches.items():
            parts = {part: tensors[f"{name}.{part}"].flatten(1) for part in branch.file_parts()}
            scale = tensors[f"{name}.alpha"]
            if "lora_up.weight" in parts:
                delta = scale / parts["lora_down.weight"].shape[0] * parts["lora_up.weight"] @ parts["lora_down.weight"]
            elif "hada_w1_a" in parts:
                one, two = (parts[f"hada_w{n}_a"] @ parts[f"hada_w{n}_b"] for n in "12")
                delta = scale / parts["hada_w1_b"].shape[0] * one * two
            elif "lokr_w2" in parts:
                delta = torch.kron(parts["lokr_w1"], parts["lokr_w2"])
            else:
                second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
                delta = scale / parts["lokr_w2_b"].shape[0] * torch.kron(parts["lokr_w1"], second)
            shape = toy_models.module_of(branch.target).weight.shape
            trained = branch.change() if hasattr(branch, "change") else branch
            torch.testing.assert_close(
                trained.delta(torch.zeros(shape)).double(), delta.reshape(shape), rtol=1e-3, atol=1e-6
            )


def test_a_scalar_is_what_begins_at_zero_and_goes_on_after_a_kill(lab, toy_models):
    new = made(toy_models, KINDS["locon with scalars"])
    for branch in new.branches.values():
        assert [part for part, value in branch.parts.items() if value.abs().max() == 0] == ["scalar"]
        assert branch.up.abs().max() <= branch.up.shape[1] ** -0.5
    request = lab.request(steps=6, lr_scheduler={"kind": "constant"}, unet_lr=2e-2, text_encoder_lr=5e-3)
    request["settings"]["network"] = {**KINDS["locon with scalars"], "modules": FEW_LAYERS}
    straight = lab.life(request)["lora"]
    with pytest.raises(Killed):
        lab.life({**request, "work": f"{request['work']}-killed", "state_every": {"steps": 2}}, DoomedJob(dies_at=3))
    assert digest(lab.life({**request, "work": f"{request['work']}-killed"})["lora"]) == digest(straight)


def test_what_has_scalars_can_be_resized(toy_models, tmp_path):
    trained = moved(made(toy_models, KINDS["locon with scalars"]))
    write_lora(tmp_path / "lora.safetensors", trained, {}, dtype=torch.float32)
    asked = {
        "lora": str(tmp_path / "lora.safetensors"),
        "extract": None,
        "checkpoints": None,
        "factors": str(tmp_path / "factors.safetensors"),
        "modules": str(tmp_path / "modules.json"),
    }
    decompose.run(decompose.parse(asked), RecordingJob())
    assert set(json.loads((tmp_path / "modules.json").read_text())) == set(trained.branches)


def test_an_unbalanced_lokr_has_the_larger_part_of_the_outputs_in_its_first_factor(toy_models):
    usual, unbalanced = (made(toy_models, KINDS[kind]) for kind in ("lokr of two products", "unbalanced lokr"))

    def first_rows(network):
        parts = [branch.parts for branch in network.branches.values()]
        return sum((each.get("lokr_w1") if "lokr_w1" in each else each["lokr_w1_a"]).shape[0] for each in parts)

    assert first_rows(unbalanced) > first_rows(usual)


def test_a_dora_of_columns_has_a_length_for_each_input(toy_models):
    for branch in made(toy_models, KINDS["dora of columns"]).branches.values():
        weight = toy_models.module_of(branch.target).weight
        scale = branch.parts["dora_scale"]
        assert scale.shape == (1, weight.shape[1], *(1 for _ in weight.shape[2:]))
        torch.testing.assert_close(scale.flatten(), weight.transpose(0, 1).flatten(1).norm(dim=1))


def test_initial_values_are_those_of_lycoris(toy_models):
    loha = made(toy_models, KINDS["tucker loha"])
    by_part: dict[str, list[torch.Tensor]] = {}
    for name, parameter in loha.named_parameters():
        by_part.setdefault(name.partition(".")[2], []).append(parameter.detach().flatten())
    deviations = {part: torch.cat(found).std().item() for part, found in by_part.items()}
    wanted = {"hada_w1_a": 0.1, "hada_w1_b": 1, "hada_w2_b": 1, "hada_t1": 0.1, "hada_t2": 0.1}
    for part, deviation in wanted.items():
        assert deviations[part] == pytest.approx(deviation, rel=0.05)
    assert deviations["hada_w2_a"] == 0
    for name, parameter in made(toy_models, KINDS["tucker lokr"]).named_parameters():
        if name.endswith(("lokr_w2_b", "lokr_w2")):
            assert parameter.abs().max() == 0
        else:
            assert 0 < parameter.abs().max() <= parameter[0].numel() ** -0.5
    for name, parameter in made(toy_models, KINDS["dora"]).named_parameters():
        if name.endswith("dora_scale"):
            target = next(target for target in toy_models.targets() if name.startswith(f"{target.name}."))
            weight = toy_models.module_of(target).weight
            torch.testing.assert_close(parameter.flatten(), weight.flatten(1).norm(dim=1))
            assert parameter.shape == (weight.shape[0], *(1 for _ in weight.shape[1:]))


@pytest.mark.parametrize(
    ("size", "factor", "wanted"),
    [
        (128, None, (8, 16)),
        (127, None, (1, 127)),
        (360, None, (18, 20)),
        (640, None, (20, 32)),
        (2048, None, (32, 64)),
        (320, 8, (8, 40)),
        (250, 4, (2, 125)),
        (128, 64, (2, 64)),
        (960, 7, (6, 160)),
    ],
)
def test_sizes_are_cut_as_lycoris_cuts_them(size, factor, wanted):
    assert factors_of(size, factor) == wanted


@pytest.mark.parametrize("rs_lora", [False, True])
def test_a_lokr_without_a_product_has_a_scale_of_one(toy_models, rs_lora):
    whole = made(toy_models, KINDS["whole lokr"], rs_lora=rs_lora)
    assert {branch.scale for branch in whole.branches.values()} == {1.0}
    assert {branch.alpha for branch in whole.branches.values()} == {3.0, 4.0}
    tensors = whole.file_tensors(torch.float32)
    assert {name.partition(".")[2] for name in tensors} == {"alpha", "lokr_w1", "lokr_w2"}


@pytest.mark.parametrize(
    ("change", "named"),
    [({"kind": "oft"}, "kind"), ({"factor": 1}, "factor"), ({"factor": -1}, "factor"), ({"dim": 0}, "dim")],
)
def test_what_no_network_can_be_is_refused(change, named):
    with pytest.raises(ProtocolError, match=named):
        parse_network(Fields({**LOKR, **change}, "network"))


def test_metadata_says_what_was_trained(lab):
    request = lab.request(steps=1)
    request["settings"]["network"] = {**LOKR, "factor": 4, "dropout": 0.25, "train_norm": True, "preset": "attn-mlp"}
    _, metadata = read_safetensors(lab.life(request)["lora"])
    assert metadata["ss_network_dim"] == "3" and metadata["ss_network_dropout"] == "0.25"
    assert json.loads(metadata["ss_network_args"]) == {
        "algo": "lokr",
        "preset": "attn-mlp",
        "conv_dim": "4",
        "conv_alpha": "3",
        "bypass_mode": "True",
        "factor": "4",
        "train_norm": "True",
        "dropout": "0.25",
    }


@pytest.mark.parametrize("kind", ["tucker", "dora", "loha", "lokr of two products", "whole lokr"])
def test_what_starts_at_zero_is_what_lora_plus_lets_learn_faster(toy_models, kind):
    for branch in made(toy_models, KINDS[kind]).branches.values():
        assert [suffix for suffix, value in branch.parts.items() if value.abs().max() == 0] == [
            suffix for suffix in branch.parts if suffix in STARTING_AT_ZERO
        ]
