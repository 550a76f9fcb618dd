"""States: whole or not there, checked when they are read, the newest two kept."""

from __future__ import annotations

import errno

import pytest
import torch

from lora_worker import state as module
from lora_worker.state import State, load_newest_state, save_state


def a_state(step):
    return State(step, {"w": torch.full((3, 2), float(step)), "v": torch.arange(4.0)}, {"counts": {"w": step}})


def load(folder, *, identity="us", at_most=99):
    warnings = []
    found = load_newest_state(folder, identity=identity, at_most=at_most, warn=warnings.append)
    return found, warnings


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_state_comes_back_as_it_was(tmp_path):
    for step in (1, 2):
        save_state(tmp_path, a_state(step), identity="us")
    found, warnings = load(tmp_path)
    assert (found.step, found.values, warnings) == (2, {"counts": {"w": 2}}, [])
    assert torch.equal(found.tensors["w"], a_state(2).tensors["w"])


def test_two_are_kept(tmp_path):
    for step in (1, 9, 10, 11):
        save_state(tmp_path, a_state(step), identity="us")
    assert names(tmp_path) == ["step-00000010", "step-00000011"]


def test_without_a_folder_there_is_no_state(tmp_path):
    assert load(tmp_path / "nowhere") == (None, [])


def damage_tensor(path):
    data = bytearray((path / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "tensors.safetensors").write_bytes(data)


def truncate_tensors(path):
    data = (path / "tensors.safetensors").read_bytes()
    (path / "tensors.safetensors").write_bytes(data[: len(data) // 2])


def remove_tensors(path):
    (path / "tensors.safetensors").unlink()


def empty_description(path):
    (path / "state.json").write_bytes(b"")


def shorten_description(path):
    (path / "state.json").write_text('{"format": 1}')


def remove_description(path):
    (path / "state.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [damage_tensor, truncate_tensors, remove_tensors, empty_description, shorten_description, remove_description],
)
def test_a_damaged_state_is_passed_over_with_a_warning(tmp_path, damage):
    for step in (1, 2):
        save_state(tmp_path, a_state(step), identity="us")
    damage(tmp_path / "step-00000002")
    found, warnings = load(tmp_path)
    assert found.step == 1
    assert len(warnings) == 1 and "step-00000002" in warnings[0]
    assert names(tmp_path) == ["step-00000001"]


def test_what_a_kill_left_half_written_is_no_state(tmp_path):
    save_state(tmp_path, a_state(1), identity="us")
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "tensors.safetensors").write_bytes(b"half")
    assert load(tmp_path)[0].step == 1
    save_state(tmp_path, a_state(2), identity="us")
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_state_of_another_training_is_not_used(tmp_path):
    save_state(tmp_path, a_state(1), identity="them")
    assert load(tmp_path) == (None, [])


def test_a_state_that_is_too_far_is_not_used(tmp_path):
    for step in (4, 8):
        save_state(tmp_path, a_state(step), identity="us")
    assert load(tmp_path, at_most=7)[0].step == 4
    assert names(tmp_path) == ["step-00000004"]


def test_a_full_disk_leaves_the_states_before_it(tmp_path, monkeypatch):
    save_state(tmp_path, a_state(1), identity="us")

    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        save_state(tmp_path, a_state(2), identity="us")
    assert names(tmp_path) == ["step-00000001"]
    assert load(tmp_path)[0].step == 1


def test_a_step_can_be_saved_again(tmp_path):
    save_state(tmp_path, a_state(3), identity="us")
    save_state(tmp_path, a_state(3), identity="us")
    assert load(tmp_path)[0].step == 3
