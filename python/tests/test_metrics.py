"""The metrics file of a training that goes on has each step once."""

from __future__ import annotations

import json

import pytest

from lora_worker.metrics import MetricsFile, StepNumbers


def numbers(step, **changes):
    usual = {
        "epoch": 0,
        "loss": 0.5,
        "learning_rates": {"unet": 1e-4},
        "grad_norm": 0.1,
        "update_norms": {"unet": 0.002},
        "images": 4,
        "seconds": 1.23456,
    }
    return StepNumbers(**{"step": step, **usual, **changes})


def append(file, step):
    file.append(numbers(step))


def test_a_line_is_there_as_soon_as_it_is_told(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl", steps=0)
    append(file, 1)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "epoch": 0,
        "loss": 0.5,
        "learning_rates": {"unet": 1e-4},
        "grad_norm": 0.1,
        "update_norms": {"unet": 0.002},
        "seconds": 1.235,
        "images_per_second": 3.24,
    }


def test_memory_and_norms_of_weights_are_there_where_they_are_measured(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl", steps=0)
    file.append(numbers(1, gpu_memory_peak_bytes=7, key_norms={"keys_scaled": 2.0}, seconds=0.0))
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (line["gpu_memory_peak_bytes"], line["keys_scaled"], line["images_per_second"]) == (7, 2, None)


def test_the_average_is_over_an_epoch_whatever_was_interrupted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, steps=0, epoch_steps=3)
    assert file.average_loss is None
    for step, loss in enumerate((9.0, 1.0, 2.0, None, 6.0), start=1):
        file.append(numbers(step, loss=loss))
    assert file.average_loss == 3
    file.close()
    resumed = MetricsFile(path, steps=4, epoch_steps=3)
    resumed.append(numbers(5, loss=3.0))
    assert resumed.average_loss == 2


@pytest.mark.parametrize("rest", ["", '{"step": 4, "lo', '{"step": 4}\n{"step": 5}\n'])
def test_lines_after_the_state_are_dropped_half_written_ones_too(tmp_path, rest):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n' + rest)
    file = MetricsFile(path, steps=3)
    append(file, 4)
    file.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_number_that_json_does_not_have_is_refused(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl", steps=0)
    with pytest.raises(ValueError):
        file.append(numbers(1, loss=float("nan")))
