"""Schedule expressions compute arithmetic and nothing else."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_worker.expressions import ExpressionError, check, evaluate, parse, text

numbers = st.integers(-50, 50) | st.floats(-50, 50, allow_nan=False)
trees = st.recursive(
    numbers | st.just("step"),
    lambda inner: (
        st.fixed_dictionaries({"op": st.sampled_from(["+", "-", "*", "/", "**"]), "left": inner, "right": inner})
        | st.fixed_dictionaries({"op": st.just("negate"), "of": inner})
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("written", "step", "value"),
    [
        ("step ** 0.25", 16, 2.0),
        ("1 + 2 * step", 3, 7.0),
        ("(1 + 2) * step", 3, 9.0),
        ("-step ** 2", 3, -9.0),
        ("2 ** 3 ** 2", 1, 512.0),
        ("8 / 2 / 2", 1, 2.0),
        ("+1e-3", 1, 0.001),
        (" step\n", 4, 4.0),
    ],
)
def test_text_means_what_arithmetic_means(written, step, value):
    assert evaluate(parse(written), step) == value


@given(trees, st.integers(1, 1000))
def test_a_tree_and_its_text_are_worth_the_same(tree, step):
    check(tree)
    assert value_or_none(parse(text(tree)), step) == value_or_none(tree, step)


def value_or_none(tree, step):
    try:
        return evaluate(tree, step)
    except ExpressionError:
        return None


@pytest.mark.parametrize(
    "written",
    [
        *("", "stop", "step +", "__import__('os')", "step.real", "f(step)", "[1]", "True", "'a'", "1j", "step // 2"),
        *("step if step else 1", "1 < 2", "(" * 500 + "1" + ")" * 500, "1" + "+1" * 5000),
    ],
)
def test_anything_but_arithmetic_is_refused(written):
    with pytest.raises(ExpressionError):
        parse(written)


@pytest.mark.parametrize("tree", [None, True, "stop", [], {}, {"op": "%", "left": 1, "right": 2}, float("nan")])
def test_a_malformed_tree_is_refused(tree):
    with pytest.raises(ExpressionError):
        check(tree)


@pytest.mark.parametrize(
    "written", ["1 / (step - 1)", "(0 - step) ** 0.5", "9 ** 9 ** 9 ** 9", "1e308 * 10", "1 + (0 - 1) ** 0.5"]
)
def test_a_value_that_is_not_finite_is_an_error_and_never_takes_long(written):
    with pytest.raises(ExpressionError, match="no finite value at step 1"):
        evaluate(parse(written), 1)


TABLE = Path(__file__).parents[2] / "test" / "fixtures" / "schedules.json"
# What two libraries of functions may round differently, and little else.
CLOSE = 1e-12
OPERATORS = ("+", "-", "*", "/", "**")


def written_cases():
    """Edges that the two languages see differently unless told otherwise, and what people write."""
    texts = [
        *("step ** 0.25", "0.5", "(step + 1) ** 0.5 / 10", "1 / (step - 1)", "step - 3", "-step ** 2", "2 ** -step"),
        *("1 / (1 / (step - 1))", "(1 - step) ** 0.5", "((0 - step) ** 0.5) ** 0", "10 ** 400", "0 * 10 ** 400"),
        *("1e308 * 10", "1 / (1e308 * 10)", "1 ** (1e308 * 10)", "(-1) ** (1e308 * 10)", "(1e308 * 10) ** 0"),
        *("1 ** (1e308 * 10 - 1e308 * 10)", "(1e308 * 10 - 1e308 * 10) ** 0", "0 ** (0 - 1e308 * 10)", "0 ** -1"),
        *("(-8) ** (1 / 3)", "(-8) ** 3", "(-1e300) ** 1000.5 * 0", "((-1e300) ** 1.5) ** 0", "0 / 0", "5e-324 / 2"),
        *("(1e308 * 10) / 0", "0.1 + 0.2", "step / 3", "1e16 + 1 - 1e16", "-0.0", "0 ** 0", "step ** step"),
    ]
    return [(parse(one), step) for one in texts for step in (1, 2, 3, 80)]


def random_cases(source, count):
    def number():
        return source.choice([source.randint(-9, 9), round(source.uniform(-20, 20), 3), 10.0 ** source.randint(-9, 9)])

    def tree(depth):
        kind = source.random()
        if depth == 0 or kind < 0.25:
            return "step" if source.random() < 0.3 else number()
        if kind < 0.35:
            return {"op": "negate", "of": tree(depth - 1)}
        return {"op": source.choice(list(OPERATORS)), "left": tree(depth - 1), "right": tree(depth - 1)}

    return [(tree(3), source.choice([1, 2, 7, 80, 10_000])) for _ in range(count)]


def test_the_table_that_typescript_is_held_to_is_what_is_computed_here():
    """UPDATE=1 writes it anew."""
    cases = [*written_cases(), *random_cases(random.Random(1), 400)]
    if os.environ.get("UPDATE"):
        rows = [json.dumps({"tree": tree, "step": step, "value": value_or_none(tree, step)}) for tree, step in cases]
        TABLE.write_text("[\n" + ",\n".join(rows) + "\n]\n")
    table = json.loads(TABLE.read_text())
    assert [(row["tree"], row["step"]) for row in table] == cases
    for row in table:
        value = value_or_none(row["tree"], row["step"])
        if row["value"] is None:
            assert value is None, row
        else:
            assert value == pytest.approx(row["value"], rel=CLOSE, abs=CLOSE), row
