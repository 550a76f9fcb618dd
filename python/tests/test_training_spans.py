"""The parts of a step: each is timed once, in every life of a training, and only while somebody measures."""

import time

import pytest
import torch
from support import RecordingJob
from training_lab import PROMPT, TrainingLab, share_models

from lora_worker.spans import SPANS, recorded, span

CPU = torch.device("cpu")


def test_a_part_within_a_part_counts_for_itself_alone():
    started = time.perf_counter()
    with recorded(CPU) as recorder, span("sampling"):
        time.sleep(0.02)
        with span("text"):
            time.sleep(0.05)
        time.sleep(0.01)
    took = time.perf_counter() - started
    seconds = recorder.seconds()
    assert seconds.keys() == {"sampling", "text"}
    assert seconds["sampling"] >= 0.03 and seconds["text"] >= 0.05
    # Counted twice, they would be more than the time that went by.
    assert sum(seconds.values()) <= took


def test_nothing_is_recorded_outside_of_the_block_and_nobody_records_twice():
    with span("text"):
        pass
    with recorded(CPU) as recorder:
        with pytest.raises(RuntimeError, match="somebody records already"), recorded(CPU):
            pass
    with span("text"):
        pass
    assert recorder.seconds() == {}


def test_a_training_names_all_of_its_parts(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    lab = TrainingLab(tmp_path, toy_checkpoint)
    request = lab.request(
        steps=2, batch_size=1, save_steps=[1, 2], samples={"steps": [2], "prompts": [PROMPT]}, state_every={"steps": 1}
    )
    started = time.perf_counter()
    with recorded(CPU) as recorder:
        lab.life(request, RecordingJob())
    took = time.perf_counter() - started
    seconds = recorder.seconds()
    assert set(seconds) == set(SPANS)
    assert all(each > 0 for each in seconds.values())
    assert sum(seconds.values()) <= took
