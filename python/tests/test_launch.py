"""Several processes train what one would: real ones, started by torch's elastic agent, with gloo on the CPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from support import RecordingJob
from test_train import spoil
from training_lab import DoomedJob, Killed, TrainingLab, metrics, share_models, steps_of

from lora_worker import launch_rank, launcher, learner
from lora_worker.devices import Device
from lora_worker.errors import Cancelled, WorkerError
from lora_worker.learner import Follower
from lora_worker.network import create
from lora_worker.ranks import Group, Ranks
from lora_worker.safetensors_file import read_safetensors
from lora_worker.stages import train
from lora_worker.text_cache import TextCache
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer
from lora_worker.visits import Visits

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

ROOT = Path(__file__).parents[1]
# An optimizer that does not make much of a rounding error where a gradient is nearly nothing, as SAVEUS does.
PLAIN = {"kind": "python", "class": "torch.optim.SGD", "args": {"momentum": 0.9}}
RATES = {"unet_lr": 3.0, "text_encoder_lr": 1.0}
# Three images in a step, so that the processes have unequal shares, and its batches end with their bucket.
UNEVEN: dict = {"optimizer": PLAIN, **RATES, "save_precision": "fp32", "steps": 4}


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def launched(request, processes=2, **changes):
    launch = {"kind": "torchrun", "processes": processes, "machines": 1, "rendezvous": None, "wait_seconds": 60}
    return {**request, "launch": {**launch, **changes}}


@dataclass
class Meanwhile(RecordingJob):
    """Does something when the first step from `at` on is told, in the time of the steps after it."""

    at: int = 0
    does: Callable[[RecordingJob], None] = RecordingJob.cancel

    def step(self, step, *rest, **others):
        super().step(step, *rest, **others)
        if 0 < self.at <= step:
            self.at = 0
            self.does(self)


class Part(Ranks):
    """One of several processes, which never meet."""

    def __init__(self, index: int, count: int) -> None:
        self.index, self.count = index, count


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 3, "gradient_accumulation_steps": 2},
        {"batch_size": 2, "gradient_accumulation_steps": 2, "accumulation": "sd_scripts"},
        {"batch_size": 3, "noise": {"kind": "multires", "iterations": 4, "discount": 0.4, "std_axes": "batch"}},
    ],
    ids=["images", "batches", "noise of a batch"],
)
@pytest.mark.parametrize("count", [2, 5])
def test_shares_add_up_to_the_gradient_of_one_process(lab, toy_models, changes, count):
    work = parse_train(lab.request(max_grad_norm=0, **changes))
    network = create(toy_models, toy_models.targets(), work.settings.network, seed=0)
    network.attach()
    try:
        trainer = Trainer(toy_models, network, work.settings, lambda message: None)

        def gradients(ranks):
            visits = Visits(work, prediction="epsilon", zero_terminal_snr=False, ranks=ranks)
            trainer.optimizer.zero_grad(set_to_none=False)
            losses = trainer._try_gradients(visits.micro_batches(0), lambda *_: None)
            grads = [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in network.parameters()]
            return losses, grads, len(visits.images(0))

        losses, whole, images = gradients(Ranks())
        parts = [gradients(Part(index, count)) for index in range(count)]
        assert [len(each) for each, _, _ in parts] == [len(Part(index, count).share(images)) for index in range(count)]
        torch.testing.assert_close(torch.cat([each for each, _, _ in parts]), losses, rtol=1e-5, atol=1e-7)
        for place, gradient in enumerate(whole):
            torch.testing.assert_close(sum(part[place] for _, part, _ in parts), gradient, rtol=1e-3, atol=1e-7)
    finally:
        network.remove()


def assert_same_training(one, other):
    """But for rounding: weights to a thousandth of how far they went, and what was told on the way."""
    expected, _ = read_safetensors(one["lora"])
    found, _ = read_safetensors(other["lora"])
    assert found.keys() == expected.keys()
    # They began at zero.
    furthest = max(tensor.abs().max().item() for name, tensor in expected.items() if name.endswith("lora_up.weight"))
    assert furthest > 1e-3
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-3 * furthest)
    for line, told in zip(metrics(one["metrics"]), metrics(other["metrics"]), strict=True):
        for name, value in line.items():
            assert told[name] == pytest.approx(value, rel=1e-3)


def test_two_processes_that_are_stopped_and_one_that_goes_on_train_what_one_does(lab):
    held_out = {"images": lab.images[:1], "timesteps": [500], "steps": [4]}
    plain = lab.life(lab.request("one", **UNEVEN, accumulation="sd_scripts", held_out=held_out))
    request = lab.request("two", **UNEVEN, accumulation="sd_scripts", held_out=held_out, save_steps=[2])
    stopped = Meanwhile(at=2)
    with pytest.raises(Cancelled):
        lab.life(launched(request), stopped)
    done = steps_of(stopped)[-1]
    assert 2 <= done < 4 and [told["name"] for told in stopped.of_type("artifact")] == ["step.2"]
    goes_on = RecordingJob()
    resumed = lab.life(request, goes_on)
    assert steps_of(goes_on) == list(range(done + 1, 5))
    assert_same_training(plain, resumed)


def test_two_machines_go_on_from_a_state_of_one_process_and_train_what_it_would(lab):
    plain = lab.life(lab.request("one", **UNEVEN, batch_size=3))
    request = lab.request("two", **UNEVEN, batch_size=3, state_every={"steps": 1})
    with pytest.raises(Killed):
        lab.life(request, DoomedJob(dies_at=2))
    rendezvous = free_rendezvous()
    with joined(rendezvous) as other:
        resumed = lab.life(launched(request, processes=1, machines=2, rendezvous=rendezvous), job := RecordingJob())
        assert steps_of(job) == [2, 3, 4]
        assert_same_training(plain, resumed)
        _, told = other.communicate(timeout=60)
        assert other.returncode == 0
        # That, and nothing that torch prints.
        assert told.splitlines() == [waiting(rendezvous), BEGINS, DONE]
    assert f"On the other machine: lorac join {rendezvous}" in [each["message"] for each in job.of_type("log")]


WORDS = "Waiting for {} training at {}. Ctrl-C ends it."
BEGINS = "A training begins, and this machine takes part in it."
DONE = "The training is done. Its results are on the machine that builds."
STOPPED = "The training was stopped on another machine."


def waiting(rendezvous, which="a"):
    return WORDS.format(which, rendezvous)


@dataclass
class Impatient(RecordingJob):
    """Is cancelled so many seconds after it was told to wait for others."""

    after: float = 0.0

    def progress(self, done, total, unit, note=None):
        super().progress(done, total, unit, note)
        if note is not None and note.startswith("waiting for"):
            threading.Timer(self.after, self.cancel).start()


def test_who_joined_takes_part_in_one_training_after_the_other_whatever_the_one_before_ended_by(lab):
    rendezvous = free_rendezvous()
    request = lab.request(**UNEVEN, batch_size=3)

    def build(machines, job):
        return lab.life(launched(request, processes=1, machines=machines, rendezvous=rendezvous), job)

    with joined(rendezvous, once=False) as other:
        # It hears from each of them how many machines there are. This one ends before they have met.
        with pytest.raises(Cancelled):
            build(3, Impatient(after=15))
        with pytest.raises(Cancelled):
            build(2, Meanwhile(at=1))
        assert Path(build(2, RecordingJob())["lora"]).exists()
        again = waiting(rendezvous, "the next")
        stopped = [STOPPED, "hint: Its steps so far are kept; building again goes on from there."]
        for line in (waiting(rendezvous), BEGINS, *stopped, again, BEGINS, DONE, again):
            assert other.stderr.readline() == f"{line}\n"
        other.send_signal(signal.SIGINT)
        _, told = other.communicate(timeout=60)
    assert (other.returncode, told) == (130, "Stopped.\n")


def test_a_machine_that_leaves_stops_the_training_which_keeps_its_steps(lab):
    rendezvous = free_rendezvous()
    request = lab.request(**{**UNEVEN, "steps": 400}, batch_size=3)
    with joined(rendezvous, once=False) as other:
        job = Meanwhile(at=2, does=lambda _: other.send_signal(signal.SIGINT))
        with pytest.raises(WorkerError, match=STOPPED) as caught:
            lab.life(launched(request, processes=1, machines=2, rendezvous=rendezvous), job)
        _, told = other.communicate(timeout=60)
    assert "building again goes on" in caught.value.hint
    assert other.returncode == 130
    leaving = "Stopping. The training stops with this machine, and its steps so far are kept."
    assert told.splitlines() == [waiting(rendezvous), BEGINS, leaving, "Stopped."]
    goes_on = RecordingJob(cancel_after_steps=1)
    with pytest.raises(Cancelled):
        lab.life(request, goes_on)
    assert steps_of(goes_on)[0] == steps_of(job)[-1] + 1 > 2


def test_a_name_that_nobody_knows_is_told_before_anybody_waits(lab):
    with joined("nowhere.invalid:29400") as other:
        _, told = other.communicate(timeout=60)
    assert other.returncode == 1
    assert told.startswith('error: This machine knows no "nowhere.invalid": ')
    with pytest.raises(WorkerError, match='knows no "nowhere.invalid"'):
        lab.life(launched(lab.request(), machines=2, rendezvous="nowhere.invalid:29400"))


def test_a_machine_that_does_not_reach_itself_is_told_so_before_it_waits_for_others(lab, monkeypatch):
    monkeypatch.setattr(launcher, "_REACH_SECONDS", 0.2)
    # An address that is set aside for books.
    with pytest.raises(WorkerError, match="does not reach itself at 192.0.2.7:29400"):
        lab.life(launched(lab.request(), machines=2, rendezvous="192.0.2.7:29400"))


def test_a_process_that_follows_encodes_texts_before_it_plans_its_memory(lab, toy_models, monkeypatch):
    """Encoders that nobody needs any more have left the device by then, as in the first process."""
    order = []
    make_ready = TextCache.make_ready
    monkeypatch.setattr(
        TextCache, "make_ready", lambda self, *how: order.append("texts") if make_ready(self, *how) else None
    )
    monkeypatch.setattr(learner, "fit", lambda *_: order.append("plan"))
    request = lab.request(text_encoder_lr=0, vram=10**12, steps=2)
    request["settings"]["captions"]["shuffle_caption"] = False
    work = parse_train(request)
    with ExitStack() as closing:
        Follower(work, RecordingJob(), toy_models, "", closing, Ranks()).run()
    assert order == ["texts", "plan"]


class OtherHas(Ranks):
    """One of two processes, of which the other one tells something else."""

    hosts = ("gpu1", "gpu2")

    def of_all(self, value):
        return [value, f"not {value}"]


def test_a_machine_with_another_program_or_checkpoint_is_named_in_all_processes(lab):
    with pytest.raises(WorkerError, match="gpu2 has another version of lorac than the machine that builds"):
        launch_rank._require_same_program(OtherHas())
    with pytest.raises(WorkerError, match="is another file on gpu2 than on the machine that builds"):
        train.trained(parse_train(lab.request()), RecordingJob(), OtherHas())
    assert not (lab.folder / "work").exists()


def ranks_of(parent: int) -> list[int]:
    """Processes that train, among the descendants of a process, in the order of their numbers."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    agents = {row[0] for row in rows if row[1] == str(parent) and "launch_agent" in row[2]}
    return sorted(int(row[0]) for row in rows if row[1] in agents and "launch_rank" in row[2])


def test_a_step_is_skipped_by_all_and_the_death_of_one_ends_the_others(lab, capfd):
    killed = []

    def kill_the_second(_job):
        killed.extend(ranks_of(os.getpid()))
        os.kill(killed[1], signal.SIGSEGV)

    request = lab.request(**{**UNEVEN, "steps": 400}, batch_size=1, on_non_finite="skip")
    spoilt = spoil(lab, request, step=2)
    job = Meanwhile(at=3, does=kill_the_second)
    with pytest.raises(WorkerError, match=r"Process 1 of the training was ended by SIGSEGV") as caught:
        lab.life(launched(request), job)
    assert caught.value.kind == "internal"
    assert "process 1: Fatal Python error: Segmentation fault" in capfd.readouterr().err
    # One of the two has no image at all.
    assert job.warnings[0] == "2 processes share the 1 image of a step: 1 of them only waits."
    assert any("Step 2 was skipped" in warning and spoilt in warning for warning in job.warnings)
    assert ranks_of(os.getpid()) == [] and are_gone(killed)


def test_a_machine_that_is_killed_leaves_no_process_and_stops_the_others(lab):
    request = lab.request(**{**UNEVEN, "steps": 400})
    rendezvous = free_rendezvous()
    with joined(rendezvous) as other:
        ranks = []

        def kill_the_other(_job):
            ranks.extend(ranks_of(other.pid))
            other.kill()

        with pytest.raises(WorkerError, match="on another machine failed or was ended"):
            lab.life(
                launched(request, processes=1, machines=2, rendezvous=rendezvous), Meanwhile(at=1, does=kill_the_other)
            )
    assert len(ranks) == 1 and are_gone(ranks) and ranks_of(os.getpid()) == []


def test_more_processes_than_gpus_and_a_port_in_use_are_refused_before_anything_starts(lab, monkeypatch):
    monkeypatch.setattr(launcher, "choose_device", lambda: Device("cuda", "a GPU"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(WorkerError, match="4 processes need as many GPUs, and 2 can be used here"):
        lab.life(launched(lab.request(), processes=4))
    assert launcher.process_count(None) == 2
    monkeypatch.setattr(launcher, "choose_device", lambda: Device("mps", "Apple GPU"))
    with pytest.raises(WorkerError, match="Apple's is one"):
        lab.life(launched(lab.request()))
    monkeypatch.setattr(launcher, "choose_device", lambda: Device("cpu", "CPU"))
    with socket.create_server(("", 0)) as taken:
        rendezvous = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(WorkerError, match="is in use by another program"):
            lab.life(launched(lab.request(), machines=2, rendezvous=rendezvous))


@pytest.mark.parametrize(
    ("named", "seen"), [(None, "1"), ("4,5", "5"), ("GPU-a, GPU-b", "GPU-b"), ("", ""), ("-1", "-1"), ("3", "3")]
)
def test_each_process_sees_its_own_gpu_of_those_that_are_not_hidden(named, seen):
    environment = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    launch_rank._see_only_own_gpu(environment, 1)
    assert environment["CUDA_VISIBLE_DEVICES"] == seen


def test_who_waits_alone_is_told_where_to_look(lab):
    request = launched(lab.request(), machines=2, rendezvous=free_rendezvous(), wait_seconds=1)
    with pytest.raises(WorkerError, match="Not all of 2 machines came") as caught:
        lab.life(request)
    assert "lorac join 127.0.0.1" in caught.value.hint


class Pretended(Group):
    """Two processes, of which the other one's answers are given."""

    def __init__(self, norms, device="GPU"):
        self.index, self.count, self.is_first, self._first = 0, 2, True, 0
        self.hosts, self._are_alike, self._has_parted = ["here", "there"], device == "GPU", False
        self._norms = norms

    def _gather(self, value):
        return [value, self._norms if isinstance(value, torch.Tensor) else value]


def test_weights_that_drift_apart_are_noticed():
    weights = [torch.nn.Parameter(torch.tensor([3.0, 4.0])), torch.nn.Parameter(torch.tensor([2.0]))]
    Pretended(torch.tensor([5.0, 2.0])).require_same_weights(weights, 50)
    nearly = torch.tensor([5.0, 2.000001])
    with pytest.raises(WorkerError, match="after step 50: those of process 1 on there"):
        Pretended(nearly).require_same_weights(weights, 50)
    # Unequal devices round differently.
    Pretended(nearly, "another").require_same_weights(weights, 50)
    with pytest.raises(WorkerError, match="no longer have the same weights"):
        Pretended(torch.tensor([5.0, 2.01]), "another").require_same_weights(weights, 50)


def free_rendezvous():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def joined(rendezvous, *, once=True):
    """Another machine, which is this one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LORAC_THREADS": "1"}
    command = [sys.executable, "-m", "lora_worker.join", rendezvous, "--processes", "1", *(["--once"] if once else [])]
    other = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield other
    finally:
        other.kill()
        other.communicate()


def are_gone(processes: list[int]) -> bool:
    """Within seconds: who has lost its parent is a process until init has heard of its end."""
    deadline = time.monotonic() + 10
    while any(is_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
