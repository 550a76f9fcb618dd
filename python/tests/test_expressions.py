"""Schedule expressions compute arithmetic and nothing else."""

from __future__ import annotations

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
