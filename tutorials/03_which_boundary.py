"""Open, slab or periodic: which boundary to choose, and what a box does to a charge.

Question: how large must a periodic box be for an isolated molecule or ion?
Answer: ``03_box_size.png``. None is large enough for an ion; use ``pbc=False``.

Runs in about 10 s on one CPU thread. Units are eV, Å, e throughout.
Authors: the asesc developers.
"""

# %% The boundary is `atoms.pbc`
# (F, F, F) isolated; (T, T, T) crystal; one F a slab, open along that axis. The electrostatics
# follow, without correction terms. Gaussian charges show it without a model.
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.build import bulk

from asesc import CoulombCalculator
from asesc.units import COULOMB

WIDTH = 0.4  # Å, standard deviation of each Gaussian


def energy_of(atoms: Atoms) -> float:
    """Electrostatic energy of Na+ and Cl−."""
    atoms.calc = CoulombCalculator(charges={"Na": 1, "Cl": -1}, width=WIDTH)
    return atoms.get_potential_energy()


ion = Atoms("Na")
pair = Atoms("NaCl", [(0, 0, 0), (0, 0, 2.4)])

# %% Boxes of growing size
# Images of a dipole disturb it as 1/L³. A charged box is filled with a uniform background that
# makes it neutral; ion and background attract each other, and the error falls only as 1/L.
sizes = np.array([8.0, 12.0, 16.0, 24.0, 32.0])
errors = {}
for name, molecule in (("ion, +1 e", ion), ("ion pair, neutral", pair)):
    isolated = energy_of(molecule)
    boxed = []
    for size in sizes:
        box = molecule.copy()
        box.set_cell([size] * 3)
        box.pbc = True
        boxed.append(energy_of(box) - isolated)
    errors[name] = np.array(boxed)
slopes = {
    name: np.polyfit(np.log(sizes), np.log(np.abs(error)), 1)[0] for name, error in errors.items()
}
print("error in a box falls as the power", {name: round(s, 2) for name, s in slopes.items()})

# %% What the background does
# For a cubic box the error of the ion is known: the energy −2.837297 k q²/2L of a point charge with
# its images and background, and the background's energy 2π k q² σ²/V with a Gaussian of width σ.
known = -2.837297 * COULOMB / (2 * sizes) + 2 * np.pi * COULOMB * WIDTH**2 / sizes**3
unexplained = np.abs(errors["ion, +1 e"] - known).max()
print(f"unexplained by the formula     {unexplained:.1e} eV")

# %% The answer
figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, error in errors.items():
    axes.loglog(sizes, np.abs(error), "o-", label=f"{name}: L^{slopes[name]:.1f}")
axes.axhline(1e-3, color="0.4", ls="--", lw=1, label="1 meV")
axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
axes.minorticks_off()
axes.set(xlabel="edge of the box L (Å)", ylabel="|energy in a box − isolated| (eV)")
axes.legend()
figure.savefig("03_box_size.png", dpi=150)

# %% Crystals
# In a crystal the images are the physics. NaCl's electrostatic energy per pair is the Madelung
# constant 1.747565 times −k/d, plus the self-energy of two Gaussians, which is always counted.
crystal = bulk("NaCl", "rocksalt", a=5.64)
self_energy = 2 * COULOMB / (2 * WIDTH * np.sqrt(np.pi))
madelung = -(energy_of(crystal) - self_energy) * (5.64 / 2) / COULOMB
print(f"Madelung constant of NaCl      {madelung:.6f}")

# %% Slabs
# A polar sheet in a periodic box sees its images through the vacuum, whatever its height. As a slab
# it does not: the vacuum costs nothing and changes nothing.
vacua = np.array([10.0, 20.0, 40.0])
by_boundary = {}
for name, pbc in (("periodic", (True, True, True)), ("slab", (True, True, False))):
    energies = []
    for vacuum in vacua:
        sheet = Atoms("NaCl", [(0, 0, 0), (1.5, 1.5, 1.0)], cell=(3, 3, vacuum), pbc=pbc)
        energies.append(energy_of(sheet))
    by_boundary[name] = np.array(energies)
    print(f"polar sheet, {name:9s}         ", by_boundary[name].round(6), "eV")
slab_change = np.ptp(by_boundary["slab"])
