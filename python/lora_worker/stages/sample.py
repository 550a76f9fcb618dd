"""Pictures of prompts with saved LoRAs, or with the bare checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from lora_worker.adapters import AttachedLora, applied
from lora_worker.devices import torch_device
from lora_worker.folder_checkpoint import parse_base
from lora_worker.fp8 import FP8_BASE, Fp8Base
from lora_worker.job import Job
from lora_worker.kept_models import kept_models
from lora_worker.models import Models
from lora_worker.open_base import BaseFiles
from lora_worker.pictures import save_png
from lora_worker.process import Process, as_said
from lora_worker.protocol import Fields
from lora_worker.sampling import SamplePrompt, Text, cancellable, captions_of, encode, render

# A megabyte each.
_KEPT_TEXTS = 128


@dataclass(frozen=True)
class AppliedLora:
    """`blocks` are weights by the names of blocks; None: all have 1."""

    path: str
    strength: float
    blocks: Mapping[str, float] | None


@dataclass(frozen=True)
class Item:
    name: str
    lora: AppliedLora | None
    prompt: SamplePrompt
    output: str

    @property
    def lora_path(self) -> str | None:
        return self.lora.path if self.lora else None


@dataclass(frozen=True)
class Sample:
    checkpoint: BaseFiles
    process: Process
    dtype: torch.dtype
    fp8_base: Fp8Base
    items: tuple[Item, ...]


def parse(fields: Mapping[str, Any]) -> Sample:
    work = Fields(dict(fields), "work")
    return Sample(
        checkpoint=parse_base(work),
        process=Process.parse(work.raw.get("process"), "work.process"),
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[work.one_of("mixed_precision", ("fp32", "bf16"))],
        fp8_base=work.one_of_or_first("fp8_base", FP8_BASE),
        items=work.records("items", _item),
    )


def _item(fields: Fields) -> Item:
    return Item(
        name=fields.text("name"),
        lora=None if fields.any("lora") is None else _applied_lora(fields.record("lora")),
        prompt=SamplePrompt.parse(fields.record("prompt").raw),
        output=fields.text("output"),
    )


def _applied_lora(fields: Fields) -> AppliedLora:
    blocks = None if fields.any("blocks") is None else fields.record("blocks")
    return AppliedLora(
        path=fields.text("path"),
        strength=fields.number("strength"),
        blocks=None if blocks is None else {name: blocks.number(name) for name in blocks.raw},
    )


def run(work: Sample, job: Job) -> dict[str, str]:
    """Renders in the order of the items. Neighbours with the same LoRA share its loading, whatever its weights."""
    device = torch_device()
    done = 0
    loaded = kept_models(work.checkpoint, device=device, dtype=work.dtype, fp8_base=work.fp8_base)
    with loaded as (kept, vae), cancellable(kept, job):
        models = as_said(kept, work.process)
        texts = _Texts(models)
        for path, items in groupby(work.items, key=lambda item: item.lora_path):
            with nullcontext() if path is None else applied(models, path, strength=0) as lora:
                for item in items:
                    job.check_cancelled()
                    job.progress(done, len(work.items), "pictures", item.prompt.prompt)
                    if lora is not None and item.lora is not None:
                        lora.weigh(item.lora.strength, item.lora.blocks)
                    text = texts.of(item.prompt, path, lora)
                    save_png(render(models, vae, item.prompt, device=device, text=text), item.output)
                    job.artifact(item.name, item.output)
                    done += 1
    job.progress(done, len(work.items), "pictures")
    return {}


class _Texts:
    """Encoded captions. An ablation renders a prompt dozens of times, and seldom touches the text encoders."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._known: dict[tuple[object, ...], Text] = {}

    def of(self, prompt: SamplePrompt, path: str | None, lora: AttachedLora | None) -> Text:
        """With the LoRA as it is weighed now."""
        weights = lora.text_weights() if lora is not None else frozenset()
        key = (captions_of(prompt), weights, path if weights else None)
        if key not in self._known:
            if len(self._known) == _KEPT_TEXTS:
                del self._known[next(iter(self._known))]
            self._known[key] = encode(self._models, prompt)
        return self._known[key]
