"""A charged vacancy: how large a cell, and what the correction is worth.

Question: by how much is the energy of an oxygen vacancy of charge +2 e wrong in cells of up to 250
atoms, before and after its finite-size correction?
Answer: ``10_charged_defect.png``.

Runs in about 30 s on one CPU thread. Units are eV, Å, e, V/Å throughout.
Authors: the asesc developers.
"""

# %% What a model must have seen
# Charged cells are only for models that were trained on them. `quartz` was not, and says so before
# anything is computed.
import matplotlib.pyplot as plt
import numpy as np
import torch
from ase.build import bulk
from ase.io import read

from asesc import SCCalculator
from asesc.defects import ChargedDefect
from asesc.errors import ModelScopeError
from asesc.models import SplitChargeEquilibration
from asesc.pretrained import find_model

quartz = read(find_model("quartz") / "example.xyz")
vacancy = ChargedDefect.vacancy(quartz, "O", calc=SCCalculator("quartz"), supercell=(2, 2, 2))
refusal = ""
try:
    vacancy.formation_energies((0, 2), chempots={"O": -407.5}, dielectric=4.6)
except ModelScopeError as error:
    refusal = str(error)
print(refusal)

# %% A model crystal
# Mg²⁺ and O²⁻ that polarise: an untrained model of split charges with these formal charges. Its
# electrostatics is that of a dielectric, and that is what finite cells get wrong; its energies are
# not those of MgO.
torch.manual_seed(0)
backbone = {"elements": [8, 12], "cutoff": 3.2, "channels": 4, "radial_width": 8, "layers": 2}
ions = SplitChargeEquilibration(
    backbone=backbone, width={8: 1.0, 12: 0.8}, formal_charges={8: -2, 12: 2}
)
crystal = bulk("MgO", "rocksalt", a=4.21)
calc = SCCalculator(ions)

# %% One line
# Supercells, energies, site potentials, ε∞ of the crystal (the ions do not move here), the
# correction of Kumagai and Oba, and growing cells for an independent answer.
defect = ChargedDefect.vacancy(crystal, "O", calc=calc, supercell=(4, 4, 4))
table = defect.formation_energies(
    (2,), chempots={"O": 0.0}, vbm=0.0, fmax=None, extrapolate=(3, 4, 5), progress=False
)
correction = table.states[0].correction
print(f"ε∞ of the crystal             {table.dielectric[0, 0]:.3f}")
print(f"128 atoms, as computed        {table.energy(2) - correction.energy:.3f} eV")
print(f"point charge in its cell      {correction.point_charge:+.3f} eV")
print(f"alignment of potentials       {correction.alignment:+.3f} eV")
print(f"128 atoms, corrected          {table.energy(2):.3f} eV")

# %% A second opinion
# E = c₀ + c₁/L + c₃/L³ through the uncorrected energies knows neither ε nor potentials. Its slope
# c₁ is a measurement of the screening, its c₀ the isolated vacancy. What the correction leaves
# falls as 1/L³ and comes from how the ions screen at short distances.
(growth,) = table.extrapolations
print(f"limit of growing cells        {growth.limit:.3f} eV")
print(f"screening from the slope      {growth.dielectric:.3f}")
errors = np.abs(growth.energies - growth.limit)
corrected_errors = np.abs(growth.corrected - growth.limit)
for length, raw, left in zip(growth.lengths, errors, corrected_errors, strict=True):
    print(f"L = {length:5.2f} Å                   error {raw:.2f} eV, corrected {left:.3f} eV")

# %% The answer
# Left, what the alignment does: far from the vacancy (shaded) the change of the site potentials
# differs from that of a point charge by a constant.
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4), layout="constrained")
correction.plot(ax=left)
growth.plot(ax=right)
figure.suptitle("An oxygen vacancy in MgO, untrained SplitChargeEquilibration")
left.set_title(left.get_title().split("\n")[1], fontsize=10)
right.set_title(right.get_title().split("\n")[1], fontsize=10)
figure.savefig("10_charged_defect.png", dpi=150)
