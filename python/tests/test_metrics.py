"""The metrics file of a training that goes on has each step once."""

from __future__ import annotations

import json

import pytest

from lora_worker.metrics import MetricsFile


def append(file, step):
    file.append(step=step, epoch=0, loss=0.5, learning_rates={"unet": 1e-4}, grad_norm=0.1, seconds=1.23456)


def test_a_line_is_there_as_soon_as_it_is_told(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl", steps=0)
    append(file, 1)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "epoch": 0,
        "loss": 0.5,
        "learning_rates": {"unet": 1e-4},
        "grad_norm": 0.1,
        "seconds": 1.235,
    }


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
        file.append(step=1, epoch=0, loss=float("nan"), learning_rates={}, grad_norm=0.1, seconds=1)
