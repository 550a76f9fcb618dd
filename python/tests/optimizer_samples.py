"""Every optimizer, as a request names it."""

from __future__ import annotations

from typing import Any

ADAM = {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}
SAVEUS: dict[str, Any] = {
    "kind": "SAVEUS",
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0,
    "decouple_weight_decay": False,
    "centralization": 0.5,
    "normalization": 0.5,
    "normalization_mode": "full",
    "normalize_channels": True,
    "amp_fac": 2.0,
    "clip_gradients": False,
    "clip_lambda": {"op": "**", "left": "step", "right": 0.25},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SAVEUS": SAVEUS,
    "AdamW": {"kind": "AdamW", **ADAM},
    "Adafactor": {
        "kind": "Adafactor",
        "eps": [1e-30, 1e-3],
        "clip_threshold": 1,
        "decay_rate": -0.8,
        "weight_decay": 0,
        "scale_parameter": False,
    },
    "Adafactor with a first moment": {
        "kind": "Adafactor",
        "eps": [1e-30, 1e-3],
        "clip_threshold": 1,
        "decay_rate": -0.8,
        "beta1": 0.9,
        "weight_decay": 0.1,
        "scale_parameter": True,
    },
    "Prodigy": {
        "kind": "Prodigy",
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.01,
        "decouple_weight_decay": True,
        "use_bias_correction": False,
        "safeguard_warmup": False,
        "d0": 5e-3,
        "d_coef": 1,
    },
    "Lion": {"kind": "Lion", "betas": [0.9, 0.99], "weight_decay": 0.01},
    "CAME": {
        "kind": "CAME",
        "betas": [0.9, 0.999, 0.9999],
        "eps": [1e-30, 1e-16],
        "clip_threshold": 1,
        "weight_decay": 0,
    },
    "python": {"kind": "python", "class": "torch.optim.Adamax", "args": {"betas": [0.8, 0.99], "foreach": True}},
    "python without arguments": {"kind": "python", "class": "torch.optim.NAdam"},
}
