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

    def state_at(charge: Tensor) -> State:
        return solve(replace(problem, system=replace(problem.system, charge=charge)))

    def mismatch(charge: Tensor) -> Tensor:
        return state_at(charge).chemical_potential + problem.system.fermi_level

    charge, curvature, history = _newton(mismatch, problem)
    charge = attach_derivatives(charge, mismatch, lambda v, transposed: v / curvature)
    state = state_at(charge)
    n = len(charge)
    stage = Stage("charge, Newton", n, n, len(history), len(history), history[-1])
    solution = state.solution
    solution = replace(
        solution,
        method=f"{solution.method} at fixed Fermi level",
        iterations=solution.iterations * (len(history) + 1),
        stages=(*solution.stages, stage),
    )
    return replace(state, solution=solution)


def _newton(
    mismatch: Callable[[Tensor], Tensor], problem: Problem
) -> tuple[Tensor, Tensor, list[float]]:
    """Charges (B,) where ∂E/∂Q + μ = 0, the curvatures ∂²E/∂Q² there, and steps in e."""
    charge = torch.zeros_like(problem.system.fermi_level).detach()
    low, high = torch.full_like(charge, -torch.inf), torch.full_like(charge, torch.inf)
    history: list[float] = []
    while len(history) < _MAX_SOLVES:
        value, curvature = _value_and_slope(mismatch, charge)
        _require_convex(curvature, charge)
        low, high = torch.where(value < 0, charge, low), torch.where(value > 0, charge, high)
        step = -value / curvature
        history.append(float(step.abs().max()))
        if history[-1] < problem.options.tolerance:
            return charge + step, curvature, history
        trial = charge + step
        inside = (trial > low) & (trial < high)
        charge = torch.where(inside, trial, 0.5 * (low + high))
    raise SCFError(
        f"the charge at the Fermi level was not found in {_MAX_SOLVES} solves; the last step was "
        f"{history[-1]:.1e} e. Check the Fermi level (eV, electrons; about −5 for a metal), or "
        "fix the charge",
        history=history,
    )


@torch.enable_grad()
def _value_and_slope(function: Callable[[Tensor], Tensor], charge: Tensor) -> tuple[Tensor, Tensor]:
    """f(Q) and df/dQ of every structure, without graph."""
    charge = charge.detach().requires_grad_()
    value = function(charge)
    (slope,) = torch.autograd.grad(value.sum(), charge)
    return value.detach(), slope


def _require_convex(curvature: Tensor, charge: Tensor) -> None:
    wrong = ~(curvature > 0)
    if bool(wrong.any()):
        b = int(wrong.nonzero()[0])
        raise IllPosedError(
            f"at the charge {float(charge[b]):.3g} e of structure {b}, d²E/dQ² is "
            f"{float(curvature[b]):.3g} V/e and not positive: the grand energy has no minimum and "
            "a reservoir would charge the structure without end, as it does a slab that has no "
            "counter-charge: choose boundary='electrodes', or three periodic directions (uniform "
            "background), or fix the charge"
        )
