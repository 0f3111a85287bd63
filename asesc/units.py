"""Units: eV, Å, e, V and V/Å everywhere; every constant comes from :mod:`ase.units`.

With energies in eV and charges in e a potential comes out in V and a field in V/Å, so no conversion
factor appears in the equations; only Coulomb's constant does:

    E = k_e q₁ q₂ / r,    k_e = 1/(4π ε₀) = 14.3996 eV Å e⁻²

>>> round(COULOMB, 4)                    # eV: two elementary charges 1 Å apart
14.3996
>>> round(1.85 * DEBYE, 3)               # e Å: the dipole of a water molecule
0.385
>>> round(0.05 / VOLT_PER_METRE / 1e8)   # 0.05 V/Å in units of 10⁸ V/m
5
"""

from __future__ import annotations

from math import pi
from types import MappingProxyType

import ase.units

#: Coulomb's constant k_e = 1/(4π ε₀), eV Å e⁻².
COULOMB: float = ase.units.Hartree * ase.units.Bohr

#: Vacuum permittivity ε₀, e² eV⁻¹ Å⁻¹; ε∞ = 1 + α/(ε₀ V) for a cell of volume V.
VACUUM_PERMITTIVITY: float = 1.0 / (4.0 * pi * COULOMB)

#: One debye, e Å.
DEBYE: float = ase.units.Debye

#: One volt per metre, V/Å.
VOLT_PER_METRE: float = 1.0 / ase.units.m

#: What every quantity is measured in: the headings of our tables and the units of model cards.
UNITS: MappingProxyType[str, str] = MappingProxyType(
    {
        "length": "Å",
        "energy": "eV",
        "forces": "eV/Å",
        "stress": "eV/Å³",
        "charge": "e",
        "dipole": "e·Å",
        "electric_field": "V/Å",
        "polarizability": "e·Å²/V",
        "born_effective_charges": "e",
    }
)
