"""What several processes do when one of them cannot do its part: real ones, connected with gloo on this machine."""

from __future__ import annotations

import multiprocessing
import os
import sys

import torch

from lora_worker.ranks import Elsewhere, Group

# Far longer than two processes take to start, and far less than they would wait for each other.
PATIENCE_S = 120
SAID_WHY, WAS_LEFT = 3, 4


def process(rank: int, folder: str) -> None:
    """Has two gradients to sum. The second process has no room for its part of the sum."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    group = Group(leads=rank == 0, device="CPU", host="here")
    parameter = torch.nn.Parameter(torch.zeros(4))
    parameter.grad = torch.ones(4) * (rank + 1)
    group.summed([parameter], torch.ones(1), 2)
    assert parameter.grad.tolist() == [3.0] * 4
    if rank == 1:
        joined = torch.cat

        def no_room(*given, **how):
            torch.cat = joined
            raise torch.OutOfMemoryError("played")

        torch.cat = no_room
    try:
        group.summed([parameter], torch.ones(1), 2)
    except torch.OutOfMemoryError as error:
        # As a training does before it ends.
        group.stop(error)
        os._exit(SAID_WHY)
    except Elsewhere:
        os._exit(WAS_LEFT)
    sys.exit("the sum was made without one of the processes")


def test_a_process_that_cannot_sum_leaves_at_once_and_the_other_hears_of_it(tmp_path):
    spawning = multiprocessing.get_context("spawn")
    both = [spawning.Process(target=process, args=(rank, str(tmp_path))) for rank in (0, 1)]
    for each in both:
        each.start()
    try:
        for each in both:
            each.join(PATIENCE_S)
        assert [each.exitcode for each in both] == [WAS_LEFT, SAID_WHY]
    finally:
        for each in both:
            each.kill()
            each.join()
