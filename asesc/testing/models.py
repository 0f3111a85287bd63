"""The contract of a model family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from asesc.models import Potential, Prediction
from asesc.models.spin import multiplicity
from asesc.system import System
from asesc.testing.differences import central_difference, check_derivatives, tiled
from asesc.testing.report import ContractReport, Deviation, largest
from asesc.testing.structures import ALL_PBC, Pbc, example_system, rotation


def check_model(
    model: Potential, *, numbers: Sequence[int] | None = None, boundaries: Sequence[Pbc] = ALL_PBC
) -> ContractReport:
    """Check a model for every boundary × (charge or Fermi level) × field it allows.

    Forces and stress against finite differences, Σq = Q, −∂E/∂field and ∂E/∂Q (at a fixed Fermi
    level ∂Ω/∂μ) by autograd against finite differences and, for variational families, against the
    dipole and level of the density, rotation, translation, permutation, and batches against single
    structures.

    Parameters
    ----------
    numbers : sequence of int, optional
        Atomic numbers of the test structure; by default each element of the model twice.
    boundaries : sequence of pbc

    Raises
    ------
    ContractError
        With every violated clause.
    """
    chosen = tuple(numbers) if numbers is not None else model.elements * 2
    deviations = []
    for pbc in boundaries:
        for case in allowed_cases(model, chosen, pbc):
            found = measure(case.bound(model), case.system)
            deviations += [replace(d, what=f"{case.name}: {d.what}") for d in found]
    return ContractReport(f"family {model.family!r}", tuple(deviations)).require()


@dataclass(frozen=True)
class Case:
    """A structure under given conditions."""

    name: str
    system: System
    boundary: str = "auto"

    def bound(self, model: Potential) -> Potential:
        """The model with this boundary."""
        return model if self.boundary == "auto" else _WithBoundary(model, self.boundary)


class _WithBoundary:
    """A model that is always called with one boundary."""

    def __init__(self, model: Potential, boundary: str) -> None:
        self._model, self._boundary = model, boundary

    def __call__(self, system: System) -> Prediction:
        return self._model(system, boundary=self._boundary)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def allowed_cases(model: Potential, numbers: Sequence[int], pbc: Pbc) -> Iterator[Case]:
    """Every charge or Fermi level × field that a model takes for one boundary.

    Charges are 0 and +1, or the sum of the formal charges where the family cannot change it.
    Fields point in a general open direction, or anywhere for neutral cells and families with an
    itinerant polarisation. The Fermi level is that of the neutral structure raised by 0.7 eV; slabs
    are then between electrodes.
    """
    system = example_system(numbers, pbc)
    formal = model.hyperparameters.get("formal_charges", {})
    fixed = sum(float(formal.get(str(z), 0.0)) for z in numbers)
    for charge in (0.0, 1.0) if model.has_variable_charge else (fixed,):
        field = torch.tensor([0.07, -0.05, 0.11], dtype=torch.float64)
        if charge != 0 or not model.has_itinerant_polarisation:
            field = _along_open(system, field)
        charged = replace(system, charge=torch.full_like(system.charge, charge))
        if model.has_spin:
            charged = replace(charged, spin=multiplicity(charged))
        case = Case(f"pbc={pbc}, charge {charge:g}", charged)
        yield case
        if bool(field.any()):
            in_field = replace(charged, electric_field=field[None])
            yield replace(case, name=f"{case.name}, field", system=in_field)
    if model.has_fermi_level:
        with torch.no_grad():
            level = model(system).fermi_level + 0.7
        boundary = "auto" if pbc in (ALL_PBC[0], ALL_PBC[1]) else "electrodes"
        held = replace(_heightened(system), fermi_level=level)
        # In a field where there can be one: charge, level and field then all matter.
        held = replace(held, electric_field=_along_open(system, field)[None])
        yield Case(f"pbc={pbc}, Fermi level {float(level):.2f}", held, boundary)


def _heightened(system: System) -> System:
    """A slab with room for electrodes around it; anything else as it is."""
    if sum(system.pbc) != 2:
        return system
    cell = system.cell.clone()
    cell[0, system.pbc.index(False)] *= 4
    return replace(system, cell=cell)


def _along_open(system: System, field: Tensor) -> Tensor:
    """The part of a field normal to every periodic direction."""
    periodic = system.cell[0, torch.tensor(system.pbc)]
    if len(periodic) == 0:
        return field
    if len(periodic) == 3:
        return torch.zeros_like(field)
    normal = torch.linalg.cross(periodic[0], periodic[1])
    return (field @ normal) * normal / (normal @ normal)


def measure(model: Potential, system: System) -> Iterator[Deviation]:
    """Every clause of the contract under one condition."""

    def energy(bound: System) -> Tensor:
        return model(bound).energy

    yield from check_derivatives(energy, system)
    yield from _conjugates(model, system)
    yield from invariances(model, system)


def _conjugates(model: Potential, system: System) -> Iterator[Deviation]:
    """Charge conservation, and derivatives of the energy in field and charge or Fermi level."""
    with torch.no_grad():
        prediction = model(system)
    error = prediction.density.charges.sum() - prediction.charge
    yield Deviation("Σq − Q", largest(error), 1e-10, "charge is conserved, e")
    directions = _field_directions(model, system)
    ensemble = "charge" if system.fermi_level is None else "fermi_level"

    def in_field(points: Tensor) -> Tensor:
        many = tiled(system, len(points))
        return model(replace(many, electric_field=many.electric_field + points @ directions)).energy

    def in_ensemble(points: Tensor) -> Tensor:
        many = tiled(system, len(points))
        return model(replace(many, **{ensemble: getattr(many, ensemble) + points[:, 0]})).energy

    field_slope, ensemble_slope = _slopes(model, system, ensemble)
    if len(directions):
        with torch.no_grad():
            slope = central_difference(in_field, len(directions))
        error = slope - directions @ field_slope
        yield Deviation("dE/dF", largest(error), 1e-6, "autograd agrees with differences, e Å")
        if model.variational:
            error = slope + directions @ prediction.dipole[0]
            yield Deviation("dE/dF + μ", largest(error), 1e-6, "μ is conjugate to the field, e Å")
    if prediction.chemical_potential is None:
        return
    with torch.no_grad():
        slope = central_difference(in_ensemble, 1)
    name, unit = ("dE/dQ", "V") if system.fermi_level is None else ("dΩ/dμ", "e")
    error = slope - ensemble_slope
    yield Deviation(name, largest(error), 1e-6, f"autograd agrees with differences, {unit}")
    if model.variational and system.fermi_level is None:
        error = slope - prediction.chemical_potential
        yield Deviation("dE/dQ − μ_Q", largest(error), 1e-6, "the chemical potential is dE/dQ, V")
    elif model.variational:
        error = slope - prediction.charge
        yield Deviation("dΩ/dμ + N_e", largest(error), 1e-6, "electrons are conjugate to μ, e")


def _slopes(model: Potential, system: System, ensemble: str) -> tuple[Tensor, Tensor]:
    """∂E/∂field (3,) and ∂E/∂Q or ∂Ω/∂μ by autograd; zero where the energy does not depend."""
    leaves = {
        "electric_field": system.electric_field.clone().requires_grad_(),
        ensemble: getattr(system, ensemble).clone().requires_grad_(),
    }
    energy = model(replace(system, **leaves)).energy.sum()
    slopes = torch.autograd.grad(energy, tuple(leaves.values()), materialize_grads=True)
    return slopes[0][0], slopes[1]


def _field_directions(model: Potential, system: System) -> Tensor:
    """Orthonormal directions in which a field is allowed, (n, 3)."""
    identity = torch.eye(3, dtype=torch.float64)
    neutral = system.fermi_level is None and not bool((system.charge != 0).any())
    if model.has_itinerant_polarisation and neutral:
        return identity
    allowed = torch.stack([_along_open(system, unit) for unit in identity])
    values, vectors = torch.linalg.eigh(allowed)
    return vectors.T[values > 0.5]


def invariances(model: Potential, system: System) -> Iterator[Deviation]:
    """What does not change the energy, and turns forces and dipoles along."""
    pred = model(system)
    turn = rotation()
    turned = model(
        replace(
            system,
            positions=system.positions @ turn.T,
            cell=system.cell @ turn.T,
            electric_field=system.electric_field @ turn.T,
        )
    )
    yield Deviation(
        "energy under rotation", largest(turned.energy - pred.energy), 1e-8, "space is isotropic"
    )
    error = turned.dipole - pred.dipole @ turn.T
    yield Deviation("dipole under rotation", largest(error), 1e-8, "a dipole is a vector")
    shift = torch.tensor([1000.0, -700.0, 400.0], dtype=torch.float64)
    error = model(_translated(system, shift)).energy - pred.energy
    if system.fermi_level is None:
        error = error + (system.charge[:, None] * system.electric_field * shift).sum(-1)
    yield Deviation("energy under translation", largest(error), 1e-7, "space is homogeneous")
    order = torch.arange(system.n_atoms - 1, -1, -1)
    swapped = model(
        replace(system, positions=system.positions[order], numbers=system.numbers[order])
    )
    error = swapped.energy - pred.energy
    yield Deviation("energy under permutation", largest(error), 1e-9, "atoms have no names")
    error = model(_with_partner(system)).energy[:1] - pred.energy
    yield Deviation("batch", largest(error), 1e-9, "neighbours in a batch do not interact")
    if any(system.pbc):
        error = model(_doubled(system)).energy - 2 * pred.energy
        yield Deviation("doubled cell", largest(error), 1e-7, "cells repeat")


def _with_partner(system: System) -> System:
    """A batch of the structure and another one, whose atoms, field and order differ."""
    both, n = tiled(system, 2), system.n_atoms
    generator = torch.Generator().manual_seed(0)
    moved = 0.05 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    partner = (system.positions + moved).flip(0)
    field = torch.cat([system.electric_field, 0.5 * system.electric_field])
    return replace(
        both,
        positions=torch.cat([system.positions, partner]),
        numbers=torch.cat([system.numbers, system.numbers.flip(0)]),
        electric_field=field,
    )


def _doubled(system: System) -> System:
    """Two cells side by side along the first periodic direction, with twice charge and 2S."""
    axis = system.pbc.index(True)
    step, cell = system.cell[:, axis], system.cell.clone()
    cell[:, axis] += step
    return replace(
        system,
        positions=torch.cat([system.positions, system.positions + step]),
        numbers=system.numbers.repeat(2),
        cell=cell,
        batch=system.batch.repeat(2),
        charge=2 * system.charge,
        spin=None if system.spin is None else 2 * system.spin - 1,
    )


def _translated(system: System, shift: Tensor) -> System:
    """Moved in the field, with the Fermi level that the potential −E·r there asks for."""
    level = system.fermi_level
    if level is not None:
        level = level + (system.electric_field * shift).sum(-1)
    return replace(system, positions=system.positions + shift, fermi_level=level)
