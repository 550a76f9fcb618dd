"""The request `train` is understood as the TypeScript half writes it, and refused where it is not."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from training_lab import TrainingLab

from lora_worker.protocol import ProtocolError
from lora_worker.schedules import Constant, Cosine
from lora_worker.train_request import EverySeconds, EverySteps, parse_train

MESSAGES = Path(__file__).parents[2] / "test" / "fixtures" / "protocol" / "messages.json"


def train_messages(value):
    """Wherever they are in the file that both halves test with."""
    if isinstance(value, dict):
        if value.get("op") == "train" and "settings" in value:
            yield value
        for item in value.values():
            yield from train_messages(item)
    elif isinstance(value, list):
        for item in value:
            yield from train_messages(item)


def test_the_shared_sample_messages_are_understood():
    found = list(train_messages(json.loads(MESSAGES.read_text())))
    assert found
    for message in found:
        assert parse_train(message).settings.steps == message["settings"]["steps"]


@pytest.fixture
def request_of_lab(tmp_path):
    return TrainingLab(tmp_path, tmp_path / "toy").request()


def test_every_form_of_a_setting_is_understood(request_of_lab):
    settings = request_of_lab["settings"]
    assert parse_train(request_of_lab).settings.lr_scheduler == Cosine(0.375)
    assert parse_train(request_of_lab).state_every == EverySeconds(3600)
    settings["lr_scheduler"] = {"kind": "constant"}
    settings["noise"] = {"kind": "plain"}
    request_of_lab["state_every"] = {"steps": 4}
    parsed = parse_train(request_of_lab)
    assert (parsed.settings.lr_scheduler, parsed.settings.noise) == (Constant(), None)
    assert parsed.state_every == EverySteps(4)


def test_steps_behind_the_end_are_left_out(request_of_lab):
    request_of_lab["save_steps"] = [0, 1, 3, 4]
    assert parse_train(request_of_lab).save_steps == {1, 3}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("settings", "steps"), 0),
        (("settings", "max_token_length"), 100),
        (("settings", "batch_size"), 1.5),
        (("settings", "network", "kind"), "oft"),
        (("settings", "optimizer", "clip_lambda"), "step ** 2; import os"),
        (("settings", "noise", "kind"), "pink"),
        (("settings", "unet_lr"), "3e-4"),
        (("state_every",), {"steps": 0}),
        (("images",), []),
    ],
)
def test_what_does_not_fit_is_refused_by_name(request_of_lab, path, value):
    *parents, last = path
    target = request_of_lab
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(ProtocolError, match=last):
        parse_train(request_of_lab)


def identity(request):
    return parse_train(request).identity("facts")


def test_the_identity_is_that_of_the_result(request_of_lab):
    usual = identity(request_of_lab)
    alike = copy.deepcopy(request_of_lab)
    alike.update(checkpoint="/moved", work="/moved", save_steps=[1], state_every={"steps": 1})
    alike["images"] = alike["images"][::-1]
    alike["images"][0]["latents"] = "/moved"
    alike["settings"].update(gradient_checkpointing="on", vram=8 * 10**9)
    alike["launch"] = {"kind": "torchrun", "processes": 2, "machines": 1, "rendezvous": None, "wait_seconds": 60}
    assert identity(alike) == usual
    assert parse_train(request_of_lab).identity("other checkpoint") != usual


def test_a_launch_of_one_process_is_none_and_several_machines_need_a_place_to_meet(request_of_lab):
    request_of_lab["launch"] = {"kind": "single"}
    assert parse_train(request_of_lab).launch is None
    request_of_lab["launch"] = {
        "kind": "torchrun",
        "processes": None,
        "machines": 2,
        "rendezvous": "a:1",
        "wait_seconds": 9,
    }
    launch = parse_train(request_of_lab).launch
    assert launch is not None and (launch.processes, launch.machines, launch.rendezvous) == (None, 2, "a:1")
    assert launch.request == request_of_lab
    request_of_lab["launch"]["rendezvous"] = None
    with pytest.raises(ProtocolError, match="rendezvous"):
        parse_train(request_of_lab)


def test_states_of_before_are_gone_on_from_where_what_came_later_is_not_asked_for(request_of_lab):
    usual = identity(request_of_lab)
    request_of_lab["settings"].update(crop_conditioning="real", latents="fresh")
    assert identity(request_of_lab) == usual


@pytest.mark.parametrize(
    "change",
    [
        lambda request: request["settings"].update(seed=6),
        lambda request: request["settings"].update(crop_conditioning="sd_scripts"),
        lambda request: request["settings"]["optimizer"].update(amp_fac=3),
        lambda request: request["settings"].update(lr_scheduler={"kind": "constant"}),
        lambda request: request["images"][0].update(caption="another"),
        lambda request: request["images"][0].update(latents_flipped=None),
        lambda request: request["images"][0].update(crop=[4, 0]),
        lambda request: request["images"].pop(),
    ],
)
def test_what_changes_the_result_changes_the_identity(request_of_lab, change):
    before = identity(request_of_lab)
    change(request_of_lab)
    assert identity(request_of_lab) != before
