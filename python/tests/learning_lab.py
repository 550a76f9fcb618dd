"""Asks of a training whether it works: on the base that draws, with pictures of a character that it has never seen.

What is measured is the file that a training leaves, on pictures, noise and timesteps that are always the same: single
losses of a training differ by a factor of several, and a base with random weights has nothing to learn or to lose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
import torch
from network_samples import KINDS
from scenes import draw_scene
from training_lab import TrainingLab, digest, share_models

from lora_worker.adapters import applied
from lora_worker.images import to_tensor
from lora_worker.loss import ElementLoss, ImageLoss, LossWeights
from lora_worker.models import load_models, load_vae
from lora_worker.safetensors_file import write_safetensors
from lora_worker.toy.pictures import Picture, draw
from lora_worker.train_request import HeldOut, parse_train
from lora_worker.training import image_losses
from lora_worker.validation import HeldOutVisits

FOLDER = Path(__file__).parents[2] / "examples" / "toy-sdxl"
BASE = FOLDER / "toy-sdxl.safetensors"

SIZE = (128, 128)
TIMESTEPS = (200, 500, 800)
SHORT: dict[str, Any] = {
    "steps": 5,
    "batch_size": 2,
    "network": KINDS["locon"],
    "unet_lr": 1e-3,
    "text_encoder_lr": 1e-3,
    "lr_scheduler": {"kind": "constant"},
}
"""A training of which the base notices much, in less than a second of one core."""


@dataclass(frozen=True)
class Learned:
    """Errors with a LoRA, where those of the base by itself are 1."""

    new: float
    """On pictures of the character, none of which was learned from."""
    known: float
    """On pictures of what the base was trained on."""

    @property
    def is_learned(self) -> bool:
        """The character is, and nothing else is lost: pictures show it (`test_learning.py`)."""
        return self.new < 0.85 and self.known < 1.5


class DrawingBase:
    """The base and what there is to learn, to ask for and to keep: pictures as images of a request.

    Loaded once for all tests of a process. `folder` is where latents go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = load_models(BASE, device="cpu", dtype=torch.float32)
        self.vae = load_vae(BASE, device="cpu", dtype=torch.float32)
        self.lessons = self._encoded("lesson", [draw(index, SIZE) for index in range(8)])
        self.new = self._encoded("new", [draw(index, SIZE) for index in (100, 101)])
        self.known = self._encoded("known", [draw_scene(Random(seed), SIZE) for seed in (1000, 1001)])
        self._errors_without = cache(lambda *how: self._errors(None, *how))

    def learned(
        self,
        lora: str,
        *,
        prediction: Literal["epsilon", "v"] = "epsilon",
        zero_terminal_snr: bool = False,
    ) -> Learned:
        how = (prediction, zero_terminal_snr)
        found, without = self._errors(lora, *how), self._errors_without(*how)
        return Learned(*(with_it / before for with_it, before in zip(found, without, strict=True)))

    @torch.no_grad()
    def _errors(
        self, lora: str | None, prediction: Literal["epsilon", "v"], zero_terminal_snr: bool
    ) -> tuple[float, float]:
        """The mean squared errors on new pictures and on known ones."""
        how: dict[str, Any] = {"prediction": prediction, "zero_terminal_snr": zero_terminal_snr}
        work = parse_train(TrainingLab(self.folder, BASE, [*self.new, *self.known]).request(batch_size=4))
        visits = HeldOutVisits(work, HeldOut(work.images, TIMESTEPS, ()), **how)
        loss = ImageLoss(ElementLoss(), LossWeights(), **how, device=self.models.device)
        new = {image["digest"] for image in self.new}
        errors: dict[bool, list[float]] = {True: [], False: []}
        with nullcontext() if lora is None else applied(self.models, lora):
            for batch in visits.all():
                each = image_losses(self.models, batch, loss, dtype=torch.float32, trains_text=False)
                for image, error in zip(batch.images, each.tolist(), strict=True):
                    errors[image.digest in new].append(error)
        return torch.tensor(errors[True]).mean().item(), torch.tensor(errors[False]).mean().item()

    @torch.no_grad()
    def _encoded(self, name: str, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        """As images of a request. Mirrored latents have no caption that fits: "looking left" would be wrong."""
        images = []
        for index, picture in enumerate(pictures):
            latents = self.vae.encode(to_tensor(picture.image).unsqueeze(0)).latent_dist
            path = self.folder / f"{name}-{index}.safetensors"
            write_safetensors(path, {part: getattr(latents, part)[0].contiguous() for part in ("mean", "logvar")})
            images.append(
                {
                    "digest": hashlib.sha256(path.name.encode()).hexdigest(),
                    "index": 0,
                    "latents": str(path),
                    "latents_flipped": None,
                    "caption": picture.caption,
                    "original": list(SIZE),
                    "resized": list(SIZE),
                    "crop": [0, 0],
                    "bucket": list(SIZE),
                    "repeats": 1,
                    "regularization": False,
                }
            )
        return images


class LearningLab(TrainingLab):
    """Short trainings on the base that draws."""

    def __init__(self, folder: Path, base: DrawingBase, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, BASE, base.lessons)
        self.base = base
        share_models(monkeypatch, base.models)

    def trained(self, work: str = "work", *, init: str | None = None, **changes: Any) -> str:
        """The LoRA of a short training with these changes, which begins as the one that `init` names."""
        request = self.request(work, **{**SHORT, **changes})
        if init is not None:
            request["init"] = {"lora": init, "digest": digest(init)}
        return self.life(request)["lora"]

    def learned(self, **changes: Any) -> Learned:
        return self.base.learned(self.trained(**changes))
