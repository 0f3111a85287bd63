"""Training data made by a random model: a student of the same family can reach zero error."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.build import molecule
from ase.io import write
from builders import random_model
from safetensors.torch import load_file
from torch import Tensor

from asesc.models import Model
from asesc.pretrained import ModelCard
from asesc.response import born_effective_charges, energy_and_forces, polarizability
from asesc.system import System
from asesc.training import TrainingConfig, read_config, train
from asesc.training.data import Frame, _frame

ALL_LABELS = frozenset(
    "energy forces stress dipole born_charges polarizability charges dipoles fermi_level".split()
)


def water(seed: int, *, periodic: bool = False) -> Atoms:
    """A distorted molecule, isolated or in a small triclinic cell."""
    atoms = molecule("H2O")
    atoms.rattle(0.08, seed=seed)
    if periodic:
        atoms.set_cell([(3.4, 0.2, 0.0), (-0.3, 3.7, 0.4), (0.3, 0.1, 4.0)])
        atoms.pbc = True
    return atoms


def labelled(
    teacher: Model,
    atoms: Atoms,
    labels: Collection[str],
    *,
    charge: float = 0.0,
    field: Sequence[float] = (0.0, 0.0, 0.0),
) -> Atoms:
    """The structure with what the teacher says about it, as ``REF_…``."""
    system = System.from_atoms(atoms, charge=charge, electric_field=field)
    result = energy_and_forces(teacher, system, stress="stress" in labels)
    density = result.prediction.density
    values = {
        "energy": result.prediction.energy[0],
        "forces": result.forces,
        "dipole": result.prediction.dipole[0],
        "charges": density.charges,
        "dipoles": density.dipoles,
    }
    if "stress" in labels:
        values["stress"] = result.stress[0]
    if "fermi_level" in labels:
        values["fermi_level"] = result.prediction.fermi_level[0]
    if "born_charges" in labels:
        values["born_charges"] = born_effective_charges(teacher, system).tensor
    if "polarizability" in labels:
        values["polarizability"] = polarizability(teacher, system)[0]
    atoms = atoms.copy()
    atoms.info.update(charge=charge, electric_field=np.array(field))
    for name in labels:
        array = values[name].detach().numpy()
        per_atom = name in ("forces", "born_charges", "charges", "dipoles")
        flat = array.reshape(len(atoms), -1) if per_atom else array.reshape(-1)
        store = atoms.arrays if per_atom else atoms.info
        store[f"REF_{name}"] = flat.squeeze() if flat.size > 1 else float(flat[0])
    return atoms


def frame_of(atoms: Atoms) -> Frame:
    """A frame as the reader makes it."""
    return _frame(atoms, "REF_", "test")


def write_run(
    folder: Path,
    family: str = "SplitChargeEquilibration",
    *,
    labels: Collection[str] = ("energy", "forces"),
    n_frames: int = 8,
    periodic: bool = False,
    **changes: Any,
) -> Path:
    """Data of a teacher and a configuration for a student of the same family; the latter's path."""
    teacher = random_model(family)
    frames = [labelled(teacher, water(n, periodic=periodic), labels) for n in range(n_frames)]
    write(folder / "train.xyz", frames)
    write(folder / "valid.xyz", frames[:2])
    model = {k: v for k, v in teacher.hyperparameters.items() if k != "atomic_energies"}
    config = {
        "name": "student",
        "family": family,
        "dtype": "float64",
        "output": "out",
        "seed": 3,
        "data": {"train": "train.xyz", "valid": "valid.xyz", "batch_size": 2},
        "model": model,
        "targets": dict.fromkeys(labels, 0.1),
        "optimiser": {"epochs": 4, "validate_every": 2, "ema_decay": 0.9, "warmup": 0.1},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value} if key in ("data", "optimiser") else value
    path = folder / "student.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def shipped(config: TrainingConfig) -> dict[str, Tensor]:
    """The weights on disk."""
    return load_file(Path(config.output) / "student" / "weights.safetensors")


def run(path: Path, **options: Any) -> tuple[ModelCard, dict[str, Tensor]]:
    """Train quietly; the card and the weights on disk."""
    config = read_config(path)
    card = train(config, progress=False, **options)
    return card, shipped(config)
