"""How a step is fitted into the memory that there is: how many images at once, and which blocks are computed twice.

Of all ways that fit, the one that is fastest by estimate. None changes a step's result beyond rounding, so the
effective batch is what the user wrote: a batch is only cut into micro-batches.

The estimate counts operations. A backward pass has 1.2 times those of the forward pass (counted: SDXL at 1024², LoRA
beside every layer), a block that is computed twice adds its own, and every pass costs a time of its own, whatever it
computes, since kernels have to be launched: as long as 1.5 TFLOP, a tenth of an image at 1024².
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lora_worker.memory_profile import Profile

_BACKWARD = 1.2
_PASS_FLOPS = 1.5e12
_GB = 1e9
USABLE = 0.95
"""Of what is free. The rest is for gaps between tensors, and for what kernels use inside."""


@dataclass(frozen=True)
class Plan:
    """`bytes` is what tensors need at most, `static` of it what is there all the time: weights, the network, its
    gradients and what the optimizer remembers. 0: nobody had to count."""

    micro_batch: int
    checkpointed: frozenset[str]
    bytes: int = 0
    static: int = 0


@dataclass(frozen=True)
class Needs:
    """`static` in bytes, and `between` what is needed besides when a step's gradients are there and activations are
    not. `factor` is what a dry step found the activations to be, by what the profile says."""

    profile: Profile
    static: int
    batch_size: int
    may_checkpoint: bool
    must_checkpoint: bool
    between: int = 0
    factor: float = 1.0

    def plan(self, micro_batch: int, checkpointed: frozenset[str]) -> Plan:
        activations = int(self.factor * self.profile.peak(micro_batch, checkpointed))
        return Plan(micro_batch, checkpointed, self.static + max(activations, self.between), self.static)


def choose(needs: Needs, limit: int) -> Plan:
    """The fastest plan of at most `limit` bytes. Where none is small enough, the smallest."""
    fitting = [plan for plan in _plans(needs, limit) if plan.bytes <= limit]
    if fitting:
        return min(fitting, key=lambda plan: _cost(needs, plan))
    return needs.plan(1, _all_blocks(needs) if needs.may_checkpoint or needs.must_checkpoint else frozenset())


def smaller(needs: Needs, plan: Plan) -> Plan | None:
    """For when a plan did not fit after all: more blocks computed twice, then half as many images. None: that is all.

    A third less of what is kept is asked for, so that it is not tried too often.
    """
    kept = plan.bytes - plan.static
    everything = _all_blocks(needs)
    if needs.may_checkpoint and plan.checkpointed != everything:
        return _checkpointing(needs, plan.micro_batch, plan.static + kept * 2 // 3, begin=plan.checkpointed)
    return needs.plan(plan.micro_batch // 2, plan.checkpointed) if plan.micro_batch > 1 else None


def cuts(batch: int, largest: int) -> list[int]:
    """A batch in as few parts of at most `largest` as there can be, of nearly equal size: 8 by 3 is 3, 3, 2."""
    parts = -(-batch // largest)
    return [batch // parts + (place < batch % parts) for place in range(parts)]


def describe(plan: Plan, *, batch_size: int, accumulation: int, blocks: int, total: int | None) -> str:
    """`micro-batch 8 x 6, no checkpointing, 61 of 141 GB`. `blocks`: how many there are, `total`: bytes."""
    passes = accumulation * len(cuts(batch_size, plan.micro_batch))
    twice = len(plan.checkpointed)
    words = "no checkpointing" if not twice else "all checkpointed" if twice == blocks else ""
    parts = [f"micro-batch {plan.micro_batch} x {passes}", words or f"{twice} of {blocks} blocks checkpointed"]
    if plan.bytes and total is not None:
        parts.append(f"{_gigabytes(plan.bytes)} of {_gigabytes(total)} GB")
    return ", ".join(parts)


def _gigabytes(size: int) -> str:
    number = size / _GB
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}" if number >= 0.1 else f"{number:.3f}"


def _plans(needs: Needs, limit: int) -> Iterator[Plan]:
    """One for each size of micro-batch that makes another number of passes."""
    for micro_batch in sorted({cuts(needs.batch_size, largest)[0] for largest in range(1, needs.batch_size + 1)}):
        if needs.must_checkpoint:
            yield needs.plan(micro_batch, _all_blocks(needs))
        elif needs.may_checkpoint:
            yield _checkpointing(needs, micro_batch, limit)
        else:
            yield needs.plan(micro_batch, frozenset())


def _checkpointing(needs: Needs, micro_batch: int, limit: int, begin: frozenset[str] = frozenset()) -> Plan:
    """With as many blocks as it takes, those first that save most for what they cost."""
    plan = needs.plan(micro_batch, begin)

    def worth(name: str) -> float:
        block = blocks[name]
        return (block.kept.of(micro_batch) - block.inputs.of(micro_batch)) / max(1, block.flops)

    blocks = {block.name: block for block in needs.profile.blocks}
    for name in sorted(blocks.keys() - begin, key=lambda name: (-worth(name), name)):
        if plan.bytes <= limit:
            break
        plan = needs.plan(micro_batch, plan.checkpointed | {name})
    return plan


def _cost(needs: Needs, plan: Plan) -> float:
    """Of one image of a step, in operations."""
    passes = len(cuts(needs.batch_size, plan.micro_batch))
    computed = needs.profile.flops * (1 + _BACKWARD) + needs.profile.recomputed(plan.checkpointed)
    return computed + _PASS_FLOPS * passes / needs.batch_size


def _all_blocks(needs: Needs) -> frozenset[str]:
    return frozenset(block.name for block in needs.profile.blocks)
