"""A first calculation: a molecule, a crystal, and a crystal in a field.

Question: how hard does a field of 0.05 V/Å push the atoms of α-quartz?
Answer: ``01_quartz_in_a_field.png``.

Runs in about 20 s on one CPU thread. Units are eV, Å, e, V/Å throughout.
Authors: the asesc developers.
"""

# %% A molecule
# `quartz` and `nma` ship with asesc, each with an example structure. To ASE, the calculator is like
# any other: energies, forces, optimisers, molecular dynamics, trajectories.
import matplotlib.pyplot as plt
import numpy as np
from ase.io import read
from ase.optimize import BFGS
from ase.units import Debye

from asesc import SCCalculator
from asesc.pretrained import find_model

molecule = read(find_model("nma") / "example.xyz")
molecule.calc = SCCalculator("nma")
print(f"energy of N-methylacetamide   {molecule.get_potential_energy():.4f} eV")

# %% Its charges and dipole
# The atoms carry smooth charges and dipoles that add up to the total charge and to the dipole. The
# energy contains their interaction, so that one model gives all of these numbers, and they agree.
charges = molecule.get_charges()
dipole = np.linalg.norm(molecule.get_dipole_moment()) / Debye
print(f"sum of the charges            {charges.sum():+.1e} e")
print(f"dipole                        {dipole:.2f} Debye (3.7 measured in the gas)")

# %% Relaxing it
# What the calculator did is in `calc.scf`; `calc.extras` holds what ASE has no name for.
molecule.rattle(0.03, seed=0)
optimiser = BFGS(molecule, logfile=None)
optimiser.run(fmax=0.02, steps=100)
print(f"relaxed in {optimiser.nsteps} steps; {molecule.calc.scf}")

# %% A crystal
# A crystal has a stress and, instead of a dipole, a polarisation and Born effective charges
# Z*[atom, polarisation, displacement]: the polarisation that moving an atom makes.
crystal = read(find_model("quartz") / "example.xyz")
crystal.calc = SCCalculator("quartz")
silicon = crystal.symbols == "Si"
born = crystal.calc.get_born_effective_charges(crystal)
dielectric = crystal.calc.get_dielectric_tensor(crystal)
free_forces = crystal.get_forces()
print(f"mean Born charge of Si        {born[silicon].trace(axis1=1, axis2=2).mean() / 3:.2f} e")
print(f"ε∞ along a and c              {dielectric[0, 0]:.3f}, {dielectric[2, 2]:.3f}")

# %% The crystal in a field
# A field along a periodic direction is allowed, because the model knows how charge flows, not only
# where it is. Each atom is then pushed by its Born charge, which is not what the charge of its
# density would suggest.
FIELD = np.array([0.0, 0.0, 0.05])
crystal.calc.set(electric_field=FIELD)
push = crystal.get_forces() - free_forces
expected = np.einsum("a,kab->kb", FIELD, born)
largest_push = np.abs(push).max()
difference = np.abs(push - expected).max()
print(f"largest push                  {largest_push:.4f} eV/Å")
print(f"largest |push − Z*·E|         {difference:.4f} eV/Å")

# %% The answer
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
index = np.arange(len(crystal))
axes.bar(index - 0.2, 1e3 * push[:, 2], width=0.4, label="force in the field − without")
axes.bar(index + 0.2, 1e3 * expected[:, 2], width=0.4, label="Z* · field")
axes.axhline(0, color="0.3", lw=0.8)
axes.set_xticks(index, list(crystal.symbols))
axes.set(xlabel="atom", ylabel="push along c (meV/Å)")
axes.set_title("0.05 V/Å along c pushes Si and O of quartz by their Born charges", fontsize=10)
axes.legend()
figure.savefig("01_quartz_in_a_field.png", dpi=150)
