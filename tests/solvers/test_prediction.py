"""The always stable predictor-corrector against its order, its stability and Kolafa's tables."""

import math

import pytest
import torch

from asesc.errors import InputError
from asesc.solvers import Aspc


def test_coefficients_are_those_published():
    """doi:10.1002/jcc.10385, table 1: k = 0, 1 and 2."""
    assert Aspc(0).weights == (2.0, -1.0)
    assert Aspc(0).damping == pytest.approx(2 / 3)
    assert Aspc(1).weights == pytest.approx((2.5, -2.0, 0.5))
    assert Aspc(1).damping == pytest.approx(3 / 5)
    assert Aspc(2).weights == pytest.approx((2.8, -2.8, 1.2, -0.2))
    assert Aspc(2).damping == pytest.approx(4 / 7)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_order_of_the_prediction(order):
    """Constants are exact, and the error is O(h²) whatever the order."""

    def error(h: float) -> float:
        aspc = Aspc(order)
        for j in range(order + 2, 0, -1):
            aspc.push(torch.tensor([math.sin(1.0 - j * h), 1.0], dtype=torch.float64))
        predicted = aspc.predict()
        assert float(predicted[1]) == pytest.approx(1.0, rel=1e-14)
        return abs(float(predicted[0]) - math.sin(1.0))

    observed = math.log2(error(0.02) / error(0.01))
    assert observed == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("slope", [-0.9, -0.5, 0.3])
def test_it_follows_a_moving_fixed_point(slope):
    """x = a(t) + slope·x with one map per step stays near the solution for ever."""
    aspc, omega = Aspc(2), Aspc(2).damping
    h, worst = 0.05, 0.0
    for step in range(1000):
        target = math.sin(h * step)  # the fixed point; the map contracts towards it by slope
        x = aspc.predict() if aspc.is_ready else torch.tensor([target], dtype=torch.float64)
        image = target + slope * (x - target)
        x = x + omega * (image - x)
        aspc.push(x)
        worst = max(worst, abs(float(x) - target))
    assert worst < 3 * h**2


def test_before_there_are_enough_values():
    aspc = Aspc(2)
    assert aspc.predict() is None
    for value in (1.0, 2.0):
        aspc.push(torch.tensor([value]))
    assert not aspc.is_ready
    assert float(aspc.predict()) == 3.0
    twin = Aspc(2)
    twin.restore(aspc.history)
    assert float(twin.predict()) == 3.0
    aspc.clear()
    assert aspc.predict() is None
    with pytest.raises(InputError, match="2 is usual"):
        Aspc(-1)
