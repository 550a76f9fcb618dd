"""Learning rates against the numbers that sd-scripts' scheduler gives for the guide's recipe."""

from __future__ import annotations

import pytest

from lora_worker.schedules import Constant, Cosine, rate_factor


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 3e-4),
        (1, 2.999349e-4),
        (2, 2.997398e-4),
        (10, 2.935411e-4),
        (20, 2.747204e-4),
        (40, 2.074025e-4),
        (60, 1.207365e-4),
        (79, 0.471034e-4),
        (80, 0.439340e-4),
    ],
)
def test_the_guides_cosine_has_the_published_rates(step, rate):
    assert 3e-4 * rate_factor(Cosine(0.375), step, 80) == pytest.approx(rate, rel=2e-6)


def test_half_a_wave_ends_at_zero_and_more_never_goes_below():
    assert rate_factor(Cosine(0.5), 80, 80) == pytest.approx(0, abs=1e-12)
    assert all(rate_factor(Cosine(3), step, 80) >= 0 for step in range(81))


def test_a_constant_schedule_keeps_the_rate():
    assert [rate_factor(Constant(), step, 10) for step in range(11)] == [1.0] * 11
