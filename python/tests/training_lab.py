"""A small training for tests: a few images that exist only as latents, and the message that asks for it."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from optimizer_samples import SAVEUS
from support import RecordingJob

from lora_worker.fp8 import Fp8Base
from lora_worker.models import Models, load_models
from lora_worker.safetensors_file import read_safetensors, write_safetensors
from lora_worker.stages import train

SQUARE, WIDE = (64, 64), (96, 64)
CAPTIONS = ("fox, red, sitting", "fox, snow", "hill, tree, sky, grass")

PROMPT = {
    "prompt": "fox",
    "negative_prompt": "",
    "width": 64,
    "height": 64,
    "seed": 1,
    "steps": 2,
    "scale": 2.0,
    "sampler": "euler_a",
}

CAPTION_SETTINGS: dict[str, Any] = {
    "caption_prefix": None,
    "caption_suffix": None,
    "caption_dropout_rate": 0,
    "caption_dropout_every_n_epochs": 0,
    "wildcards": False,
    "shuffle_caption": True,
    "caption_separator": ",",
    "keep_tokens": 0,
    "keep_tokens_separator": None,
    "token_warmup_step": 0,
    "token_warmup_min": 1,
    "caption_tag_dropout_rate": 0,
    "secondary_separator": None,
}

# Layers of every shape in every model, and in the UNet from its first blocks to its last. Adapting all of them costs
# twice the time, and is for tests of what happens to each: `EVERY_LAYER`.
FEW_LAYERS = [
    "lora_te1_text_model_encoder_layers_0_mlp_fc1",
    "lora_te2_text_model_encoder_layers_1_self_attn_v_proj",
    "lora_unet_input_blocks_1_0_in_layers_2",
    "lora_unet_input_blocks_4_0_skip_connection",
    "lora_unet_middle_block_0_emb_layers_1",
    "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k",
    "lora_unet_output_blocks_1_1_proj_in",
    "lora_unet_output_blocks_1_1_transformer_blocks_0_ff_net_2",
    "lora_unet_output_blocks_7_0_skip_connection",
    "lora_unet_output_blocks_8_0_in_layers_2",
    "lora_unet_output_blocks_8_0_out_layers_3",
]

SETTINGS: dict[str, Any] = {
    "seed": 5,
    "captions": CAPTION_SETTINGS,
    "network": {
        "kind": "locon",
        "preset": "full",
        "modules": FEW_LAYERS,
        "text_encoder_modules": "all",
        "dim": 2,
        "alpha": 1,
        "conv_dim": 4,
        "conv_alpha": 1,
        "dims": {},
        "conv_dims": {},
        "rs_lora": False,
        "train_norm": False,
        "use_tucker": False,
        "dropout": 0,
        "rank_dropout": 0,
        "rank_dropout_scale": False,
        "module_dropout": 0,
    },
    "optimizer": SAVEUS,
    "regularization": None,
    "unet_lr": 3e-4,
    "text_encoder_lr": 1e-4,
    "loraplus_lr_ratio": 1,
    "block_lr": {},
    "lr_scheduler": {"kind": "cosine", "num_cycles": 0.375, "warmup": 0},
    "max_grad_norm": 1,
    "steps": 3,
    "batch_size": 2,
    "gradient_accumulation_steps": 1,
    "noise": {"kind": "multires", "iterations": 12, "discount": 0.4, "std_axes": "image"},
    "accumulation": "images",
    "text_projection": "true",
    "noise_offset": 0,
    "noise_offset_random_strength": False,
    "adaptive_noise_scale": 0,
    "ip_noise_gamma": 0,
    "ip_noise_gamma_random_strength": False,
    "min_timestep": 0,
    "max_timestep": 1000,
    "loss": {"kind": "l2"},
    "scale_v_pred_loss_like_noise_pred": False,
    "v_pred_like_loss": 0,
    "debiased_estimation": False,
    "max_token_length": 75,
    "mixed_precision": "fp32",
    "save_precision": "fp16",
    "gradient_checkpointing": "off",
    "on_non_finite": "stop",
    "resolution": [64, 64],
}
EVERY_LAYER = {"network": {**SETTINGS["network"], "modules": []}}


class TrainingLab:
    """Builds requests and runs them. Each `life` is one run in a work folder."""

    def __init__(self, folder: Path, checkpoint: Path, images: list[dict[str, Any]] | None = None) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        buckets = (SQUARE, WIDE, SQUARE)
        self.images = images or [self.image(place, bucket) for place, bucket in enumerate(buckets)]

    def request(self, work: str = "work", **changes: Any) -> dict[str, Any]:
        """`changes` are fields of the request, or of its settings."""
        request: dict[str, Any] = {
            "op": "train",
            "checkpoint": str(self.checkpoint),
            "work": str(self.folder / work),
            "images": copy.deepcopy(self.images),
            "settings": copy.deepcopy(SETTINGS),
            "save_steps": [],
            "until": 0,
            "held_out": None,
            "samples": {"steps": [], "prompts": []},
            "state_every": {"seconds": 3600},
            "events": None,
        }
        for name, value in changes.items():
            (request if name in request else request["settings"])[name] = value
        samples = request["samples"]
        request["samples"] = {"labels": [prompt["prompt"] for prompt in samples["prompts"]], "given": [], **samples}
        if "until" not in changes:
            request["until"] = request["settings"]["steps"]
        return request

    def masked(self, place: int, mask_HW: torch.Tensor) -> dict[str, Any]:
        """An image of the lab with a mask, mirrored where the image is."""
        image = self.images[place]
        paths = {}
        for name, mask in (("latents", mask_HW), ("latents_flipped", mask_HW.flip(-1))):
            if image[name] is None:
                continue
            tensors, _ = read_safetensors(image[name])
            paths[name] = str(self.folder / f"{place}-{name}-masked.safetensors")
            write_safetensors(paths[name], {**tensors, "mask": mask.contiguous()})
        return {**image, **paths, "mask": hashlib.sha256(mask_HW.numpy().tobytes()).hexdigest()}

    def life(self, request: dict[str, Any], job: RecordingJob | None = None) -> dict[str, str]:
        """Runs it in this process; the outputs."""
        return train.run(train.parse(request), job or RecordingJob())

    def image(self, place: int, bucket: tuple[int, int]) -> dict[str, Any]:
        """Latents of that size in pixels (width, height), with their mirrored form, as a request names them."""
        width, height = bucket
        paths = {name: self.folder / f"{place}-{name}.safetensors" for name in ("latents", "latents_flipped")}
        for path, written in zip(paths.values(), latents_files(place, bucket), strict=True):
            path.write_bytes(written)
        return {
            "digest": hashlib.sha256(str(place).encode()).hexdigest(),
            "index": 0,
            **{name: str(path) for name, path in paths.items()},
            "caption": CAPTIONS[place],
            "original": [200, 150],
            "resized": [width + 10, height],
            "crop": [3, 0],
            "bucket": [width, height],
            "repeats": 1,
            "regularization": False,
        }


@cache
def latents_files(seed: int, bucket: tuple[int, int]) -> tuple[bytes, bytes]:
    """Of a picture and its mirrored form. Made once: to write them as the worker does is to wait for the disk."""
    width, height = bucket
    generator = torch.Generator().manual_seed(seed)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "latents.safetensors"

        def written() -> bytes:
            # Spread as the VAE's latents are: times 0.13025 they have a deviation of 1.
            mean = torch.randn(4, height // 8, width // 8, generator=generator) / 0.13025
            write_safetensors(path, {"mean": mean, "logvar": torch.full_like(mean, -6.0)})
            return path.read_bytes()

        return written(), written()


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines without what is measured with a clock, which no two runs share."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "images_per_second")} for line in lines
    ]


class Killed(BaseException):
    """Ends a life as a kill does: nothing of the stage gets to save anything."""


@dataclass
class DoomedJob(RecordingJob):
    """Dies when the step of that number is told."""

    dies_at: int = 0
    ends_by: type[BaseException] = field(default=Killed)

    def step(self, step, *rest):
        super().step(step, *rest)
        if step == self.dies_at:
            raise self.ends_by


def steps_of(job):
    return [message["step"] for message in job.of_type("step")]


def share_models(monkeypatch: pytest.MonkeyPatch, models: Models) -> None:
    """Trainings take these models instead of loading them. They leave them as they found them."""

    def loaded(
        path: str, *, device: torch.device, dtype: torch.dtype, fp8_base: Fp8Base, blocks_to_swap: int
    ) -> Models:
        is_as_they_are = dtype == models.dtype and fp8_base == "off"
        return models if is_as_they_are else load_models(path, device=device, dtype=dtype, fp8_base=fp8_base)

    monkeypatch.setattr(train, "load_models", loaded)
