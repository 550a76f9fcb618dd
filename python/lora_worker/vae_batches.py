"""Pictures through the encoder of a VAE: several at once on a GPU, which one alone does not fill.

On a CPU each goes alone: nothing is gained by more, and a batch has other last bits than its pictures have alone.

Shape letters: B pictures, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from lora_worker.device_memory import let_go

# Of the free memory, and how many tensors as large as the first layer's output live at once.
_USABLE = 0.6
_LARGE_TENSORS = 6
_MOST = 16


class BatchEncoder:
    """Takes as many pictures at once as fit, and fewer from then on where memory runs out."""

    def __init__(self, vae: AutoencoderKL, *, largest_pixels: int) -> None:
        """`largest_pixels` is the area of the largest picture to come."""
        self._vae = vae
        self.size = _size(vae, largest_pixels)

    def moments(self, pixels: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """`mean` and `logvar` of each of the pictures [C, H, W], all of one size."""
        found: list[dict[str, Tensor]] = []
        while len(found) < len(pixels):
            part = pixels[len(found) : len(found) + self.size]
            try:
                found += encode(self._vae, torch.stack(list(part)))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self.size = len(part) // 2
            else:
                continue
            # Outside of the handler: while the exception is alive, so are the tensors that it passed.
            let_go(self._vae.device)
        return found


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels_BCHW: Tensor) -> list[dict[str, Tensor]]:
    """`mean` and `logvar` of each posterior, unscaled, F32, [4, H / 8, W / 8], on the CPU."""
    posterior = vae.encode(pixels_BCHW.to(vae.device, vae.dtype)).latent_dist
    means, logvars = posterior.mean.float().cpu(), posterior.logvar.float().cpu()
    return [{"mean": mean, "logvar": logvar} for mean, logvar in zip(means, logvars, strict=True)]


def _size(vae: AutoencoderKL, largest_pixels: int) -> int:
    if vae.device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(vae.device)
    picture = largest_pixels * vae.config["block_out_channels"][0] * vae.dtype.itemsize * _LARGE_TENSORS
    return max(1, min(_MOST, int(_USABLE * free / picture)))
