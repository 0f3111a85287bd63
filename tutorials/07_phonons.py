"""Phonons of a polar crystal: what the long-range field of the vibrations does.

Question: by how much does the electric field that goes along with a longitudinal wave stiffen the
vibrations of α-quartz?
Answer: ``07_phonons.png``.

Runs in about 30 s on one CPU thread. Units are eV, Å, e, V/Å; wave numbers in cm⁻¹.
Authors: the asesc developers.
"""

# %% Relax
# Phonons are an expansion about a minimum. `relaxed` keeps the space group.
import matplotlib.pyplot as plt
from ase.io import read

from asesc import SCCalculator
from asesc.phonons import band_structure, dielectric_response, elastic_response, phonons, relaxed
from asesc.pretrained import find_model

crystal = read(find_model("quartz") / "example.xyz")
crystal.calc = SCCalculator("quartz")
crystal = relaxed(crystal, cell=True)

# %% Phonons in one line
# A `phonopy.Phonopy`: atoms of a supercell are displaced, forces become force constants. Born
# charges and ε∞ come from the same model; by how much it violates the acoustic sum rule is printed.
ph = phonons(crystal, supercell=(2, 2, 2), nac=True, progress=True)
born = ph.nac_params["born"]
acoustic_sum = abs(born.sum(axis=0)).max()

# %% The zone centre
# A vibration with a dipole makes a field if it is longitudinal, and none if it is transverse.
# c is the optical axis: modes polar along it are called A2, those across it E. (Measured, in cm⁻¹:
# TO 364, 495, 778, 1080 and LO 388, 552, 791, 1235 along c; Scott, Porto, Phys. Rev. 161, 903.)
response = dielectric_response(ph)
along_c = response.splittings((0, 0, 1))
for pair in along_c:
    print(f"along c    TO {pair.transverse:7.1f}    LO {pair.longitudinal:7.1f}")

# %% What the ions add to the dielectric constant
# The same polar modes screen a static field: ε0 = ε∞ + their oscillator strengths.
high, static = response.high_frequency, response.static
print(f"ε∞ across and along c         {high[0, 0]:.3f}, {high[2, 2]:.3f}")
print(f"ε0 across and along c         {static[0, 0]:.3f}, {static[2, 2]:.3f}  (4.4, 4.6 measured)")

# %% Quartz is piezoelectric
# Straining it displaces the ions, and they carry their Born charges. e11 = 0.171 C/m² is measured;
# the sign depends on the hand of the crystal and on the choice of axes.
elastic = elastic_response(crystal)
print(f"C33                           {elastic.elastic_gpa[2, 2]:.1f} GPa (106 measured)")
print(f"e11                           {elastic.piezoelectric_si[0, 0]:.3f} C/m²")

# %% The answer
# With and without the field. Only near Γ, and only for polar modes, there is a difference.
with_field = band_structure(ph, points=61)
params, ph.nac_params = ph.nac_params, None
without_field = band_structure(ph, points=61)
ph.nac_params = params
figure, axes = plt.subplots(figsize=(7, 4.6), layout="constrained")
with_field.plot(ax=axes)
lines = zip(without_field.distances, without_field.wavenumbers, strict=True)
for distance, wavenumbers in lines:
    axes.plot(distance, wavenumbers, color="C1", lw=0.8, ls=":")
axes.plot([], [], color="C0", label="with the longitudinal field")
axes.plot([], [], color="C1", ls=":", label="without")
axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, fontsize=8)
figure.savefig("07_phonons.png", dpi=150)
largest = max(pair.longitudinal - pair.transverse for pair in along_c)
print(f"largest LO − TO               {largest:.0f} cm⁻¹")
