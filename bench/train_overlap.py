"""What a training saves by not encoding texts in its steps, and by writing its files behind them.

    OMP_WAIT_POLICY=passive PYTHONPATH=python:python/tests python bench/train_overlap.py

The two ways take turns on a toy, since a machine that does other work changes from minute to minute. Without text
encoders to train, on captions that stay as they are; every step is saved, on a disk that takes 50 ms longer for it than
this one. Seconds are those of the clock, CPU seconds those of the process.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from support import RecordingJob
from training_lab import CAPTION_SETTINGS, TrainingLab

from lora_worker.background_writer import BackgroundWriter
from lora_worker.models import load_models
from lora_worker.stages import train
from lora_worker.text_cache import TextCache
from lora_worker.toy.checkpoint import write_toy_checkpoint

PAIRS, STEPS = 7, 10
SIZE = os.environ.get("SIZE", "quickstart")
DISK_SECONDS = 0.05

put, write_lora = BackgroundWriter.put, train.write_lora_tensors


def put_and_wait(writer: BackgroundWriter, write: Callable[[], None], size_bytes: int) -> None:
    put(writer, write, size_bytes)
    writer.drain()


def write_slowly(*arguments: object) -> None:
    time.sleep(DISK_SECONDS)
    write_lora(*arguments)


WAYS = {
    "texts": {
        "encoded once": [],
        "encoded in steps": [patch.object(TextCache, "is_worthwhile", lambda *_: False)],
    },
    "saves": {
        "behind the steps": [patch.object(train, "write_lora_tensors", write_slowly)],
        "in the steps": [
            patch.object(train, "write_lora_tensors", write_slowly),
            patch.object(BackgroundWriter, "put", put_and_wait),
        ],
    },
}


class Clocked(RecordingJob):
    """Stands still until the first step is done: what comes before is the same."""

    def step(self, step: int, *rest: object) -> None:
        super().step(step, *rest)
        if step == 1:
            self.began = time.perf_counter(), time.process_time()


def seconds_of_a_step(lab: TrainingLab, what: str, way: str) -> tuple[float, float]:
    captions = {**CAPTION_SETTINGS, "shuffle_caption": False}
    request = lab.request(tempfile.mkdtemp(), steps=STEPS + 1, text_encoder_lr=0, captions=captions, batch_size=4)
    request["save_steps"] = [*range(1, STEPS + 1)] if what == "saves" else []
    job = Clocked()
    with ExitStack() as patches:
        for each in WAYS[what][way]:
            patches.enter_context(each)
        lab.life(request, job)
    clock, cpu = job.began
    return (time.perf_counter() - clock) / STEPS, (time.process_time() - cpu) / STEPS


with tempfile.TemporaryDirectory() as folder:
    checkpoint = Path(folder, "toy.safetensors")
    write_toy_checkpoint(checkpoint, SIZE)
    models = load_models(checkpoint, device="cpu", dtype=torch.float32)
    train.load_models = lambda *_, **__: models
    lab = TrainingLab(Path(folder), checkpoint)
    for what, ways in WAYS.items():
        found = {way: [] for way in ways}
        for _ in range(PAIRS):
            for way in ways:
                found[way].append(seconds_of_a_step(lab, what, way))
        first, second = ways
        told = {
            way: {
                "steps per second": round(1 / median(clock for clock, _ in each), 2),
                "CPU seconds of a step": round(median(cpu for _, cpu in each), 4),
            }
            for way, each in found.items()
        }
        faster = [slow / fast for (fast, _), (slow, _) in zip(found[first], found[second], strict=True)]
        spread = {"times as fast, pair by pair": [round(each, 2) for each in sorted(faster)]}
        print(json.dumps({"toy": SIZE, "threads": torch.get_num_threads(), what: told, **spread}), flush=True)
