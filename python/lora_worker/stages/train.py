"""Training: from latents, captions and a checkpoint to a LoRA.

The work folder holds, while it runs and after it was interrupted:

    identity            what the training is; everything else is removed when it is another
    states/             what a killed run goes on from (lora_worker.state)
    steps/              LoRAs of single steps, step-00000010.safetensors
    samples/            pictures, 000010-00.png: step, number of the prompt
    montage.png         all of them side by side, animation.webp: one step after the other
    metrics.jsonl       one line per step, which event files of a folder elsewhere say to TensorBoard as well
    lora.safetensors    the result
    ema.safetensors     the average of its steps, with `ema`

Rules:
- What has its final name is whole. The work folder can be gone on from after a kill at any moment.
- k steps, a kill, and n − k steps give what n steps give: on a CPU, bit for bit.
- The order at the end of a step is: read its numbers, save its LoRA, measure with held-out images, render its
  pictures, write a state.
  So nothing is ever saved of a step whose numbers are not finite.
- What is saved is copied at once and written behind the training (`BackgroundWriter`), in this order. An `artifact` is
  told when its file is whole.
- Of several processes the first does all of this, and the others only compute their shares of the steps (`_Follower`).
- A cancel is heard before every micro-batch and every forward pass of a picture. The steps done so far are in a state
  when it is answered, and whatever was to be written is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lora_worker.background_writer import BackgroundWriter
from lora_worker.base_bytes import base_bytes, loaded_bytes
from lora_worker.class_schedules import ClassSchedule, schedule_class
from lora_worker.device_memory import limited
from lora_worker.devices import torch_device
from lora_worker.errors import Cancelled, bad_input
from lora_worker.event_file import HELD_OUT, open_events, step_scalars
from lora_worker.job import Job
from lora_worker.launcher import launched
from lora_worker.learner import Follower, Learner
from lora_worker.lora_file import write_lora_tensors
from lora_worker.lora_metadata import training_metadata
from lora_worker.metrics import MetricsFile, StepNumbers
from lora_worker.models import Models, load_models
from lora_worker.montage import Shown
from lora_worker.naming import lora_targets
from lora_worker.network_targets import chosen_targets, offered_norms, with_single_layers
from lora_worker.non_finite import culprits_of, not_finite
from lora_worker.open_base import files_of, open_base
from lora_worker.optimizers import optimizer_class, try_optimizer
from lora_worker.process import as_said
from lora_worker.ranks import ALONE, Ranks
from lora_worker.snapshot import Snapshot, size_of, snapshot
from lora_worker.spans import span
from lora_worker.state import State, load_newest_state, save_state
from lora_worker.text_cache import TextCache
from lora_worker.text_projection import transposed_projection
from lora_worker.train_request import EverySteps, Train, parse_train
from lora_worker.training import Reading, trained_components
from lora_worker.training_pictures import TrainingPictures
from lora_worker.validation import HeldOutVisits, best_step, held_out_loss
from lora_worker.work_folder import checkpoint_facts, claim_folder

# After so many, something is wrong that will not pass.
MOST_SKIPPED_IN_A_ROW = 10
# How far a step is, is told at most this often.
MICRO_BATCHES_EVERY_S = 0.25
# Of copies that wait to be written. A larger state is written without a copy, while the training waits.
MOST_WAITING_BYTES = 2**31

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def parse(fields: Mapping[str, Any]) -> Train:
    return parse_train(fields)


def run(work: Train, job: Job) -> dict[str, str]:
    """Trains, or goes on training. Outputs: `metrics`, `step.N` and `sample.N.I` for those that exist, and unless it
    ends before its last step, `lora`, with `ema` `ema`, and where something is held out, `best`."""
    return trained(work, job) if work.launch is None else launched(work.launch, job)


def trained(work: Train, job: Job, ranks: Ranks = ALONE) -> dict[str, str]:
    """As `run`, in this process, which may be one of several. Only the first of them has outputs."""
    try:
        return _trained(work, job, ranks)
    except BaseException as error:
        ranks.stop(error)
        raise


def _trained(work: Train, job: Job, ranks: Ranks) -> dict[str, str]:
    device = torch_device()
    identity = work.identity(_same_checkpoint(work, ranks))
    if ranks.is_first:
        claim_folder(work.work, identity)
    refuse_bad_modules(work)
    optimizer_class(work.settings.optimizer)
    try_optimizer(work.settings.optimizer, device)
    if isinstance(work.settings.lr_scheduler, ClassSchedule):
        schedule_class(work.settings.lr_scheduler)
    job.progress(0, work.settings.steps, "steps", "loading the checkpoint")
    models = as_said(_load(work, job, device), work.settings.process)
    with _deterministic(device), limited(device, work.settings.vram), ExitStack() as closing:
        if work.settings.text_projection == "transposed":
            closing.enter_context(transposed_projection(models))
        kind = _Training if ranks.is_first else Follower
        outputs = kind(work, job, models, identity, closing, ranks).run()
    ranks.meet()
    return outputs


def _load(work: Train, job: Job, device: torch.device) -> Models:
    dtype, fp8_base = _DTYPES[work.settings.mixed_precision], work.settings.fp8_base
    if fp8_base != "off" and device.type == "mps":
        raise bad_input("Apple's GPUs have no 8-bit floating point numbers.", hint="Leave fp8_base out.")
    models = load_models(
        work.checkpoint, device=device, dtype=dtype, fp8_base=fp8_base, blocks_to_swap=work.settings.blocks_to_swap
    )
    if fp8_base != "off":
        stored, usual = loaded_bytes(models).all, base_bytes(models.architecture, dtype=dtype).all
        job.log(
            "info",
            f"The frozen weights take {_gib(stored)} in place of {_gib(usual)}. Those in fp8 are off by "
            f"{models.fp8_error:.1%} (root mean square).",
        )
    return models


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


class _Training(Learner):
    """One life of a training: says how it goes, and keeps what comes of it."""

    def __init__(self, work: Train, job: Job, models: Models, identity: str, closing: ExitStack, ranks: Ranks) -> None:
        super().__init__(work, job, models, identity, closing, ranks)
        self._reads_late = reads_late(models.device)
        self._writer = BackgroundWriter(MOST_WAITING_BYTES)
        self._pictures = TrainingPictures(work, job, models, self._network, self._writer, self._tell_picture)
        closing.callback(self._pictures.close)
        self._state_step = self._done
        self._metrics = MetricsFile(work.work / "metrics.jsonl", steps=self._done, epoch_steps=self._epoch_steps())
        closing.callback(self._metrics.close)
        self._events = open_events(work.events, steps=self._done, warn=lambda message: job.log("warning", message))
        if self._events is not None:
            closing.callback(self._events.close)
        # Ends before what it flushes is closed.
        closing.enter_context(self._writer)
        self._held_out = None
        if work.held_out is not None:
            self._held_out = HeldOutVisits(
                work,
                work.held_out,
                prediction=models.architecture.prediction,
                zero_terminal_snr=models.architecture.zero_terminal_snr,
            )
        self._make_ready(closing)
        self._unread: _Unread | None = None
        self._skipped = self._skipped_in_a_row = 0
        self._clock = self._state_clock = self._told_clock = time.monotonic()

    def run(self) -> dict[str, str]:
        steps = self._work.settings.steps
        try:
            self._make_texts_ready(self._done)
            if self._done:
                self._job.log("info", f"Going on after step {self._done} of {steps}.")
            self._pictures.render_beginning(self._done, _DTYPES[self._work.settings.save_precision])
            if self._done:
                if self._done in self._work.save_steps:
                    self._write_step(self._done, self._copied_lora(self._done))
                self._look_at(self._done, is_passed=False)
            self._fit()
            self._job.log("info", self._trainer.memory.described())
            self._clock = self._state_clock = time.monotonic()
            # The first step can take minutes, and is no longer the loading.
            # The first step can take minutes, and is no longer the loading.
            self._job.progress(self._done, steps, "steps", f"step {self._done + 1}")
            while self._done < self._work.until:
                self._step()
        except Cancelled:
            self._read()
            self._save_state()
            self._writer.drain()
            raise
        self._metrics.flush()
        self._pictures.finish()
        with span("saving"):
            self._writer.drain()
        if self._skipped:
            self._job.log(
                "warning", f"{self._skipped} of {steps} steps were skipped, since their numbers were not finite."
            )
        outputs = {"metrics": str(self._metrics.path), **self._existing_outputs()}
        if self._work.until < steps:
            return outputs
        path = self._work.work / "lora.safetensors"
        self._write_lora(path, steps)
        if self._held_out is not None:
            # Where no loss was a number, there have been warnings enough.
            best = best_step(self._metrics.held_out) or steps
            outputs["best"] = str(path if best == steps else self._step_path(best))
        if self._trainer.average is not None:
            outputs["ema"] = str(self._work.work / "ema.safetensors")
            with self._trainer.average.in_place():
                self._write_lora(Path(outputs["ema"]), steps, ss_ema_decay=str(self._work.settings.ema))
        with span("saving"):
            self._writer.drain()
        return {"lora": str(path), **outputs}

    def _step(self) -> None:
        reading = self._learn()
        step = self._done
        # On a GPU, now that this step is under way, the one before has had the time to finish.
        self._read()
        self._writer.check()
        lora = self._copied_lora(step) if step in self._work.save_steps else None
        self._unread = _Unread(step, reading, self._trainer.rates(), lora)
        is_looked_at = step in self._work.sample_steps or self._is_measured(step)
        last = step == self._work.until
        is_due = self._is_state_due() and not last
        if not self._reads_late or is_looked_at or is_due or last:
            self._read()
        if is_looked_at:
            self._look_at(step)
        if is_due:
            self._save_state()
        if is_looked_at or is_due:
            self._clock = time.monotonic()

    def _before_micro_batch(self, done: int, total: int) -> None:
        super()._before_micro_batch(done, total)
        # Steps that end sooner than this are progress enough.
        if total > 1 and time.monotonic() - self._told_clock >= MICRO_BATCHES_EVERY_S:
            self._told_clock = time.monotonic()
            self._job.progress(done, total, "micro-batches", f"step {self._done + 1}")

    def _cached_texts(self) -> TextCache | None:
        """Only where nothing else will need the text encoders."""
        if not TextCache.is_worthwhile(self._models, self._visits, self._network):
            return None
        self._pictures.encode_prompts()
        others = self._held_out.every_text() if self._held_out is not None else ()
        return TextCache(self._models, self._visits, steps=self._work.until, others=others)

    def _read(self) -> None:
        """Tells the numbers of the newest step that has not been told yet, and saves its LoRA. Raises `non-finite`."""
        if self._unread is None:
            return
        unread, self._unread = self._unread, None
        if unread.reading.is_skipped:
            self._skip(unread.step, unread.reading, unread.rates)
        else:
            self._pass(unread.step, unread.reading, unread.rates)
        if unread.lora is not None:
            self._write_step(unread.step, unread.lora)

    def _pass(self, step: int, reading: Reading, rates: Mapping[str, float]) -> None:
        """Tells of a step that is done. Raises `non-finite`."""
        loss, norm, each = reading.numbers()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise not_finite(self._work, step, loss, norm, each, reading)
        self._skipped_in_a_row = 0
        now = time.monotonic()
        seconds, self._clock = now - self._clock, now
        self._tell(step, reading, rates, loss=loss, grad_norm=norm, seconds=seconds)
        self._job.step(step, self._work.settings.steps, loss, rates, norm, seconds)
        self._told_clock = now

    def _skip(self, step: int, reading: Reading, rates: Mapping[str, float]) -> None:
        """Tells of a step that changed nothing. Raises `non-finite` where the next ones would be no better."""
        self._skipped += 1
        self._skipped_in_a_row += 1
        loss, norm, each = reading.numbers()
        many = self._skipped_in_a_row == MOST_SKIPPED_IN_A_ROW
        if many or not self._trainer.is_finite():
            raise not_finite(self._work, step, loss, norm, each, reading, before=self._skipped_in_a_row - 1)
        what, images = culprits_of(each, reading)
        named = ", ".join(image.digest for image in images)
        self._job.log("warning", f"Step {step} was skipped, since its {what} is not a finite number. Images: {named}")
        seconds = time.monotonic() - self._clock
        self._clock += seconds
        self._tell(step, reading, rates, loss=None, grad_norm=None, seconds=seconds)

    def _tell(
        self,
        step: int,
        reading: Reading,
        rates: Mapping[str, float],
        *,
        loss: float | None,
        grad_norm: float | None,
        seconds: float,
    ) -> None:
        """Writes down what there is to tell of a step."""
        numbers = StepNumbers(
            step=step,
            epoch=self._visits.plan.epoch_of(step - 1),
            loss=loss,
            learning_rates=rates,
            grad_norm=grad_norm,
            update_norms=reading.update_norms(),
            images=len(reading.images),
            seconds=seconds,
            gpu_memory_peak_bytes=peak_bytes(self._models.device),
            key_norms=reading.key_norms(),
        )
        self._metrics.append(numbers)
        if self._events is not None:
            self._events.scalars(step, step_scalars(numbers, self._metrics.average_loss))

    def _look_at(self, step: int, *, is_passed: bool = True) -> None:
        """Measures and renders with the LoRA of a step that was just done, or else restored."""
        if self._is_measured(step):
            self._measure(step)
        if step in self._work.sample_steps:
            with span("sampling"):
                self._pictures.render(step, _DTYPES[self._work.settings.save_precision], is_passed=is_passed)

    def _tell_picture(self, shown: Shown) -> None:
        if self._events is not None:
            label = self._work.sample_labels[shown.row]
            self._events.picture(shown.step, f"samples/{shown.row:02d}", shown.picture, description=label)

    def _is_measured(self, step: int) -> bool:
        return self._work.held_out is not None and step in self._work.held_out.steps

    def _measure(self, step: int) -> None:
        """Unless that was done before a state was gone on from."""
        if self._held_out is None or step in self._metrics.held_out:
            return
        loss = held_out_loss(self._models, self._held_out, self._job.check_cancelled, self._texts)
        if not math.isfinite(loss):
            self._job.log("warning", f"The held-out loss of step {step} is not a finite number, and does not count.")
            return
        self._metrics.append_held_out(step=step, loss=loss)
        if self._events is not None:
            self._events.scalars(step, {HELD_OUT: loss})
        best = best_step(self._metrics.held_out)
        told = "the lowest so far" if best == step else f"the lowest was {self._metrics.held_out[best]:.5f} at {best}"
        self._job.log("info", f"Held-out loss after step {step}: {loss:.5f}, {told}.")

    def _write_step(self, step: int, lora: _CopiedLora) -> None:
        path = self._step_path(step)
        path.parent.mkdir(exist_ok=True)

        def write() -> None:
            lora.write(path)
            self._job.artifact(f"step.{step}", path)

        self._put(write, lora.size_bytes)

    def _write_lora(self, path: Path, step: int, **more: str) -> None:
        """`more` joins the metadata."""
        lora = self._copied_lora(step, **more)
        self._put(lambda: lora.write(path), lora.size_bytes)

    def _copied_lora(self, step: int, **more: str) -> _CopiedLora:
        epoch = self._visits.plan.epoch_of(step - 1)
        metadata = training_metadata(self._work, self._models.architecture, step=step, epoch=epoch)
        with span("saving"):
            tensors = self._network.file_tensors(_DTYPES[self._work.settings.save_precision])
            return _CopiedLora(snapshot(tensors), size_of(tensors), {**metadata, **more})

    def _put(self, write: Callable[[], None], size_bytes: int) -> None:
        if not self._writer.has_room(size_bytes):
            self._job.progress(self._done, self._work.settings.steps, "steps", "waiting for the disk")
        with span("saving"):
            self._writer.put(write, size_bytes)

    def _step_path(self, step: int) -> Path:
        return self._work.work / "steps" / f"step-{step:08d}.safetensors"

    def _existing_outputs(self) -> dict[str, str]:
        steps = {f"step.{step}": str(self._step_path(step)) for step in sorted(self._work.save_steps)}
        return {**steps, **self._pictures.existing()}

    def _newest_state(self) -> State | None:
        """A state is gone on from only if no LoRA from before it is missing."""
        missing = [step for step in self._work.save_steps if not self._step_path(step).exists()]
        return load_newest_state(
            self._work.work / "states",
            identity=self._identity,
            at_most=min(missing, default=self._work.until),
            warn=lambda message: self._job.log("warning", message),
        )

    def _epoch_steps(self) -> int:
        """How many steps an epoch has, or begins in."""
        steps, plan = self._work.settings.steps, self._visits.plan
        return next((step for step in range(1, steps) if plan.epoch_of(step) > 0), steps)

    def _is_state_due(self) -> bool:
        every = self._work.state_every
        if isinstance(every, EverySteps):
            return self._done % every.steps == 0
        return time.monotonic() - self._state_clock >= every.seconds

    def _save_state(self) -> None:
        if self._done > self._state_step:
            with span("saving"):
                self._put_state(self._trainer.state(self._done))
            self._state_step = self._done
        self._state_clock = time.monotonic()

    def _put_state(self, state: State) -> None:
        size_bytes = size_of(state.tensors)
        if size_bytes > MOST_WAITING_BYTES:
            self._writer.drain()
            self._write_state(state)
            return
        copied = snapshot(state.tensors)
        self._put(lambda: self._write_state(replace(state, tensors=copied.tensors())), size_bytes)

    def _write_state(self, state: State) -> None:
        self._metrics.flush()
        if self._events is not None:
            self._events.flush()
        save_state(self._work.work / "states", state, identity=self._identity)


@dataclass(frozen=True)
class _Unread:
    """A step whose numbers are on their way, and its LoRA, which is worth a file only if they are numbers."""

    step: int
    reading: Reading
    rates: Mapping[str, float]
    lora: _CopiedLora | None


@dataclass(frozen=True)
class _CopiedLora:
    """A LoRA as it was after a step."""

    _tensors: Snapshot
    size_bytes: int
    metadata: Mapping[str, str]

    def write(self, path: Path) -> None:
        write_lora_tensors(path, self._tensors.tensors(), self.metadata)


def _same_checkpoint(work: Train, ranks: Ranks) -> str:
    """What the checkpoint is known by. Raises `bad-input`, in all processes, where one has another under its name."""
    facts = checkpoint_facts(work.checkpoint)
    host = ranks.host_that_differs(facts)
    if host is not None:
        raise bad_input(
            f'"{files_of(work.checkpoint)[0]}" is another file on {host} than on the machine that builds.',
            hint="Copy it from there.",
        )
    return facts


def refuse_bad_modules(work: Train) -> None:
    """Before minutes are spent on loading the checkpoint. Raises `bad-input`."""
    with open_base(work.checkpoint) as checkpoint:
        architecture = checkpoint.architecture
    offered = (*lora_targets(architecture), *offered_norms(architecture, work.settings.network))
    settings = with_single_layers(work.settings, offered)
    chosen_targets(offered, settings.network, trained_components(settings))


def reads_late(device: torch.device) -> bool:
    """Whether a step's numbers are read when the next step is under way. A CPU has nothing to wait for."""
    return device.type == "cuda"


def peak_bytes(device: torch.device) -> int | None:
    """Does not wait for the device. None where nobody counts."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, equal work gives equal bits. GPUs have no such algorithms for all that is needed here."""
    before = torch.are_deterministic_algorithms_enabled()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
