"""The fixed Fermi level: how much charge a reservoir of electrons gives to a structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.errors import IllPosedError, SCFError
from asesc.solvers import Stage, attach_derivatives

if TYPE_CHECKING:
    from asesc.models.base import Problem, State

_MAX_SOLVES = 60


def find_charge(solve: Callable[[Problem], State], problem: Problem) -> State:
    """Minimise the grand energy Ω(Q) = E(Q) + μQ of every structure over its charge.

    With N_e = −Q electrons in excess and the Fermi level μ = ∂E/∂N_e, Ω = E − μN_e is least where

        ∂E/∂Q (Q) = −μ,    dΩ/dμ = Q = −N_e.

    E(Q) of a variational family is convex, so that its slope is monotone: Newton's method between
    brackets finds the root. The charge that is returned has two exact derivatives with respect to
    everything, of which forces, stress and Hessian need one.

    Parameters
    ----------
    solve : callable
        The family's density at fixed charge, with ``chemical_potential`` = ∂E/∂Q differentiable
        in the charge.
    problem : Problem
        With ``system.fermi_level``.

    Raises
    ------
    IllPosedError
        Where E(Q) is not convex.
    SCFError
        If the charge is not found.

    Notes
    -----
    A quadratic family costs three solves, and two more where derivatives are wanted.
    """

    level = problem.system.fermi_level

    def state_at(charge: Tensor) -> State:
        return solve(replace(problem, system=replace(problem.system, charge=charge)))

    def mismatch(charge: Tensor) -> Tensor:
        return state_at(charge).chemical_potential + level

    start = torch.zeros_like(level).detach()
    root = increasing_root(mismatch, start, tolerance=problem.options.tolerance)
    if root is None:
        raise SCFError(
            f"no charge was found at fermi_level={level.tolist()} eV. The level is that of the "
            "electrons, about −5 eV for a metal; check its sign and unit, or fix the charge"
        )
    charge, curvature, steps = root
    charge = attach_derivatives(charge, mismatch, lambda v, transposed: v / curvature)
    state = state_at(charge)
    n = len(charge)
    stage = Stage("charge, Newton", n, n, maps=len(steps), products=len(steps), residual=steps[-1])
    solution = state.solution
    solution = replace(
        solution,
        method=f"{solution.method} at fixed Fermi level",
        iterations=solution.iterations * (len(steps) + 1),
        stages=(*solution.stages, stage),
    )
    return replace(state, solution=solution)


def increasing_root(
    function: Callable[[Tensor], Tensor], start: Tensor, *, tolerance: float
) -> tuple[Tensor, Tensor, list[float]] | None:
    """x with f(x) = 0 for functions that increase, one per structure, without graph.

    Newton's method, and bisection where it leaves the bracket; f is differentiated by autograd.

    Parameters
    ----------
    function : callable
        (B,) → (B,); every component depends on its own x only.
    start : Tensor, (B,)
    tolerance : float
        On the last step, in units of 1 + abs(x).

    Returns
    -------
    (x, slope, steps) or None
        Root (B,), df/dx there (B,) and the largest step of every iteration; None if there are too
        many.

    Raises
    ------
    IllPosedError
        Where the slope is not positive.
    """
    x, steps = start, []
    low, high = torch.full_like(x, -torch.inf), torch.full_like(x, torch.inf)
    while len(steps) < _MAX_SOLVES:
        value, slope = _value_and_slope(function, x)
        require_minimum(slope)
        low, high = torch.where(value < 0, x, low), torch.where(value > 0, x, high)
        trial = x - value / slope
        steps.append(float(((trial - x) / (1 + x.abs())).abs().max()))
        if steps[-1] < tolerance:
            return trial, slope, steps
        # A root found to rounding is its own next trial, while other structures still search.
        inside = (trial >= low) & (trial <= high)
        x = torch.where(inside, trial, 0.5 * (low + high))
    return None


@torch.enable_grad()
def _value_and_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and df/dx of every structure, without graph."""
    x = x.detach().requires_grad_()
    value = function(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def require_minimum(curvature: Tensor) -> None:
    """Refuse a structure that a reservoir would charge without end.

    Parameters
    ----------
    curvature : Tensor, (B,), V/e
        d²E/dQ², or anything else that is positive where E(Q) is convex.

    Raises
    ------
    IllPosedError
    """
    wrong = ~(curvature > 0)
    if bool(wrong.any()):
        b = int(wrong.nonzero()[0])
        if bool(curvature[b].isnan()):
            raise IllPosedError(
                f"the response of structure {b} to charge is not a number. Check the geometry for "
                "coinciding atoms and the model's parameters for NaN"
            )
        raise IllPosedError(
            f"charging structure {b} lowers its energy ever more steeply (d²E/dQ² = "
            f"{float(curvature[b]):.3g} V/e is not positive), so that no charge belongs to a "
            "Fermi level. A slab without counter-charge does this: choose boundary='electrodes', "
            "or three periodic directions (uniform background), or fix the charge"
        )
