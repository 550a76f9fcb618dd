"""SAVEUS, the optimizer of the ten-minute guide, for any trainer: it imports nothing but torch.

With sd-scripts: `--optimizer_type lora_worker.saveus.SAVEUS`, no patch needed.

For a parameter θ with gradient g at its step t (1-based), where a row is everything under one
index of the first axis (a tensor with fewer than two axes is one row):

1. centralize     g ← g − centralization · mean of its row
2. normalize      g ← g / (s + 1e-8), s the row's standard deviation, or the whole tensor's
                  with `normalize_channels=False`
3. first moment   m ← β₁ m + (1 − β₁) g
4. amplify        g ← g + amp_fac · m
5. second moment  v ← β₂ v + (1 − β₂) g²
6. weight decay   η = lr / (1 − β₁ᵗ); decoupled: θ ← θ (1 − η λ), otherwise g ← g + λ θ
7. clip           g ← clamp(g, ±clip_lambda(t)) if clip_gradients
8. update         θ ← θ − η g / (√(v / (1 − β₂ᵗ)) + eps)

These are the steps that the published code performs, which differ from its own documentation in
step 2: it divides in place before it interpolates, so every `normalization` other than 0 normalizes
fully. `normalization_mode="lerp"` interpolates as documented, g ← g + normalization · (g/(s + 1e-8) − g).

Deliberate differences from the published code:
* `p.grad` is read and never written, so whoever looks at it afterwards sees the true gradient.
* A row of a single element has no standard deviation. The published code turns it into NaN; here it
  is left unnormalized.
* `clip_lambda` is an expression or an importable function, never a lambda, so that `state_dict()`
  can be saved.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lora_worker import expressions

ClipLambda = str | float | dict[str, Any] | Callable[[int], float] | None
Saveable = str | float | dict[str, Any] | None

# What the published code adds to a standard deviation before dividing by it. Not the `eps` argument.
_NORMALIZATION_EPSILON = 1e-8

# Numbers in a batch of parameters. A batch needs three times its size in memory while it is updated; beyond this size
# kernels gain nothing from more, and SDXL's largest shape would make a batch of 135 MiB.
_LARGEST_BATCH = 8 * 2**20


class SAVEUS(torch.optim.Optimizer):
    """The optimizer described at the top of this file.

    `clip_lambda` gives the clipping threshold at step t. It is one of
    * text with arithmetic over `step`, such as "step ** 0.25";
    * the same as a tree (see lora_worker.expressions);
    * a function that can be imported, given as itself or as "package.module:name";
    * None, for no clipping.

    Raises ValueError for arguments out of range, and RuntimeError in `step` for sparse gradients.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        centralization: float = 0.5,
        normalization: float = 0.5,
        normalize_channels: bool = True,
        amp_fac: float = 2.0,
        clip_lambda: ClipLambda = "step ** 0.25",
        decouple_weight_decay: bool = False,
        clip_gradients: bool = False,
        normalization_mode: str = "full",
    ):
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "centralization": centralization,
            "normalization": normalization,
            "normalize_channels": normalize_channels,
            "amp_fac": amp_fac,
            "clip_lambda": clip_lambda,
            "decouple_weight_decay": decouple_weight_decay,
            "clip_gradients": clip_gradients,
            "normalization_mode": normalization_mode,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch.optim.Optimizer, and checks the group's arguments."""
        group = {**self.defaults, **param_group}
        _check_arguments(group)
        # Groups keep the spelling that can be saved. A function is imported once, here, where the user named it.
        super().add_param_group({**param_group, "clip_lambda": _saveable(group["clip_lambda"])})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch.optim.Optimizer. Raises ValueError if a group's `clip_lambda` names a function that this
        optimizer was not constructed with: a state from elsewhere must not choose what gets imported and called."""
        ours = [group["clip_lambda"] for group in self.param_groups]
        for group in state_dict["param_groups"]:
            theirs = group.get("clip_lambda")
            if _is_function_name(theirs) and theirs not in ours:
                raise ValueError(
                    f'the saved state clips with the function "{theirs}"; construct SAVEUS with it to load this state'
                )
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One optimization step; what `closure` returned, if there is one.

        Waits for no device: all that depends on the step number is computed on the host.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for step, parameters in self._batches(group):
                _update(
                    group,
                    step,
                    parameters,
                    ema=[self.state[p]["ema"] for p in parameters],
                    ema_squared=[self.state[p]["ema_squared"] for p in parameters],
                )
        return loss

    def _batches(self, group: dict[str, Any]) -> list[tuple[int, list[Tensor]]]:
        """Parameters with a gradient, together where shape, dtype, device and step number are equal: a LoRA has
        thousands of parameters in a few dozen shapes, and one kernel for a shape is far cheaper than one for each."""
        batches: dict[tuple[Any, ...], list[Tensor]] = {}
        for p in group["params"]:
            if p.grad is None or p.numel() == 0:
                continue
            if p.grad.is_sparse:
                raise RuntimeError(f"SAVEUS does not support sparse gradients (parameter of shape {tuple(p.shape)})")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = 0
                state["ema"] = torch.zeros_like(p)
                state["ema_squared"] = torch.zeros_like(p)
            state["step"] += 1
            batches.setdefault((state["step"], p.shape, p.dtype, p.device), []).append(p)
        return [(key[0], batch) for key, parameters in batches.items() for batch in _cut(parameters)]


def _cut(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Parameters of one shape in batches of at most `_LARGEST_BATCH` numbers, or of one parameter."""
    count = max(1, _LARGEST_BATCH // parameters[0].numel())
    return [parameters[first : first + count] for first in range(0, len(parameters), count)]


def _update(
    group: dict[str, Any],
    step: int,
    parameters: list[Tensor],
    ema: list[Tensor],
    ema_squared: list[Tensor],
) -> None:
    """Moves `parameters`, all of one shape, by their step number `step`. Changes `ema` and `ema_squared` too."""
    beta1, beta2 = group["betas"]
    step_size = float(group["lr"]) / (1 - beta1**step)
    weight_decay = group["weight_decay"]

    # Stacking makes the copy that keeps `p.grad` as it is.
    gradients = torch.stack([p.grad for p in parameters])
    gradients = _centralized(gradients, group["centralization"])
    if group["normalization"] != 0:
        amount = 1.0 if group["normalization_mode"] == "full" else group["normalization"]
        gradients = _normalized(gradients, group["normalize_channels"], amount)
    g = list(gradients.unbind(0))

    torch._foreach_mul_(ema, beta1)
    torch._foreach_add_(ema, g, alpha=1 - beta1)
    torch._foreach_add_(g, ema, alpha=group["amp_fac"])
    torch._foreach_mul_(ema_squared, beta2)
    torch._foreach_addcmul_(ema_squared, g, g, value=1 - beta2)

    denominator = torch._foreach_sqrt(ema_squared)
    torch._foreach_div_(denominator, (1 - beta2**step) ** 0.5)
    torch._foreach_add_(denominator, group["eps"])

    if weight_decay != 0 and group["decouple_weight_decay"]:
        torch._foreach_mul_(parameters, 1 - step_size * weight_decay)
    elif weight_decay != 0:
        torch._foreach_add_(g, parameters, alpha=weight_decay)
    if group["clip_gradients"] and group["clip_lambda"] is not None:
        limit = _clip_limit(group["clip_lambda"], step)
        torch._foreach_clamp_min_(g, -limit)
        torch._foreach_clamp_max_(g, limit)
    torch._foreach_addcdiv_(parameters, g, denominator, value=-step_size)


# Shape letters: N tensors in the batch, R rows, K elements of a row.


def _centralized(gradients: Tensor, amount: float) -> Tensor:
    if amount == 0:
        return gradients
    rows_NRK = _rows(gradients)
    return rows_NRK.sub(rows_NRK.mean(dim=-1, keepdim=True), alpha=amount).view(gradients.shape)


def _normalized(gradients: Tensor, by_row: bool, amount: float) -> Tensor:
    """`amount` 1 divides by the standard deviation, a smaller one goes that part of the way."""
    if by_row and gradients.dim() > 2:
        units = _rows(gradients)
        smallest = 2
    else:
        units = gradients.reshape(gradients.shape[0], 1, -1)
        smallest = 3  # as published: a whole tensor of two elements is left alone
    if units.shape[-1] < smallest:
        return gradients
    normalized = units / _standard_deviation(units).add_(_NORMALIZATION_EPSILON)
    if amount != 1:
        normalized = units + amount * (normalized - units)
    return normalized.view(gradients.shape)


def _standard_deviation(units_NRK: Tensor) -> Tensor:
    """Of each row, [N, R, 1]. torch's own `std` takes ten to twenty times as long on a CPU."""
    spread = units_NRK - units_NRK.mean(dim=-1, keepdim=True)
    return torch.linalg.vector_norm(spread, dim=-1, keepdim=True).div_((units_NRK.shape[-1] - 1) ** 0.5)


def _rows(gradients: Tensor) -> Tensor:
    """[N, …] → [N, R, K], as the top of this file defines a row."""
    count = gradients.shape[0]
    rows = gradients.shape[1] if gradients.dim() > 2 else 1
    return gradients.reshape(count, rows, -1)


def _check_arguments(group: dict[str, Any]) -> None:
    betas = group["betas"]
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"SAVEUS needs two betas from 0 up to, not including, 1; found {betas!r}")
    for name in ("lr", "eps", "weight_decay"):
        if not group[name] >= 0:
            raise ValueError(f"SAVEUS needs {name} to be 0 or more; found {group[name]!r}")
    if group["normalization_mode"] not in ("full", "lerp"):
        raise ValueError(f'SAVEUS needs normalization_mode "full" or "lerp"; found {group["normalization_mode"]!r}')


def _saveable(clip_lambda: ClipLambda) -> Saveable:
    """The form of `clip_lambda` that a group keeps: plain data. Raises ValueError where there is none."""
    if callable(clip_lambda):
        name = f"{clip_lambda.__module__}:{clip_lambda.__qualname__}"
        try:
            found = _import_function(name)
        except (ImportError, AttributeError, ValueError):
            found = None
        if found is not clip_lambda:
            raise ValueError(
                f"clip_lambda {clip_lambda!r} cannot be saved, since importing {name!r} does not give it back; "
                'use text such as "step ** 0.25", or a function at the top level of a module'
            )
        return name
    if _is_function_name(clip_lambda):
        _import_function(clip_lambda)
    elif isinstance(clip_lambda, str):
        expressions.parse(clip_lambda)
    elif clip_lambda is not None:
        expressions.check(clip_lambda)
    return clip_lambda


def _clip_limit(clip_lambda: str | float | dict[str, Any], step: int) -> float:
    if _is_function_name(clip_lambda):
        return float(_import_function(clip_lambda)(step))
    tree = expressions.parse(clip_lambda) if isinstance(clip_lambda, str) else clip_lambda
    return expressions.evaluate(tree, step)


def _is_function_name(value: object) -> bool:
    return isinstance(value, str) and ":" in value


def _import_function(name: str) -> Callable[[int], float]:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f'clip_lambda "{name}" is not a function')
    return found
