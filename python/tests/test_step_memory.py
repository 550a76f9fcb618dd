"""Trainings that have to fit into memory: what is counted is what is needed, and no plan changes what is learned.

The device is a CPU, where all that torch's operations make is counted; running out of memory is played.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from network_samples import KINDS
from optimizer_samples import OPTIMIZERS
from support import RecordingJob
from training_lab import EVERY_LAYER, TrainingLab, metrics, share_models

from lora_worker import dry_step, step_memory
from lora_worker.checkpointing import TEXT, all_blocks, checkpoint_blocks, set_checkpointing
from lora_worker.dry_step import blank_batch, fit, largest_bucket, measured_peak, own_bytes
from lora_worker.live_bytes import LiveBytes
from lora_worker.memory_plan import USABLE, Plan
from lora_worker.network import create
from lora_worker.network_targets import chosen_targets, offered_norms
from lora_worker.optimizer_bytes import optimizer_bytes
from lora_worker.ranks import Group, Ranks
from lora_worker.safetensors_file import read_safetensors
from lora_worker.step_memory import StepMemory
from lora_worker.train_request import parse_train
from lora_worker.training import Trainer, trained_components
from lora_worker.visits import Visits

NO = torch.OutOfMemoryError("played")


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    yield TrainingLab(tmp_path, toy_checkpoint)
    set_checkpointing(toy_models, False)


class Bench:
    """A trainer outside of the stage, with a network that is past its first step."""

    def __init__(self, lab, models, **changes):
        self.models = models
        self.work = parse_train(lab.request(**changes))
        settings = self.work.settings
        offered = (*models.targets(), *offered_norms(models.architecture, settings.network))
        targets = chosen_targets(offered, settings.network, trained_components(settings))
        self.network = create(models, targets, settings.network, seed=0)
        generator = torch.Generator().manual_seed(1)
        for _, parameter in self.network.named_parameters():
            if not parameter.any():
                parameter.data.normal_(std=0.02, generator=generator)
        self.network.attach()
        self.warnings = []
        self.trainer = Trainer(models, self.network, settings, self.warnings.append)
        visits = Visits(self.work, prediction="epsilon", zero_terminal_snr=False)
        self.batches = visits.micro_batches(0)

    def step(self):
        """Gradients of the step, and parameters after it."""
        kept = {}
        names = [*self.network.named_parameters()]
        handle = self.trainer.optimizer.register_step_pre_hook(
            lambda *_: kept.update({name: p.grad.clone() for name, p in names if p.grad is not None})
        )
        self.trainer.step(0, self.batches, lambda *_: None)
        handle.remove()
        return kept, {name: parameter.detach().clone() for name, parameter in names}

    def measured(self, images):
        batch = blank_batch(self.work, largest_bucket(self.work), images, self.models)
        backward = lambda: self.trainer.backward(batch)  # noqa: E731
        return measured_peak(backward, self.trainer.parameters, 0, dry_step._weights(self.models))

    def counted(self):
        return dry_step._counted(self.trainer, self.work, self.models, largest_bucket(self.work))


@pytest.fixture
def bench(lab, toy_models):
    made = []

    def make(**changes):
        for one in made:
            one.network.remove()
        made.append(Bench(lab, toy_models, **changes))
        return made[-1]

    yield make
    for one in made:
        one.network.remove()


def assert_close(found, wanted, tolerance=1e-3):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=1e-7, msg=name)


def assert_same(found, wanted):
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


# What is counted


@pytest.mark.parametrize("kind", ["locon", "loha", "full"])
def test_what_is_counted_is_what_a_backward_pass_needs(bench, kind):
    made = bench(network=KINDS[kind])
    profile = made.counted()
    assert made.measured(3) == pytest.approx(profile.peak(3, ()), rel=0.05)


def test_what_is_counted_holds_for_any_choice_of_blocks(bench, toy_models):
    made = bench(text_encoder_lr=0, **EVERY_LAYER)
    profile = made.counted()
    names = [block.name for block in profile.blocks]
    assert TEXT not in names  # Texts are encoded once, before.
    for chosen in (names, names[::2], names[: len(names) // 2]):
        checkpoint_blocks(toy_models, chosen)
        assert made.measured(2) == pytest.approx(profile.peak(2, chosen), rel=0.15), chosen


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_what_an_optimizer_remembers_is_found_out(bench, optimizer):
    made = bench(optimizer=optimizer)
    counted = optimizer_bytes(made.work.settings.optimizer, made.trainer.parameters)
    made.step()
    state = made.trainer.optimizer.state
    kept = [value for fields in state.values() for value in fields.values() if torch.is_tensor(value) and value.dim()]
    assert counted == sum(tensor.untyped_storage().nbytes() for tensor in kept)


# What a plan changes


def test_any_cut_gives_the_same_gradients(bench, lab):
    lab.images = [lab.image(0, (64, 64)) | {"index": place} for place in range(8)]
    wanted = None
    for largest, passes in ((8, 1), (4, 2), (3, 3), (1, 8)):
        made = bench(batch_size=8)
        made.trainer.memory._take(Plan(largest, frozenset()))
        assert sum(len(made.trainer.memory.cut(batch)) for batch in made.batches) == passes
        found, _ = made.step()
        wanted = wanted or found
        assert_close(found, wanted)


def test_any_choice_of_blocks_gives_the_same_gradients_bit_for_bit(bench, toy_models):
    wanted, after = bench(batch_size=3, **EVERY_LAYER).step()
    names = sorted(all_blocks(toy_models))
    for chosen in (names[::2], names[1::3], names):
        made = bench(batch_size=3, **EVERY_LAYER)
        made.trainer.memory._take(Plan(3, frozenset(chosen)))
        found, then = made.step()
        assert_same(found, wanted)
        assert_same(then, after)


def test_a_dry_step_leaves_no_trace(bench):
    wanted, after = bench(batch_size=3).step()
    made = bench(batch_size=3, vram=10**12)
    before = {name: parameter.detach().clone() for name, parameter in made.network.named_parameters()}
    random = torch.random.get_rng_state()
    fit(made.trainer, made.work, made.models)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert_same(dict(made.network.named_parameters()), before)
    assert not made.trainer.optimizer.state
    assert all(parameter.grad is None for parameter in made.trainer.parameters)
    found, then = made.step()
    assert_same(found, wanted)
    assert_same(then, after)
    assert made.trainer.memory.plan.micro_batch == 3
    assert not made.warnings


def test_a_limit_decides_how_many_images_and_blocks(lab):
    """The whole way: what is set, what is said of it, and what comes out."""
    usual, tight = RecordingJob(), RecordingJob()
    wanted = lab.life(lab.request("usual", batch_size=3, steps=2), usual)
    whole = 10**9
    roomy = RecordingJob()
    lab.life(lab.request("roomy", batch_size=3, steps=1, vram=whole), roomy)
    needed = float(said(roomy).split(", ")[-1].split()[0]) * 1e9
    outputs = lab.life(
        lab.request("tight", batch_size=3, steps=2, gradient_checkpointing="auto", vram=int(needed * 0.97)), tight
    )
    assert said(usual) == "micro-batch 3 x 1, no checkpointing"
    assert said(roomy).startswith("micro-batch 3 x 1, no checkpointing, 0.")
    assert not said(tight).startswith("micro-batch 3 x 1, no checkpointing")
    assert not tight.warnings
    assert metrics(outputs["metrics"])[0]["loss"] == pytest.approx(metrics(wanted["metrics"])[0]["loss"], rel=1e-5)
    found, needed_ones = (read_safetensors(each["lora"])[0] for each in (outputs, wanted))
    assert found.keys() == needed_ones.keys()


def said(job):
    [line] = [each["message"] for each in job.of_type("log") if each["message"].startswith("micro-batch")]
    assert len(line) < 70
    return line


class Summing(Group):
    """One of two processes. What the other one has of the gradients is nothing."""

    def __init__(self):
        self.index, self.count, self._has_parted = 0, 2, False
        self._distributed = SimpleNamespace(all_reduce=lambda tensor: None)

    def share(self, count):
        return range(count)

    def _gather(self, value):
        return [value, value]


@pytest.mark.parametrize("ranks", [Ranks(), Summing()], ids=["one process", "two"])
def test_what_a_step_needs_when_activations_are_gone_is_planned(bench, ranks):
    # All weights of the base, trained on one small image: nothing else is as large.
    plain = {"kind": "python", "class": "torch.optim.SGD", "args": {}}
    made = bench(network=KINDS["full"], optimizer=plain, batch_size=1, gradient_checkpointing="on", vram=10**12)
    fit(made.trainer, made.work, made.models)
    plan, own = made.trainer.memory.plan, own_bytes(made.trainer.parameters)
    made.trainer._ranks = ranks
    # In its first step the optimizer can be undone, with copies in the host's memory, which here is the device's.
    made.trainer.step(0, made.batches[:1], lambda *_: None)
    with LiveBytes(known=[*dry_step._weights(made.models), *made.trainer.parameters]) as live:
        made.trainer.step(1, made.batches[:1], lambda *_: None)
    # Gradients are of what is there all the time, and only appear now.
    needed = live.peak - own
    assert needed == pytest.approx(plan.bytes - plan.static, rel=0.1)
    assert needed > 1.5 * made.counted().peak(1, all_blocks(made.models))


def test_processes_of_one_machine_share_its_memory(bench, toy_models, monkeypatch):
    settings = bench(batch_size=2, gradient_checkpointing="auto").work.settings
    enough = step_memory._rough_bytes(toy_models, settings) / USABLE
    monkeypatch.setattr(step_memory, "available", lambda: int(1.5 * enough))
    assert StepMemory(toy_models, settings, pytest.fail).plan.checkpointed == frozenset()
    assert StepMemory(toy_models, settings, pytest.fail, processes=2).plan.checkpointed == all_blocks(toy_models)


# When it runs out all the same


class Scarce:
    """Raises at the passes of a module that are told, forward or backward, counted from 1."""

    def __init__(self, module, at, *, backward=False):
        self._left = set(at)
        self._passes = 0
        if backward:
            self._handle = module.register_full_backward_pre_hook(self._count)
        else:
            self._handle = module.register_forward_pre_hook(self._count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._handle.remove()
        assert not self._left, "it was never reached"

    def _count(self, *_):
        self._passes += 1
        if self._passes in self._left:
            self._left.remove(self._passes)
            raise NO


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("at", [[1], [2, 3], [2, 4, 5]])
def test_a_step_that_ran_out_of_memory_is_made_anew_and_counts_nothing_twice(bench, toy_models, at, backward):
    # Two of one bucket, and one of another.
    sizes = {"batch_size": 3, "gradient_checkpointing": "auto"}
    wanted, _ = bench(**sizes).step()
    made = bench(**sizes)
    module = toy_models.unet.up_blocks[1].resnets[0].conv1
    with Scarce(module, at, backward=backward):
        found, _ = made.step()
    assert_close(found, wanted)
    # Freeing what nobody needs is nothing to tell of.
    assert len(made.warnings) <= max(0, len(at) - 1)


def test_what_became_smaller_stays_so_and_is_said_once(bench, toy_models):
    made = bench(batch_size=3, gradient_checkpointing="auto")
    module = toy_models.unet.down_blocks[0].resnets[0].conv1
    with Scarce(module, [1, 2, 3]):
        made.step()
    assert len(made.warnings) == 2
    assert "checkpointing" in made.warnings[0]
    assert "2 images at once" in made.warnings[1]
    assert made.trainer.memory.plan == Plan(1, all_blocks(toy_models))
    made.step()
    assert len(made.warnings) == 2


def test_where_nothing_is_left_to_try_the_error_stands(bench, toy_models):
    made = bench(batch_size=1)
    before = {name: parameter.detach().clone() for name, parameter in made.network.named_parameters()}
    with Scarce(toy_models.unet.conv_in, [1, 2]), pytest.raises(torch.OutOfMemoryError):
        made.step()
    assert_same(dict(made.network.named_parameters()), before)
    assert all(parameter.grad is None for parameter in made.trainer.parameters)


def test_a_dry_step_that_runs_out_of_memory_is_no_end(bench, toy_models):
    made = bench(batch_size=2, gradient_checkpointing="auto", vram=10**12, **EVERY_LAYER)
    # The first passes are those that are counted with.
    with Scarce(toy_models.unet.conv_in, [1, 2]):
        fit(made.trainer, made.work, made.models)
    plan = made.trainer.memory.plan
    assert plan.checkpointed or plan.micro_batch == 1
    assert len(made.warnings) == 1


@pytest.mark.parametrize("optimizer", ["SAVEUS", "AdamW"])
def test_the_first_moments_may_find_no_room_at_first(bench, monkeypatch, optimizer):
    wanted, after = bench(optimizer=OPTIMIZERS[optimizer]).step()
    made = bench(optimizer=OPTIMIZERS[optimizer])
    given = torch.zeros_like
    calls = []

    def scarce(*args, **kwargs):
        calls.append(1)
        if len(calls) == 20:
            raise NO
        return given(*args, **kwargs)

    monkeypatch.setattr(torch, "zeros_like", scarce)
    found, then = made.step()
    assert len(calls) > 20
    assert_same(found, wanted)
    assert_same(then, after)


def test_a_first_step_that_was_half_done_is_undone(bench, monkeypatch):
    wanted, after = bench(optimizer=OPTIMIZERS["AdamW"]).step()
    made = bench(optimizer=OPTIMIZERS["AdamW"])
    first = made.trainer.parameters[0]
    was = first.detach().clone()
    step = made.trainer.optimizer.step
    failed = []

    def half(*_):
        if not failed:
            failed.append(1)
            step()
            assert not torch.equal(first, was)
            raise NO
        return step()

    monkeypatch.setattr(made.trainer.optimizer, "step", half)
    made.trainer.step(0, made.batches, lambda *_: None)
    assert_same(dict(made.network.named_parameters()), after)
    del wanted


def test_a_later_step_is_done_again_only_where_nothing_was_changed(bench, monkeypatch):
    made = bench(optimizer=OPTIMIZERS["AdamW"])
    made.step()
    step = made.trainer.optimizer.step
    when = {"untouched": True}

    def scarce(*_):
        if when.pop("untouched", False):
            raise NO
        return step()

    monkeypatch.setattr(made.trainer.optimizer, "step", scarce)
    made.trainer.step(1, made.batches, lambda *_: None)
    assert {int(fields["step"]) for fields in made.trainer.optimizer.state.values()} == {2}

    def half(*_):
        step()
        raise NO

    monkeypatch.setattr(made.trainer.optimizer, "step", half)
    with pytest.raises(torch.OutOfMemoryError):
        made.trainer.step(2, made.batches, lambda *_: None)
