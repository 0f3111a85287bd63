"""A metal under water in a field: screening, induced dipoles, thick slabs, and water that leaves.

Question: what does a field do to an interface of aluminium and water, and does a model that learned
it on slabs of three and four layers know what happens in ten?
Answer: ``12_metal_water.png``.

Runs in about a minute on one CPU thread. Units are eV, Å, e, V/Å throughout.
Authors: the asesc developers.
"""

# %% Geometries that the model has never seen
# `held_out.xyz` holds an interface and a bare slab, labelled with density-functional theory in
# fields along z, the open axis. The field is `info["electric_field"]`; the energy of the labels
# contains −μF, as that of the calculator does.
import matplotlib.pyplot as plt
import numpy as np
from ase.build import fcc111
from ase.io import read

from asesc import SCCalculator
from asesc.pretrained import find_model
from asesc.slabs import potential_profile
from asesc.units import COULOMB

labelled = read(find_model("al-water") / "held_out.xyz", ":")
calc = SCCalculator("al-water")
fields, dipoles, wanted_dipoles = [], [], []
for atoms in labelled:
    atoms.calc = calc
    fields.append(atoms.info["electric_field"][2])
    dipoles.append(atoms.get_dipole_moment()[2])
    wanted_dipoles.append(atoms.info["REF_dipole"][2])
    off = 1e3 * np.sqrt(np.mean((atoms.get_forces() - atoms.arrays["REF_forces"]) ** 2))
    print(f"{atoms.info['config_type']} in {fields[-1]:+.3f} V/Å       forces {off:.0f} meV/Å off")
    print(f"  dipole                      {dipoles[-1]:+.3f}, DFT {wanted_dipoles[-1]:+.3f} e Å")
wet, strong = labelled[:2]
bare = labelled[2:]
induced, wanted_induced = (d[1] - d[0] for d in (dipoles, wanted_dipoles))
print(f"induced in {fields[1]:+.1f} V/Å           {induced:.3f}, DFT {wanted_induced:.3f} e Å")

# %% How the potential changes
# Both curves are the potential in the field minus that without: the applied one, and that of the
# charges it moves. In the metal they cancel; water, a dielectric, screens a part.
profiles = [potential_profile(atoms) for atoms in (wet, strong)]
heights = np.linspace(-0.5, 0.5, len(wet.info["profile"]), endpoint=False) * wet.cell[2, 2]
before, after = (np.interp(heights, p.heights, p.potential) for p in profiles)
change = after - before
wanted_change = strong.info["profile"] - wet.info["profile"] - fields[1] * heights
near = (heights > wet.positions[:, 2].min() - 2) & (heights < wet.positions[:, 2].max() + 2)
off = 1e3 * np.sqrt(np.mean((change - wanted_change)[near] ** 2))
print(f"change of the potential       {off:.0f} mV off, of {np.ptp(wanted_change[near]):.2f} V")
metal = wet.positions[wet.numbers == 13, 2]


def field_inside(potential):
    """Field between the outer layers of the metal, from a straight line (V/Å)."""
    within = (heights > metal.min()) & (heights < metal.max())
    return -np.polyfit(heights[within], potential[within], 1)[0]


screened, wanted_screened = field_inside(change), field_inside(wanted_change)
print(f"field inside the metal        {1e3 * screened:+.1f}, DFT {1e3 * wanted_screened:+.1f} mV/Å")

# %% Thicker than anything it was trained on
# Each layer of a conductor adds A d/(4π k_e) to the polarisability, whatever the thickness is. A
# model whose charges cannot flow from face to face stops growing.
layers = np.array([3, 4, 5, 6, 8, 10])
polarisabilities = []
for count in layers:
    slab = fcc111("Al", (1, 1, count), a=4.05, vacuum=6.0)
    slab.calc = calc
    moments = []
    for field in (-0.05, 0.05):
        slab.info["electric_field"] = (0, 0, field)
        moments.append(slab.get_dipole_moment()[2])
    polarisabilities.append((moments[1] - moments[0]) / 0.1)
area, spacing = np.sqrt(3) / 4 * 4.05**2, 4.05 / np.sqrt(3)
conductor = area * spacing / (4 * np.pi * COULOMB)
growth = np.diff(polarisabilities) / np.diff(layers) / conductor
print(f"growth per layer              {growth[0]:.2f} to {growth[-1]:.2f} of a conductor's")
# Four atoms to a layer in the cell of the labels.
wanted_bare = np.polyfit(fields[2:], wanted_dipoles[2:], 1)[0] / 4
print(f"three layers                  {polarisabilities[0]:.3f}, DFT {wanted_bare:.3f} e Å²/V")

# %% Water that leaves the metal
# Far away the film has to be neutral again, also in a field: two pieces of matter without a contact
# share no electrons.
lifts = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
film = wet.numbers != 13
left_behind = []
for lift in lifts:
    moved = wet.copy()
    moved.positions[film, 2] += lift
    moved.info["electric_field"] = (0, 0, 0.2)
    moved.calc = calc
    left_behind.append(moved.get_charges()[film].sum())
print("charge of the lifted water    " + ", ".join(f"{q:+.3f}" for q in left_behind) + " e")

# %% The answer
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
figure.suptitle("Al(111) under water, `al-water`", fontsize=11)
left.plot(heights[near], wanted_change[near], "k", lw=2, label="DFT")
left.plot(heights[near], change[near], lw=1.2, label="model")
left.axvspan(metal.min(), metal.max(), color="0.93", zorder=0, label="metal")
left.set(xlabel="height (Å)", ylabel="change of the potential (V)")
left.set_title(f"in {fields[1]:g} V/Å", fontsize=10)
left.legend(fontsize=8)
scan = np.linspace(-0.15, 0.3, 7)
for atoms, chosen, label in ((wet, slice(0, 2), "under water"), (bare[0], slice(2, None), "bare")):
    curve = []
    for field in scan:
        atoms.info["electric_field"] = (0, 0, field)
        curve.append(atoms.get_dipole_moment()[2])
    (line,) = middle.plot(scan, curve, lw=1.2, label=f"three layers {label}, model")
    middle.plot(fields[chosen], wanted_dipoles[chosen], "o", color=line.get_color())
middle.plot([], [], "o", color="0.4", label="DFT")
middle.set(xlabel="field (V/Å)", ylabel="dipole (e Å)")
middle.set_title("dipoles", fontsize=10)
middle.legend(fontsize=8)
right.plot(layers, polarisabilities, "o-", label="model")
right.plot(3, wanted_bare, "ks", label="DFT, held out")
right.plot(layers, wanted_bare + conductor * (layers - 3), "0.5", lw=0.8, label="conductor")
right.axvspan(3, 4, color="0.93", zorder=0, label="trained on")
right.set(xlabel="layers of Al(111)", ylabel="polarisability per surface atom (e Å²/V)")
right.set_title("thicker slabs", fontsize=10)
right.legend(fontsize=8)
figure.savefig("12_metal_water.png", dpi=150)
