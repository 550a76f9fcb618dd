"""A GPU that there is not: tensors that say they are on `cuda`, computed by the CPU.

It is for what only a GPU does, wherever the tests run:

    place      what meets a tensor of the CPU raises, as on a GPU
    memory     what tensors take is counted, there is only so much of it, and the rest raises `OutOfMemoryError`
    time       copies that nobody waits for arrive when somebody does; before that, there is rubbish in their place
    waits      whatever makes the host wait for the device is counted

Kernels are the CPU's, so results are the CPU's but for rounding: torch takes other ways to the same, as for attention.
Of speed it knows nothing. To torch the tensors belong to a backend of ours, which it lets Python write; to whoever asks
them, to `cuda`. That backend has to be there before the first backward pass of a process: whoever imports this has it.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend


class _Backend:
    """What torch asks of a backend that it knows by its name is what it would ask of CUDA."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cuda, name)

    def synchronize(self, device: torch.device | None = None) -> None:
        """The profiler waits for every backend that there is, also while no GPU is pretended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize(device)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend("pretended", backend_module=_Backend())

_SAID = torch.device("cuda", 0)
_REGISTERED = torch.device("pretended", 0)
_CPU = torch.device("cpu")
_FAKE = torch._C._TorchDispatchModeKey.FAKE

_aten = torch.ops.aten
_LOOKS = (_aten._local_scalar_dense, _aten.equal, _aten.nonzero, _aten.masked_select, _aten.is_nonzero)
"""Operations whose result, or its size, the host has to see."""
_MAY_MIX = (_aten.copy_, _aten._foreach_copy_, _aten.index, _aten.index_put_, _aten.set_)
"""Operations that take tensors from both sides."""


class GpuTensor(torch.Tensor):
    """`inner` has its numbers, on the CPU."""

    inner: Tensor
    _charge: _Charge

    @staticmethod
    def __new__(cls, inner: Tensor, charge: _Charge) -> GpuTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_REGISTERED,
        )
        made.inner = inner
        # As long as torch keeps the tensor, so that its memory is counted while it has some.
        made._charge = charge
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        fake = torch._C._get_dispatch_mode(_FAKE)
        if fake is None:
            return _the_gpu().run(operation, args, kwargs or {})
        with fake:
            return operation(*tree_map_only(cls, _weightless, args), **tree_map_only(cls, _weightless, kwargs or {}))

    @property
    def device(self) -> torch.device:
        return _SAID

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def data(self) -> Tensor:
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, other: GpuTensor) -> None:
        self.inner, self._charge = other.inner, other._charge

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Told of this, modules that move to the device keep the parameters that they have."""
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: object) -> GpuTensor:
        return _the_gpu().tensor(inner["inner"])

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def untyped_storage(self) -> _GpuStorage:
        return _GpuStorage(self.inner.untyped_storage(), self._charge)

    def __repr__(self, **_: object) -> str:
        return f"GpuTensor({tuple(self.shape)}, {self.dtype})"


def _weightless(tensor: GpuTensor) -> Tensor:
    """Among tensors without memory: as that mode makes one of any other."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=_REGISTERED)


class _Charge:
    """The bytes of one storage, as long as anybody has it."""

    def __init__(self, memory: _Memory, size: int) -> None:
        memory.take(size)
        self.memory, self.size = memory, size

    def resize(self, size: int) -> None:
        self.memory.give_back(self.size)
        self.size = 0
        self.memory.take(size)
        self.size = size

    def __del__(self) -> None:
        if hasattr(self, "size"):
            self.memory.give_back(self.size)


@dataclass
class _GpuStorage:
    inner: torch.UntypedStorage
    charge: _Charge

    @property
    def _cdata(self) -> int:
        return self.inner._cdata

    def nbytes(self) -> int:
        return self.inner.nbytes()

    def size(self) -> int:
        return self.inner.nbytes()

    def resize_(self, size: int) -> None:
        self.charge.resize(size)
        self.inner.resize_(size)


@dataclass
class _Memory:
    """In bytes. As torch's allocator, it keeps what was given back until it is told to let go."""

    total: int
    taken_by_others: int = 0
    limit: int = 0
    allocated: int = 0
    reserved: int = 0
    peak: int = 0
    refused: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def take(self, size: int) -> None:
        with self._lock:
            after = self.allocated + size
            if after > min(self.limit, self.total - self.taken_by_others):
                self.refused += 1
                _fail(torch.OutOfMemoryError(f"pretended: {after} of {self.total} bytes"))
            self.allocated = after
            self.reserved = max(self.reserved, after)
            self.peak = max(self.peak, after)

    def give_back(self, size: int) -> None:
        with self._lock:
            self.allocated -= size

    @property
    def free(self) -> int:
        return max(0, self.total - self.taken_by_others - self.reserved)


@dataclass(eq=False)
class _Copy:
    """On its way: `value` is what was there when it was ordered, `into` what it will be in."""

    into: Tensor
    value: Tensor
    is_there: bool = False

    def arrive(self) -> None:
        if not self.is_there:
            self.is_there = True
            self.into.copy_(self.value)


class Stream:
    """Does what it is told in order. What is on its way in it has not arrived."""

    def __init__(self, device: object = None, priority: int = 0) -> None:
        self.copies: list[_Copy] = []

    def wait_stream(self, other: Stream) -> None:
        _the_gpu().arrive(other.copies)

    def wait_event(self, event: Event) -> None:
        _the_gpu().arrive(event.copies)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        _the_gpu().wait("stream.synchronize", self.copies)


class Event:
    """A place in a stream."""

    def __init__(self, enable_timing: bool = False, **_: object) -> None:
        self.copies: list[_Copy] = []
        self._time = 0.0

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or _the_gpu().stream
        stream.copies = [copy for copy in stream.copies if not copy.is_there]
        self.copies = [*stream.copies]
        self._time = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        _the_gpu().arrive(self.copies)

    def synchronize(self) -> None:
        _the_gpu().wait("event.synchronize", self.copies)

    def query(self) -> bool:
        return all(copy.is_there for copy in self.copies)

    def elapsed_time(self, end: Event) -> float:
        return (end._time - self._time) * 1e3


class PretendedGpu:
    """What a test reads of it, and what it does to it."""

    def __init__(self, total: int) -> None:
        self.memory = _Memory(total, limit=total)
        self.waits: list[str] = []
        """What the host's main thread waited for, in order."""
        self.pinnable = 2**34
        """Bytes of the host's memory that may be pinned."""
        self._lock = threading.RLock()
        self.main = self.stream = Stream()
        self._charges: weakref.WeakValueDictionary[int, _Charge] = weakref.WeakValueDictionary()
        self._pinned: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()

    # What torch's operations do

    def run(self, operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        asked = kwargs.get("device")
        tensors = _tensors(args, kwargs)
        here = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
        # On the thread of backward passes nobody hears what is said to torch, and so it says `cuda` itself.
        is_asked_here = asked is not None and asked.type in (_REGISTERED.type, _SAID.type)
        if not (here or is_asked_here):
            if kwargs.get("pin_memory"):
                return self.pin(operation(*args, **{**kwargs, "pin_memory": False}))
            return operation(*args, **kwargs)
        packet = operation._overloadpacket
        if packet is _aten.copy_:
            return self._copy(args[0], args[1], bool(kwargs.get("non_blocking", len(args) > 2 and args[2])))
        if packet is _aten._to_copy and asked is not None and asked.type == "cpu":
            return self._to_host(args[0], kwargs)
        if packet not in _MAY_MIX and asked is None and len(here) < len(tensors):
            _require_same_place(packet, tensors)
        if packet in _LOOKS or (packet is _aten.index and _has_bools(args)):
            self.wait(packet.__name__)
        inner_kwargs = {name: _inner(value) for name, value in kwargs.items() if name != "pin_memory"}
        if is_asked_here:
            self._settle(args)
            inner_kwargs["device"] = _CPU
        result = operation(*map(_inner, args), **inner_kwargs)
        written = _written(operation)
        if written is None:
            return self._outer(result)
        place, name = written
        return args[place] if place < len(args) else kwargs[name]

    def _outer(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.tensor(value)
        return type(value)(map(self._outer, value)) if isinstance(value, (list, tuple)) else value

    def tensor(self, inner: Tensor) -> GpuTensor:
        storage = inner.untyped_storage()
        charge = self._charges.get(storage._cdata)
        if charge is None:
            charge = self._charges[storage._cdata] = _Charge(self.memory, storage.nbytes())
        return GpuTensor(inner, charge)

    # Copies

    def _copy(self, into: Tensor, source: Tensor, non_blocking: bool) -> Tensor:
        to_host, from_host = not isinstance(into, GpuTensor), not isinstance(source, GpuTensor)
        inner_into = into if to_host else into.inner
        inner_source = source if from_host else source.inner
        if not (to_host or from_host):
            inner_into.copy_(inner_source)
            return into
        host = inner_into if to_host else inner_source
        if from_host:
            self._settle([host])
        if not (non_blocking and self.is_pinned(host)):
            self.wait("copy")
            inner_into.copy_(inner_source)
            return into
        if from_host and self.stream is self.main:
            inner_into.copy_(inner_source)
            return into
        self._send(inner_into, torch.empty_like(inner_into).copy_(inner_source))
        return into

    def _to_host(self, tensor: GpuTensor, kwargs: dict[str, Any]) -> Tensor:
        changes = {
            name: value for name, value in kwargs.items() if name not in ("device", "non_blocking", "pin_memory")
        }
        value = _aten._to_copy(tensor.inner, **changes)
        if not kwargs.get("non_blocking"):
            self.wait("copy")
            return value
        into = self.pin(torch.empty_like(value))
        self._send(into, value)
        return into

    def _send(self, into: Tensor, value: Tensor) -> None:
        with self._lock:
            into.fill_(_rubbish(into.dtype))
            self.stream.copies.append(_Copy(into, value))

    def _settle(self, sources: Sequence[Any]) -> None:
        """Copies are made in the order of the stream: whatever comes from the host has what was sent there before."""
        hosts = [source for source in sources if isinstance(source, Tensor) and not isinstance(source, GpuTensor)]
        if self.stream.copies and hosts:
            self.arrive([copy for copy in self.stream.copies if any(_share(copy.into, host) for host in hosts)])

    def pin(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if sum(pinned.nbytes() for pinned in [*self._pinned.values()]) + storage.nbytes() > self.pinnable:
            raise RuntimeError("pretended: no more memory of the host is pinned")
        self._pinned[storage._cdata] = storage
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._pinned

    def wait(self, what: str, copies: Sequence[_Copy] | None = None) -> None:
        """The host waits: for these copies, or for all that was ordered in the stream."""
        with self._lock:
            copies = self.stream.copies if copies is None else copies
            self.arrive(copies)
        # Other threads may wait: those that write, for what they write.
        if threading.current_thread() is threading.main_thread():
            self.waits.append(what)

    def arrive(self, copies: Sequence[_Copy]) -> None:
        with self._lock:
            for copy in copies:
                copy.arrive()

    @contextmanager
    def using(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before


def _inner(value: Any) -> Any:
    if isinstance(value, GpuTensor):
        return value.inner
    return [_inner(each) for each in value] if isinstance(value, (list, tuple)) else value


def _tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [each for each in value if isinstance(each, Tensor)]
    return found


_failures: list[Exception] = []
_run_backward = torch.autograd.graph._engine_run_backward


def _fail(error: Exception) -> None:
    """Torch passes its backward passes to a thread of its own, which could not bear an error with such a backend. There
    it is kept until the pass is over, which raises it."""
    if isinstance(threading.current_thread(), threading._DummyThread):
        _failures.append(error)
        return
    try:
        raise error
    finally:
        # Or else the error would keep this frame and this frame the error, and with it all tensors that it passes.
        del error


def _backward(*args: Any, **kwargs: Any) -> Any:
    _failures.clear()
    result = _run_backward(*args, **kwargs)
    if _failures:
        raise _failures[0]
    return result


@cache
def _written(operation: Any) -> tuple[int, str] | None:
    """The place and the name of the argument that an operation changes and returns."""
    returned = [value.alias_info for value in operation._schema.returns]
    if len(returned) != 1 or returned[0] is None or not returned[0].is_write:
        return None
    return next(
        (place, argument.name)
        for place, argument in enumerate(operation._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def _require_same_place(packet: Any, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        # A number in a tensor of the CPU may come along.
        if not isinstance(tensor, GpuTensor) and tensor.dim() > 0:
            _fail(RuntimeError(f"{packet.__name__}: a tensor {tuple(tensor.shape)} of the CPU meets one of the GPU"))


class _Dispatch(TorchDispatchMode):
    """Hears of what makes tensors from nothing, and of what has none of ours."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled, and being ready for it is slow.
        return False

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch._C._get_dispatch_mode(_FAKE) is not None:
            # Tensors without memory are for that mode, which comes after this one.
            return operation(*args, **(kwargs or {}))
        return _the_gpu().run(operation, args, kwargs or {})


class _Devices(TorchFunctionMode):
    """Whoever says `cuda` to torch means our backend."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.device:
            return function(*args, **(kwargs or {}))
        kwargs = {name: _meant(value) for name, value in (kwargs or {}).items()}
        if function is torch.tensor and kwargs.get("device") == _REGISTERED:
            return function(*args, **{**kwargs, "device": _CPU}).to(_REGISTERED)
        return function(*map(_meant, args), **kwargs)


def _meant(value: Any) -> Any:
    if isinstance(value, torch.device):
        return _REGISTERED if value.type == "cuda" else value
    return _REGISTERED if isinstance(value, str) and value.split(":")[0] == "cuda" else value


_gpu: PretendedGpu | None = None


def _the_gpu() -> PretendedGpu:
    assert _gpu is not None, "a tensor of a pretended GPU outlived it"
    return _gpu


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch, total: int = 2**34) -> Iterator[PretendedGpu]:
    """Within the block torch has a GPU with so many bytes of memory, in this thread and in what it starts."""
    global _gpu
    made = _gpu = PretendedGpu(total)
    memory = made.memory
    with monkeypatch.context() as patch:

        def set_fraction(fraction: float, device: object = None) -> None:
            memory.limit = int(fraction * total)

        def reset_peak(device: object = None) -> None:
            memory.peak = memory.allocated

        def empty_cache() -> None:
            memory.reserved = memory.allocated

        for name, value in {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda device=None: "Pretended GPU",
            "get_rng_state": lambda device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
            "mem_get_info": lambda device=None: (memory.free, total),
            "memory_allocated": lambda device=None: memory.allocated,
            "memory_reserved": lambda device=None: memory.reserved,
            "max_memory_allocated": lambda device=None: memory.peak,
            "reset_peak_memory_stats": reset_peak,
            "empty_cache": empty_cache,
            "set_per_process_memory_fraction": set_fraction,
            "synchronize": lambda device=None: made.wait("synchronize"),
            "current_stream": lambda device=None: made.stream,
            "stream": made.using,
            "device": lambda device=None: nullcontext(),
            "Stream": Stream,
            "Event": Event,
        }.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch.autograd, "_engine_run_backward", _backward)
        # Wherever it is called, also on threads that hear of no operation.
        patch.setattr(Tensor, "pin_memory", lambda tensor, device=None: made.pin(tensor.clone()))
        # What is drawn on the device is drawn by the CPU.
        patch.setattr(torch, "Generator", _Generator)
        try:
            with _Dispatch(), _Devices():
                yield made
        finally:
            gc.collect()
            _gpu = None


_CpuGenerator = torch.Generator


class _Generator:
    def __new__(cls, device: object = None) -> torch.Generator:
        return _CpuGenerator("cpu")


def _rubbish(dtype: torch.dtype) -> float | int:
    if dtype.is_floating_point:
        return float("nan")
    return 1 if dtype == torch.bool else torch.iinfo(dtype).max


def _share(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def _has_bools(args: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
