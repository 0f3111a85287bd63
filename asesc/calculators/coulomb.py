"""Bare Gaussian multipoles as an ASE calculator: electrostatics without a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from asesc.calculators.evaluation import Evaluation, dipole_origin, evaluate, with_gradients
from asesc.calculators.fresh import FreshCalculator
from asesc.calculators.inputs import FIELD_KEY, Given, parse_field, read_charge, read_field
from asesc.calculators.names import require_boundary
from asesc.calculators.sanity import check_geometry
from asesc.density import Density, GaussianBasis
from asesc.electrostatics import boundary_for
from asesc.electrostatics.field import require_open_field
from asesc.errors import InputError
from asesc.models import Prediction
from asesc.models.moments import coefficients_of, read_out_dipole
from asesc.solvers import READ_OUT
from asesc.system import System

PerElement = Mapping[str, float]


@dataclass(frozen=True)
class BareMultipoles:
    """E = ½⟨p, Jp⟩ − E_field·μ of multipoles that do not respond; stands where a model stands.

    Parameters
    ----------
    charges : Tensor, (N,), e
    dipoles : Tensor, (N, 3), e Å, or None
        Rigid: they move with their atoms and do not turn.
    widths : Tensor, (N,), Å
    """

    charges: Tensor
    dipoles: Tensor | None
    widths: Tensor

    family: ClassVar[str] = "bare multipoles"
    has_itinerant_polarisation: ClassVar[bool] = True
    variational: ClassVar[bool] = True

    def __call__(self, system: System, *, boundary: str, order: int = 2) -> Prediction:
        """Given multipoles respond to nothing, so that ``order`` has no meaning here."""
        if bool((system.charge != 0).any()):
            require_open_field(system)
        lmax = 0 if self.dipoles is None else 1
        basis = GaussianBasis(lmax, self.widths)
        coulomb = boundary_for(boundary, system.pbc).bind(system, basis)
        coefficients = coefficients_of(self.charges, self.dipoles, lmax)
        potential = coulomb.potential(coefficients)
        dipole = read_out_dipole(system, coefficients)
        contributions = {
            "coulomb": 0.5 * system.sum((coefficients * potential).sum(-1)),
            "field": -(system.electric_field * dipole).sum(-1),
        }
        return Prediction(
            energy=sum(contributions.values()),
            charge=system.charge,
            density=Density(coefficients, basis),
            dipole=dipole,
            contributions=contributions,
            potential=potential,
            solution=READ_OUT,
            engine=coulomb.report,
        )


@dataclass(frozen=True)
class _Inputs:
    """What the answer depends on besides the geometry, as values."""

    charges: PerElement | tuple[float, ...]
    dipoles: tuple[tuple[float, ...], ...] | None
    width: float | PerElement
    field: Given
    boundary: str


class CoulombCalculator(FreshCalculator):
    """Gaussian charges and dipoles that feel each other and an applied field.

        E = ½ Σ_ij p_i J_ij p_j − E_field·μ

    The self-energy of every Gaussian, k_e q²/(2σ√π) for a charge, is part of E. For point charges
    make σ small against the distances and subtract it.

    Parameters
    ----------
    charges : mapping of symbol to float, or (N,), e
    dipoles : (N, 3), e Å, optional
        Rigid: they move with their atoms and do not turn.
    width : float, or mapping of symbol to float, Å
        Gaussian standard deviation σ.
    electric_field : (3,), V/Å
        As for :class:`~asesc.calculators.sccalculator.SCCalculator`, including the keys of
        ``atoms.info``.
    boundary : str
        ``"auto"`` follows ``atoms.pbc``.

    Raises
    ------
    TypeError
        Unknown keyword.
    InputError
        Not numbers, or not one per atom or element of the structure.

    Examples
    --------
    >>> from ase import Atoms
    >>> pair = Atoms("NaCl", [(0, 0, 0), (0, 0, 10)])
    >>> pair.calc = CoulombCalculator(charges={"Na": 1, "Cl": -1}, width=0.5)
    >>> float(pair.get_forces()[0, 2].round(5))  # k_e/r², eV/Å
    0.144
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
        "charges",
        "dipole",
        "polarization",
    ]
    default_parameters: ClassVar[dict[str, Any]] = {
        "charges": None,
        "dipoles": None,
        "width": 1.0,
        "electric_field": (0.0, 0.0, 0.0),
        "boundary": "auto",
    }

    def __init__(
        self,
        *,
        charges: PerElement | Sequence[float] | np.ndarray,
        dipoles: Sequence[Sequence[float]] | np.ndarray | None = None,
        width: float | PerElement = 1.0,
        electric_field: Sequence[float] = (0.0, 0.0, 0.0),
        boundary: str = "auto",
        **unknown: Any,
    ) -> None:
        super().__init__(
            **unknown,
            charges=charges,
            dipoles=dipoles,
            width=width,
            electric_field=electric_field,
            boundary=boundary,
        )

    @with_gradients
    def evaluate(self, atoms: Atoms, properties: Collection[str] = ("energy",)) -> Evaluation:
        """Compute without reading or changing what is cached; see :class:`Evaluation`."""
        self._require_offered(properties)
        check_geometry(atoms)
        inputs = self._inputs(atoms)
        multipoles = _multipoles(atoms, inputs)
        system = System.from_atoms(
            atoms,
            charge=float(multipoles.charges.sum().round(decimals=12)),
            electric_field=inputs.field.value,
        )
        self._advise(atoms, float(system.charge))
        origin = dipole_origin(atoms)
        outcome = evaluate(
            multipoles, system, boundary=inputs.boundary, origin=origin, properties=properties
        )
        outcome.extras.update(
            electric_field=np.array(inputs.field.value),
            electric_field_source=inputs.field.source,
            boundary=boundary_for(inputs.boundary, system.pbc).name,
        )
        return outcome

    def _advise(self, atoms: Atoms, charge: float) -> None:
        self._tell_unread(atoms, read=(FIELD_KEY,))
        stated = read_charge(atoms.info, charge)
        if abs(stated.value - charge) > 1e-8:
            self._tell(
                f"{stated.source} is {stated.value:g}, but the charges given to "
                f"{type(self).__name__} add up to {charge:g} e, which is what is computed"
            )

    def _inputs(self, atoms: Atoms) -> _Inputs:
        # Copies: parameters may be edited in place.
        given = self._checked(dict(self.parameters))
        field = read_field(atoms.info, given.pop("electric_field"))
        return _Inputs(field=field, **given)

    def _checked(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Parameters as tuples, so that editing the user's array later changes nothing here."""
        checked = dict(parameters)
        require_boundary(checked.get("boundary", "auto"))
        if "electric_field" in checked:
            checked["electric_field"] = parse_field(checked["electric_field"])
        for name, ndim in (("charges", 1), ("width", 0)):
            if name in checked:
                checked[name] = _per_element_or_array(checked[name], name, ndim)
        if checked.get("dipoles") is not None:
            dipoles = _finite(checked["dipoles"], "dipoles", 2)
            checked["dipoles"] = tuple(tuple(row) for row in dipoles.tolist())
        return checked


def _multipoles(atoms: Atoms, inputs: _Inputs) -> BareMultipoles:
    """The multipoles of a structure, which they must fit."""
    dipoles = inputs.dipoles
    if dipoles is not None:
        if np.shape(dipoles) != (len(atoms), 3):
            raise InputError(
                f"dipoles have shape {np.shape(dipoles)}, but this structure needs "
                f"({len(atoms)}, 3): one vector per atom"
            )
        dipoles = torch.tensor(dipoles, dtype=torch.float64)
    charges = _for_atoms(inputs.charges, "charges", atoms)
    return BareMultipoles(charges, dipoles, _for_atoms(inputs.width, "width", atoms))


def _per_element_or_array(value: Any, name: str, ndim: int) -> Any:
    if isinstance(value, Mapping):
        return {k: float(_finite(v, f"{name}[{k!r}]", 0)) for k, v in value.items()}
    array = _finite(value, name, ndim)
    return array.tolist() if ndim == 0 else tuple(array.tolist())


def _finite(value: Any, name: str, ndim: int) -> np.ndarray:
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers, got {value!r}") from error
    if array.ndim != ndim or not np.isfinite(array).all():
        shape = ("one number", "one number per atom", "one vector per atom")[ndim]
        raise InputError(f"{name} must be finite, {shape}; got {value!r}")
    return array


def _for_atoms(value: Any, name: str, atoms: Atoms) -> Tensor:
    """Per-element table, one number or an array as one number per atom, (N,)."""
    if isinstance(value, Mapping):
        missing = sorted({s for s in atoms.symbols if s not in value})
        if missing:
            raise InputError(
                f"{name} has no entry for {', '.join(missing)}; it knows "
                f"{', '.join(map(str, value))}"
            )
        value = [value[symbol] for symbol in atoms.symbols]
    if np.ndim(value) == 1 and len(value) != len(atoms):
        raise InputError(
            f"{name} has {len(value)} entries, but the structure has {len(atoms)} atoms; it "
            "belongs to another structure. A mapping of symbols fits any"
        )
    return torch.as_tensor(np.broadcast_to(value, len(atoms)).astype(float))
