"""AdamW with moments of 8 bits, where bitsandbytes is installed and runs on this device: on a CPU since 0.50."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import torch
from learning_lab import SHORT, LearningLab
from optimizer_samples import ADAM
from training_lab import DoomedJob, Killed, digest

from lora_worker.devices import torch_device
from lora_worker.errors import WorkerError
from lora_worker.optimizer_state import restore_optimizer, save_optimizer
from lora_worker.optimizers import build_optimizer, parse_optimizer, try_optimizer
from lora_worker.protocol import Fields

ADAMW8BIT = {"kind": "AdamW8bit", **ADAM}
SETTINGS = parse_optimizer(Fields(ADAMW8BIT, "optimizer"))


class WithoutKernels(torch.optim.AdamW):
    """As the library is where it has been built for other devices."""

    def step(self, closure=None):
        raise NotImplementedError("no kernel\nfor this device")


def test_a_device_that_it_does_not_run_on_is_told_before_anything_is_loaded(monkeypatch):
    module, inner = ModuleType("bitsandbytes"), ModuleType("bitsandbytes.optim")
    module.__version__, inner.AdamW8bit = "0.49.2", WithoutKernels
    monkeypatch.setitem(sys.modules, "bitsandbytes", module)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", inner)
    with pytest.raises(WorkerError, match=r"bitsandbytes 0\.49\.2 has no AdamW8bit for cpu: no kernel$") as error:
        try_optimizer(SETTINGS, torch.device("cpu"))
    assert "0.50" in error.value.hint
    try_optimizer(parse_optimizer(Fields({"kind": "AdamW", **ADAM}, "optimizer")), torch.device("cpu"))


@pytest.fixture
def library():
    """Real, on this device; else the test is left out."""
    pytest.importorskip("bitsandbytes")
    try:
        try_optimizer(SETTINGS, torch_device())
    except WorkerError as error:
        pytest.skip(error.message)


def started():
    """Moments of 4096 numbers and more have 8 bits, those of fewer have 32."""
    generator = torch.Generator().manual_seed(0)
    large, small = (torch.nn.Parameter(torch.randn(size, generator=generator)) for size in ((64, 80), (8, 8)))
    groups = [{"params": [large], "lr": 0.01, "name": "a"}, {"params": [small], "lr": 0.01, "name": "b"}]
    return {large: "large", small: "small"}, build_optimizer(SETTINGS, groups, 0.01)


def steps(names, optimizer, first, last):
    for step in range(first, last):
        for parameter in names:
            generator = torch.Generator().manual_seed(step)
            parameter.grad = parameter.detach() + 0.1 * torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_moments_have_8_bits_and_a_state_goes_on_to_the_bit(library):
    whole, optimizer = started()
    steps(whole, optimizer, 0, 8)
    large, small = whole
    assert optimizer.state[large]["state1"].dtype == torch.uint8
    assert optimizer.state[small]["state1"].dtype == torch.float32

    names, optimizer = started()
    steps(names, optimizer, 0, 3)
    tensors, values = save_optimizer(optimizer, names)
    told = json.loads(json.dumps(values, allow_nan=False))
    held = {key: tensor.clone() for key, tensor in tensors.items()}
    weights = [parameter.detach().clone() for parameter in names]
    names, optimizer = started()
    for parameter, weight in zip(names, weights, strict=True):
        parameter.data.copy_(weight)
    restore_optimizer(optimizer, names, held, told)
    steps(names, optimizer, 3, 8)
    assert all(torch.equal(one, other) for one, other in zip(whole, names, strict=True))


def test_a_training_with_it_learns_and_goes_on_where_it_was_killed(library, tmp_path, drawing_base, monkeypatch):
    lab = LearningLab(tmp_path, drawing_base, monkeypatch)
    # Matrices of 4096 numbers and more, of which the moments have 8 bits.
    network = {**SHORT["network"], "dim": 64, "alpha": 64, "preset": "attn-mlp"}
    settings = {**SHORT, "optimizer": ADAMW8BIT, "network": network, "unet_lr": 7e-4, "text_encoder_lr": 7e-4}
    request = lab.request("broken", state_every={"steps": 1}, **settings)
    with pytest.raises(Killed):
        lab.life(request, DoomedJob(dies_at=3))
    lora = lab.life(request)["lora"]
    if torch_device().type == "cpu":
        assert digest(lora) == digest(lab.life({**request, "work": str(lab.folder / "whole")})["lora"])
    learned = drawing_base.learned(lora)
    assert learned.is_learned, learned
