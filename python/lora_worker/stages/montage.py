"""The pictures that a training's steps make of its prompts, as one sheet and as a film."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_worker.job import Job
from lora_worker.montage import Montage, Shown, save_animation, save_montage
from lora_worker.protocol import Fields, ProtocolError


@dataclass(frozen=True)
class Work:
    content: Montage
    output: str
    animation: str


def parse(fields: Mapping[str, Any]) -> Work:
    work = Fields(dict(fields), "work")
    content = Montage(labels=work.text_list("labels"), pictures=work.records("pictures", _shown))
    if not content.pictures:
        raise ProtocolError('"work.pictures" must have a picture')
    if not all(0 <= shown.row < len(content.labels) for shown in content.pictures):
        raise ProtocolError('"work.pictures" has a picture without a label')
    return Work(content, work.text("output"), work.text("animation"))


def run(work: Work, job: Job) -> dict[str, str]:
    save_montage(work.content, work.output, job)
    save_animation(work.content, work.animation, job)
    return {"montage": work.output, "animation": work.animation}


def _shown(fields: Fields) -> Shown:
    return Shown(step=fields.whole("step"), row=fields.whole("row"), picture=fields.text("picture"))
