"""What is said when a step's loss or gradient is not a finite number: which images it was, and what helps."""

from __future__ import annotations

import math

from lora_worker.errors import FileProblem, WorkerError
from lora_worker.train_request import Train, TrainImage
from lora_worker.training import Reading


def culprits_of(each: list[float], reading: Reading) -> tuple[str, list[TrainImage]]:
    """What is not finite, and the images whose own loss is it; all of the step's when the gradient alone is not."""
    culprits = [image for image, value in zip(reading.images, each, strict=True) if not math.isfinite(value)]
    return ("loss", culprits) if culprits else ("gradient", list(reading.images))


def not_finite(
    work: Train, step: int, loss: float, norm: float, each: list[float], reading: Reading, before: int = 0
) -> WorkerError:
    """Names the images by their digests. `before`: how many steps just before it were skipped."""
    what, images = culprits_of(each, reading)
    problems = {image.digest: FileProblem(image.digest, f"its {what} at step {step}") for image in images}
    optimizer = work.settings.optimizer
    hint = "Try lower learning rates, or mixed_precision = fp32."
    arguments = optimizer.arguments
    if optimizer.kind == "SAVEUS" and arguments["weight_decay"] > 0 and not arguments["decouple_weight_decay"]:
        # SAVEUS divides the decayed weight by the root of the second moment. A LoRA's down matrices have no gradient in
        # the first step, so that root is 0 there and their first update is weight_decay / eps times too large.
        hint = "Use decouple_weight_decay = true: SAVEUS' own weight decay throws a LoRA's weights far off at once."
    return WorkerError(
        "non-finite",
        f"Training stopped at step {step}: its {what} is not a finite number (loss {loss}, gradient norm {norm})"
        f"{f', after {before} steps that were skipped' if before else ''}.",
        f"{hint} The newest state from before is kept.",
        problems.values(),
    )
