"""The norm of an update is that of what changed, by component."""

from __future__ import annotations

import torch
from torch import nn

from lora_worker.update_norms import UpdateNorms


def test_the_norm_is_that_of_the_change_of_all_parameters_of_a_component():
    generator = torch.Generator().manual_seed(3)
    groups = {
        name: [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((3, 4), (5,), (2, 2, 2))]
        for name in ("text_encoder", "unet")
    }
    norms = UpdateNorms(groups)
    changes = {name: [torch.randn(each.shape, generator=generator) for each in group] for name, group in groups.items()}
    norms.before()
    with torch.no_grad():
        for name, group in groups.items():
            for parameter, change in zip(group, changes[name], strict=True):
                parameter += change
    wanted = torch.stack([torch.cat([each.flatten() for each in changes[name]]).norm() for name in groups])
    torch.testing.assert_close(norms.after(), wanted)
    assert norms.components == ("text_encoder", "unet")


def test_what_does_not_move_has_a_norm_of_zero_and_nothing_is_kept():
    parameter = nn.Parameter(torch.ones(4))
    norms = UpdateNorms({"unet": [parameter]})
    norms.before()
    assert norms.after().tolist() == [0]
    assert not norms._before
