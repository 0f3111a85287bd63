"""Predictions of every label a batch has, and their distance from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asesc.models import Model, Prediction
from asesc.response import field_derivative
from asesc.response.forces import stress_from_virial
from asesc.system import System
from asesc.training.data import Batch

#: Errors beyond this many targets count linearly, so that a few wild frames do not rule.
LINEAR_BEYOND = 10.0


@dataclass(frozen=True)
class Differentiable:
    """One evaluation of a model with everything needed for the derivatives of its labels."""

    prediction: Prediction
    system: System
    positions: Tensor
    strain: Tensor | None
    field: Tensor


def evaluate(model: Model, system: System, labels: set[str]) -> Differentiable:
    """Evaluate the model with the inputs that ``labels`` differentiate by requiring gradients."""
    positions = system.positions.detach().clone().requires_grad_()
    field = system.electric_field.detach().clone()
    field.requires_grad_("polarizability" in labels)
    leaf = replace(system, positions=positions, electric_field=field)
    strain = None
    if "stress" in labels:
        strain = torch.zeros_like(system.cell).requires_grad_()
        leaf = leaf.strained(0.5 * (strain + strain.transpose(-1, -2)))
    return Differentiable(model(leaf), system, positions, strain, field)


def residuals(
    model: Model, batch: Batch, targets: Collection[str], *, probe: Tensor | None = None
) -> dict[str, Tensor]:
    """Prediction minus label for every label of the batch among ``targets``, graph attached.

    Parameters
    ----------
    targets : collection of str
    probe : Tensor, (B, 3), V/Å, optional
        Direction in which Born charges are seen. One backward pass of E − ε·μ gives
        −(F + Zᵀε): forces and, for random ε of zero mean, Born charges at the price of forces.
        With ⟨ε_a²⟩ = s² the mean square over components has the expectation ⟨ΔF²⟩ + 3s²⟨ΔZ²⟩.
        Without it Born charges are not looked at.

    Returns
    -------
    dict of str to Tensor
        Energies per atom; dipoles of periodic cells as the nearest branch modulo e·h.
    """
    labels = set(batch.labels) & set(targets)
    if probe is not None:
        # The dipole's strain derivative has no label; leave stress to the batches without probe.
        labels.discard("stress")
    run = evaluate(model, batch.system, labels)
    out = _values(run, batch, labels)
    if labels & {"forces", "stress"}:
        out |= _gradients(run, batch, labels, probe)
    if "polarizability" in labels:
        response = field_derivative(run.prediction, run.field, create_graph=True)
        out["polarizability"] = response - batch.labels["polarizability"]
    return out


def _values(run: Differentiable, batch: Batch, labels: set[str]) -> dict[str, Tensor]:
    prediction, system, known = run.prediction, batch.system, batch.labels
    out = {}
    if "energy" in labels:
        out["energy"] = (prediction.energy - known["energy"]) / system.counts
    if "dipole" in labels:
        out["dipole"] = nearest_branch(prediction.dipole - known["dipole"], system)
    if "charges" in labels:
        out["charges"] = prediction.density.charges - known["charges"]
    if "dipoles" in labels:
        out["dipoles"] = prediction.density.dipoles - known["dipoles"]
    return out


def _gradients(
    run: Differentiable, batch: Batch, labels: set[str], probe: Tensor | None
) -> dict[str, Tensor]:
    scalar = run.prediction.energy.sum()
    target = batch.labels["forces"] if "forces" in labels else None
    if probe is not None and target is not None and "born_charges" in batch.labels:
        # Frames without all Born charges keep their plain forces.
        probe = probe * batch.is_complete("born_charges")[:, None]
        scalar = scalar - (probe * run.prediction.dipole).sum()
        target = target + torch.einsum(
            "ka,kab->kb", probe[batch.system.batch], batch.labels["born_charges"]
        )
    inputs = [run.positions] if run.strain is None else [run.positions, run.strain]
    gradients = torch.autograd.grad(scalar, inputs, create_graph=True)
    out = {}
    if target is not None:
        out["forces"] = -gradients[0] - target
    if run.strain is not None:
        out["stress"] = stress_from_virial(batch.system, gradients[1]) - batch.labels["stress"]
    return out


def nearest_branch(difference: Tensor, system: System) -> Tensor:
    """Remove the polarisation quantum: the image of Δμ nearest to zero modulo e·h, (B, 3).

    Only for three periodic directions; otherwise Δμ itself.
    """
    if not all(system.pbc):
        return difference
    steps = torch.linalg.solve(system.cell.transpose(-1, -2), difference.detach()).round()
    return difference - torch.einsum("ba,bac->bc", steps, system.cell)


def total_loss(
    differences: Mapping[str, Tensor], batch: Batch, targets: Mapping[str, float]
) -> dict[str, Tensor]:
    """Weighted pseudo-Huber loss of every label, in units of its target error.

        ℓ(x) = 2δ² (√(1 + (x/δ)²) − 1),   x² = ⟨Δ²⟩/target²,   δ = :data:`LINEAR_BEYOND`,

    which is x² for errors below δ targets. ⟨Δ²⟩ is the mean over the known components of a row, an
    atom or a structure; the loss is the mean over the rows that know one.
    """
    losses = {}
    for label, difference in differences.items():
        if label not in targets:
            continue
        weights = batch.weights[label].reshape(len(difference), -1)
        known = weights > 0
        rows = torch.where(known, (difference / targets[label]).reshape(known.shape), 0.0)
        x2 = (rows * rows).sum(-1) / known.sum(-1).clamp(min=1) / LINEAR_BEYOND**2
        huber = 2 * LINEAR_BEYOND**2 * (torch.sqrt(1 + x2) - 1)
        losses[label] = (weights.amax(-1) * huber).sum() / known.any(-1).sum().clamp(min=1)
    return losses
