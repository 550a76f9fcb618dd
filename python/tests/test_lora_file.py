"""What other programs find in a trained file."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from training_lab import TrainingLab

from lora_worker.lora_file import hashes, write_lora
from lora_worker.lora_metadata import training_metadata
from lora_worker.network import create
from lora_worker.network_settings import NetworkSettings, Ranks
from lora_worker.network_targets import trainable
from lora_worker.safetensors_file import header_bytes, read_header
from lora_worker.train_request import parse_train

SETTINGS = NetworkSettings(Ranks(dim=2, alpha=1, conv_dim=4, conv_alpha=1))


@pytest.fixture(scope="module")
def network(toy_models):
    return create(toy_models, trainable(toy_models.targets()), SETTINGS, seed=0)


@pytest.fixture
def written(network, toy_models, toy_checkpoint, tmp_path):
    work = parse_train(TrainingLab(tmp_path, toy_checkpoint).request())
    path = tmp_path / "lora.safetensors"
    metadata = training_metadata(work, toy_models.architecture, step=3, epoch=1)
    write_lora(path, network, metadata, dtype=torch.float16)
    return path


def test_the_library_reads_names_dtypes_and_values(written, network):
    with safe_open(written, "pt") as file:
        keys = set(file.keys())
        wanted = {
            f"{name}.{part}" for name in network.branches for part in ("alpha", "lora_down.weight", "lora_up.weight")
        }
        assert keys == wanted
        for name, branch in network.branches.items():
            alpha = file.get_tensor(f"{name}.alpha")
            assert (alpha.dtype, alpha.shape, alpha.item()) == (torch.float32, (), branch.alpha)
            down = file.get_tensor(f"{name}.lora_down.weight")
            assert torch.equal(down, branch.down.half())


def test_the_metadata_says_what_readers_look_for(written):
    metadata = read_header(written).metadata
    assert metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert metadata["modelspec.resolution"] == "64x64"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("2", "1")
    assert json.loads(metadata["ss_network_args"])["conv_dim"] == "4"
    assert metadata["ss_optimizer"].startswith("lora_worker.saveus.SAVEUS(betas=(0.9, 0.999),eps=1e-08,")
    assert "clip_lambda='step ** 0.25'" in metadata["ss_optimizer"]
    assert (metadata["ss_steps"], metadata["ss_epoch"], metadata["ss_max_train_steps"]) == ("3", "1", "3")
    assert (metadata["ss_unet_lr"], metadata["ss_text_encoder_lr"]) == ("0.0003", "0.0001")


def test_the_metadata_holds_no_times_paths_captions_or_facts_about_the_machine(written, tmp_path):
    text = json.dumps(dict(read_header(written).metadata))
    assert str(tmp_path) not in text
    assert "fox" not in text
    assert torch.__version__ not in text
    assert not re.search(r"\b20\d\d-\d\d|\b1[6-9]\d{8}\b", text)


def test_the_model_hash_is_that_of_the_data_section(written):
    data = written.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    assert read_header(written).metadata["sshs_model_hash"] == hashlib.sha256(data[begin:]).hexdigest()


def test_the_legacy_hash_of_a_small_file_is_that_of_nothing(written):
    assert read_header(written).metadata["sshs_legacy_hash"] == "e3b0c442"


def test_the_legacy_hash_covers_64_kib_at_1_mib_of_a_file_with_only_the_training_fields():
    tensors = {"a": torch.arange(300_000, dtype=torch.float32), "b": torch.arange(99_999).to(torch.int16)}
    metadata = {"ss_seed": "1", "modelspec.title": "x"}
    whole = header_bytes(tensors, {"ss_seed": "1"}) + tensors["a"].numpy().tobytes() + tensors["b"].numpy().tobytes()
    window = whole[1 << 20 : (1 << 20) + (1 << 16)]
    assert hashes(tensors, metadata)["sshs_legacy_hash"] == hashlib.sha256(window).hexdigest()[:8]


def test_equal_networks_give_equal_bytes(written, network, toy_models, toy_checkpoint, tmp_path):
    again = Path(tmp_path, "again.safetensors")
    work = parse_train(TrainingLab(tmp_path, toy_checkpoint).request("elsewhere"))
    write_lora(again, network, training_metadata(work, toy_models.architecture, step=3, epoch=1), dtype=torch.float16)
    assert again.read_bytes() == written.read_bytes()
