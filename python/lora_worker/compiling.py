"""The UNet's transformer blocks as compiled code (`torch.compile`), each by itself.

Blocks of one width share their code, adapters included, whatever their number. The length of the sequence, which is
that of the bucket, is a variable in it, and so is the number of images once it has changed. So a training compiles a
few times and not once for each block and each bucket.

It is never fatal: where compiling fails, blocks compute as they did before, and that is said once. Where
compiled code fails later, whoever computes the step has to `give_up` and try again. Only passes that learn are
compiled: pictures and measurements have other shapes, and are few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from lora_worker.models import Models
from lora_worker.transformer_blocks import transformer_blocks

# Widths, numbers of images, ranks that differ from block to block, checkpoints: what comes after computes as before.
_MOST_GRAPHS = 64


class Compiling:
    """From when it is made until `stop`. `backend` is one of torch's, or a function as it wants one."""

    def __init__(
        self,
        models: Models,
        warn: Callable[[str], None],
        backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        self._warn = warn
        self._blocks = transformer_blocks(models.unet)
        self.is_on = True
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_GRAPHS)
        for block in self._blocks:
            # In the place of `forward`, so that hooks of the block itself are called around compiled code.
            block.forward = self._guarded(block.forward, torch.compile(block.forward, backend=backend))

    def stop(self) -> None:
        """Blocks compute as before."""
        self.is_on = False
        for block in self._blocks:
            # The one of its class shows again.
            block.__dict__.pop("forward", None)

    def give_up(self, error: Exception) -> None:
        """As `stop`, and says why."""
        self.stop()
        # The first line says which backend it was, and the second what was wrong.
        reason = " ".join(str(error).strip().splitlines()[:2]) or type(error).__name__
        self._warn(f"Compiling the transformer blocks failed, so training goes on without: {reason}")

    def _guarded(self, plain: Callable[..., Tensor], compiled: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(hidden_BSC: Tensor, *rest: Any, **others: Any) -> Tensor:
            if not self.is_on or not torch.is_grad_enabled():
                return plain(hidden_BSC, *rest, **others)
            torch._dynamo.maybe_mark_dynamic(hidden_BSC, 1)
            try:
                return compiled(hidden_BSC, *rest, **others)
            except TorchDynamoException as error:
                self.give_up(error)
            return plain(hidden_BSC, *rest, **others)

        return forward
