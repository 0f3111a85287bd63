"""Train a small model on data made here, judge it, and use it by its name.

Question: can charges be learned from energies, forces and dipoles alone?
Answer: yes, to a few percent; ``04_parity.png`` and the charges printed at the end.

Runs in under a minute on one CPU thread. Units are eV, Å, e throughout.
Authors: the asesc developers.
"""

# %% A teacher
# In practice labels come from quantum chemistry. Here the truth is Na+ and Cl− with charges of
# ±0.8 e, and a Lennard-Jones repulsion; we will not tell the model about either.
import os
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.io import write

from asesc import CoulombCalculator, SCCalculator
from asesc.pretrained import load_model
from asesc.training import evaluate_frames, plot_parity, read_config, read_frames, train

TRUE_CHARGE = 0.8
coulomb = CoulombCalculator(charges={"Na": TRUE_CHARGE, "Cl": -TRUE_CHARGE}, width=1.0)
teacher = SumCalculator([coulomb, LennardJones(sigma=2.2, epsilon=0.3, rc=20.0)])

# %% Data
# An extended-XYZ file with labels `REF_energy`, `REF_forces`, `REF_dipole`, … per frame.
random = np.random.default_rng(0)
RHOMBUS = Atoms("Na2Cl2", [(0, 0, 0), (2.6, 2.6, 0), (2.6, 0, 0), (0, 2.6, 0)])


def labelled_cluster() -> Atoms:
    """A distorted (NaCl)2 with the teacher's labels."""
    cluster = RHOMBUS.copy()
    cluster.positions *= random.uniform(0.95, 1.2)
    cluster.positions += random.normal(scale=0.15, size=(4, 3))
    cluster.info["REF_energy"] = teacher.get_potential_energy(cluster)
    cluster.arrays["REF_forces"] = teacher.get_forces(cluster)
    cluster.info["REF_dipole"] = coulomb.get_dipole_moment(cluster)
    return cluster


write("train.xyz", [labelled_cluster() for _ in range(40)])
write("valid.xyz", [labelled_cluster() for _ in range(10)])

# %% One file says everything
# `targets` are the errors aimed at; they set the relative weights of the labels. Dipoles get a hard
# one: they are few, and without them energies would be learned as short-ranged first. The same file
# trains from the command line with `asesc train salt.yaml`, which goes on where it was interrupted.
Path("salt.yaml").write_text("""
name: salt
family: LocalCharges
output: runs
data: {train: train.xyz, valid: valid.xyz, batch_size: 8}
model:
  lmax: 0
  width: 1.0
  backbone: {cutoff: 6.0, channels: 8, layers: 1, radial_width: 16}
targets: {energy: 0.01, forces: 0.04, dipole: 0.006}
optimiser: {epochs: 60, learning_rate: 0.03, validate_every: 20, ema_decay: 0.97}
card: {level_of_theory: Coulomb and Lennard-Jones, licence: MIT}
""")
card = train(read_config("salt.yaml"), progress=False)

# %% How good is it?
# The errors stand in the card; the command line prints them with
# `asesc evaluate runs/salt valid.xyz`.
model = load_model("runs/salt")
errors = evaluate_frames(model, read_frames("valid.xyz"))
plot_parity(errors, "04_parity.png", title="salt on clusters it has not seen")
for label, error in errors.items():
    print(
        f"{label:8s} RMSE {error.rmse:.4f} {error.unit}, {100 * error.relative:.1f} % of its size"
    )

# %% The answer
# A model is found by its name in the folders of ASESC_MODELS, its scope is enforced. Its charges
# can be compared with those that we kept to ourselves.
os.environ["ASESC_MODELS"] = str(Path("runs").resolve())
cluster = RHOMBUS.copy()
cluster.calc = SCCalculator("salt")
charges = cluster.get_charges()
print("charges of Na, Na, Cl, Cl     ", charges.round(3), f"e; the truth is ±{TRUE_CHARGE}")
