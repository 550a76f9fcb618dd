"""Whose a work folder is, and how checkpoints are told apart."""

from __future__ import annotations

import pytest
import torch

from lora_worker.errors import WorkerError
from lora_worker.safetensors_file import write_safetensors
from lora_worker.work_folder import checkpoint_facts, claim_folder


def test_a_folder_is_kept_for_the_same_training_and_emptied_for_another(tmp_path):
    folder = tmp_path / "work"
    claim_folder(folder, "a")
    (folder / "states").mkdir()
    (folder / "metrics.jsonl").write_text("{}")
    (folder / "worker.lock").write_text("")
    claim_folder(folder, "a")
    assert (folder / "metrics.jsonl").exists()
    claim_folder(folder, "b")
    assert sorted(path.name for path in folder.iterdir()) == ["identity", "worker.lock"]


def test_checkpoints_differ_by_their_weights_and_not_by_their_place(tmp_path):
    weights = torch.arange(4000.0)
    for name in ("one", "moved"):
        write_safetensors(tmp_path / name, {"w": weights})
    write_safetensors(tmp_path / "tuned", {"w": weights + 1})
    facts = {name: checkpoint_facts(tmp_path / name) for name in ("one", "moved", "tuned")}
    assert facts["one"] == facts["moved"] != facts["tuned"]


def test_a_checkpoint_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(WorkerError, match="is not there") as caught:
        checkpoint_facts(tmp_path / "nowhere")
    assert caught.value.kind == "bad-input"
