"""What a training writes while it goes on: behind the steps, in order, whole, and as each step had it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field

import pytest
from support import RecordingJob
from test_train import spoil
from training_lab import PROMPT, TrainingLab, digest, metrics, share_models, steps_of

from lora_worker import safetensors_file
from lora_worker.errors import WorkerError
from lora_worker.safetensors_file import read_header
from lora_worker.stages import train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


PLAN = {"steps": 4, "save_steps": [1, 2, 3], "state_every": {"steps": 2}, "ema": 0.9}


def digests(outputs):
    """Of every LoRA."""
    return {name: digest(path) for name, path in outputs.items() if name in ("lora", "ema") or name.startswith("step.")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, toy_checkpoint, toy_models):
    """The outputs of a training that nothing happens to."""
    with pytest.MonkeyPatch.context() as patch:
        share_models(patch, toy_models)
        lab = TrainingLab(tmp_path_factory.mktemp("whole"), toy_checkpoint)
        return lab.life(lab.request(**PLAN))


@dataclass
class OpeningJob(RecordingJob):
    """Opens the disk when a step is told."""

    opens_at: int = 0
    disk: threading.Event = field(default_factory=threading.Event)

    def step(self, step, *rest):
        super().step(step, *rest)
        if step == self.opens_at:
            self.disk.set()


def test_a_slow_disk_delays_no_step_and_files_are_what_their_steps_had(lab, whole, monkeypatch):
    job = OpeningJob(opens_at=3)
    write = train.write_lora_tensors

    def slow(*arguments):
        assert job.disk.wait(60), "the training waits for the disk"
        write(*arguments)

    monkeypatch.setattr(train, "write_lora_tensors", slow)
    samples = {"steps": [2], "prompts": [PROMPT]}
    outputs = lab.life(lab.request("slow", **PLAN, samples=samples), job)
    told = [fields.get("name", f"told {fields.get('step')}") for kind, fields in job.messages if kind in TOLD]
    told = [each for each in told if "." in each or "told" in each]  # without the montage, which is drawn meanwhile
    assert told[:3] == ["told 1", "told 2", "told 3"]
    assert [name for name in told if "told" not in name] == ["step.1", "step.2", "sample.2.0", "step.3"]
    assert digests(outputs) == digests(whole)


TOLD = ("step", "artifact")


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_is_told_at_the_next_step_with_the_file(lab, whole, monkeypatch, late):
    monkeypatch.setattr(train, "reads_late", lambda device: late)
    header_bytes = safetensors_file.header_bytes
    written = []

    def full(*arguments):
        written.append(1)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return header_bytes(*arguments)

    monkeypatch.setattr(safetensors_file, "header_bytes", full)
    job = RecordingJob()
    with pytest.raises(OSError, match="No space") as caught:
        lab.life(lab.request("full", **PLAN), job)
    assert caught.value.filename.endswith("step-00000002.safetensors")
    assert [message["name"] for message in job.of_type("artifact")] == ["step.1"]
    assert sorted(path.name for path in (lab.folder / "full" / "steps").iterdir()) == ["step-00000001.safetensors"]

    monkeypatch.setattr(safetensors_file, "header_bytes", header_bytes)
    outputs = lab.life(lab.request("full", **PLAN))
    assert digest(outputs["step.2"]) == digest(whole["step.2"])
    assert digest(outputs["lora"]) == digest(whole["lora"])


def test_where_copies_have_no_room_the_training_waits_and_the_files_are_the_same(lab, whole, monkeypatch):
    monkeypatch.setattr(train, "MOST_WAITING_BYTES", 1)
    job = RecordingJob()
    outputs = lab.life(lab.request("tight", **PLAN), job)
    assert digests(outputs) == digests(whole)
    states = sorted(path.name for path in (lab.folder / "tight" / "states").iterdir())
    assert states == ["step-00000002"]


def test_a_step_that_is_no_number_is_not_saved_though_it_is_read_late(lab, monkeypatch):
    monkeypatch.setattr(train, "reads_late", lambda device: True)
    request = lab.request(**{**PLAN, "batch_size": 1}, on_non_finite="stop")
    spoil(lab, request, step=3)
    with pytest.raises(WorkerError, match="step 3"):
        lab.life(request)
    kept = sorted(path.name for path in (lab.folder / "work" / "steps").iterdir())
    assert kept == ["step-00000001.safetensors", "step-00000002.safetensors"]


DOOMED = """
import json, os, sys, time
from lora_worker import whole_file
from lora_worker.stages import train
from support import RecordingJob

fsync = os.fsync
def slow(descriptor):
    # In the middle of a save of step 3: its bytes are there, its name is not.
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith("step-00000003.safetensors.partial"):
        print("saving", flush=True)
        time.sleep(600)
    fsync(descriptor)
whole_file.os.fsync = slow
train.run(train.parse(json.loads(sys.argv[1])), RecordingJob())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_kill_in_the_middle_of_a_save_leaves_no_half_file_and_costs_no_byte(lab, whole):
    request = lab.request("killed", **PLAN)
    child = subprocess.Popen(
        [sys.executable, "-c", DOOMED, json.dumps(request)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    try:
        assert child.stdout.readline() == "saving\n"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    steps = lab.folder / "killed" / "steps"
    named = sorted(path.name for path in steps.glob("*.safetensors"))
    assert named == ["step-00000001.safetensors", "step-00000002.safetensors"]
    assert all(read_header(steps / name).tensors for name in named)
    # States come behind the LoRAs that were before them.
    assert [path.name for path in (lab.folder / "killed" / "states").iterdir()] == ["step-00000002"]
    job = RecordingJob()
    outputs = lab.life(request, job)
    assert steps_of(job)[0] == 3
    assert digests(outputs) == digests(whole)
    assert metrics(outputs["metrics"]) == metrics(whole["metrics"])
