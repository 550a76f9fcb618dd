"""Networks of every kind, as a request names them."""

from __future__ import annotations

LAYERS = {"preset": "full", "modules": [], "text_encoder_modules": "all"}
RANKS = {"dim": 3, "alpha": 2, "conv_dim": 4, "conv_alpha": 3, "dims": {}, "conv_dims": {}, "rs_lora": False}
DROPOUTS = {"dropout": 0, "rank_dropout": 0, "rank_dropout_scale": False, "module_dropout": 0}
USUAL = {**LAYERS, **RANKS, **DROPOUTS, "train_norm": False, "use_tucker": False}
LOKR = {"kind": "lokr", **USUAL, "factor": "balanced", "decompose_both": False, "full_matrix": False}
KINDS = {
    "locon": {"kind": "locon", **USUAL},
    "tucker": {"kind": "locon", **USUAL, "use_tucker": True},
    "dora": {"kind": "dora", **USUAL},
    "tucker dora": {"kind": "dora", **USUAL, "use_tucker": True},
    "loha": {"kind": "loha", **USUAL},
    "tucker loha": {"kind": "loha", **USUAL, "use_tucker": True, "rs_lora": True},
    "lokr": LOKR,
    "lokr of two products": {**LOKR, "dim": 1, "decompose_both": True, "factor": 4},
    "tucker lokr": {**LOKR, "dim": 2, "conv_dim": 2, "use_tucker": True, "factor": 2},
    "whole lokr": {**LOKR, "full_matrix": True, "factor": 4},
    "unbalanced lokr": {**LOKR, "dim": 1, "decompose_both": True, "factor": 4, "unbalanced_factorization": True},
    "locon with scalars": {"kind": "locon", **USUAL, "use_scalar": True},
    "dora with scalars": {"kind": "dora", **USUAL, "use_tucker": True, "use_scalar": True},
    "loha with scalars": {"kind": "loha", **USUAL, "use_scalar": True},
    "lokr with scalars": {**LOKR, "use_scalar": True},
    "whole lokr with scalars": {**LOKR, "full_matrix": True, "factor": 4, "use_scalar": True},
    "dora of columns": {"kind": "dora", **USUAL, "wd_on_output": False},
    "full": {"kind": "full", **LAYERS, "train_norm": True, "dropout": 0, "module_dropout": 0},
}
