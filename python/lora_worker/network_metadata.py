"""What a file says about its network, in the words of LyCORIS and sd-scripts.

`ss_network_args` has what LyCORIS calls its arguments, as text. Values that are off are left out, but for those that
LyCORIS' users always see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lora_worker.network_settings import LoKrSettings, NetworkSettings, Ranks

# DoRA is an option of LyCORIS' locon.
_ALGORITHM = {"locon": "locon", "dora": "locon", "loha": "loha", "lokr": "lokr", "full": "full"}
# Those computed beside the layer without ever making a weight of W's size.
_BYPASSING = ("locon", "lokr")


def network_metadata(network: NetworkSettings) -> dict[str, object]:
    """Fields without their `ss_`."""
    ranks = network.ranks
    arguments = {"algo": _ALGORITHM[network.kind], "preset": network.preset}
    if ranks is not None:
        arguments |= {"conv_dim": str(ranks.conv_dim), "conv_alpha": str(plain(ranks.conv_alpha))}
    if network.kind in _BYPASSING:
        arguments["bypass_mode"] = "True"
    arguments |= _written(_options(network))
    fields: dict[str, object] = {"network_module": "lycoris.kohya"}
    if ranks is not None:
        fields |= {"network_dim": ranks.dim, "network_alpha": plain(ranks.alpha)}
    if network.dropouts.dropout:
        fields["network_dropout"] = network.dropouts.dropout
    return {**fields, "network_args": json.dumps(arguments)}


def _options(network: NetworkSettings) -> dict[str, object]:
    dropouts = network.dropouts
    return {
        "modules": " ".join(network.modules),
        "text_encoder_modules": "" if network.text_encoder_modules == "all" else network.text_encoder_modules,
        **(_of_ranks(network.ranks) if network.ranks else {}),
        **(_of_lokr(network.lokr) if network.kind == "lokr" else {}),
        "dora_wd": network.kind == "dora",
        "wd_on_output": network.wd_on_output if network.kind == "dora" else None,
        "use_tucker": network.use_tucker,
        "use_scalar": network.use_scalar,
        "train_norm": network.train_norm,
        "dropout": dropouts.dropout,
        "rank_dropout": dropouts.rank_dropout,
        "rank_dropout_scale": dropouts.rank_dropout_scale,
        "module_dropout": dropouts.module_dropout,
    }


def _of_ranks(ranks: Ranks) -> dict[str, object]:
    return {"dims": _by_block(ranks.dims), "conv_dims": _by_block(ranks.conv_dims), "rs_lora": ranks.rs_lora}


def _of_lokr(lokr: LoKrSettings) -> dict[str, object]:
    factor = -1 if lokr.factor is None else lokr.factor
    return {
        "factor": factor,
        "decompose_both": lokr.decompose_both,
        "full_matrix": lokr.full_matrix,
        "unbalanced_factorization": lokr.unbalanced_factorization,
    }


def _by_block(ranks: Mapping[str, int]) -> str:
    return " ".join(f"{block}={rank}" for block, rank in ranks.items())


def _written(options: Mapping[str, object]) -> dict[str, str]:
    said = {name: value for name, value in options.items() if value or (name == "wd_on_output" and value is False)}
    return {name: str(value) for name, value in said.items()}


def plain(number: float) -> int | float:
    """4 for 4.0, as people write it."""
    return int(number) if float(number).is_integer() else number
