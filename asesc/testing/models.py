"""The contract of a model family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from asesc.models import Model
from asesc.system import System
from asesc.testing.differences import central_difference, check_derivatives, tiled
from asesc.testing.report import ContractReport, Deviation, largest
from asesc.testing.structures import ALL_PBC, Pbc, example_system, rotation


def check_model(
    model: Model, *, numbers: Sequence[int] | None = None, boundaries: Sequence[Pbc] = ALL_PBC
) -> ContractReport:
    """Check a model for every boundary × charge × field it allows.

    Forces and stress against finite differences, dE/dField = −μ, Σq = Q, the chemical potential
    against dE/dQ, rotation, translation, permutation, and batches against single structures.

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
        for case, system in allowed_cases(model, chosen, pbc):
            deviations += [replace(d, what=f"{case}: {d.what}") for d in _clauses(model, system)]
    return ContractReport(f"family {model.family!r}", tuple(deviations)).require()


def allowed_cases(model: Model, numbers: Sequence[int], pbc: Pbc) -> Iterator[tuple[str, System]]:
    """Every charge × field that a model takes for one boundary, named.

    Charges are 0 and +1, or the sum of the formal charges where the family cannot change it.
    Fields point in a general open direction, or anywhere for neutral cells and families with an
    itinerant polarisation.
    """
    system = example_system(numbers, pbc)
    formal = model.hyperparameters.get("formal_charges", {})
    fixed = sum(float(formal.get(str(z), 0.0)) for z in numbers)
    for charge in (0.0, 1.0) if model.has_variable_charge else (fixed,):
        field = torch.tensor([0.07, -0.05, 0.11], dtype=torch.float64)
        if charge != 0 or not model.has_itinerant_polarisation:
            field = _along_open(system, field)
        charged = replace(system, charge=torch.full_like(system.charge, charge))
        yield f"pbc={pbc}, charge {charge:g}", charged
        if bool(field.any()):
            name = f"pbc={pbc}, charge {charge:g}, field"
            yield name, replace(charged, electric_field=field[None])


def _along_open(system: System, field: Tensor) -> Tensor:
    """The part of a field normal to every periodic direction."""
    periodic = system.cell[0, torch.tensor(system.pbc)]
    if len(periodic) == 0:
        return field
    if len(periodic) == 3:
        return torch.zeros_like(field)
    normal = torch.linalg.cross(periodic[0], periodic[1])
    return (field @ normal) * normal / (normal @ normal)


def _clauses(model: Model, system: System) -> Iterator[Deviation]:
    def energy(bound: System) -> Tensor:
        return model(bound).energy

    yield from check_derivatives(energy, system)
    yield from _conjugates(model, system)
    yield from _invariance(model, system)


def _conjugates(model: Model, system: System) -> Iterator[Deviation]:
    """Quantities that are derivatives of the energy with respect to field and charge."""
    with torch.no_grad():
        prediction = model(system)
    error = prediction.density.charges.sum() - system.charge
    yield Deviation("Σq − Q", largest(error), 1e-10, "charge is conserved, e")
    directions = _field_directions(model, system)

    def in_field(points: Tensor) -> Tensor:
        many = tiled(system, len(points))
        with torch.no_grad():
            return model(
                replace(many, electric_field=many.electric_field + points @ directions)
            ).energy

    if len(directions):
        slope = central_difference(in_field, len(directions))
        error = slope + directions @ prediction.dipole[0]
        yield Deviation("dE/dF + μ", largest(error), 1e-6, "μ is conjugate to the field, e Å")
    field = system.electric_field[0]
    closed_field = largest(_along_open(system, field) - field) > 1e-12
    if prediction.chemical_potential is None or closed_field:
        return

    def charged(points: Tensor) -> Tensor:
        many = tiled(system, len(points))
        with torch.no_grad():
            return model(replace(many, charge=many.charge + points[:, 0])).energy

    slope = central_difference(charged, 1)
    error = slope - prediction.chemical_potential
    yield Deviation("dE/dQ − μ_Q", largest(error), 1e-6, "the chemical potential is dE/dQ, V")


def _field_directions(model: Model, system: System) -> Tensor:
    """Orthonormal directions in which a field is allowed, (n, 3)."""
    identity = torch.eye(3, dtype=torch.float64)
    if model.has_itinerant_polarisation and not bool((system.charge != 0).any()):
        return identity
    allowed = torch.stack([_along_open(system, unit) for unit in identity])
    values, vectors = torch.linalg.eigh(allowed)
    return vectors.T[values > 0.5]


def _invariance(model: Model, system: System) -> Iterator[Deviation]:
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
    moved = model(replace(system, positions=system.positions + shift))
    work = -(system.charge[:, None] * system.electric_field * shift).sum(-1)
    error = moved.energy - pred.energy - work
    yield Deviation("energy under translation", largest(error), 1e-7, "space is homogeneous")
    order = torch.arange(system.n_atoms - 1, -1, -1)
    swapped = model(
        replace(system, positions=system.positions[order], numbers=system.numbers[order])
    )
    error = swapped.energy - pred.energy
    yield Deviation("energy under permutation", largest(error), 1e-9, "atoms have no names")
    error = model(tiled(system, 2)).energy - pred.energy
    yield Deviation("batch", largest(error), 1e-9, "neighbours in a batch do not interact")
