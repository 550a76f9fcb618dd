"""How the steps of a training are fitted into the device's memory, before the first and when it runs out all the same.

What is decided changes no step's result beyond rounding, so it may grow stricter in the middle of a training:

    free what nobody needs  ->  compute more blocks twice  ->  half as many images at once

A plan is only made where memory may be short: where the device tells how much it has, or a limit is set. On a CPU
without a limit all is done as the settings say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lora_worker.checkpointing import all_blocks, checkpoint_blocks
from lora_worker.device_memory import Room, available, let_go, room
from lora_worker.memory_plan import USABLE, Needs, Plan, choose, cuts, describe, smaller
from lora_worker.memory_profile import Profile
from lora_worker.models import Models
from lora_worker.train_request import TrainSettings
from lora_worker.visits import MicroBatch

# What SDXL keeps for the backward pass per image of 1024², in bf16 and without checkpointing, and at what width.
_KEPT_BYTES = 6.9 * 2**30
_KEPT_PIXELS = 1024 * 1024
_KEPT_WIDTH = 320

_AS_EXPECTED = 0.05
"""A dry step that differs by less from what was counted changes no plan."""


class StepMemory:
    """Owns the models' checkpointing. `warn` is told of each change that the device makes necessary."""

    def __init__(
        self, models: Models, settings: TrainSettings, warn: Callable[[str], None], processes: int = 1
    ) -> None:
        """`processes`: how many train on this machine, each with models of its own."""
        self._processes = processes
        self._models = models
        self._settings = settings
        self._warn = warn
        self._blocks = all_blocks(models)
        self._needs: Needs | None = None
        self._has_let_go = False
        self.room: Room | None = room(models.device, settings.vram)
        self._take(Plan(settings.batch_size, self._blocks if self._must_checkpoint() else frozenset()))

    @property
    def plan(self) -> Plan:
        return self._plan

    def make_plan(self, profile: Profile, static: int, missing: int, between: int) -> None:
        """`static`: bytes that are there all the time; of them `missing` are not there yet. `between`: `Needs`."""
        # Anew: since then swapped blocks have come, encoders may have left, and a VAE may be there.
        self.room = room(self._models.device, self._settings.vram)
        assert self.room is not None
        self._needs = Needs(
            profile,
            static,
            self._settings.batch_size,
            may_checkpoint=self._settings.gradient_checkpointing == "auto",
            must_checkpoint=self._settings.gradient_checkpointing == "on",
            between=between,
        )
        # What is there already is not free any more.
        self._limit = int(USABLE * self.room.free) + static - missing
        self._take(choose(self._needs, self._limit))

    def correct(self, measured: int) -> bool:
        """After a dry step, whose activations took that many bytes. Whether there is another plan to try out."""
        assert self._needs is not None
        plan = self._plan
        counted = self._needs.profile.peak(plan.micro_batch, plan.checkpointed)
        factor = measured / counted
        if abs(factor / self._needs.factor - 1) < _AS_EXPECTED and plan.bytes <= self._limit:
            return False
        self._needs = replace(self._needs, factor=factor)
        self._take(choose(self._needs, self._limit))
        return self._plan.checkpointed != plan.checkpointed or self._plan.micro_batch != plan.micro_batch

    def described(self) -> str:
        """`micro-batch 8 x 6, no checkpointing, 61 of 141 GB`."""
        return describe(
            self._plan,
            batch_size=self._settings.batch_size,
            accumulation=self._settings.gradient_accumulation_steps,
            blocks=len(self._blocks),
            total=None if self.room is None else self.room.total,
        )

    def cut(self, micro_batch: MicroBatch) -> list[MicroBatch]:
        """The same images in the same order, as many at a time as fit."""
        return micro_batch.parts(cuts(len(micro_batch.images), self._plan.micro_batch))

    def fitted(self) -> None:
        """To be called when a step's gradients are done: the next may free what nobody needs again."""
        self._has_let_go = False

    def has_less(self, micro_batches: Sequence[MicroBatch]) -> bool:
        """Whether there is something left to try when memory ran out."""
        return not self._has_let_go or self._smaller(self._plan_for(micro_batches)) is not None

    def use_less(self, micro_batches: Sequence[MicroBatch]) -> None:
        """Where there `has_less`."""
        let_go(self._models.device)
        if not self._has_let_go:
            self._has_let_go = True
            return
        now = self._plan_for(micro_batches)
        after = self._smaller(now)
        assert after is not None
        self._take(after)
        if after.micro_batch < now.micro_batch:
            self._warn(
                f"The device's memory was too small for {now.micro_batch} images at once; training goes on with "
                f"{after.micro_batch}, and as many images in a step as before."
            )
        else:
            twice = f"{len(after.checkpointed)} of {len(self._blocks)} blocks computed twice (checkpointing)"
            self._warn(f"The device's memory was too small; training goes on with {twice}, more slowly.")

    def _plan_for(self, micro_batches: Sequence[MicroBatch]) -> Plan:
        """That of a step with these: where all are small, they are what has to become smaller."""
        largest = max(len(micro_batch.images) for micro_batch in micro_batches)
        count = min(self._plan.micro_batch, largest)
        if self._needs is None or count == self._plan.micro_batch:
            return replace(self._plan, micro_batch=count)
        return self._needs.plan(count, self._plan.checkpointed)

    def _must_checkpoint(self) -> bool:
        if self._settings.gradient_checkpointing != "auto" or self.room is not None:
            return self._settings.gradient_checkpointing == "on"
        # A CPU, which would not say that its memory is short: the whole process would be gone.
        free = available()
        return free is not None and self._processes * _rough_bytes(self._models, self._settings) > USABLE * free

    def _smaller(self, plan: Plan) -> Plan | None:
        if self._needs is not None:
            return smaller(self._needs, plan)
        if self._settings.gradient_checkpointing == "auto" and not plan.checkpointed:
            return replace(plan, checkpointed=self._blocks)
        return replace(plan, micro_batch=plan.micro_batch // 2) if plan.micro_batch > 1 else None

    def _take(self, plan: Plan) -> None:
        self._plan = plan
        checkpoint_blocks(self._models, plan.checkpointed)


def _rough_bytes(models: Models, settings: TrainSettings) -> float:
    """About what one micro-batch keeps for its backward pass, without checkpointing."""
    pixels = settings.resolution[0] * settings.resolution[1]
    width = models.architecture.unet.widths[0]
    images = settings.batch_size * pixels / _KEPT_PIXELS
    return _KEPT_BYTES * images * (width / _KEPT_WIDTH) * (models.dtype.itemsize / 2)
