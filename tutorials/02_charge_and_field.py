"""Charge and field: how to set them, their sign, and what the answer depends on.

Question: does the energy in a field follow from dipole and polarisability without a field?
Answer: ``02_energy_in_a_field.png``; for this model it does, at any field.

Runs in about 15 s on one CPU thread. Units are eV, Å, e, V/Å throughout.
Authors: the asesc developers.
"""

# %% The sign
# A field pushes positive charges along it: force = +qE, energy = −μ·E. Here it acts on a lone ion
# without any model; `CoulombCalculator` knows charges, widths and nothing else.
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.io import read

from asesc import CoulombCalculator, SCCalculator
from asesc.errors import ModelScopeError
from asesc.pretrained import find_model

ion = Atoms("Na", calculator=CoulombCalculator(charges={"Na": 1}, electric_field=(0, 0, 0.1)))
force_on_ion = ion.get_forces()[0]
print(f"force on Na+ at 0.1 V/Å       {force_on_ion[2]:+.3f} eV/Å")

# %% Setting it
# Two ways: for all structures in the calculator, or for one in its `info`, which wins and travels
# with the structure through files. Every change is noticed, also one made in place.
molecule = read(find_model("nma") / "example.xyz")
calc = molecule.calc = SCCalculator("nma")
free_energy = molecule.get_potential_energy()
calc.set(electric_field=(0.1, 0, 0))
by_calculator = molecule.get_potential_energy()
molecule.info["electric_field"] = np.array([0.0, 0.0, 0.0])
molecule.info["electric_field"][0] = 0.1
by_info = molecule.get_potential_energy()
del molecule.info["electric_field"]
calc.set(electric_field=(0, 0, 0))
back_again = molecule.get_potential_energy()
changes = by_calculator - free_energy, by_info - free_energy
print(f"field in calculator or info   {changes[0]:.6f} eV, {changes[1]:.6f} eV")
print(f"and back to no field          {back_again - free_energy:.6f} eV")

# %% Dipole and polarisability are derivatives of the energy
# dE/dE_field = −μ holds to rounding, here by a central difference.
dipole = molecule.get_dipole_moment()
polarizability = calc.get_polarizability(molecule)


def energy_in(size: float) -> float:
    """Energy in a field along x."""
    calc.set(electric_field=(size, 0, 0))
    return molecule.get_potential_energy()


STEP = 1e-3
slope = (energy_in(STEP) - energy_in(-STEP)) / (2 * STEP)
print(f"dE/dField and −dipole         {slope:.6f}, {-dipole[0]:.6f} e Å")

# %% The answer
# E(F) = E(0) − μF − ½αF² with μ and α from no field. `nma` is of the family
# SplitChargeEquilibration, whose density responds linearly, so that nothing is missing while the
# atoms stay where they are. In the molecule itself a cubic term sets in at fields of this size.
sizes = np.linspace(-0.4, 0.4, 9)
energies = np.array([energy_in(size) for size in sizes]) - free_energy
predicted = -dipole[0] * sizes - 0.5 * polarizability[0, 0] * sizes**2
missing = np.abs(energies - predicted)
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
fine = np.linspace(-0.4, 0.4, 101)
axes.plot(fine, -dipole[0] * fine, color="0.6", ls="--", label="−μF")
curve = -dipole[0] * fine - 0.5 * polarizability[0, 0] * fine**2
axes.plot(fine, curve, label="−μF − ½αF², from no field")
axes.plot(sizes, energies, "o", color="C1", label="computed in the field")
axes.set(xlabel="field along x (V/Å)", ylabel="energy − energy without field (eV)")
axes.legend()
figure.savefig("02_energy_in_a_field.png", dpi=150)
print(f"missing, largest              {missing.max():.1e} eV")

# %% The charge
# `charge` works the same way. But a model knows what it was trained on: `nma` has seen neutral
# molecules only, its card says so, and the calculator refuses what nobody has tested.
calc.set(electric_field=(0, 0, 0), charge=1)
try:
    molecule.get_potential_energy()
except ModelScopeError as error:
    refusal = str(error)
    print(refusal)

# %% Extrapolating on purpose
# With `allow_extrapolation` you get a number, for which nobody vouches. The charge is obeyed
# exactly, and going back gives the old energy: nothing is remembered that should not be.
careless = SCCalculator("nma", allow_extrapolation=True)
for charge in (0, 1, -1, 0):
    careless.set(charge=charge)
    energy = careless.get_potential_energy(molecule)
    total = careless.results["charges"].sum()
    print(
        f"charge {charge:+d}: energy − neutral {energy - free_energy:+.4f} eV, Σq {total:+.10f} e"
    )
unchanged = energy - free_energy
