"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_worker.bench.measure import Counted, Results


def numbers(results: Results) -> dict[str, Any]:
    """Everything that was measured and worked out. Seconds, bytes, operations; shares from 0 to 1."""
    counted = counted_numbers(results.counted)
    training, operations = counted["training"], counted["operations"]
    later = list(results.steps[1:]) or list(results.steps)
    median = statistics.median(later)
    named = sum(results.parts.values())
    return {
        "command": results.command,
        "date": results.date,
        "device": results.device,
        "torch": results.torch,
        "threads": results.threads,
        "load": results.load,
        "training": {**training, "last_loss": results.loss, "warnings": list(results.warnings)},
        "images_per_second": training["batch_size"] * training["gradient_accumulation_steps"] / median,
        "seconds_per_step": {
            "first": results.steps[0],
            "median": median,
            "p10": _quantile(later, 0.1),
            "p90": _quantile(later, 0.9),
        },
        "mfu": operations["per_step"] / median / results.matrix_speed,
        "operations": operations,
        "matrix_product": {"side": results.matrix_side, "operations_per_second": results.matrix_speed},
        "peak_memory": results.peak_memory,
        "parts": {**results.parts, "rest": max(0.0, results.training - named)},
        "optimizer": counted["optimizer"],
        "traced_kernels": results.traced_kernels,
        "latents": {
            "images": results.latents.images,
            "encoded": results.latents.encoded,
            "seconds": results.latents.seconds,
            "per_second": results.latents.encoded / results.latents.seconds,
        },
        "start": {
            "imports": results.start.imports,
            "loading": results.start.loading,
            "first_step": results.start.first_step,
            "total": results.start.total,
        },
        "run": {"measured": results.training, "floor": operations["whole_run"] / results.matrix_speed},
    }


def counted_numbers(counted: Counted) -> dict[str, Any]:
    options, work = counted.options, counted.work
    return {
        "training": {
            "size": options.size,
            "resolution": options.resolution,
            "buckets": options.buckets,
            "dtype": options.dtype,
            "steps": options.steps,
            "batch_size": options.batch_size,
            "gradient_accumulation_steps": options.gradient_accumulation_steps,
            "save_every": options.save_every,
            "sample_every": options.sample_every,
            "sample_steps": options.sample_steps,
            "settings": dict(options.settings),
            "unet_parameters": counted.unet_parameters,
            "lora_parameters": counted.lora_parameters,
            "lora_tensors": counted.lora_tensors,
        },
        "operations": {
            "forward_per_image": work.forward,
            "trained_per_image": work.trained,
            "per_step": work.trained * options.images_per_step,
            "sampling": work.sampling,
            "whole_run": work.in_steps + work.sampling,
        },
        "optimizer": {
            "kernels": counted.launches.kernels,
            "operations": counted.launches.operations,
            "are_counted": counted.launches.are_counted,
            "one_by_one_kernels": counted.launches_one_by_one.kernels,
            "one_by_one_operations": counted.launches_one_by_one.operations,
        },
    }


def write_json(found: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def report(n: dict[str, Any]) -> str:
    """The table of `numbers`, one row for each thing; what matters most comes last."""
    training, seconds, parts = n["training"], n["seconds_per_step"], n["parts"]
    spent = sum(parts.values())
    matrix, start = n["matrix_product"], n["start"]
    rows = [
        ("date", n["date"]),
        ("command", n["command"]),
        ("device", f"{n['device']}, {n['threads']} CPU threads{_load(n['load'])}, torch {n['torch']}"),
        *_counted_rows(n),
        (
            "matrix product",
            f"{_operations(matrix['operations_per_second'])}/s, {matrix['side']}² {training['dtype']}",
        ),
        ("latents", _latents(n["latents"])),
        (
            "start",
            f"{start['total']:.1f} s to the end of the first step: imports {start['imports']:.1f}, loading "
            f"{start['loading']:.1f}, first step {start['first_step']:.1f}",
        ),
        *([("kernels", f"{n['traced_kernels']:,} for a step of one batch")] if n["traced_kernels"] else []),
        ("peak memory", f"{n['peak_memory'] / 2**30:.2f} GiB"),
        ("parts", ", ".join(f"{name} {value / spent:.1%}" for name, value in parts.items())),
        (
            "seconds per step",
            f"median {seconds['median']:.3f} (p10 {seconds['p10']:.3f}, p90 {seconds['p90']:.3f}), first "
            f"{seconds['first']:.3f}",
        ),
        ("images per second", f"{n['images_per_second']:.2f}"),
        ("MFU", f"{n['mfu']:.1%}"),
        ("run", f"{n['run']['measured']:.1f} s, floor {n['run']['floor']:.1f} s"),
    ]
    if training["size"] != "full":
        rows.append(("note", "a toy: this shows that training works here, and nothing of SDXL's speed"))
    rows += [("warning", warning) for warning in training["warnings"]]
    return _table(rows)


def report_counted(n: dict[str, Any]) -> str:
    """The table of `counted_numbers`."""
    return _table(_counted_rows(n))


def _counted_rows(n: dict[str, Any]) -> list[tuple[str, str]]:
    training, operations, optimizer = n["training"], n["operations"], n["optimizer"]
    kernels = "kernels" if optimizer["are_counted"] else "kernels (worked out)"
    return [
        (
            "trained",
            f"{_size(training['size'])}: UNet of {training['unet_parameters'] / 1e6:,.1f} M parameters; LoRA of "
            f"{training['lora_parameters'] / 1e6:,.1f} M in {training['lora_tensors']:,} tensors",
        ),
        ("", _what(training)),
        (
            "arithmetic",
            f"{_operations(operations['forward_per_image'])} forward, "
            f"{_operations(operations['trained_per_image'])} for each trained image, "
            f"{_operations(operations['whole_run'])} in all, {_operations(operations['sampling'])} of it for pictures",
        ),
        (
            "optimizer",
            f"{optimizer['kernels']:,} {kernels} of {optimizer['operations']:,} operations a step; one parameter after "
            f"the other {optimizer['one_by_one_kernels']:,}",
        ),
    ]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<19}{value}".rstrip() for name, value in rows)


def _load(load: float | None) -> str:
    return "" if load is None else f" beside a load of {load:.1f}"


def _size(size: str) -> str:
    return "SDXL" if size == "full" else f'toy "{size}"'


def _what(training: dict[str, Any]) -> str:
    side = training["resolution"]
    shapes = "squares" if training["buckets"] == 1 else f"{training['buckets']} shapes"
    saved = f"saving every {training['save_every']}" if training["save_every"] else "saving at the end"
    pictures = (
        f"2 pictures of {training['sample_steps']} passes every {training['sample_every']}"
        if training["sample_every"]
        else "no pictures"
    )
    changed = "".join(f", {name} = {json.dumps(value)}" for name, value in training["settings"].items())
    return (
        f"{training['steps']} steps of {training['gradient_accumulation_steps']} x {training['batch_size']} images of "
        f"{side}², {shapes}, {training['dtype']}, {saved}, {pictures}{changed}"
    )


def _latents(latents: dict[str, Any]) -> str:
    return (
        f"{latents['images']} images and their mirrored ones in {latents['seconds']:.1f} s, "
        f"{latents['per_second']:.1f} a second"
    )


def _operations(number: float) -> str:
    for unit, name in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if number >= unit:
            return f"{number / unit:.2f} {name}FLOP"
    return f"{number / 1e6:.2f} MFLOP" if number else "none"


def _quantile(values: Sequence[float], part: float) -> float:
    """Between its neighbours in proportion, as numpy has it."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
