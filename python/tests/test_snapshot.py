"""Copies of tensors that stay what they are."""

from __future__ import annotations

import torch

from lora_worker import snapshot as module
from lora_worker.snapshot import size_of, snapshot


def test_a_snapshot_keeps_values_shapes_and_order_whatever_becomes_of_the_tensors(monkeypatch):
    monkeypatch.setattr(module, "_PIECE_BYTES", 40)
    live = {
        "b": torch.arange(6.0).reshape(2, 3),
        "a": torch.tensor(3.5),
        "half": torch.arange(4).half(),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "large": torch.arange(100.0),
        "none": torch.empty(0, 2),
    }
    wanted = {name: tensor.clone() for name, tensor in live.items()}
    assert size_of(live) == 4 * (6 + 1 + 6 + 100) + 2 * 4
    taken = snapshot(live)
    for tensor in live.values():
        tensor.zero_()
    found = taken.tensors()
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor)
