"""TensorBoard reads each step once, whatever happened to the training, and nothing depends on its files."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from lora_worker import event_file
from lora_worker.event_file import EventFile, open_events, step_scalars
from lora_worker.metrics import StepNumbers

pytest.importorskip("tensorboard")


def read(folder):
    """As TensorBoard has it: scalars and pictures by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in tags["scalars"]}
    pictures = {tag: events.Images(tag) for tag in tags["images"]}
    return scalars, pictures


def told(folder, steps, *, done=0, value=1.0, warnings=None):
    file = EventFile(folder, steps=done, warn=(warnings if warnings is not None else []).append)
    for step in steps:
        file.scalars(step, {"loss/current": value})
    return file


def steps_of(folder):
    return [step for step, _ in read(folder)[0]["loss/current"]]


def test_numbers_and_pictures_are_read_by_tensorboard(tmp_path):
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.png")
    file = told(tmp_path / "run", [1, 2], value=0.25)
    file.scalars(2, {"norm/grad_norm": None, "speed/images_per_second": 3.0})
    file.picture(0, "samples/00", tmp_path / "a.png", description="a fox")
    file.close()
    scalars, pictures = read(tmp_path / "run")
    assert scalars == {"loss/current": [(1, 0.25), (2, 0.25)], "speed/images_per_second": [(2, 3.0)]}
    (shown,) = pictures["samples/00"]
    assert (shown.step, shown.width, shown.height) == (0, 64, 48)
    assert Image.open(io.BytesIO(shown.encoded_image_string)).getpixel((5, 5))[0] > 240


def test_steps_that_are_done_again_are_there_once(tmp_path):
    told(tmp_path, range(1, 8)).close()
    told(tmp_path, range(6, 11), done=5).close()
    told(tmp_path, range(10, 13), done=9).close()
    assert steps_of(tmp_path) == list(range(1, 13))


def test_a_training_that_begins_anew_is_told_anew(tmp_path):
    told(tmp_path, range(1, 4), value=1.0).close()
    told(tmp_path, range(1, 3), value=2.0).close()
    assert read(tmp_path)[0]["loss/current"] == [(1, 2.0), (2, 2.0)]


def test_a_file_that_a_kill_cut_off_is_read_up_to_there_and_gone_on_from(tmp_path):
    for cut in (1, 7, 20):
        folder = tmp_path / str(cut)
        told(folder, range(1, 6)).close()
        (path,) = folder.iterdir()
        path.write_bytes(path.read_bytes()[:-cut])
        assert steps_of(folder) == [1, 2, 3, 4]
        told(folder, range(4, 7), done=3).close()
        assert steps_of(folder) == list(range(1, 7))


def test_each_step_is_there_for_whoever_looks_while_it_goes_on(tmp_path):
    file = told(tmp_path, [1, 2])
    assert steps_of(tmp_path) == [1, 2]
    file.close()


def test_a_full_disk_is_told_once_and_costs_nothing_else(tmp_path, monkeypatch):
    warnings = []
    file = told(tmp_path, [1], warnings=warnings)

    class Full:
        def __init__(self, _):
            pass

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(file, "_record_writer", Full)
    for step in (2, 3):
        file.scalars(step, {"loss/current": 1.0})
        file.flush()
    file.close()
    assert len(warnings) == 1 and "No space left on device" in warnings[0]
    assert steps_of(tmp_path) == [1]


def test_a_picture_that_cannot_be_read_costs_no_numbers(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    file = told(tmp_path / "run", [1])
    file.picture(1, "samples/00", tmp_path / "a.png", description="a fox")
    file.scalars(2, {"loss/current": 1.0})
    file.close()
    assert steps_of(tmp_path / "run") == [1, 2]


def test_a_folder_that_cannot_be_written_to_is_no_reason_to_fail(tmp_path):
    (tmp_path / "file").write_text("")
    warnings = []
    told(tmp_path / "file", [1], warnings=warnings).close()
    assert len(warnings) == 1


def test_without_the_package_there_are_no_files_and_it_is_said(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ImportError("No module named 'tensorboard'")

    monkeypatch.setattr(event_file, "EventFile", missing)
    warnings = []
    assert open_events(str(tmp_path), steps=0, warn=warnings.append) is None
    assert "tensorboard" in warnings[0]
    assert open_events(None, steps=0, warn=warnings.append) is None
    assert len(warnings) == 1


def test_the_tags_are_those_of_sd_scripts():
    numbers = StepNumbers(
        step=1,
        epoch=0,
        loss=0.5,
        learning_rates={"text_encoder": 1e-4, "unet": 3e-4},
        grad_norm=2.0,
        update_norms={"text_encoder": 0.1, "unet": 0.2},
        images=8,
        seconds=2.0,
        gpu_memory_peak_bytes=3_000_000_000,
        key_norms={"keys_scaled": 1.0, "average_key_norm": 0.5, "max_key_norm": 1.0},
    )
    assert step_scalars(numbers, 0.6) == {
        "loss/current": 0.5,
        "loss/average": 0.6,
        "lr/textencoder": 1e-4,
        "lr/unet": 3e-4,
        "norm/grad_norm": 2.0,
        "norm/update_norm/textencoder": 0.1,
        "norm/update_norm/unet": 0.2,
        "max_norm/keys_scaled": 1.0,
        "norm/avg_key_norm": 0.5,
        "max_norm/max_key_norm": 1.0,
        "speed/images_per_second": 4.0,
        "speed/seconds_per_step": 2.0,
        "memory/gpu_peak_gb": 3.0,
    }
