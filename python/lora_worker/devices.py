"""What the worker computes on: which device, how many threads, and the surroundings that libraries read at import.

`prepare_environment` has to run before torch is imported for the first time.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

# No library may look anything up on a network, count users, or draw progress bars into the log.
_QUIET_AND_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}

SPINS = 1000
"""How often a waiting CPU thread looks before it goes to sleep. A step of the quickstart on two cores, in seconds:

    spins                        0    500   1000   2000   20000
    nothing else runs           2.2   1.0    0.7    0.6     0.5
    beside one busy process     2.6   1.7    2.7    4.4      15

Without looking at all, waking costs more than the work of small layers; with much of it, threads take the processor
from those they wait for.
"""


@dataclass(frozen=True)
class Device:
    """`kind` is the word that torch knows it by, `name` what a user calls it."""

    kind: Literal["cuda", "mps", "cpu"]
    name: str


def prepare_environment() -> int:
    """Sets what torch and the libraries read when they are imported. Gives the number of CPU threads to use."""
    os.environ.update(_QUIET_AND_OFFLINE)
    threads = thread_count()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["MKL_NUM_THREADS"] = str(threads)
    if not _has_nvidia_driver():
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    return threads


def choose_device() -> Device:
    """CUDA, else Apple's GPU, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.get_device_name(0))
    if torch.backends.mps.is_available():
        return Device("mps", "Apple GPU")
    return Device("cpu", _processor_name())


def torch_device() -> torch.device:
    """The chosen device as torch wants it."""
    import torch

    return torch.device(choose_device().kind)


def thread_count() -> int:
    """`LORAC_THREADS`, else the physical cores that this process may use."""
    wanted = os.environ.get("LORAC_THREADS", "").strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    cores = _physical_cores()
    quota = _cgroup_cpus()
    return max(1, cores if quota is None else min(cores, quota))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch computes on one CPU thread: for work in pieces that are done sooner than threads wake."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _has_nvidia_driver() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if os.name == "nt":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    return Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia/version").exists() or Path("/dev/dxg").exists()


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "CPU"


def _physical_cores() -> int:
    logical = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        usable = os.sched_getaffinity(0)
        siblings = {_siblings(cpu) for cpu in usable}
        return len(siblings)
    if platform.system() == "Darwin":
        asked = subprocess.run(["sysctl", "-n", "hw.physicalcpu"], capture_output=True, text=True, check=False)
        return int(asked.stdout) if asked.stdout.strip().isdecimal() else logical
    return max(1, logical // 2)


def _siblings(cpu: int) -> str:
    """The logical processors of one core, as the kernel lists them; the processor alone where it does not."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cgroup_cpus() -> int | None:
    """How many processors' worth of time a container may use, rounded up; none where there is no such limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else -(-int(quota) // int(period))
