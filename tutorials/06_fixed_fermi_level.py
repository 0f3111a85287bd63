"""Fixed charge and fixed Fermi level: a capacitor without and with its battery.

Question: what pulls on an electrode that is moved away from a charged metal?
Answer: the same force at every distance if the charge is fixed, less and less if the level is;
``06_fixed_fermi_level.png``.

Runs in about 15 s on one CPU thread. Units are eV, Å, e, V, V/Å throughout.
Authors: the asesc developers.
"""

# %% A metal
# The classical metal of tutorial 09: an untrained `QEq`, in which all atoms have the same hardness
# and charge flows until the potential is the same everywhere. Its level in the neutral slab, about
# 0 here, becomes that of the training data in a trained model; nothing else changes.
import matplotlib.pyplot as plt
import numpy as np
import torch
from ase.build import fcc111

from asesc import SCCalculator
from asesc.errors import IllPosedError
from asesc.models import QEq
from asesc.units import COULOMB

torch.manual_seed(0)
backbone = {"elements": [13], "cutoff": 4.0, "channels": 4, "radial_width": 8, "layers": 1}
metal = QEq(backbone=backbone, width=0.8, lmax=0)


def slab_between_electrodes(height: float):
    """Six layers in a cell of this height, at whose ends the electrodes are."""
    slab = fcc111("Al", (1, 1, 6), a=4.05)
    slab.center(vacuum=0.5 * (height - np.ptp(slab.positions[:, 2])), axis=2)
    slab.pbc = (True, True, False)
    slab.calc = SCCalculator(metal, boundary="electrodes", allow_fractional_charge=True)
    return slab


# %% Two ways to ask
# At fixed charge Q the Fermi level μ = −∂E/∂Q is an answer. At fixed level the charge is, `energy`
# is the grand energy Ω = E − μN_e = E + μQ, whose slope is ∂Ω/∂μ = −N_e = Q, and forces are its
# gradient. Both meet in one state, with the same forces.
HEIGHT, CHARGE = 40.0, -0.01  # Å, e per atom of the surface
slab = slab_between_electrodes(HEIGHT)
neutral_level = slab.calc.get_fermi_level(slab)
slab.info["charge"] = CHARGE
energy, forces = slab.get_potential_energy(), slab.get_forces()
level = slab.calc.get_fermi_level(slab)
del slab.info["charge"]
slab.info["fermi_level"] = level
grand_energy, charge = slab.get_potential_energy(), slab.calc.extras["charge"]
same_forces = np.abs(slab.get_forces() - forces).max()
print(f"level, neutral and {CHARGE} e {neutral_level:.4f}, {level:.4f} eV")
print(f"charge at that level          {charge:+.8f} e; forces differ by {same_forces:.0e} eV/Å")
print(f"Ω and E + μQ                  {grand_energy:.6f}, {energy + level * charge:.6f} eV")
STEP = 1e-3
sides = []
for sign in (1, -1):
    slab.info["fermi_level"] = level + sign * STEP
    sides.append(slab.get_potential_energy())
slope = (sides[0] - sides[1]) / (2 * STEP)
print(f"dΩ/dμ and Q                   {slope:+.8f}, {charge:+.8f} e")

# %% But the second derivatives differ
# Pull the outermost layer. At fixed level charge flows while it moves and takes work off it:
#     k_μ = k_Q − (∂²E/∂Q∂z)²/(∂²E/∂Q²),
# always softer. Frequencies and relaxations depend on what is held; hold what the experiment holds.
top = int(slab.positions[:, 2].argmax())


def change_with_height(**held: float) -> tuple[float, float]:
    """Slopes of the force on the top layer and of the level with its height."""
    values = []
    for sign in (1, -1):
        moved = slab_between_electrodes(HEIGHT)
        moved.positions[top, 2] += sign * STEP
        moved.info.update(held)
        values.append((moved.get_forces()[top, 2], moved.calc.get_fermi_level(moved)))
    force, level_slope = (np.array(values[0]) - np.array(values[1])) / (2 * STEP)
    return float(force), float(level_slope)


force_slope, level_slope = change_with_height(charge=CHARGE)
stiffness = {"charge": -force_slope, "level": -change_with_height(fermi_level=level)[0]}
curvature = (neutral_level - level) / charge  # ∂²E/∂Q² = −∂μ/∂Q, a constant in QEq
expected = stiffness["charge"] - level_slope**2 / curvature
print(f"k at fixed charge, level      {stiffness['charge']:.6f}, {stiffness['level']:.6f} eV/Å²")
print(f"k from the formula            {expected:.6f} eV/Å²")

# %% Where is zero?
# A level needs a zero of the potential: the vacuum for molecules and slabs (the electrodes, if
# there are any), the average over the cell for crystals. So never compare levels of periodic cells
# with different vacuum. A charged slab in open space has no level at all, since its potential falls
# without end; the calculator says so.
alone = slab_between_electrodes(HEIGHT)
alone.calc = SCCalculator(metal, fermi_level=level)
try:
    alone.get_potential_energy()
except IllPosedError as error:
    refusal = str(error)
    print(refusal)

# %% The answer
# The planes carry −Q/2 each. Moving them apart by dL costs dE = f dL, with the same formula for
# either ensemble: f = πk_e Q²/2A per plane. Without battery Q stays. With it Q falls as the
# capacitance does, and the work of the battery makes up for the difference: f = dΩ/dL.
heights = np.linspace(25.0, 70.0, 7)
area = slab.cell.areas()[2]


def pull(height: float, **held: float) -> tuple[float, float]:
    """Charge and d(energy)/dL, by a central difference."""
    energies, charges = [], []
    for sign in (1, -1):
        moved = slab_between_electrodes(height + sign * 0.01)
        moved.info.update(held)
        energies.append(moved.get_potential_energy())
        charges.append(moved.calc.extras["charge"])
    return np.mean(charges), (energies[0] - energies[1]) / 0.02


without, battery = (
    np.array([pull(h, **held) for h in heights])
    for held in ({"charge": CHARGE}, {"fermi_level": level})
)
theory = np.pi * COULOMB * battery[:, 0] ** 2 / (2 * area)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for values, label in ((without, "fixed charge"), (battery, "fixed Fermi level")):
    left.plot(heights, values[:, 0], "o-", label=label)
    right.plot(heights, 1e3 * values[:, 1], "o", label=label)
right.plot(heights, 1e3 * theory, color="0.5", lw=1, label="πk$_e$Q²/2A")
right.axhline(1e3 * np.pi * COULOMB * CHARGE**2 / (2 * area), color="0.5", lw=1)
left.set(xlabel="distance of the electrodes (Å)", ylabel="charge of the slab (e per cell)")
right.set(xlabel="distance of the electrodes (Å)", ylabel="pull on either electrode (meV/Å)")
left.legend(fontsize=8)
right.legend(fontsize=8)
figure.savefig("06_fixed_fermi_level.png", dpi=150)
print(f"pull at {heights[0]:.0f} and {heights[-1]:.0f} Å, fixed Q    {without[[0, -1], 1]} eV/Å")
print(f"pull at {heights[0]:.0f} and {heights[-1]:.0f} Å, fixed μ    {battery[[0, -1], 1]} eV/Å")
