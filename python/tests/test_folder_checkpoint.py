"""A model in a diffusers folder is the model that it is in one file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers_folder import PARTS, as_request, saved_by_diffusers, tensors_by_part, write_folder
from training_lab import PROMPT, TrainingLab, digest

from lora_worker.architecture import Architecture
from lora_worker.errors import WorkerError
from lora_worker.folder_checkpoint import FolderCheckpoint, parse_base
from lora_worker.folder_names import checkpoint_tensor
from lora_worker.kept_models import forget_models, kept_models
from lora_worker.models import load_models, load_vae
from lora_worker.naming import placements
from lora_worker.open_base import files_of
from lora_worker.protocol import Fields, ProtocolError
from lora_worker.safetensors_file import read_header, read_safetensors
from lora_worker.toy.checkpoint import SIZES
from lora_worker.toy.shapes import checkpoint_shapes
from lora_worker.work_folder import checkpoint_facts


@pytest.fixture(scope="module")
def parts(toy_checkpoint):
    return tensors_by_part(toy_checkpoint)


@pytest.fixture(scope="module")
def folder(parts, tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("plain") / "toy", parts)


@pytest.mark.parametrize("architecture", SIZES.values(), ids=SIZES)
def test_every_tensor_of_sdxl_is_found_again_by_its_name_in_a_folder(architecture: Architecture):
    keys = list(checkpoint_shapes(architecture))
    placed = [(key, place) for key in keys for place in placements(key) or ()]
    for key, place in placed:
        names = [other.name for _, other in placed if other.component == place.component]
        found = checkpoint_tensor(PARTS[place.component], place.name, names)
        assert found is not None, place.name
        assert (found.key, found.third, found.change) == (key, place.part, place.change)


def test_a_folder_has_the_tensors_of_the_single_file(folder, toy_checkpoint):
    tensors, _ = read_safetensors(toy_checkpoint)
    with FolderCheckpoint(folder) as checkpoint:
        tensors.pop("conditioner.embedders.0.transformer.text_model.embeddings.position_ids")
        assert checkpoint.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            assert torch.equal(checkpoint.tensor(name), tensor), name
        fused = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
        assert torch.equal(checkpoint.rows(fused, 5, 150), tensors[fused][5:150])


def trained(base, toy_checkpoint, folder: Path) -> dict[str, str]:
    """What comes out of one step and its picture, by digests."""
    lab = TrainingLab(folder, toy_checkpoint)
    outputs = lab.life(lab.request(steps=1, samples={"steps": [1], "prompts": [PROMPT]}, checkpoint=base))
    return {name: digest(path) for name, path in outputs.items() if name != "metrics"}


@pytest.fixture(scope="module")
def from_file(toy_checkpoint, tmp_path_factory):
    return trained(str(toy_checkpoint), toy_checkpoint, tmp_path_factory.mktemp("file"))


@pytest.mark.parametrize("kind", ["plain", "shards", "fp16", "diffusers"])
def test_training_from_a_folder_gives_the_bytes_that_training_from_the_file_gives(
    kind, folder, parts, toy_checkpoint, from_file, tmp_path: Path
):
    base = {
        "plain": lambda: folder,
        "shards": lambda: write_folder(tmp_path / "toy", parts, shards=3),
        "fp16": lambda: write_folder(tmp_path / "toy", parts, variant=".fp16"),
        "diffusers": lambda: saved_by_diffusers(toy_checkpoint, tmp_path / "toy"),
    }[kind]()
    assert from_file.keys() == {"lora", "sample.1.0"}
    assert trained(as_request(base), toy_checkpoint, tmp_path) == from_file


def test_an_autoencoder_is_read_under_the_names_that_diffusers_once_gave_it(parts, toy_vae, tmp_path: Path):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in parts["vae"].items():
        for new, before in old.items():
            name = name.replace(f".attentions.0.{new}.", f".attentions.0.{before}.")
        renamed[name] = tensor
    assert renamed.keys() != parts["vae"].keys()
    base = write_folder(tmp_path / "toy", {**parts, "vae": renamed})
    # Only its own files are opened.
    vae = load_vae(replace(base, unet=(str(tmp_path / "gone" / "x.safetensors"),)), device="cpu", dtype=torch.float32)
    for name, tensor in toy_vae.state_dict().items():
        assert torch.equal(vae.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("config", "prediction", "zero_terminal_snr"),
    [
        (None, "epsilon", False),
        ({"prediction_type": "epsilon"}, "epsilon", False),
        ({"prediction_type": "v_prediction"}, "v", False),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, "v", True),
    ],
)
def test_the_configuration_of_the_scheduler_says_what_is_predicted(
    config, prediction, zero_terminal_snr, folder, tmp_path: Path
):
    if config is not None:
        path = tmp_path / "scheduler_config.json"
        path.write_text(json.dumps(config))
        folder = replace(folder, scheduler=str(path))
    with FolderCheckpoint(folder) as checkpoint:
        assert checkpoint.architecture.prediction == prediction
        assert checkpoint.architecture.zero_terminal_snr is zero_terminal_snr


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "\xff", '{"prediction_type": "sample"}', '{"_class_name": "EDMEulerScheduler"}'],
)
def test_a_configuration_that_cannot_be_read_or_used_is_named(text, folder, tmp_path: Path):
    path = tmp_path / "scheduler_config.json"
    path.write_bytes(text.encode("latin1"))
    with FolderCheckpoint(replace(folder, scheduler=str(path))) as checkpoint:
        with pytest.raises(WorkerError, match="scheduler_config.json"):
            _ = checkpoint.architecture


def test_a_tensor_that_sdxl_does_not_have_is_named(parts, tmp_path: Path):
    more = {**parts, "vae": {**parts["vae"], "decoder.mid_block.attentions.0.to_gate.weight": torch.zeros(1)}}
    with pytest.raises(WorkerError, match='"decoder.mid_block.attentions.0.to_gate.weight"'):
        FolderCheckpoint(write_folder(tmp_path / "toy", more))


def test_a_part_with_missing_tensors_says_which(parts, tmp_path: Path):
    less = {name: tensor for name, tensor in parts["unet"].items() if not name.startswith("conv_out.")}
    with pytest.raises(WorkerError, match='lacks what becomes "conv_out.bias"'):
        load_models(write_folder(tmp_path / "toy", {**parts, "unet": less}), device="cpu", dtype=torch.float32)


def test_what_old_libraries_left_in_the_text_encoders_is_passed_over(parts, tmp_path: Path):
    ids = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    more = {name: {**parts[name], **ids} for name in ("text_encoder", "text_encoder_2")}
    base = write_folder(tmp_path / "toy", {**parts, **more})
    assert "text_model.embeddings.position_ids" in read_header(base.text_encoder[0]).tensors
    load_models(base, device="cpu", dtype=torch.float32)


def test_folders_are_told_apart_by_every_file(folder, parts, tmp_path: Path):
    facts = checkpoint_facts(folder)
    changed = {**parts, "vae": {name: tensor + 1 for name, tensor in parts["vae"].items()}}
    assert checkpoint_facts(write_folder(tmp_path / "toy", changed)) != facts
    config = tmp_path / "scheduler_config.json"
    config.write_text("{}")
    assert checkpoint_facts(replace(folder, scheduler=str(config))) != facts


def test_the_networks_of_a_folder_are_kept_for_the_next_request(folder, tmp_path: Path):
    device = torch.device("cpu")
    with kept_models(folder, device=device, dtype=torch.float32) as (first, _):
        pass
    with kept_models(folder, device=device, dtype=torch.float32) as (second, _):
        assert second is first
    forget_models()


def test_a_request_names_one_file_or_the_parts_of_a_folder(folder):
    assert parse_base(Fields({"checkpoint": "a.safetensors"}, "work")) == "a.safetensors"
    assert files_of("a.safetensors") == ("a.safetensors",)
    assert parse_base(Fields({"checkpoint": as_request(folder)}, "work")) == folder
    request = as_request(folder)
    del request["vae"]
    with pytest.raises(ProtocolError, match='"work.checkpoint.vae" is missing'):
        parse_base(Fields({"checkpoint": request}, "work"))


def test_the_sample_message_that_both_halves_share_names_a_folder():
    messages = Path(__file__).parents[2] / "test" / "fixtures" / "protocol" / "messages.json"
    works = [message.get("work", {}) for message in json.loads(messages.read_text())["toWorker"]]
    (base,) = [parse_base(Fields(work, "work")) for work in works if isinstance(work.get("checkpoint"), dict)]
    assert base.path == "/models/sdxl" and len(base.files) == 6
