"""Schedule expressions: arithmetic over `step`, kept as a tree and never run as code.

A tree is JSON: a number, the word "step", `{"op": "+", "left": …, "right": …}` with one of
`+ - * / **`, or `{"op": "negate", "of": …}`. It is the type `ScheduleExpression` of
src/runtime/worker/protocol.ts. The same thing can be written as text, `step ** 0.25`, which
`parse` turns into a tree. Nothing outside the standard library is imported here, so that
`lora_worker.saveus` works wherever torch does.
"""

from __future__ import annotations

import ast
import math
import operator
from typing import Any

Expression = float | str | dict[str, Any]

# Always on floats: with integers, `9 ** 9 ** 9` would compute for hours.
_OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}
_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_DEEPEST = 200


class ExpressionError(ValueError):
    """The expression is not arithmetic over `step`, or has no finite value at a step."""


def parse(text: str) -> Expression:
    """The tree of a text such as `step ** 0.25`. Raises ExpressionError for anything but arithmetic."""
    try:
        body = ast.parse(text.strip(), mode="eval").body
        tree = _tree(body, text)
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, ExpressionError):
            raise
        raise ExpressionError(f'"{text}" is not arithmetic over `step`') from error
    check(tree)
    return tree


def check(tree: object, depth: int = 0) -> None:
    """Raises ExpressionError unless `tree` has the form described at the top of this file."""
    if depth > _DEEPEST:
        raise ExpressionError(f"the expression is nested more than {_DEEPEST} levels deep")
    if _is_number(tree):
        if not math.isfinite(tree):
            raise ExpressionError(f"{tree!r} is not a finite number")
    elif isinstance(tree, dict) and tree.get("op") == "negate" and tree.keys() == {"op", "of"}:
        check(tree["of"], depth + 1)
    elif isinstance(tree, dict) and tree.get("op") in _OPERATIONS and tree.keys() == {"op", "left", "right"}:
        check(tree["left"], depth + 1)
        check(tree["right"], depth + 1)
    elif tree != "step":
        raise ExpressionError(f"{tree!r} is not a part of a schedule expression")


def evaluate(tree: Expression, step: int) -> float:
    """The value at a step (1-based). Raises ExpressionError where there is none, as in `1 / (step - 1)` at 1."""
    try:
        value = _value(tree, float(step))
    except (ZeroDivisionError, OverflowError):
        value = math.nan
    if isinstance(value, complex) or not math.isfinite(value):
        raise ExpressionError(f"the expression {text(tree)} has no finite value at step {step}")
    return value


def text(tree: Expression) -> str:
    """The expression as one would write it, with brackets around every nested operation."""
    if not isinstance(tree, dict):
        return str(tree)
    if tree["op"] == "negate":
        return f"-{_inner_text(tree['of'])}"
    return f"{_inner_text(tree['left'])} {tree['op']} {_inner_text(tree['right'])}"


def _inner_text(tree: Expression) -> str:
    written = text(tree)
    return f"({written})" if isinstance(tree, dict) or written.startswith("-") else written


def _value(tree: Expression, step: float) -> float:
    if isinstance(tree, dict):
        if tree["op"] == "negate":
            return -_value(tree["of"], step)
        left, right = _value(tree["left"], step), _value(tree["right"], step)
        # A negative number to a broken power is complex in Python, and a complex number does not add up to a float.
        if isinstance(left, complex) or isinstance(right, complex):
            return math.nan
        return _OPERATIONS[tree["op"]](left, right)
    return step if tree == "step" else float(tree)


def _tree(node: ast.expr, whole: str) -> Expression:
    if isinstance(node, ast.Constant) and _is_number(node.value):
        return node.value
    if isinstance(node, ast.Name) and node.id == "step":
        return "step"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return {"op": "negate", "of": _tree(node.operand, whole)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd):
        return _tree(node.operand, whole)
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        return {
            "op": _SIGNS[type(node.op)],
            "left": _tree(node.left, whole),
            "right": _tree(node.right, whole),
        }
    raise ExpressionError(
        f'"{whole}" is not arithmetic over `step`: `{ast.get_source_segment(whole.strip(), node)}` is not allowed'
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
