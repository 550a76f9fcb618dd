"""Trains the toy base from nothing: `PYTHONPATH=python python examples/toy-sdxl/train.py OUT.safetensors`.

First the autoencoder, on scenes as they are drawn; then the UNet and both text encoders, on the latents and captions
of many scenes. What there is so far is written every now and then. The same call on the same machine gives the same
bytes; started again, it goes on after the autoencoder.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

# Read when torch is imported: spinning threads slow small steps down many times beside other work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from learn_autoencoder import Round, learn_autoencoder
from learn_unet import UNetRound, encode_scenes, learn_unet
from networks import random_networks, read_networks, write_base

from lora_worker.safetensors_file import read_safetensors, write_safetensors

# Until the samples clearly show what the prompt says. README.md has the time that this takes.
AUTOENCODER = (Round(1600, seed=1, any_colors=False), Round(2600, seed=4))
SCENES = 5600
UNET = (UNetRound(2100, seed=3, falls_over=3600), UNetRound(1100, seed=6, peak=6e-4, weight_of_means=16.0))
KEPT_EVERY = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the checkpoint to write")
    parser.add_argument("--threads", type=int, default=1, help="the bytes depend on it (default: 1)")
    parser.add_argument("--share", type=float, default=1.0, help="of all steps and scenes, to try the script out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)

    def some(count: int) -> int:
        return max(1, round(arguments.share * count))

    networks = random_networks()
    autoencoder = arguments.output.with_suffix(".autoencoder.safetensors")
    if autoencoder.exists():
        networks.vae.load_state_dict(read_safetensors(autoencoder)[0])
    else:
        learn_autoencoder(networks.vae, [replace(each, steps=some(each.steps)) for each in AUTOENCODER])
        write_safetensors(autoencoder, networks.vae.state_dict())
    networks.vae.eval()
    vae = networks.vae.state_dict()
    scenes = encode_scenes(networks, some(SCENES))
    for each in UNET:
        how = replace(each, steps=some(each.steps), falls_over=some(each.falls_over))
        learn_unet(
            networks,
            scenes,
            how,
            every=KEPT_EVERY,
            keep=lambda states: write_base(arguments.output, {**states, "vae": vae}),
        )
        # On from the averages, as they were written.
        networks = read_networks(arguments.output)
    autoencoder.unlink()


if __name__ == "__main__":
    main()
