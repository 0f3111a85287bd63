"""A point defect in its charge states: supercells, relaxation, corrections."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from asesc.errors import InputError
from asesc.workflows.born import require_insulator
from asesc.workflows.defect_cells import (
    Change,
    DefectCell,
    defect_cell,
    interstitial,
    substitution,
    vacancy,
)
from asesc.workflows.defect_states import Protocol, checked_charges
from asesc.workflows.dielectric import dielectric_response
from asesc.workflows.evaluations import ask, described
from asesc.workflows.finite_size import Extrapolation
from asesc.workflows.formation import FormationEnergies
from asesc.workflows.phonons import phonons
from asesc.workflows.point_charges import PointChargeLattice

Correction = Literal["kumagai"]

#: Å; a defect nearer to its image disturbs it by more than electrostatics.
_NEAR = 8.0


class SmallCellWarning(UserWarning):
    """A defect is near its own image."""


@dataclass(frozen=True)
class ChargedDefect:
    """One vacancy, substitution or interstitial of a crystal, in any charge state.

    Made by :meth:`vacancy`, :meth:`substitution` and :meth:`interstitial`.

    Parameters
    ----------
    crystal : Atoms
        Cell without the defect, best relaxed with the same calculator.
    change : Change
    calc : Calculator
        Takes the total charge from ``atoms.info["charge"]`` and offers the site potentials in
        ``calc.extras["potential"]`` for the correction.
    supercell : 3 integers or (3, 3) integers

    Examples
    --------
    >>> defect = ChargedDefect.vacancy(mgo, "O", calc=calc, supercell=(3, 3, 3))  # doctest: +SKIP
    >>> table = defect.formation_energies((0, 2), chempots={"O": -4.9}, vbm=3.1)  # doctest: +SKIP
    """

    crystal: Atoms
    change: Change
    calc: Calculator
    supercell: Sequence[int]

    @classmethod
    def vacancy(
        cls, crystal: Atoms, species: str | int, *, calc: Calculator, supercell: Sequence[int]
    ) -> Self:
        """An atom is missing; ``species`` is a symbol, or an index where sites differ."""
        return cls(crystal, vacancy(crystal, species), calc, supercell)

    @classmethod
    def substitution(
        cls,
        crystal: Atoms,
        species: str | int,
        added: str,
        *,
        calc: Calculator,
        supercell: Sequence[int],
    ) -> Self:
        """An atom is replaced by one of another element."""
        return cls(crystal, substitution(crystal, species, added), calc, supercell)

    @classmethod
    def interstitial(
        cls,
        crystal: Atoms,
        added: str,
        position: Sequence[float],
        *,
        calc: Calculator,
        supercell: Sequence[int],
    ) -> Self:
        """One atom more at a Cartesian position, Å, of the crystal."""
        return cls(crystal, interstitial(crystal, added, position), calc, supercell)

    def formation_energies(
        self,
        charges: Sequence[int],
        *,
        chempots: Mapping[str, float],
        vbm: float | None = None,
        band_gap: float | None = None,
        dielectric: np.ndarray | float | None = None,
        correction: Correction | None = "kumagai",
        fmax: float | None = 0.02,
        steps: int = 300,
        extrapolate: Sequence[int] = (),
        progress: bool = True,
    ) -> FormationEnergies:
        """E_f(q, E_F) = E_q − E_bulk − Σ n_i μ_i + q (E_VBM + E_F) + E_corr.

        All charges are evaluated once before the first is relaxed, so that a model that does not
        cover one of them says so before any cost.

        Parameters
        ----------
        charges : sequence of int, e
        chempots : mapping of symbol to eV
            Chemical potential of every element that is exchanged, on the model's energy scale.
        vbm : float, eV
            Energy of the highest occupied electron on the model's scale, whose potential averages
            to zero over the crystal. By default E(0) − E(+1) of the perfect supercell, which is
            the definition E(N) − E(N−1) and asks the model for a charged perfect crystal.
        band_gap : float, eV, optional
            Range of the Fermi level in plots.
        dielectric : (3, 3) or float
            By default the model's: static if the ions are relaxed, ε∞ if not.
        correction : "kumagai" or None
        fmax : float or None, eV/Å
            Largest force after relaxation at each charge; None leaves the ions where they are.
        extrapolate : sequence of int
            Repeats n of the crystal, n × n × n, in which all charges are computed again for an
            extrapolation to infinite size; at least three.

        Raises
        ------
        InputError, ModelScopeError, PropertyUnavailableError

        Warns
        -----
        SmallCellWarning
            If the defect is within 8 Å of its image.
        UnevenPotentialWarning
        """
        _check_tables(self.change, chempots, vbm, band_gap, extrapolate, correction)
        states_wanted, tensor = checked_charges(charges), None
        if correction is not None and (any(states_wanted) or dielectric is not None):
            tensor = self._dielectric(dielectric, relaxed=fmax is not None)
        title = described(self._crystal())
        named = f"{self.change.name} in {title}"
        protocol = Protocol(self.calc, states_wanted, tensor, fmax, steps, progress, named)
        cell = defect_cell(self.crystal, self.change, self.supercell)
        _warn_of_images(cell)
        perfect, states = protocol.run(cell)
        if vbm is None:
            vbm = perfect.energy - protocol.charged_bulk(cell, 1) if any(charges) else 0.0
        return FormationEnergies(
            change=self.change,
            cell=cell,
            title=title,
            states=states,
            perfect=perfect,
            chempots={k: float(chempots[k]) for k in self.change.exchanged},
            vbm=float(vbm),
            band_gap=band_gap,
            dielectric=tensor,
            extrapolations=self._extrapolate(protocol, extrapolate) if extrapolate else (),
        )

    def _extrapolate(self, protocol: Protocol, sizes: Sequence[int]) -> tuple[Extrapolation, ...]:
        cells = [defect_cell(self.crystal, self.change, (n, n, n)) for n in sizes]
        results = [protocol.run(cell) for cell in cells]
        madelung = PointChargeLattice(cells[0].bulk.cell.array, np.eye(3)).madelung

        def over_cells(k: int, what: str) -> np.ndarray:
            return np.array([getattr(s[k], what) - perfect.energy for perfect, s in results])

        return tuple(
            Extrapolation(
                charge=float(charge),
                lengths=np.array([cell.bulk.cell.volume ** (1 / 3) for cell in cells]),
                energies=over_cells(k, "energy"),
                corrected=None
                if protocol.dielectric is None
                else over_cells(k, "corrected_energy"),
                madelung=madelung,
                title=protocol.title,
            )
            for k, charge in enumerate(protocol.charges)
        )

    def _dielectric(self, given: np.ndarray | float | None, *, relaxed: bool) -> np.ndarray:
        """ε that screens the defect: as given, or the crystal's own."""
        if given is not None:
            tensor = np.asarray(given, dtype=float) * (np.eye(3) if np.ndim(given) == 0 else 1.0)
        elif relaxed:
            ph = phonons(self._crystal(), (1, 1, 1), nac=True, progress=False)
            tensor = dielectric_response(ph).static
        else:
            advice = "Pass dielectric=…, or correction=None with extrapolate=(2, 3, 4)"
            tensor = ask(self.calc, self._crystal(), "dielectric_tensor", advice=advice)
        require_insulator(tensor, "in which defects have no charge states")
        return tensor

    def _crystal(self) -> Atoms:
        crystal = self.crystal.copy()
        crystal.calc = self.calc
        return crystal


def _check_tables(
    change: Change,
    chempots: Mapping[str, float],
    vbm: float | None,
    band_gap: float | None,
    extrapolate: Sequence[int],
    correction: str | None,
) -> None:
    missing = sorted(change.exchanged.keys() - chempots.keys())
    if missing:
        raise InputError(
            f"chempots has no chemical potential of {', '.join(missing)}, which {change.name} "
            f"exchanges; add e.g. chempots={{{missing[0]!r}: …}} in eV on the model's energy scale"
        )
    given = {f"the chemical potential of {k}": chempots[k] for k in change.exchanged}
    for name, value in {**given, "vbm": 0.0 if vbm is None else vbm}.items():
        if not np.isfinite(value):
            raise InputError(f"{name} is {value} eV; it must be finite")
    if band_gap is not None and not band_gap > 0:
        raise InputError(
            f"band_gap={band_gap} eV: without a gap the Fermi level cannot move and there are no "
            "charge states to compare"
        )
    if extrapolate and len(set(extrapolate)) < 3:
        raise InputError(
            f"extrapolate={tuple(extrapolate)}: c₀ + c₁/L + c₃/L³ needs at least three sizes"
        )
    if correction not in (None, "kumagai"):
        raise InputError(f"correction={correction!r}; choose 'kumagai' or None")


def _warn_of_images(cell: DefectCell) -> None:
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3)
    images = shifts[np.any(shifts != 0, axis=1)] @ cell.bulk.cell.array
    nearest = float(np.linalg.norm(images, axis=1).min())
    if nearest < _NEAR:
        warnings.warn(
            f"the defect is {nearest:.1f} Å from its image: they share atoms, and no correction "
            f"takes that away. Repeat the crystal until they are at least {_NEAR:g} Å apart",
            SmallCellWarning,
            stacklevel=3,
        )
