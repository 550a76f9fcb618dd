"""The whole measurement: images to latents, latents to a LoRA, each by the stage that does it in every build.

The parts of the steps are timed in the run itself, by events in a GPU's stream or by the clock: that costs microseconds
and makes nothing wait. What would disturb comes afterwards: the matrix product, the counting, the trace.
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lora_worker.bench.arithmetic import Work, matrix_product, meta_network, work_of
from lora_worker.bench.job import TimedJob
from lora_worker.bench.launches import Launches, count_launches, launches_of, one_by_one
from lora_worker.bench.options import DTYPES, Options
from lora_worker.bench.recipe import Drawn, buckets_of, draw_images, request
from lora_worker.devices import torch_device
from lora_worker.images import Reading
from lora_worker.network import Network
from lora_worker.optimizers import build_optimizer
from lora_worker.random_base import SDXL, RandomBase
from lora_worker.spans import recorded
from lora_worker.stages import encode_latents, train
from lora_worker.toy.checkpoint import SIZES
from lora_worker.train_request import Train
from lora_worker.training import parameter_groups


@dataclass(frozen=True)
class Latents:
    """`encoded` counts mirrored images too. Neither drawing the images nor loading the VAE is in the seconds."""

    images: int
    encoded: int
    seconds: float


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the program to the end of its first step, without what only the bench does."""

    imports: float
    loading: float
    first_step: float

    @property
    def total(self) -> float:
        return self.imports + self.loading + self.first_step


@dataclass(frozen=True)
class Counted:
    """What can be said of a training without doing it."""

    options: Options
    unet_parameters: int
    lora_parameters: int
    lora_tensors: int
    work: Work
    launches: Launches
    launches_one_by_one: Launches


@dataclass(frozen=True)
class Results:
    """Seconds, bytes, and operations per second. `parts` are of all steps and what they make, by name."""

    command: str
    date: str
    device: str
    torch: str
    threads: int
    counted: Counted
    start: Start
    latents: Latents
    steps: Sequence[float]
    training: float
    """From the first step's beginning to the end of the last, with all that is saved and rendered."""
    parts: dict[str, float]
    matrix_side: int
    matrix_speed: float
    peak_memory: int
    traced_kernels: int | None
    """Those that a GPU was asked to run for a step of one batch, where that was traced."""
    loss: float
    load: float | None
    """What other programs asked of the processor when the bench began: processes that were ready to run."""
    warnings: Sequence[str]


def measure(options: Options, device_name: str, started: float) -> Results:
    """`started` is when the program began, by `time.perf_counter`."""
    imports = time.perf_counter() - started
    folder = options.work or Path(tempfile.mkdtemp(prefix="lorac-bench-"))
    try:
        return _measure(options, device_name, imports, folder)
    finally:
        if options.work is None:
            shutil.rmtree(folder, ignore_errors=True)


def _measure(options: Options, device_name: str, imports: float, folder: Path) -> Results:
    device = torch_device()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    base = _base(options, device)
    images = draw_images(options, folder / "images")
    asked = request(options, base, images, folder / "work")
    latents = _encode(base, images)
    job, ended, parts, peak = _train(asked, device)
    assert job.ready_at is not None and job.first_step_at is not None and job.loss is not None
    _say("counting the arithmetic")
    counted = _counted(options, asked, base, device)
    traced = None if options.trace is None else _trace(asked, folder, options.trace)
    _say("multiplying matrices")
    side, speed = matrix_product(device, getattr(torch, DTYPES[options.dtype]))
    return Results(
        command=" ".join(["python -m lora_worker.bench", *sys.argv[1:]]),
        date=datetime.date.today().isoformat(),
        device=device_name,
        torch=f"{torch.__version__}, Python {platform.python_version()}",
        threads=torch.get_num_threads(),
        counted=counted,
        start=Start(imports, job.ready_at - job.started, job.first_step_at - job.ready_at),
        latents=latents,
        steps=job.steps,
        training=ended - job.ready_at,
        parts=parts,
        matrix_side=side,
        matrix_speed=speed,
        peak_memory=peak,
        traced_kernels=traced,
        loss=job.loss,
        load=load,
        warnings=job.warnings,
    )


def count(options: Options) -> Counted:
    """Takes seconds and hardly any memory, on any device and for any size."""
    device = torch_device()
    base = _base(options, device)
    images = [Drawn(f"{index}.jpg", "", bucket) for index, bucket in enumerate(buckets_of(options))]
    return _counted(options, request(options, base, images, Path()), base, device)


def _counted(options: Options, asked: Train, base: RandomBase, device: torch.device) -> Counted:
    models, network = meta_network(asked, base)
    ours, naive = _launches(asked, network, device)
    return Counted(
        options=options,
        unet_parameters=sum(parameter.numel() for parameter in models.unet.parameters()),
        lora_parameters=sum(parameter.numel() for _, parameter in network.named_parameters()),
        lora_tensors=len(list(network.named_parameters())),
        work=work_of(asked, base, models, network),
        launches=ours,
        launches_one_by_one=naive,
    )


def _base(options: Options, device: torch.device) -> RandomBase:
    architecture = SDXL if options.size == "full" else SIZES[options.size]
    return RandomBase(f"SDXL with random weights ({options.size})", architecture, str(device))


def _encode(base: RandomBase, images: Sequence[Drawn]) -> Latents:
    """Both of each image, as with `flip_aug`."""
    items = [
        encode_latents.Item(
            name=image.digest,
            image=image.path,
            mask=None,
            framing=image.framing(flip=flip),
            output=image.latents(flip=flip),
        )
        for image in images
        for flip in (False, True)
    ]
    reading = Reading()
    job = TimedJob()
    encode_latents.run(encode_latents.EncodeLatents(base, torch.float32, reading, tuple(items)), job)
    assert job.ready_at is not None
    return Latents(len(images), len(items), time.perf_counter() - job.ready_at)


def _train(asked: Train, device: torch.device) -> tuple[TimedJob, float, dict[str, float], int]:
    """The job, when the training ended, its parts, and the most memory that it needed."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    job = TimedJob()
    with recorded(device) as recorder:
        train.run(asked, job)
        parts = recorder.seconds()
        ended = time.perf_counter()
    return job, ended, parts, _peak_memory(device)


def _launches(asked: Train, network: Network, device: torch.device) -> tuple[Launches, Launches]:
    """Of the optimizer on the shapes of the network: with numbers on a GPU, which counts for itself, else without."""
    place = device if device.type == "cuda" else torch.device("meta")
    groups = parameter_groups(network, asked.settings)
    for group in groups:
        listed = group["params"]
        assert isinstance(listed, list)
        group["params"] = [_with_gradient(torch.empty(each.shape, device=place)) for each in listed]
    optimizer = build_optimizer(asked.settings.optimizer, groups, asked.settings.unet_lr)
    ours = count_launches(optimizer.step, place)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    del optimizer
    memory: dict[torch.Tensor, tuple[torch.Tensor, torch.Tensor]] = {}
    return ours, count_launches(lambda: one_by_one(parameters, memory, 1), place)


def _with_gradient(values: torch.Tensor) -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(values)
    parameter.grad = torch.zeros_like(values)
    return parameter


def _trace(asked: Train, folder: Path, path: Path) -> int | None:
    """Two steps of one batch each, as Perfetto shows them, and the kernels of one on a GPU."""
    _say("tracing two steps")
    two = replace(
        asked,
        until=min(2, asked.until),
        work=folder / "traced",
        save_steps=frozenset(),
        sample_steps=frozenset(),
        settings=replace(asked.settings, gradient_accumulation_steps=1),
    )
    with torch.profiler.profile() as profiler, recorded(torch_device()):
        train.run(two, TimedJob())
    profiler.export_chrome_trace(str(path))
    return launches_of(profiler) // two.until if torch_device().type == "cuda" else None


def _peak_memory(device: torch.device) -> int:
    """Of the device; of the whole process on a CPU, where the system tells (else 0)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
