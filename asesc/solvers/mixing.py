"""Anderson mixing of every structure on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from asesc.solvers.counted import CountedResidual
from asesc.solvers.subspace import Subspace


def anderson(
    counted: CountedResidual,
    x: Tensor,
    r: Tensor,
    active: Tensor,
    *,
    depth: int,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """x, r(x) and the structures still unconverged."""
    pairs = Subspace(depth)
    damping = torch.full_like(r[:, :1], 0.3)
    rejected = torch.zeros_like(damping)
    while bool(active.any()) and counted.spent < 60:
        x_bar, r_bar = pairs.project(x, r)
        step = x_bar - damping * (precondition(r_bar) if precondition else r_bar)
        trial = torch.where(active[:, None], step, x)
        r_trial = torch.where(active[:, None], counted(trial), r)
        pairs.add(trial - x, r_trial - r)
        size, size_trial = (torch.linalg.vector_norm(v, dim=-1, keepdim=True) for v in (r, r_trial))
        accepted = size_trial < 2 * size
        image = (r_bar - r_trial) / damping
        best = (r_bar * image).sum(-1, keepdim=True) / (image * image).sum(-1, keepdim=True)
        damping = torch.where(active[:, None], best.clamp(0.01, 1.0), damping)
        rejected = torch.where(accepted, 0, rejected + 1)
        pairs.forget((rejected > 2)[:, 0])
        x, r = torch.where(accepted, trial, x), torch.where(accepted, r_trial, r)
        active = active & ~counted.converged(r)
    return x, r, active
