"""The processes that train one LoRA together (`launch = torchrun`). Most often it is one, which is alone.

Each holds all of the network and computes its share of the images of a step. Their gradients are summed once per step,
and then each does the same optimizer step, so all have the same weights though none are ever sent.

Rules:
- Before gradients are summed the processes meet on the host. There each hears whether one of them is cancelled or has
  failed, and all stop in the same step. Whoever stops elsewhere meets the others as well, who are on their way there.
- The host's connections (gloo) tell at once when a process is gone; NCCL would wait for it.
- The first process has the request, and alone speaks, writes and measures. It need not be torch's rank 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from lora_worker.device_memory import is_out_of_memory
from lora_worker.errors import Cancelled, WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.distributed import ProcessGroup

T = TypeVar("T")

CHECK_EVERY = 50
"""Steps between two looks at whether all have the same weights."""

# What a process tells the others when they meet.
_GOES_ON, _CANCELLED, _FAILED = 0, 1, 2

# One may have to wait while the first renders pictures. What is gone is noticed without a limit.
_PATIENCE = timedelta(days=2)

# Weights of unequal devices drift apart by rounding.
_DRIFT = 1e-3


class Elsewhere(WorkerError):
    """Another process has stopped, and says why itself."""

    def __init__(self, message: str) -> None:
        super().__init__("internal", message)


class Ranks:
    """A process that is alone."""

    index = 0
    count = 1
    count_here = 1
    """How many of them are on this machine."""
    hosts: Sequence[str] = ("this machine",)
    """Where each of them is, by index."""
    is_first = True
    _first = 0

    def share(self, count: int) -> range:
        """Which of so many images of a step are this process' own."""
        return range(self.index * count // self.count, (self.index + 1) * count // self.count)

    def summed(self, parameters: Sequence[nn.Parameter], each: Tensor, count: int) -> Tensor:
        """Sums the gradients over all processes. From the losses of one's own images, F32 [own], those of all `count`
        images of the step, in their order. Raises `Cancelled` where one of the processes is cancelled."""
        return each

    def stop(self, error: BaseException) -> None:
        """Tells the others why this one goes no further, unless that is what they told."""

    def meet(self) -> None:
        """Waits for the others. Raises `Cancelled` as `summed` does."""

    def of_first(self, value: T) -> T:
        """What the first process gives here."""
        return value

    def of_all(self, value: T) -> list[T]:
        """What each process gives here, by index."""
        return [value]

    def host_that_differs(self, value: object) -> str | None:
        """The name of a machine whose process gives something else here than the first, the same name in all."""
        told = self.of_all(value)
        return next((host for host, one in zip(self.hosts, told, strict=True) if one != told[self._first]), None)

    def require_same_weights(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        """Raises `internal` where the weights of a process are not those of the first."""


ALONE = Ranks()


class Group(Ranks):
    """Several processes, after `torch.distributed.init_process_group`."""

    def __init__(self, *, leads: bool, device: str, host: str) -> None:
        """`leads` is true in one of them, the first. `device` is what the process computes on, by name."""
        from torch import distributed

        self._distributed = distributed
        self.index, self.count = distributed.get_rank(), distributed.get_world_size()
        self._control: ProcessGroup = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        self._has_parted = False
        told = self._gather((leads, device, host))
        firsts = [index for index, (leading, _, _) in enumerate(told) if leading]
        if len(firsts) != 1:
            raise WorkerError("bad-input", f"{len(firsts)} builds met at the rendezvous, and one is needed.")
        self._first = firsts[0]
        self.is_first = self.index == self._first
        self.hosts = [where for _, _, where in told]
        self.count_here = self.hosts.count(host)
        self._are_alike = len({name for _, name, _ in told}) == 1
        # NCCL takes memory of its own with the first sum: before anybody plans with what is free.
        distributed.all_reduce(torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu"))

    def summed(self, parameters: Sequence[nn.Parameter], each: Tensor, count: int) -> Tensor:
        graded = self._graded(parameters)
        # Who stops from here on leaves the others waiting in the collective. They are ended from outside.
        self._has_parted = True
        losses = each.new_zeros(count)
        own = self.share(count)
        losses[own.start : own.stop] = each
        # One tensor, so that one collective is enough. All gradients are F32, as the parameters are.
        gradients = (torch.zeros_like(one) if one.grad is None else one.grad for one in graded)
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), losses])
        with self._alive():
            self._distributed.all_reduce(flat)
        self._has_parted = False
        *parts, losses = flat.split([*(parameter.numel() for parameter in graded), count])
        for parameter, part in zip(graded, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return losses.clone()

    def stop(self, error: BaseException) -> None:
        if self._has_parted:
            return
        try:
            self._meet(_CANCELLED if isinstance(error, Cancelled) else _FAILED)
        except (Cancelled, Elsewhere):
            # Heard by all. This one says its own error.
            return

    def meet(self) -> None:
        self._meet(_GOES_ON)

    def of_first(self, value: T) -> T:
        self.meet()
        box: list[Any] = [value if self.is_first else None]
        with self._alive():
            self._distributed.broadcast_object_list(box, src=self._first, group=self._control)
        return box[0]

    def of_all(self, value: T) -> list[T]:
        self.meet()
        return self._gather(value)

    def require_same_weights(self, parameters: Sequence[nn.Parameter], step: int) -> None:
        norms = torch.stack(torch._foreach_norm([parameter.detach() for parameter in parameters])).cpu()
        told = self.of_all(norms)
        for index, other in enumerate(told):
            if not self._is_same(other, told[self._first]):
                raise WorkerError(
                    "internal",
                    f"The processes no longer have the same weights after step {step}: those of process {index} on "
                    f"{self.hosts[index]} are others than those of the first.",
                    "One of the devices may compute wrongly. The newest state is kept; with launch = single the "
                    "training goes on from there in one process.",
                )

    def _is_same(self, norms: Tensor, of_first: Tensor) -> bool:
        if self._are_alike:
            return norms.numpy().tobytes() == of_first.numpy().tobytes()
        return torch.allclose(norms, of_first, rtol=_DRIFT, atol=0.0, equal_nan=True)

    def _graded(self, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """Those that have a gradient in any of the processes: one without images has none at all."""
        own = bytes(parameter.grad is not None for parameter in parameters)
        told = self._meet(_GOES_ON, own)
        return [parameter for parameter, *has in zip(parameters, *told, strict=True) if any(has)]

    def _meet(self, status: int, told: bytes = b"") -> list[bytes]:
        """What all have told. Raises `Cancelled` or `Elsewhere`, in all of them, where one does not go on."""
        box = self._gather((status, told))
        worst = max(each for each, _ in box)
        if worst == _GOES_ON:
            return [each for _, each in box]
        self._has_parted = True
        if worst == _CANCELLED and torch.cuda.is_available():
            # A sum that was only ordered needs every process until it is done, and the first goes on to save a state.
            torch.cuda.synchronize()
            with suppress(Elsewhere):
                self._gather(None)
        raise Cancelled if worst == _CANCELLED else Elsewhere("Another process of the training failed.")

    def _gather(self, value: T) -> list[T]:
        box: list[Any] = [None] * self.count
        with self._alive():
            self._distributed.all_gather_object(box, value, group=self._control)
        return box

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._has_parted = True
            raise Elsewhere(f"The connection to another process of the training was lost: {error}") from error
