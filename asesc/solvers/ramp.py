"""Follow the solution while field and excess charge are switched on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asesc.solvers.counted import CountedResidual
from asesc.solvers.mixing import anderson
from asesc.solvers.newton import newton_krylov
from asesc.solvers.subspace import Subspace

#: First step in the strength s, and the step at which a structure gives up.
_FIRST, _LEAST = 0.25, 1 / 256
#: Tolerance along the way, where only the basin of the solution matters.
_ON_THE_WAY = 1e-4


def ramp(
    counted: CountedResidual,
    ramped: Callable[[Tensor, Tensor], Tensor],
    origin: Tensor,
    x: Tensor,
    r: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve r(x; s) = 0 for s from 0 to 1: x, r(x), still active.

    Every structure has its own s. The next solution is predicted on the line through the last two
    and corrected by Newton–Krylov steps; a failed correction halves the step in s, a good one
    doubles it. The path is lost where the solution turns back in s (a fold).

    Parameters
    ----------
    counted : CountedResidual
        The full residual, s = 1.
    ramped : callable
        r(x, s) on rows (N, M) for strengths s (B,).
    origin : Tensor, (B, d)
        Where to start at s = 0.
    x, r : Tensor, (B, d)
        Kept for the structures that do not arrive.
    """

    def correct(x: Tensor, s: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        path = counted.replaced(lambda p: ramped(p, s), max(_ON_THE_WAY, counted.tolerance))
        r = path(x)
        left = which & ~path.converged(r)
        if not bool((s[which] > 0).any()):
            x, r, left = anderson(path, x, r, left, pairs=Subspace(8))
        x, r, left = newton_krylov(path, x, r, left)
        return x, which & ~left

    strength = torch.where(active, 0.0, torch.ones_like(x[:, 0]))
    here, on_path = correct(origin, strength, active)
    before, increment = here, torch.full_like(strength, _FIRST)
    last = torch.ones_like(strength)
    while bool((on_path & (strength < 1)).any()) and counted.tally.left > 0:
        going = on_path & (strength < 1)
        trial = torch.where(going, (strength + increment).clamp(max=1.0), strength)
        ahead = ((trial - strength) / last)[:, None]
        predicted = torch.where(going[:, None], here + ahead * (here - before), here)
        found, solved = correct(predicted, trial, going)
        last = torch.where(solved, trial - strength, last)
        before = torch.where(solved[:, None], here, before)
        here = torch.where(solved[:, None], found, here)
        strength = torch.where(solved, trial, strength)
        increment = increment * torch.where(solved, 2.0, 0.5)
        on_path = on_path & (increment > _LEAST)
    return _arrive(counted, here, on_path & (strength >= 1), x, r, active)


def _arrive(
    counted: CountedResidual, here: Tensor, arrived: Tensor, x: Tensor, r: Tensor, active: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Converge what reached the end of the ramp; the others keep their x and stay active."""
    if not bool(arrived.any()):
        return x, r, active
    x = torch.where(arrived[:, None], here, x)
    r = torch.where(arrived[:, None], counted(x), r)
    x, r, left = newton_krylov(counted, x, r, arrived & ~counted.converged(r))
    return x, r, active & (left | ~arrived)
