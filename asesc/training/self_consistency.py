"""Training a density that is its own answer: on the map itself, and on how strongly it answers.

The default needs nothing of this file: predictions carry the exact derivatives of the converged
density (implicit differentiation), so that every label trains the map through its fixed point.
Direct training looks at one application of the map to the reference density instead, which for an
energy functional says that the reference is stationary. It is cheap, but a map that is right at the
reference may lead away from it when iterated; begin with it and end without.

References
----------
arXiv:2603.14700, eqs. 75 (direct, functionals), 76 and 78 (direct, maps), 80 to 85 (implicit).
"""

from __future__ import annotations

import torch
from torch import Tensor

from asesc.errors import InputError
from asesc.models import EnergyFunctional, FixedPoint, Model
from asesc.models.moments import coefficients_of
from asesc.solvers import spectral_radius
from asesc.training.config import TrainingConfig
from asesc.training.data import Batch


def require_map(model: Model, config: TrainingConfig) -> None:
    """Refuse settings that a model without a map would ignore.

    Raises
    ------
    InputError
    """
    settings = config.self_consistency
    if settings.spectral_radius and not isinstance(model, FixedPoint):
        raise InputError(
            f"self_consistency: spectral_radius is for a map that is iterated; {model.family} has "
            "none. Remove it or train FixedPoint"
        )
    if settings.direct and not _has_image(model):
        raise InputError(
            f"self_consistency: direct is for families whose density answers itself; "
            f"{model.family} is not one. Remove it or train FixedPoint or a convex EnergyFunctional"
        )


def _has_image(model: Model) -> bool:
    """Whether one application of a map tells a wrong density from the right one."""
    return isinstance(model, FixedPoint) or (
        isinstance(model, EnergyFunctional) and not model.localises_charge
    )


def map_residuals(model: FixedPoint | EnergyFunctional, batch: Batch) -> dict[str, Tensor]:
    """F(p_ref) − p_ref for every structure whose density is labelled, graph attached.

    Returns
    -------
    dict of str to Tensor
        ``"charges"`` (N,) and, where the model has them, ``"dipoles"`` (N, 3). The rows of
        structures without a full reference density are zero.

    Raises
    ------
    InputError
        If the batch has no reference densities at all.
    """
    needed = ("charges", "dipoles") if model.lmax > 0 else ("charges",)
    missing = [label for label in needed if label not in batch.labels]
    if missing:
        raise InputError(
            f"direct training compares F(p) with p at the reference density, but no frame has "
            f"{' and '.join(missing)}; label the frames or set self_consistency: {{direct: 0}}"
        )
    labels = batch.labels
    reference = coefficients_of(labels["charges"], labels.get("dipoles"), model.lmax)
    mapped = model.image(model.problem(batch.system), reference)
    known = torch.stack([batch.is_complete(label) for label in needed]).all(0)
    change = torch.where(known[batch.system.batch][:, None], mapped - reference, 0.0)
    return (
        {"charges": change[:, 0], "dipoles": change[:, 1:4]}
        if model.lmax
        else {"charges": change[:, 0]}
    )


def spectral_penalty(model: FixedPoint, batch: Batch, largest: float) -> Tensor:
    """Mean of max(0, ρ − ρ₀)² over the structures, ρ the spectral radius of ∂F/∂p at p = F(p).

    Parameters
    ----------
    largest : float
        ρ₀. Plain iteration converges below 1; mixing and Newton steps get dearer with ρ.
    """
    problem = model.problem(batch.system)
    density_map = model.density_map(problem)
    with torch.no_grad():
        coefficients = model.solve(problem).coefficients
    radius = spectral_radius(density_map.residual, coefficients, layout=problem.system.layout)
    return torch.relu(radius - largest).pow(2).mean()
