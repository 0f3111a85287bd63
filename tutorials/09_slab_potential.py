"""The potential across slabs: dipole layers, screening, capacitance.

Question: how deep does a field of 0.1 V/Å enter a metal, and where is the plate of the capacitor
that the metal makes with an electrode in front of it?
Answer: ``09_slab_potential.png``.

Runs in about 15 s on one CPU thread. Units are eV, Å, e, V/Å throughout.
Authors: the asesc developers.
"""

# %% A layer of dipoles
# The profile is the potential of the self-consistency itself, averaged over planes. It reaches from
# vacuum to vacuum whatever the cell: along the open axis there are no images. A layer of dipoles μ
# makes the step 4π k_e μ/A, and the work function below it changes by as much.
import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms
from ase.build import fcc111

from asesc import CoulombCalculator, SCCalculator
from asesc.models import QEq
from asesc.slabs import capacitance, potential_profile
from asesc.units import COULOMB

layer = Atoms("FH", [(0, 0, 0), (0.5, 0, 0.8)], cell=(4, 4, 10), pbc=(True, True, False))
layer.calc = CoulombCalculator(charges={"H": 0.4, "F": -0.4}, width=0.5)
dipoles = potential_profile(layer)
helmholtz = 4 * np.pi * COULOMB * layer.get_dipole_moment()[2] / dipoles.area
print(f"step across the layer         {dipoles.dipole_step:.6f} V")
print(f"4πk μ/A                       {helmholtz:.6f} V")

# %% A classical metal
# An untrained `QEq` gives every atom a Gaussian charge of the same hardness, and charge flows until
# the potential is the same everywhere: the model electrode of Siepmann and Sprik, J. Chem. Phys.
# 102, 511 (1995). A trained model takes its place without another change, and then the work
# functions, `profile.work_functions`, have the meaning of its training data.
torch.manual_seed(0)
backbone = {"elements": [13], "cutoff": 4.0, "channels": 4, "radial_width": 8, "layers": 1}
metal = QEq(backbone=backbone, width=0.8, lmax=0)

slab = fcc111("Al", (1, 1, 6), a=4.05, vacuum=8.0)  # pbc is (True, True, False)
slab.calc = SCCalculator(metal, allow_fractional_charge=True)

# %% In a field
# The macroscopic average over the distance of two layers shows what is left of the field inside.
FIELD = 0.1
spacing = 4.05 / np.sqrt(3)
slab.calc.set(electric_field=(0, 0, FIELD))
biased = potential_profile(slab)
smooth = biased.macroscopic(spacing)
middle = np.abs(smooth.heights - np.mean(smooth.nuclei)) < 1.5 * spacing
inside = -np.polyfit(smooth.heights[middle], smooth.potential[middle], 1)[0]
print(f"field outside and inside      {biased.vacuum_fields[0]:.4f}, {inside:.5f} V/Å")

# %% A capacitor
# Charge the slab, with the counter-charge on planes at a distance d from the outermost nuclei. 1/C
# grows by 4π k_e/A per Å, as between two plates; the plate of the metal is a little outside its
# nuclei if it is a good one, and further inside the softer it is.
slab.calc.set(electric_field=(0, 0, 0))
distances = np.array([7.0, 9.0, 11.0])
found = [capacitance(slab, distance=d) for d in distances]
slope = np.polyfit(distances, [c.inverse for c in found], 1)[0]
plane = found[0].effective_plane
print(f"slope of 1/C times A/(4π k_e) {slope * biased.area / (4 * np.pi * COULOMB):.6f}")
print(f"effective plane               {plane:+.3f} Å from the outermost nuclei")
print(f"capacitance at 7 Å            {found[0].per_area:.3f} µF/cm²")

# %% The answer
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
figure.suptitle("Al(111), six layers, untrained QEq", fontsize=11)
left.plot(biased.heights, biased.potential, lw=1, label="plane average")
left.plot(smooth.heights, smooth.potential, lw=2, label="macroscopic average")
left.axvspan(*biased.nuclei, color="0.93", zorder=0, label="from first to last nucleus")
left.set(xlabel="height (Å)", ylabel="potential (V)")
left.set_title(f"{FIELD} V/Å outside, below {abs(inside) + 5e-4:.3f} V/Å inside", fontsize=10)
left.legend(fontsize=8)
reach = np.array([plane, distances[-1]])
right.plot(distances, [c.inverse for c in found], "o", label="charged slab")
right.plot(reach, slope * (reach - plane), lw=1, label="plates: 4πk$_e$(d − z)/A")
right.axvline(0, color="0.5", lw=0.8, ls="--")
right.set(xlabel="distance of the electrode from the nuclei (Å)", ylabel="1/C (V/e)")
right.set_title(f"effective plate {plane:+.2f} Å outside the nuclei", fontsize=10)
right.legend(fontsize=8)
figure.savefig("09_slab_potential.png", dpi=150)
