"""What a model says about the labels of a batch, beside what the batch says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from asesc.models import Model, Prediction
from asesc.response import field_derivative
from asesc.response.forces import stress_from_virial
from asesc.system import System
from asesc.training.data import Batch


class Compared(NamedTuple):
    """A label and its prediction, of one shape; energies per atom."""

    reference: Tensor
    predicted: Tensor


def compare(
    model: Model,
    batch: Batch,
    labels: Collection[str],
    *,
    probe: Tensor | None = None,
    create_graph: bool = False,
) -> dict[str, Compared]:
    """Evaluate a batch in its field and put predictions beside the labels named.

    Parameters
    ----------
    labels : collection of str
        Among those of the batch. Born charges are computed in full, by three backward passes. A
        Fermi level is left out where the family has none, or none in this field.
    probe : Tensor, (B, 3), V/Å, optional
        See the forces of E − ε·μ, which are F + Zᵀε, instead of F, in structures that know all
        their Born charges.
    create_graph : bool
        Keep the graph, for training.

    Returns
    -------
    dict of str to Compared
        Dipoles of periodic cells are predicted on the label's branch modulo e·h.
    """
    labels = set(labels)
    run = _evaluate(model, batch.system, labels)
    if probe is not None:
        probe = probe * batch.is_complete("born_charges")[:, None]
    predicted = _density(run, labels)
    predicted |= _responses(run, labels, create_graph)
    predicted |= _gradients(run, labels, probe, create_graph)
    reference = {label: batch.labels[label] for label in predicted}
    if "energy" in predicted:
        for values in (reference, predicted):
            values["energy"] = values["energy"] / batch.system.counts
    if "dipole" in predicted:
        difference = predicted["dipole"] - reference["dipole"]
        predicted["dipole"] = reference["dipole"] + nearest_branch(difference, batch.system)
    if "forces" in predicted and probe is not None:
        reference["forces"] = reference["forces"] + torch.einsum(
            "ka,kab->kb", probe[batch.system.batch], batch.labels["born_charges"]
        )
    return {label: Compared(reference[label], predicted[label]) for label in predicted}


@dataclass(frozen=True)
class _Run:
    """One evaluation and the inputs that labels are derivatives with respect to."""

    prediction: Prediction
    system: System
    positions: Tensor
    strain: Tensor | None
    field: Tensor


def _evaluate(model: Model, system: System, labels: set[str]) -> _Run:
    positions = system.positions.detach().clone().requires_grad_()
    field = system.electric_field.detach().clone()
    field.requires_grad_("polarizability" in labels)
    leaf = replace(system, positions=positions, electric_field=field)
    strain = None
    if "stress" in labels:
        strain = torch.zeros_like(system.cell).requires_grad_()
        leaf = leaf.strained(0.5 * (strain + strain.transpose(-1, -2)))
    return _Run(model(leaf), system, positions, strain, field)


def _density(run: _Run, labels: set[str]) -> dict[str, Tensor]:
    """Energy, and what is read off the density."""
    prediction, values = run.prediction, {}
    if "energy" in labels:
        values["energy"] = prediction.energy
    if "dipole" in labels:
        values["dipole"] = prediction.dipole
    if "charges" in labels:
        values["charges"] = prediction.density.charges
    if "dipoles" in labels:
        values["dipoles"] = prediction.density.dipoles
    if "fermi_level" in labels and prediction.fermi_level is not None:
        values["fermi_level"] = prediction.fermi_level
    return values


def _responses(run: _Run, labels: set[str], create_graph: bool) -> dict[str, Tensor]:
    """Derivatives of the dipole."""
    dipole, values = run.prediction.dipole, {}
    if "polarizability" in labels:
        values["polarizability"] = field_derivative(
            run.prediction, run.field, create_graph=create_graph
        )
    if "born_charges" in labels:
        rows = [
            torch.autograd.grad(
                dipole[:, a].sum(), run.positions, retain_graph=True, create_graph=create_graph
            )[0]
            for a in range(3)
        ]
        values["born_charges"] = torch.stack(rows, dim=1)
    return values


def _gradients(
    run: _Run, labels: set[str], probe: Tensor | None, create_graph: bool
) -> dict[str, Tensor]:
    """Derivatives of the energy, or of E − ε·μ."""
    if not labels & {"forces", "stress"}:
        return {}
    scalar = run.prediction.energy.sum()
    if probe is not None:
        scalar = scalar - (probe * run.prediction.dipole).sum()
    inputs = [run.positions] if run.strain is None else [run.positions, run.strain]
    gradients = torch.autograd.grad(scalar, inputs, create_graph=create_graph)
    values = {}
    if "forces" in labels:
        values["forces"] = -gradients[0]
    if run.strain is not None:
        values["stress"] = stress_from_virial(run.system, gradients[1])
    return values


def nearest_branch(difference: Tensor, system: System) -> Tensor:
    """Remove the polarisation quantum: the image of Δμ nearest to zero modulo e·h, (B, 3).

    Only for three periodic directions; otherwise Δμ itself.
    """
    if not all(system.pbc):
        return difference
    steps = torch.linalg.solve(system.cell.transpose(-1, -2), difference.detach()).round()
    return difference - torch.einsum("ba,bac->bc", steps, system.cell)
