"""Pictures of prompts while a training goes on, with the weights that a saved LoRA of that step has.

Those of step 0 show what it begins with: the bare base, or the LoRA that `init` names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from lora_worker.background_writer import BackgroundWriter
from lora_worker.errors import WorkerError
from lora_worker.job import Job
from lora_worker.models import Models, load_vae
from lora_worker.montage import Montage, Shown
from lora_worker.network import Network
from lora_worker.pictures import save_png
from lora_worker.sampling import SamplePrompt, Text, cancellable, encode, render
from lora_worker.train_request import Train
from lora_worker.training_montage import TrainingMontage
from lora_worker.whole_file import whole_file, write_json


class TrainingPictures:
    """Owns `samples/` in the work folder. A picture that is there already is not rendered again. To be closed."""

    def __init__(
        self,
        work: Train,
        job: Job,
        models: Models,
        network: Network,
        writer: BackgroundWriter,
        tell: Callable[[Shown], None] = lambda _: None,
    ) -> None:
        """Pictures are announced by `writer`, behind the LoRAs that were before them. `tell` hears of each picture of a
        step that is passed, whether it is made now or was there."""
        self._writer = writer
        self._tell = tell
        self._work = work
        self._job = job
        self._models = models
        self._network = network
        self._folder = work.work / "samples"
        self._montage = TrainingMontage(work.work, job)
        self._texts: list[Text] = []
        if work.sample_steps and work.prompts:
            self._forget_other_prompts()
            self._take_given()

    def encode_prompts(self) -> None:
        """So that no later picture needs the text encoders. They must be as the checkpoint has them, now and later."""
        if self._work.sample_steps:
            self._texts = [encode(self._models, prompt) for prompt in self._work.prompts]

    def render_beginning(self, done: int, dtype: torch.dtype) -> None:
        """The pictures of step 0, where they are asked for and can be made: `done` steps are over already."""
        if 0 in self._work.sample_steps and (done == 0 or self._work.init is None):
            self.render(0, dtype, is_passed=done == 0)

    def render(self, step: int, dtype: torch.dtype, *, is_passed: bool = True) -> None:
        """The pictures of a step, with the weights rounded to `dtype` as its file has them. Can be cancelled.

        A picture that cannot be made is a warning: it is no reason to lose a training. Of a step that was passed in an
        earlier life, only what was not made then is told.
        """
        missing = [index for index in range(len(self._work.prompts)) if not self._path(step, index).exists()]
        with cancellable(self._models, self._job), self._as_after(step, dtype):
            for index in range(len(self._work.prompts)):
                if index in missing:
                    self._render_one(step, index)
                path = self._path(step, index)
                if path.exists() and (is_passed or (index in missing and step > 0)):
                    self._tell(Shown(step, index, str(path)))
        if shown := self._shown():
            self._montage.update(Montage(self._work.sample_labels, tuple(shown)))

    def finish(self) -> None:
        """Waits for what is still being drawn of the pictures."""
        self._montage.finish()

    def close(self) -> None:
        self._montage.close()

    def existing(self) -> dict[str, str]:
        """Every picture that there is, as outputs `sample.STEP.PROMPT`."""
        return {f"sample.{shown.step}.{shown.row}": shown.picture for shown in self._shown()}

    def _shown(self) -> list[Shown]:
        places = [(step, index) for step in sorted(self._work.sample_steps) for index in range(len(self._work.prompts))]
        return [
            Shown(step, index, str(self._path(step, index)))
            for step, index in places
            if self._path(step, index).exists()
        ]

    def _as_after(self, step: int, dtype: torch.dtype) -> AbstractContextManager[None]:
        """A network that changes nothing is left out, so that the pictures are those of the base to the bit."""
        is_base = step == 0 and self._work.init is None
        return self._network.detached() if is_base else self._network.rounded_to(dtype)

    def _render_one(self, step: int, index: int) -> None:
        prompt = self._work.prompts[index]
        self._job.progress(step, self._work.settings.steps, "steps", f'rendering "{prompt.prompt}"')
        path = self._path(step, index)
        try:
            text = self._texts[index] if self._texts else None
            picture = render(self._models, self._vae, prompt, device=self._models.device, text=text)
            save_png(picture, str(path))
        except (WorkerError, torch.OutOfMemoryError) as error:
            if isinstance(error, WorkerError) and error.kind != "non-finite":
                raise
            self._job.log("warning", f"Picture {index} of step {step} could not be rendered: {error}")
            return
        self._writer.put(partial(self._job.artifact, f"sample.{step}.{index}", path), 0)

    @cached_property
    def _vae(self) -> AutoencoderKL:
        return load_vae(self._work.checkpoint, device=self._models.device, dtype=torch.float32)

    def _path(self, step: int, index: int) -> Path:
        return self._folder / f"{step:06d}-{index:02d}.png"

    def _take_given(self) -> None:
        """What was made of the base at another time is made no more."""
        for index, picture in self._work.given_samples.items():
            path = self._path(0, index)
            if not path.exists():
                with whole_file(path) as file:
                    file.write(Path(picture).read_bytes())
                self._job.artifact(f"sample.0.{index}", path)

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
