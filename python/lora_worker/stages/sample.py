"""Pictures of prompts with saved LoRAs, or with the bare checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from PIL import Image

from lora_worker.devices import torch_device
from lora_worker.job import Job
from lora_worker.locon import applied
from lora_worker.models import Models, load_models, load_vae
from lora_worker.sampling import SamplePrompt, render
from lora_worker.whole_file import whole_file


@dataclass(frozen=True)
class Item:
    name: str
    lora: str | None
    prompt: SamplePrompt
    output: str


@dataclass(frozen=True)
class Sample:
    checkpoint: str
    dtype: torch.dtype
    items: tuple[Item, ...]


def parse(fields: dict[str, Any]) -> Sample:
    return Sample(
        checkpoint=fields["checkpoint"],
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[fields["mixed_precision"]],
        items=tuple(
            Item(
                name=item["name"],
                lora=item["lora"],
                prompt=SamplePrompt.parse(item["prompt"]),
                output=item["output"],
            )
            for item in fields["items"]
        ),
    )


def run(work: Sample, job: Job) -> dict[str, str]:
    """Renders in the order of the items. Neighbours with the same LoRA share its loading."""
    device = torch_device()
    models = load_models(work.checkpoint, device=device, dtype=work.dtype)
    vae = load_vae(work.checkpoint, device=device, dtype=torch.float32)
    done = 0
    for lora, items in groupby(work.items, key=lambda item: item.lora):
        with _lora(models, lora):
            for item in items:
                job.check_cancelled()
                job.progress(done, len(work.items), "pictures", item.prompt.prompt)
                save_png(render(models, vae, item.prompt, device=device), item.output)
                job.artifact(item.name, item.output)
                done += 1
    job.progress(done, len(work.items), "pictures")
    return {}


def _lora(models: Models, path: str | None) -> AbstractContextManager[object]:
    return nullcontext() if path is None else applied(models, path)


def save_png(image: Image.Image, path: str) -> None:
    """The bytes follow from the pixels alone."""
    with whole_file(path) as file:
        image.save(file, format="PNG", compress_level=6)
