"""The optimizers that a training can name: ours, those of kept libraries, and any other by the path of its class.

Classes are imported only when a training asks for them. Each gets its parameter groups, which have rates of their own,
and a `lr` that no group uses.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lora_worker import expressions
from lora_worker.errors import WorkerError
from lora_worker.protocol import Fields, ProtocolError


@dataclass(frozen=True)
class OptimizerSettings:
    """`path` is where the class is imported from, and `arguments` what it is constructed with besides rates."""

    kind: str
    path: str
    arguments: Mapping[str, Any]

    def written(self) -> str:
        """As sd-scripts writes it into a file: `module.Class(name=value,…)`."""
        arguments = dict(self.arguments)
        if self.kind == "SAVEUS":
            arguments["clip_lambda"] = expressions.text(arguments["clip_lambda"])
        return f"{self.path}({','.join(f'{name}={value!r}' for name, value in arguments.items())})"


def parse_optimizer(fields: Fields) -> OptimizerSettings:
    """Raises ProtocolError."""
    kind = fields.one_of("kind", (*_PARSERS, "python"))
    if kind == "python":
        return OptimizerSettings(kind, fields.text("class"), plain_arguments(fields))
    path, parse = _PARSERS[kind]
    return OptimizerSettings(kind, path, parse(fields))


def optimizer_class(settings: OptimizerSettings) -> type[torch.optim.Optimizer]:
    """Raises `bad-input` when there is no such class here."""
    module, _, name = settings.path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        hint = f"Install the package into the worker's Python, or choose another optimizer. Python says: {error}"
        raise WorkerError("bad-input", _missing(settings, module), hint) from error
    except AttributeError:
        raise WorkerError("bad-input", f'The Python module "{module}" has no "{name}" to train with.') from None
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise WorkerError(
            "bad-input", f'"{settings.path}" is not a class of optimizers: torch.optim.Optimizer is none of its bases.'
        )
    return found


def build_optimizer(
    settings: OptimizerSettings, groups: Iterable[Mapping[str, Any]], lr: float
) -> torch.optim.Optimizer:
    """Raises `bad-input` when the class refuses its arguments."""
    cls = optimizer_class(settings)
    try:
        return cls([dict(group) for group in groups], lr=lr, **settings.arguments)
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        message = f"{settings.path} does not take these settings: {error}"
        raise WorkerError("bad-input", message, "Look at the arguments of its constructor.") from error


def try_optimizer(settings: OptimizerSettings, device: torch.device) -> None:
    """Does one step where a library has kernels for some devices alone. Raises `bad-input` where it has none for this.

    bitsandbytes keeps moments of 4096 numbers and more in 8 bits, and those of fewer in 32.
    """
    if settings.kind != "AdamW8bit":
        return
    parameter = torch.nn.Parameter(torch.zeros(4096, device=device))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = build_optimizer(settings, [{"params": [parameter], "lr": 1e-4}], 1e-4)
    try:
        optimizer.step()
    except Exception as error:
        version = getattr(importlib.import_module("bitsandbytes"), "__version__", "")
        why = str(error).partition("\n")[0]
        raise WorkerError(
            "bad-input",
            f"bitsandbytes {version} has no AdamW8bit for {device.type}: {why}",
            "For a CPU install bitsandbytes 0.50 or newer, or write optimizer = AdamW.",
        ) from error


def _missing(settings: OptimizerSettings, module: str) -> str:
    if settings.kind == "AdamW8bit":
        return "AdamW8bit needs the Python package bitsandbytes, which is not installed."
    return f'The Python module "{module}", which the optimizer {settings.kind} is in, cannot be imported.'


def _saveus(fields: Fields) -> dict[str, Any]:
    clip_lambda = fields.any("clip_lambda")
    try:
        expressions.check(clip_lambda)
    except expressions.ExpressionError as error:
        raise ProtocolError(f'"{fields.where}.clip_lambda": {error}') from None
    return {
        "betas": fields.number_pair("betas"),
        "eps": fields.number("eps"),
        "weight_decay": fields.number("weight_decay"),
        "decouple_weight_decay": fields.flag("decouple_weight_decay"),
        "centralization": fields.number("centralization"),
        "normalization": fields.number("normalization"),
        "normalization_mode": fields.one_of("normalization_mode", ("full", "lerp")),
        "normalize_channels": fields.flag("normalize_channels"),
        "amp_fac": fields.number("amp_fac"),
        "clip_gradients": fields.flag("clip_gradients"),
        "clip_lambda": clip_lambda,
    }


def _adamw(fields: Fields) -> dict[str, Any]:
    return {
        "betas": fields.number_pair("betas"),
        "eps": fields.number("eps"),
        "weight_decay": fields.number("weight_decay"),
    }


def _adafactor(fields: Fields) -> dict[str, Any]:
    return {
        "eps": fields.number_pair("eps"),
        "clip_threshold": fields.number("clip_threshold"),
        "decay_rate": fields.number("decay_rate"),
        "beta1": _optional_number(fields, "beta1"),
        "weight_decay": fields.number("weight_decay"),
        "scale_parameter": fields.flag("scale_parameter"),
        # The rates are those of the training, also where they are what Adafactor would take (`schedules.RelativeStep`).
        "relative_step": False,
        "warmup_init": False,
    }


def _prodigy(fields: Fields) -> dict[str, Any]:
    growth_rate = _optional_number(fields, "growth_rate")
    return {
        "betas": fields.number_pair("betas"),
        "beta3": _optional_number(fields, "beta3"),
        "eps": fields.number("eps"),
        "weight_decay": fields.number("weight_decay"),
        "weight_decouple": fields.flag("decouple_weight_decay"),
        "bias_correction": fields.flag("use_bias_correction"),
        "safeguard_warmup": fields.flag("safeguard_warmup"),
        "d0": fields.number("d0"),
        "d_coef": fields.number("d_coef"),
        **({} if growth_rate is None else {"growth_rate": growth_rate}),
    }


def _lion(fields: Fields) -> dict[str, Any]:
    return {"betas": fields.number_pair("betas"), "weight_decay": fields.number("weight_decay")}


def _came(fields: Fields) -> dict[str, Any]:
    eps1, eps2 = fields.number_pair("eps")
    return {
        "betas": tuple(float(beta) for beta in fields.any("betas")),
        "eps1": eps1,
        "eps2": eps2,
        "clip_threshold": fields.number("clip_threshold"),
        "weight_decay": fields.number("weight_decay"),
    }


_PARSERS = {
    "SAVEUS": ("lora_worker.saveus.SAVEUS", _saveus),
    "AdamW": ("torch.optim.AdamW", _adamw),
    "AdamW8bit": ("bitsandbytes.optim.AdamW8bit", _adamw),
    "Adafactor": ("transformers.optimization.Adafactor", _adafactor),
    "Prodigy": ("pytorch_optimizer.Prodigy", _prodigy),
    "Lion": ("pytorch_optimizer.Lion", _lion),
    "CAME": ("pytorch_optimizer.CAME", _came),
}


def _optional_number(fields: Fields, name: str) -> float | None:
    return fields.number(name) if name in fields.raw else None


def plain_arguments(fields: Fields) -> dict[str, Any]:
    """`args`, which may be missing, as a class wants them. Raises ProtocolError."""
    arguments = fields.record("args").raw if "args" in fields.raw else {}
    return {name: _plain(value) for name, value in arguments.items()}


def _plain(value: Any) -> Any:
    """Lists become tuples, as optimizers want their betas."""
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
