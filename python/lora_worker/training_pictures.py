"""Pictures of prompts while a training goes on, with the weights that a saved LoRA of that step has."""

from __future__ import annotations

import json
import shutil
from functools import cached_property
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from lora_worker.errors import WorkerError
from lora_worker.job import Job
from lora_worker.models import Models, load_vae
from lora_worker.network import Network
from lora_worker.pictures import save_png
from lora_worker.sampling import SamplePrompt, cancellable, render
from lora_worker.train_request import Train
from lora_worker.whole_file import write_json


class TrainingPictures:
    """Owns `samples/` in the work folder. A picture that is there already is not rendered again."""

    def __init__(self, work: Train, job: Job, models: Models, network: Network) -> None:
        self._work = work
        self._job = job
        self._models = models
        self._network = network
        self._folder = work.work / "samples"
        if work.sample_steps and work.prompts:
            self._forget_other_prompts()

    def render(self, step: int, dtype: torch.dtype) -> None:
        """The pictures of a step, with the weights rounded to `dtype` as its file has them. Can be cancelled.

        A picture that cannot be made is a warning: it is no reason to lose a training.
        """
        missing = [index for index in range(len(self._work.prompts)) if not self._path(step, index).exists()]
        with cancellable(self._models, self._job), self._network.rounded_to(dtype):
            for index in missing:
                self._render_one(step, index)

    def existing(self) -> dict[str, str]:
        """Every picture that there is, as outputs `sample.STEP.PROMPT`."""
        paths = {
            f"sample.{step}.{index}": self._path(step, index)
            for step in sorted(self._work.sample_steps)
            for index in range(len(self._work.prompts))
        }
        return {name: str(path) for name, path in paths.items() if path.exists()}

    def _render_one(self, step: int, index: int) -> None:
        prompt = self._work.prompts[index]
        self._job.progress(step, self._work.settings.steps, "steps", f'rendering "{prompt.prompt}"')
        path = self._path(step, index)
        try:
            save_png(render(self._models, self._vae, prompt, device=self._models.device), str(path))
        except (WorkerError, torch.OutOfMemoryError) as error:
            if isinstance(error, WorkerError) and error.kind != "non-finite":
                raise
            self._job.log("warning", f"Picture {index} of step {step} could not be rendered: {error}")
            return
        self._job.artifact(f"sample.{step}.{index}", path)

    @cached_property
    def _vae(self) -> AutoencoderKL:
        return load_vae(self._work.checkpoint, device=self._models.device, dtype=torch.float32)

    def _path(self, step: int, index: int) -> Path:
        return self._folder / f"{step:06d}-{index:02d}.png"

    def _forget_other_prompts(self) -> None:
        """Prompts do not belong to a training's identity, so those of a life before may have been others."""
        note = self._folder / "prompts.json"
        prompts = [_described(prompt) for prompt in self._work.prompts]
        if note.exists() and json.loads(note.read_bytes()) == prompts:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        write_json(note, prompts)


def _described(prompt: SamplePrompt) -> dict[str, object]:
    return dict(vars(prompt))
