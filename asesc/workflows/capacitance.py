"""Differential capacitance of a slab that faces counter-electrodes."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import ase.units
import numpy as np
from ase import Atoms

from asesc.errors import InputError, PropertyUnavailableError
from asesc.units import COULOMB
from asesc.workflows.evaluations import calculator_of
from asesc.workflows.profile import PotentialProfile, potential_profile

#: e/(V Å²) in µF/cm².
_MICROFARAD = 1e6 / ase.units.C * 1e16


@dataclass(frozen=True)
class Capacitance:
    """Of each side of a slab, per cell, against a plane at a distance from its outermost nuclei.

    Parameters
    ----------
    inverse : float, V/e
        1/C.
    distance : float, Å
    area : float, Å²
    """

    inverse: float
    distance: float
    area: float

    @property
    def value(self) -> float:
        """C of one side of the cell, e/V."""
        return 1.0 / self.inverse

    @property
    def per_area(self) -> float:
        """C/A, µF/cm²."""
        return self.value / self.area * _MICROFARAD

    @property
    def effective_plane(self) -> float:
        """Where the plate of an ideal capacitor would be, Å outside the outermost nuclei.

        From 1/C = 4πk_e (d − z)/A; it does not depend on d. A stiff metal has the image plane
        there, a soft one (finite hardness) a plane further inside.
        """
        return self.distance - self.inverse * self.area / (4 * pi * COULOMB)


def capacitance(atoms: Atoms, *, distance: float, step: float = 0.05) -> Capacitance:
    """C = d(Q/2)/dU of a slab whose counter-charge is divided over a plane on either side.

    U = −E_F − ½(φ_lower + φ_upper) is the voltage between the slab and the two planes, and dU/dQ a
    central difference of two evaluations with charges ± ``step`` about the present one. It is the
    curvature of the energy of the slab between such planes, ∂²E/∂Q².

    Parameters
    ----------
    distance : float, Å
        Of each plane from the outermost nuclei; further than the tails of the density.
    step : float, e

    Raises
    ------
    PropertyUnavailableError
        If the calculator has no Fermi level.
    InputError
        If this is no slab, or the calculator does not take the charges: a fractional charge must
        be allowed (``allow_fractional_charge=True``), and inside the scope of the model.
    """
    if not step > 0 or not distance > 0:
        raise InputError(f"step={step} e and distance={distance} Å must be positive")
    if int(atoms.pbc.sum()) != 2:
        raise InputError(
            "a capacitance needs a slab, periodic in two directions, not "
            f"pbc={atoms.pbc.tolist()}; make one with asesc.slabs.opened(atoms, axis)"
        )
    present = potential_profile(atoms)
    charge = float(calculator_of(atoms).extras["charge"])
    voltages = [_voltage(_charged(atoms, charge + s), distance) for s in (-step, step)]
    inverse_of_both = (voltages[1] - voltages[0]) / (2 * step)
    return Capacitance(2 * inverse_of_both, distance, present.area)


def _charged(atoms: Atoms, charge: float) -> PotentialProfile:
    work = atoms.copy()
    work.info.pop("total_charge", None)
    work.info["charge"] = charge
    work.calc = calculator_of(atoms)
    return potential_profile(work)


def _voltage(profile: PotentialProfile, distance: float) -> float:
    if profile.fermi_level is None:
        raise PropertyUnavailableError(
            "a capacitance needs the Fermi level −∂E/∂Q as a function of the charge, which this "
            "calculator does not have; use a family that equilibrates charge (QEq, "
            "SplitChargeEquilibration)"
        )
    lowest, highest = profile.nuclei
    planes = [
        profile.asymptotes(lowest - distance)[0],
        profile.asymptotes(highest + distance)[1],
    ]
    return -profile.fermi_level - float(np.mean(planes))
