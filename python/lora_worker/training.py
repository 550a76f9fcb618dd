"""One optimizer step after another, on models that carry a LoRA.

A step's gradient is the mean over all its images of each image's loss (`lora_worker.loss`). The images are computed in
micro-batches whose gradients add up, so how they are cut changes only rounding.

On a GPU nothing here waits for the device: losses and norms stay there and are copied behind the work (`Reading`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lora_worker.blocks import number_of
from lora_worker.branches import STARTING_AT_ZERO
from lora_worker.class_schedules import ClassSchedule, RunningSchedule, rehearse
from lora_worker.compiling import Compiling
from lora_worker.device_memory import first_that_fits, is_out_of_memory
from lora_worker.dropouts import Masks
from lora_worker.errors import WorkerError
from lora_worker.loss import ImageLoss
from lora_worker.models import Models
from lora_worker.moving_average import MovingAverage
from lora_worker.naming import LoraTarget
from lora_worker.network import Network
from lora_worker.optimizer_state import restore_optimizer, save_optimizer
from lora_worker.optimizer_step import OptimizerStep
from lora_worker.optimizers import build_optimizer
from lora_worker.pinned import host_copy
from lora_worker.ranks import ALONE, Ranks
from lora_worker.schedules import rate_factor
from lora_worker.spans import span
from lora_worker.state import State
from lora_worker.step_memory import StepMemory
from lora_worker.swapping import swap
from lora_worker.train_request import TrainImage, TrainSettings
from lora_worker.update_norms import UpdateNorms
from lora_worker.visits import MicroBatch
from lora_worker.weight_norms import WeightNorms

_COMPONENTS = {"text_encoder": ("te1", "te2"), "unet": ("unet",)}


class Reading:
    """Numbers of one step, on their way from the device: its loss, its gradient norm, each image's loss, how far it
    moved each of `components` (`UpdateNorms`), and where weights are kept short (`WeightNorms`), what that told.

    `is_skipped`: they are no numbers, and the step has changed nothing.
    """

    def __init__(
        self, values: Tensor, images: Sequence[TrainImage], components: Sequence[str] = (), *, is_skipped: bool = False
    ) -> None:
        self.images = tuple(images)
        self.is_skipped = is_skipped
        self._components = tuple(components)
        self._event: torch.cuda.Event | None = None
        self._values = values
        if values.is_cuda:
            self._values = host_copy(values)
            self._event = torch.cuda.Event()
            self._event.record()

    def numbers(self) -> tuple[float, float, list[float]]:
        """Loss, gradient norm before clipping, loss of each of `images`. Waits until the device has them."""
        if self._event is not None:
            self._event.synchronize()
        loss, norm, *others = self._values.tolist()
        return loss, norm, others[: len(self.images)]

    def update_norms(self) -> dict[str, float | None]:
        """By component, None for what is no number. Nothing of a step that was skipped.

        To be called after `numbers`, which waits for the device.
        """
        return _named(self._components, self._others()[: len(self._components)])

    def key_norms(self) -> dict[str, float | None]:
        """By sd-scripts' names. Nothing where weights may have any length. To be called as `update_norms`."""
        told = self._others()[len(self._components) :]
        return _named(("keys_scaled", "average_key_norm", "max_key_norm") if told else (), told)

    def _others(self) -> list[float]:
        return self._values.tolist()[2 + len(self.images) :]


def _named(names: Sequence[str], told: Sequence[float]) -> dict[str, float | None]:
    return {name: each if math.isfinite(each) else None for name, each in zip(names, told, strict=True)}


class Trainer:
    """Owns the optimizer of a LoRA that is attached to `models`."""

    def __init__(
        self,
        models: Models,
        network: Network,
        settings: TrainSettings,
        warn: Callable[[str], None],
        ranks: Ranks = ALONE,
    ) -> None:
        self._models = models
        self._ranks = ranks
        # Once: diffusers walks through all modules to tell them.
        self._device, self._dtype = models.device, models.dtype
        self._network = network
        self._settings = settings
        self._trains_text = settings.text_encoder_lr > 0
        self._loss = ImageLoss(
            settings.loss,
            settings.weights,
            prediction=models.architecture.prediction,
            zero_terminal_snr=models.architecture.zero_terminal_snr,
            device=self._device,
        )
        self.optimizer = build_optimizer(settings.optimizer, parameter_groups(network, settings), settings.unet_lr)
        self._schedule = self._running_schedule()
        self._names = {parameter: name for name, parameter in network.named_parameters()}
        self._parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        trained = set(self._parameters)
        for parameter in self._names:
            parameter.requires_grad_(parameter in trained)
        self.average = None if settings.ema is None else MovingAverage(self._trained(), settings.ema)
        limit = settings.scale_weight_norms
        self._norms = None if limit is None else WeightNorms(network, limit)
        self._updates = UpdateNorms(self._by_component())
        self._is_saveable = False
        self._rates: dict[str, float] = {}
        self._optimizer_step = OptimizerStep(self.optimizer, self._parameters)
        self.memory = StepMemory(models, settings, warn, ranks.count_here)
        # Masks of dropouts are other ones at each step, and would be compiled at each.
        is_compiled = settings.compile and settings.network.dropouts.are_off
        self._compiling = Compiling(models, warn) if is_compiled else None
        self._swapping = swap(models, settings.blocks_to_swap)
        if settings.blocks_to_swap > 0 and self._swapping is None:
            warn("blocks_to_swap does nothing here: this device computes in the memory of the host.")

    def close(self) -> None:
        """The models are left with nothing of the training but its network. Those with swapped blocks are lost."""
        if self._compiling is not None:
            self._compiling.stop()
        if self._swapping is not None:
            self._swapping.stop()

    def bring_blocks(self) -> None:
        """Of those that are swapped, so many are on the device from now on as will be."""
        if self._swapping is not None:
            self._swapping.begin()

    def step(
        self,
        index: int,
        micro_batches: Sequence[MicroBatch],
        before_each: Callable[[int, int], None],
        images: Sequence[TrainImage] | None = None,
    ) -> Reading:
        """Does the step with this 0-based index.

        `before_each` is called before each micro-batch, with the number of those before it and of all, and may raise:
        then the parameters are those of the step before. On a GPU those before are ordered by then, and hardly done.
        `images` are those of the whole step, of which `micro_batches` are this process' share; without them, all of it.
        """
        self.set_rates(index)
        if images is None:
            images = [image for micro_batch in micro_batches for image in micro_batch.images]
        try:
            each = self._gradients(micro_batches, before_each)
            each = self._ranks.summed(self._parameters, each, len(images))
        except BaseException:
            self.optimizer.zero_grad(set_to_none=True)
            raise
        finally:
            self._network.masks = None
        with span("optimizer"):
            norm = self._clipped()
        values = torch.cat([each.mean().reshape(1), norm.reshape(1), each])
        # Looking at them makes a GPU wait, so it is done only where something depends on it.
        if self._settings.on_non_finite == "skip" and not values.isfinite().all():
            self.optimizer.zero_grad(set_to_none=True)
            self._advance(index)
            return Reading(values, images, is_skipped=True)
        with span("optimizer"):
            first_that_fits(self._device, self._updates.before, self._updates.before)
            self._optimizer_step()
            keys = [] if self._norms is None else [self._norms.shorten()]
            values = torch.cat([values, self._updates.after(), *keys])
            if self.average is not None:
                self.average.update(index)
            self._advance(index)
            self.optimizer.zero_grad(set_to_none=True)
        if not self._is_saveable:
            # Found out now, and not when a night's state is to be written.
            save_optimizer(self.optimizer, self._names)
            self._is_saveable = True
        return Reading(values, images, self._updates.components)

    def require_same_weights(self, step: int) -> None:
        """Raises `internal` where those of another process are not these. Waits for the device."""
        self._ranks.require_same_weights(self._parameters, step)

    def is_finite(self) -> bool:
        """Whether all parameters are numbers. Waits for the device."""
        return all(bool(parameter.isfinite().all()) for parameter in self._parameters)

    def set_rates(self, index: int) -> None:
        if self._schedule is not None:
            self._schedule.check(step=index + 1)
            self._rates = self._rates_of_groups()
            return
        schedule, steps = self._settings.lr_scheduler, self._settings.steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate_factor(schedule, index, steps, group["base_lr"])
        rates = _component_rates(self._settings)
        self._rates = {name: rate * rate_factor(schedule, index, steps, rate) for name, rate in rates.items()}

    def rates(self) -> dict[str, float]:
        """Of the step that was done last, by component, without the factors of blocks and matrices."""
        return dict(self._rates)

    def _running_schedule(self) -> RunningSchedule | None:
        schedule = self._settings.lr_scheduler
        if not isinstance(schedule, ClassSchedule):
            return None
        settings = self._settings
        rehearse(schedule, settings.optimizer, self.optimizer, lr=settings.unet_lr, steps=settings.steps)
        return RunningSchedule(schedule, self.optimizer)

    def _advance(self, index: int) -> None:
        if self._schedule is not None:
            self._schedule.advance(done=index + 1)

    def _rates_of_groups(self) -> dict[str, float]:
        """By component, of what has no factors of its own, else of what comes first: a class may give any rates."""
        found: dict[str, float] = {}
        for name, rate in _component_rates(self._settings).items():
            groups = [group for group in self.optimizer.param_groups if group["name"] == name]
            plain = [group for group in groups if group["base_lr"] == rate]
            for group in (plain or groups)[:1]:
                found[name] = group["lr"]
        return found

    def state(self, step: int) -> State:
        """All that is needed to go on after `step` steps. The tensors are the live ones."""
        memory, values = save_optimizer(self.optimizer, self._names)
        parameters = {name: parameter.data for parameter, name in self._names.items()}
        average = self.average.state() if self.average is not None else {}
        told = {"optimizer": values} | ({"schedule": self._schedule.state()} if self._schedule else {})
        return State(step, {**parameters, **memory, **average}, told)

    def restore(self, state: State) -> None:
        """Goes on from what `state` gave, bit for bit."""
        with torch.no_grad():
            for parameter, name in self._names.items():
                parameter.copy_(state.tensors[name])
        restore_optimizer(self.optimizer, self._names, state.tensors, state.values["optimizer"])
        if self._schedule is not None:
            self._schedule.restore(state.values["schedule"])
        if self.average is not None:
            self.average.restore(state.tensors)

    def _by_component(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, of the text encoders and of the UNet."""
        groups: dict[str, list[nn.Parameter]] = {}
        for group in self.optimizer.param_groups:
            groups.setdefault(group["name"], []).extend(group["params"])
        return groups

    def _trained(self) -> dict[str, nn.Parameter]:
        return {self._names[parameter]: parameter for parameter in self._parameters}

    def _gradients(self, micro_batches: Sequence[MicroBatch], before_each: Callable[[int, int], None]) -> Tensor:
        """Adds up the step's gradients. The loss of each image, in order."""
        while True:
            try:
                each = self._try_gradients(micro_batches, before_each)
            except WorkerError:
                raise
            except Exception as error:
                # The step's gradients are made anew: of those that are there, nobody knows what they have of this one.
                self.optimizer.zero_grad(set_to_none=True)
                if is_out_of_memory(error):
                    if not self.memory.has_less(micro_batches):
                        raise
                elif self._compiling is None or not self._compiling.is_on:
                    raise
                else:
                    # Code for the way back, and kernels, may be made when they are first needed, and fail then. What is
                    # wrong without compiling as well shows the second time.
                    self._compiling.give_up(error)
                    continue
            else:
                self.memory.fitted()
                return each
            # Outside of the handler: while the exception is alive, so are the tensors that it passed.
            self.memory.use_less(micro_batches)

    def _try_gradients(self, micro_batches: Sequence[MicroBatch], before_each: Callable[[int, int], None]) -> Tensor:
        parts = [part for micro_batch in micro_batches for part in self.memory.cut(micro_batch)]
        each = [torch.zeros(0, device=self._device)]
        for number, part in enumerate(parts):
            before_each(number, len(parts))
            with span("data"):
                part = part.to(self._device)
            losses_B = self.losses(part)
            with span("backward"):
                (losses_B.sum() / part.among).backward()
            each.append(losses_B.detach())
        return torch.cat(each)

    @property
    def targets(self) -> Sequence[LoraTarget]:
        """Where the network stands."""
        return [branch.target for branch in self._network.branches.values()]

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """Those that are trained."""
        return self._parameters

    def backward(self, batch: MicroBatch) -> None:
        """Adds a micro-batch to the gradients, as if it were all of a step."""
        try:
            self.losses(batch).mean().backward()
        finally:
            self._network.masks = None

    def plain_losses(self, models: Models, batch: MicroBatch) -> Tensor:
        """With other models, and nothing left out of a network that may stand beside them."""
        return image_losses(models, batch, self._loss, dtype=self._dtype, trains_text=self._trains_text)

    def losses(self, batch: MicroBatch) -> Tensor:
        dropouts = self._settings.network.dropouts
        if not dropouts.are_off:
            # They stay for the backward pass, which with checkpointing computes layers a second time.
            self._network.masks = Masks(dropouts, self._settings.seed, batch.visits, self._device)
        return self.plain_losses(self._models, batch)

    def _clipped(self) -> Tensor:
        """Clips the gradients, all together, to `max_grad_norm` (0: not at all). Their norm before that."""
        norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if self._settings.max_grad_norm > 0:
            nn.utils.clip_grads_with_norm_(self._parameters, self._settings.max_grad_norm, norm)
        return norm


def image_losses(
    models: Models, batch: MicroBatch, loss: ImageLoss, *, dtype: torch.dtype, trains_text: bool
) -> Tensor:
    """The loss of each image times its weight, F32 [B]. `dtype` is that of the models."""
    with span("text"):
        context_BTW, pooled_BP = _text(models, batch, trains_text=trains_text)
    with span("UNet forward"):
        output_B4HW = models.predict(
            batch.noisy_B4HW.to(dtype), batch.timesteps_B, context_BTW.to(dtype), pooled_BP.to(dtype), batch.sizes_B6
        )
        return loss(output_B4HW, batch.target_B4HW, batch.timesteps_B, batch.masks_B1HW) * batch.weights_B


def _text(models: Models, batch: MicroBatch, *, trains_text: bool) -> tuple[Tensor, Tensor]:
    if batch.context_BTW is not None and batch.pooled_BP is not None:
        return batch.context_BTW, batch.pooled_BP
    with torch.set_grad_enabled(trains_text and torch.is_grad_enabled()):
        return models.text.encode_ids(batch.ids_one_BNT, batch.ids_two_BNT)


def parameter_groups(network: Network, settings: TrainSettings) -> list[dict[str, object]]:
    """Text encoders first, as sd-scripts has them, in one group for each rate. What has a rate of 0 is left out.

    `lr` of a group is that of its component times the factor of the layer or its block and, of an up matrix, that of
    LoRA+. `block_lr` names blocks and layers, and has no patterns any more.
    Raises `bad-input`.
    """
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, rate in _component_rates(settings).items():
        for branch in network.branches.values():
            if branch.target.component not in _COMPONENTS[name]:
                continue
            factor = number_of(branch.target.name, settings.block_lr)
            own = rate if factor is None else rate * factor
            for suffix, parameter in branch.parts.items():
                ratio = settings.loraplus_lr_ratio if suffix in STARTING_AT_ZERO else 1.0
                groups.setdefault((name, own * ratio), []).append(parameter)
    listed = [
        {"name": name, "params": parameters, "lr": rate, "base_lr": rate}
        for (name, rate), parameters in groups.items()
        if rate > 0
    ]
    if not listed:
        raise WorkerError("bad-input", "There is nothing to train: every learning rate is 0.")
    return listed


def _component_rates(settings: TrainSettings) -> dict[str, float]:
    """Of those that are trained."""
    rates = {"text_encoder": settings.text_encoder_lr, "unet": settings.unet_lr}
    return {name: rate for name, rate in rates.items() if rate > 0}


def trained_components(settings: TrainSettings) -> frozenset[str]:
    """Which models get a LoRA: those whose learning rate is not 0."""
    unet = _COMPONENTS["unet"] if settings.unet_lr > 0 else ()
    text = _COMPONENTS["text_encoder"] if settings.text_encoder_lr > 0 else ()
    return frozenset((*unet, *text))
