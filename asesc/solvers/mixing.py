"""Anderson mixing of every structure on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asesc.solvers.counted import CountedResidual
from asesc.solvers.subspace import Subspace

#: Damping of the first step and bounds of the damping that mixing finds for itself.
_START, _LEAST, _MOST = 0.3, 0.01, 1.0
#: Residual over the least so far, above which a trial only teaches and is not kept.
_GROWTH = 1.1
#: Failures in a row after which what was learned is forgotten, and in total before giving up.
_FORGET, _GIVE_UP = 3, 6
#: Maps in which the residual must halve, without and with a preconditioner.
_PATIENCE, _PATIENCE_SCREENED = 8, 4
#: A damping below this means a response too stiff for mixing without a preconditioner.
_STIFF = 0.12


def anderson(
    counted: CountedResidual,
    x: Tensor,
    r: Tensor,
    active: Tensor,
    *,
    pairs: Subspace,
    precondition: Callable[[Tensor], Tensor] | None = None,
    leave_when_stiff: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix until every structure has converged or given up: x, r(x), still active.

    With pairs of earlier steps and residual changes the next trial is

        x ← x̄ − β P r̄,

    x̄ the point of least predicted residual r̄ (see :class:`Subspace`), P the preconditioner. The
    damping β follows the map: with the image A P r̄ = (r̄ − r_trial)/β just seen, the β that would
    have left the least residual. A trial with a larger residual is not kept, but its pair is, since
    for a linear map it is as good as any; after several such trials in a row the pairs of that
    structure are dropped, as they describe another regime of a nonlinear map.

    Parameters
    ----------
    counted : CountedResidual
    x, r : Tensor, (B, d)
    active : Tensor, (B,), bool
        Structures to work on; the others stay where they are.
    pairs : Subspace
        Extended here; may carry over from an earlier stage.
    precondition : callable, optional
        (B, d) → (B, d).
    leave_when_stiff : bool
        Give up at the first sign of a stiff response, because a preconditioner comes next.

    References
    ----------
    D. G. Anderson, J. ACM 12, 547 (1965), doi:10.1145/321296.321305.
    H. F. Walker, P. Ni, SIAM J. Numer. Anal. 49, 1715 (2011), doi:10.1137/10078356X.
    """
    trying, patience = active, _PATIENCE if precondition is None else _PATIENCE_SCREENED
    damping = torch.full_like(r[:, 0], _START)
    failures, in_a_row = torch.zeros_like(damping), torch.zeros_like(damping)
    least = torch.linalg.vector_norm(r, dim=-1)
    milestone, since = least, torch.zeros_like(damping)
    while bool(trying.any()) and counted.tally.left > 0:
        x_bar, r_bar = pairs.project(x, r)
        step = r_bar if precondition is None else precondition(r_bar)
        trial = torch.where(trying[:, None], x_bar - damping[:, None] * step, x)
        r_trial = torch.where(trying[:, None], counted(trial), r)
        pairs.add(trial - x, r_trial - r)
        damping = torch.where(trying, _best_damping(r_bar, r_trial, damping), damping)

        size_trial = torch.linalg.vector_norm(r_trial, dim=-1)
        kept = size_trial < _GROWTH * least
        x, r = torch.where(kept[:, None], trial, x), torch.where(kept[:, None], r_trial, r)
        least = torch.minimum(least, size_trial)
        failures, in_a_row = failures + ~kept, torch.where(kept, 0, in_a_row + 1)
        pairs.forget(in_a_row >= _FORGET)
        in_a_row = torch.where(in_a_row >= _FORGET, 0, in_a_row)

        halved = least < 0.5 * milestone
        milestone, since = torch.where(halved, least, milestone), torch.where(halved, 0, since + 1)
        active = active & ~counted.converged(r)
        trying = trying & active & (failures < _GIVE_UP) & (since < patience)
        if leave_when_stiff:
            trying = trying & (damping > _STIFF)
    return x, r, active


def _best_damping(r_bar: Tensor, r_trial: Tensor, damping: Tensor) -> Tensor:
    """β that minimises |r̄ − β A P r̄|, (B,)."""
    image = (r_bar - r_trial) / damping[:, None]
    best = (r_bar * image).sum(-1) / (image * image).sum(-1)
    return torch.nan_to_num(best, nan=_START).clamp(_LEAST, _MOST)
