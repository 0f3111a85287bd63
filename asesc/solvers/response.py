"""Response of a density to its own potential: (1 + S K) p = b, matrix-free."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asesc.errors import IllPosedError, SCFError
from asesc.solvers.blocks import Blocks
from asesc.solvers.options import SCFOptions
from asesc.solvers.solution import Solution

if TYPE_CHECKING:
    from asesc.system import BlockLayout

Linear = Callable[[Tensor], Tensor]


def solve_response(
    susceptibility: Linear,
    stiffness: Linear,
    rhs: Tensor,
    *,
    layout: BlockLayout,
    start: Tensor | None = None,
    options: SCFOptions | None = None,
) -> tuple[Tensor, Solution]:
    """p with p + S K p = b for symmetric S ≥ 0 and K > 0, without graph: (N, M).

    1 + S K is not symmetric, but it is in the scalar product ⟨p, K p'⟩, in which conjugate
    gradients are run: one product with each of K and S per iteration, whose number goes with the
    root of the largest eigenvalue of 1 + S K, the dielectric constant of the structure, and not
    with its size. What S drives has no net charge, so that K need be positive only there.

    Parameters
    ----------
    susceptibility, stiffness : callable
        S and K, (N, M) → (N, M); one structure's rows depend on its own only.
    rhs : Tensor, (N, M)
        b.
    layout : BlockLayout
    start : Tensor, (N, M), optional
        Near the solution, with the net charge of b.
    options : SCFOptions, optional
        ``tolerance`` is on the largest component of b − p − S K p.

    Raises
    ------
    IllPosedError
        Where K is not positive: the energy has no minimum.
    SCFError
        If ``max_maps`` products do not suffice.
    """
    options, blocks = options or SCFOptions(), Blocks(layout, rhs)

    def on_blocks(product: Linear, vector: Tensor) -> Tensor:
        return blocks.of(product(blocks.rows(vector)))

    with torch.no_grad():
        b = blocks.of(rhs.detach())
        p = b if start is None else blocks.of(start.detach())
        r = b - p - on_blocks(susceptibility, on_blocks(stiffness, p))
        direction = k_direction = torch.zeros_like(r)
        before = torch.full_like(r[:, :1], torch.inf)
        size, history = r.abs().amax(1, keepdim=True), [float(r.abs().max())]
        while not history[-1] <= options.tolerance:  # nor is NaN the end
            if len(history) >= options.max_maps:
                raise SCFError(_too_many(history, options), history=history)
            k_r = on_blocks(stiffness, r)
            norm = (r * k_r).sum(1, keepdim=True)
            going = ~(size <= options.tolerance)
            _require_positive(norm, going)
            direction, k_direction = (
                new + norm / before * old for new, old in ((r, direction), (k_r, k_direction))
            )
            image = direction + on_blocks(susceptibility, k_direction)
            curvature = (k_direction * image).sum(1, keepdim=True)
            # Structures that have converged stand still.
            length = torch.where(going, norm / curvature, 0)
            p, r = p + length * direction, r - length * image
            before = torch.where(going, norm, torch.inf)
            size = r.abs().amax(1, keepdim=True)
            history.append(float(size.max()))
    solution = Solution("response CG", True, len(history), history[-1], history=tuple(history))
    return blocks.rows(p), solution


def response_inverse(
    susceptibility: Linear, stiffness: Linear, *, layout: BlockLayout, options: SCFOptions
) -> Callable[[Tensor, bool], Tensor]:
    """``inverse(v, transposed)`` = (1 + S K)⁻¹ v for :func:`~.adjoint.attach_derivatives`.

    Its transpose is 1 − K (1 + S K)⁻¹ S, so that one kind of solve serves both. ``tolerance`` is
    relative to vectors whose components are below 1, so that small ones are not taken for zero.
    """

    def solve(rhs: Tensor) -> Tensor:
        # From b itself, whose net charge S cannot change and on which K need not be positive.
        blocks = Blocks(layout, rhs)
        size = blocks.of(rhs).abs().amax(1, keepdim=True).clamp(max=1)
        size = torch.where(size > 0, size, 1.0)
        scaled = blocks.rows(blocks.of(rhs) / size)
        solved, _ = solve_response(
            susceptibility, stiffness, scaled, layout=layout, options=options
        )
        return blocks.rows(blocks.of(solved) * size)

    def inverse(vector: Tensor, transposed: bool) -> Tensor:
        if not transposed:
            return solve(vector)
        return vector - stiffness(solve(susceptibility(vector)))

    return inverse


def _require_positive(norm: Tensor, going: Tensor) -> None:
    wrong = going & ~(norm > 0)
    if bool(wrong.any()):
        block = int(wrong.nonzero()[0, 0])
        raise IllPosedError(
            f"a change of the density of structure {block} has the energy "
            f"{0.5 * float(norm[block]):.3g} eV, which is not positive: there is no minimum. Check "
            "the geometry for coinciding atoms and the model's parameters for NaN"
        )


def _too_many(history: list[float], options: SCFOptions) -> str:
    return (
        f"the linear response was not found: residual {history[-1]:.1e} (tolerance "
        f"{options.tolerance:.0e}) after {len(history)} maps. Allow more, scf={{'max_maps': "
        f"{4 * options.max_maps}}}, or check the geometry for coinciding atoms"
    )
