"""What a network is asked to be: which layers of the models it adapts, and with what ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lora_worker.blocks import number_of
from lora_worker.described import later
from lora_worker.dropouts import Dropouts
from lora_worker.naming import LoraTarget
from lora_worker.protocol import Fields, ProtocolError

Kind = Literal["locon", "dora", "loha", "lokr", "full"]
Preset = Literal["full", "attn-mlp", "attn-only", "unet-only"]
TextEncoderModules = Literal["all", "mlp"]


@dataclass(frozen=True)
class Ranks:
    """Rank and alpha of linear layers and 1×1 convolutions, and (`conv_…`) of 3×3 convolutions.

    `dims` and `conv_dims` are ranks by block, or by the name of a layer, instead of those. `zero_dims` says what a rank
    of 0 in `dims` leaves alone: all that is there, unless `conv_dims` says otherwise, or not the 3×3 convolutions and
    norms. With `rs_lora` the scale is α/√r and not α/r.
    """

    dim: int
    alpha: float
    conv_dim: int
    conv_alpha: float
    dims: Mapping[str, int] = field(default_factory=dict)
    conv_dims: Mapping[str, int] = field(default_factory=dict)
    rs_lora: bool = False
    zero_dims: Literal["linear", "all"] = later("linear")

    def of(self, target: LoraTarget) -> tuple[int, float]:
        """The rank, 0 for a layer that is left alone, and the alpha whose α/r is the scale, as files have it."""
        rank, alpha = _said(self.dims, target), self.alpha
        usual = self.dim
        if target.kind == "conv3x3":
            usual = 0 if self.zero_dims == "all" and rank == 0 else self.conv_dim
            rank, alpha = _said(self.conv_dims, target), self.conv_alpha
        rank = usual if rank is None else rank
        return rank, alpha * math.sqrt(rank) if self.rs_lora else alpha

    def adapts(self, target: LoraTarget) -> bool:
        """Whether a layer has a rank. A norm, which has none, is left alone with all the layers around it."""
        if target.kind != "norm":
            return self.of(target)[0] > 0
        return self.zero_dims == "linear" or _said(self.dims, target) != 0 or bool(_said(self.conv_dims, target))


def _said(ranks: Mapping[str, int], target: LoraTarget) -> int | None:
    return number_of(target.name, ranks)


@dataclass(frozen=True)
class LoKrSettings:
    """`factor` is about the size of the first of the two factors; None: as near to the second's as can be.

    `unbalanced_factorization`: of the outputs, the first factor has the larger part.
    """

    factor: int | None = None
    decompose_both: bool = False
    full_matrix: bool = False
    unbalanced_factorization: bool = later(False)


@dataclass(frozen=True)
class NetworkSettings:
    """`ranks` is None for what has none. `modules` are patterns of names, of which a layer has to fit one; without any,
    all do. `use_scalar`: each adapter has a number of its own that it is multiplied with, 0 to begin with.
    `wd_on_output`: a DoRA learns the lengths of rows, else those of columns."""

    ranks: Ranks | None
    kind: Kind = "locon"
    preset: Preset = "full"
    modules: tuple[str, ...] = ()
    text_encoder_modules: TextEncoderModules = "all"
    train_norm: bool = False
    use_tucker: bool = False
    dropouts: Dropouts = field(default_factory=Dropouts)
    lokr: LoKrSettings = field(default_factory=LoKrSettings)
    use_scalar: bool = later(False)
    wd_on_output: bool = later(True)


def parse_network(network: Fields) -> NetworkSettings:
    """Raises ProtocolError."""
    kind: Kind = network.one_of("kind", ("locon", "dora", "loha", "lokr", "full"))
    return NetworkSettings(
        ranks=None if kind == "full" else _ranks(network),
        kind=kind,
        preset=network.one_of("preset", ("full", "attn-mlp", "attn-only", "unet-only")),
        modules=network.text_list("modules"),
        text_encoder_modules=network.one_of("text_encoder_modules", ("all", "mlp")),
        train_norm=network.flag("train_norm"),
        use_tucker=kind != "full" and network.flag("use_tucker"),
        dropouts=_dropouts(network, has_ranks=kind != "full"),
        lokr=_lokr(network) if kind == "lokr" else LoKrSettings(),
        use_scalar=kind != "full" and network.flag_or("use_scalar", False),
        wd_on_output=kind != "dora" or network.flag_or("wd_on_output", True),
    )


def _dropouts(network: Fields, *, has_ranks: bool) -> Dropouts:
    return Dropouts(
        dropout=network.number("dropout"),
        rank_dropout=network.number("rank_dropout") if has_ranks else 0.0,
        rank_dropout_scale=has_ranks and network.flag("rank_dropout_scale"),
        module_dropout=network.number("module_dropout"),
    )


def _lokr(network: Fields) -> LoKrSettings:
    factor = network.any("factor")
    return LoKrSettings(
        factor=None if factor == "balanced" else _rank(network, "factor", least=2),
        decompose_both=network.flag("decompose_both"),
        full_matrix=network.flag("full_matrix"),
        unbalanced_factorization=network.flag_or("unbalanced_factorization", False),
    )


def _ranks(network: Fields) -> Ranks:
    return Ranks(
        dim=_rank(network, "dim", least=1),
        alpha=network.number("alpha"),
        conv_dim=_rank(network, "conv_dim", least=1),
        conv_alpha=network.number("conv_alpha"),
        dims=_by_block(network.record("dims")),
        conv_dims=_by_block(network.record("conv_dims")),
        rs_lora=network.flag("rs_lora"),
        zero_dims=network.one_of_or_first("zero_dims", ("linear", "all")),
    )


def _by_block(blocks: Fields) -> Mapping[str, int]:
    return {name: _rank(blocks, name, least=0) for name in sorted(blocks.raw)}


def _rank(fields: Fields, name: str, *, least: int) -> int:
    rank = fields.whole(name)
    if rank < least:
        raise ProtocolError(f'"{fields.where}.{name}" must be {least} or more, and is {rank}')
    return rank
