"""Infrared and Raman spectra of a molecule, and the infrared spectrum in an electric field.

Question: where does the C=O stretch of N-methylacetamide absorb, and how far does a field move it?
Answer: ``08_ir_spectrum.png``.

Runs in about 40 s on one CPU thread. Units are eV, Å, e, V/Å; wave numbers in cm⁻¹.
Authors: the asesc developers.
"""

# %% Relax
# Spectra are an expansion about a minimum; away from one you are warned. `minimum` relaxes, and
# if that ends on a saddle point follows the imaginary mode down.
import matplotlib.pyplot as plt
import numpy as np
from ase.io import read

from asesc import SCCalculator
from asesc.pretrained import find_model
from asesc.spectra import infrared, minimum, raman, relaxed

molecule = read(find_model("nma") / "example.xyz")
molecule.calc = SCCalculator("nma")
molecule = minimum(molecule)

# %% One Hessian and ∂μ/∂R
# Both are derivatives of the model: no displacements, no step to choose. What is absorbed is
# proportional to |∂μ/∂Q|².
lines = infrared(molecule)
lines.plot("ir.png", width=15)
lines.to_csv("ir.csv")

# %% Which mode is the C=O stretch?
# The brightest one between 1600 and 2000 cm⁻¹; chemists call it amide I, and find it near 1730 cm⁻¹
# in the gas. The dipole it makes is parallel to the permanent one: 0° ± 13° was measured, Chem.
# Phys. Lett. 361, 457 (2002).
window = (lines.wavenumbers > 1600) & (lines.wavenumbers < 2000)
brightest = np.where(window, lines.intensities, 0).argmax()
stretch = lines.wavenumbers[brightest]
absorption = lines.intensities[brightest]
print(f"C=O stretch                   {stretch:.0f} cm⁻¹, {absorption:.0f} km/mol")
dipole = molecule.get_dipole_moment()
made = np.array([lines.details[f"dmu_{axis}/dQ (e/amu^0.5)"][brightest] for axis in "xyz"])
cosine = abs(made @ dipole) / np.linalg.norm(made) / np.linalg.norm(dipole)
angle = np.degrees(np.arccos(cosine))
print(f"angle with the dipole         {angle:.0f}° (0° ± 13° measured)")

# %% Raman
# The change of the polarisability instead of that of the dipole. What is bright here is often dark
# there.
scattering = raman(molecule)
scattering.to_csv("raman.csv")
overlap = np.corrcoef(lines.intensities, scattering.intensities)[0, 1]
print(f"correlation of IR and Raman   {overlap:.2f}")

# %% In a field
# A field changes the bonds and with them the frequencies: the vibrational Stark effect. Here it is
# along the dipole, where it exerts no torque, and the molecule is relaxed in it. (0.01 V/Å is
# 1 MV/cm; the dipole points from O to C.)
FIELD = 0.05
shifted = {}
for size in (-FIELD, FIELD):
    molecule.calc.set(electric_field=tuple(size * dipole / np.linalg.norm(dipole)))
    shifted[size] = infrared(relaxed(molecule, fmax=2e-3))
molecule.calc.set(electric_field=(0, 0, 0))


def stretch_of(spectrum) -> float:
    """The line nearest to where the brightest one was."""
    near = np.abs(spectrum.wavenumbers - stretch) < 60
    return spectrum.wavenumbers[np.where(near, spectrum.intensities, 0).argmax()]


tuning = (stretch_of(shifted[FIELD]) - stretch_of(shifted[-FIELD])) / (2 * FIELD)
print(f"Stark tuning of the stretch   {tuning / 100:+.2f} cm⁻¹ per MV/cm along the dipole")

# %% The answer
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
lines.plot(ax=left, width=15)
for size, spectrum in shifted.items():
    curve = spectrum.broadened(width=8)
    right.plot(
        curve.wavenumbers, curve.intensities, label=f"{size:+.2f} V/Å along μ".replace("-", "−")
    )
middle = lines.broadened(width=8)
right.plot(middle.wavenumbers, middle.intensities, color="0.4", ls="--", label="no field")
right.set(xlim=(stretch - 120, stretch + 120), xlabel="wave number (cm⁻¹)")
right.set(ylabel=f"{middle.quantity} ({middle.unit})")
right.set_title("the C=O stretch in a field", fontsize=10)
right.legend(fontsize=8)
figure.savefig("08_ir_spectrum.png", dpi=150)
