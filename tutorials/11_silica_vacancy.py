"""A charged vacancy in SiO2: what its electrons cost, where they were, and what the crystal does.

Question: an oxygen vacancy of quartz gives away one electron, then another. What does it cost, from
which atoms do they come, and where do the atoms go?
Answer: ``11_silica_vacancy.png``.

Runs in about a minute on one CPU thread. Units are eV, Å, e, V/Å throughout.
Authors: the asesc developers.
"""

# %% Geometries that the model has never seen
# `held_out.xyz` holds vacancies labelled with density-functional theory at total charges 0, +1 and
# +2. One model answers for all three; the charge is `info["charge"]`. Energies count the electrons
# that left at 3 eV, in the middle of the gap. Charged cells have a uniform background in the labels
# too, so that the advice to correct for it is not for this comparison.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from ase.io import read
from ase.optimize import FIRE

from asesc import SCCalculator
from asesc.pretrained import find_model

warnings.filterwarnings("ignore", message=".* uniform background", category=UserWarning)
folder = find_model("silica-vacancy")
labelled = read(folder / "held_out.xyz", ":")
calc = SCCalculator("silica-vacancy", allow_fractional_charge=True)
energies, charges, force_errors = [], [], []
for atoms in labelled:
    atoms.calc = calc
    energies.append(atoms.get_potential_energy())
    charges.append(atoms.get_charges())
    difference = atoms.get_forces() - atoms.arrays["REF_forces"]
    force_errors.append(1e3 * np.sqrt(np.mean(difference**2)))
energies = np.reshape(energies, (-1, 3))  # geometries, total charges
reference = np.reshape([atoms.info["REF_energy"] for atoms in labelled], (-1, 3))
for charge in (1, 2):
    found, wanted = (e[:, charge] - e[:, 0] for e in (energies, reference))
    print(f"E(+{charge}) − E(0)                 " + ", ".join(f"{e:.2f}" for e in found) + " eV")
    print("  DFT                         " + ", ".join(f"{e:.2f}" for e in wanted) + " eV")
for first in range(0, len(labelled), 3):
    found = ", ".join(f"{error:.0f}" for error in force_errors[first : first + 3])
    print(f"forces at 0, +1, +2           {found} meV/Å off, {labelled[first].info['config_type']}")

# %% Charges in between
# In exact theory E(Q) is straight between whole charges, with kinks at them. A smooth functional is
# curved instead. Its slope is minus the Fermi level, here checked by finite differences.
geometry = labelled[0].copy()
geometry.calc = calc
scan = np.arange(0.0, 2.01, 0.25)
curve = []
for charge in scan:
    geometry.info["charge"] = charge
    curve.append(geometry.get_potential_energy())
curve = np.array(curve) - energies[0, 0]
geometry.info["charge"] = 1.0
level = calc.get_property("fermi_level", geometry)
slope = (curve[scan == 1.25] - curve[scan == 0.75])[0] / 0.5
print(f"∂E/∂Q at +1, −Fermi level     {slope:.3f}, {-level:.3f} eV/e")


# %% From which atoms
# Silicon has four oxygen neighbours; the two next to the vacancy have three and face each other. In
# a short Si–Si bond the levels lie deep, and the electrons come from all the crystal; far apart,
# the two atoms give more than a third of them, in Hirshfeld's way of sharing.
def facing_pair(atoms):
    """The two silicon atoms whose fourth oxygen neighbour is farthest away, and their distance."""
    silicon, oxygen = (np.flatnonzero(atoms.numbers == number) for number in (14, 8))
    fourth = [np.sort(atoms.get_distances(i, oxygen, mic=True))[3] for i in silicon]
    pair = silicon[np.argsort(fourth)[-2:]]
    return pair, atoms.get_distance(*pair, mic=True)


separations, shares, wanted_shares = [], [], []
for first in range(0, len(labelled), 3):
    pair, separation = facing_pair(labelled[first])
    separations.append(separation)
    for given, kept in (
        (charges[first : first + 3], shares),
        ([atoms.arrays["REF_charges"] for atoms in labelled[first : first + 3]], wanted_shares),
    ):
        kept.append([(given[charge] - given[0])[pair].sum() / charge for charge in (1, 2)])
shares, wanted_shares = np.array(shares), np.array(wanted_shares)
for separation, share, wanted in zip(separations, shares, wanted_shares, strict=True):
    print(f"Si–Si {separation:.2f} Å, share at +2     {share[1]:.2f}, DFT {wanted[1]:.2f}")

# %% Where the atoms go
# Neutral, the two silicon atoms share a bond of two electrons. Each one that leaves lets them go
# further apart.
relaxed = []
for charge in range(3):
    moving = read(folder / "example.xyz")
    moving.info["charge"] = charge
    moving.calc = calc
    FIRE(moving, logfile=None).run(fmax=0.05, steps=300)
    relaxed.append(facing_pair(moving)[1])
    print(f"Si–Si relaxed at +{charge}           {relaxed[-1]:.2f} Å")

# %% The answer
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4), layout="constrained")
figure.suptitle("An oxygen vacancy in α-quartz, `silica-vacancy`", fontsize=11)
chord = 0.5 * (reference[0, 2] - reference[0, 0])
left.plot(scan, curve - chord * scan, label="model")
left.plot(range(3), reference[0] - reference[0, 0] - chord * np.arange(3), "ko", label="DFT")
left.set(xlabel="total charge Q (e)", ylabel="E(Q) − E(0) − Q [E(2) − E(0)]/2 (eV)")
left.set_title("energy at one geometry, without the straight part", fontsize=10)
left.legend()
for column, charge in enumerate((1, 2)):
    (line,) = right.plot(separations, shares[:, column], "o", label=f"+{charge}, model")
    right.plot(separations, wanted_shares[:, column], "x", color=line.get_color(), ms=9)
    line.set_markerfacecolor("none")
right.plot([], [], "x", color="0.4", label="DFT")
for charge, distance in enumerate(relaxed):
    right.axvline(distance, color="0.8", zorder=0)
    right.text(distance, 0.17, f" relaxed, +{charge}", rotation=90, fontsize=8, color="0.4")
right.set(xlabel="distance of the two Si (Å)", ylabel="their share of the charge", ylim=(0, None))
right.set_title("from where the electrons come", fontsize=10)
right.legend(fontsize=8)
figure.savefig("11_silica_vacancy.png", dpi=150)
