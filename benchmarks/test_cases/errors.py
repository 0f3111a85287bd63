"""Errors on the held-out frames, also of what charge or field change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from entrants import DENSITY, Entrant
from splits import is_reference

from asesc import load_model
from asesc.errors import IllPosedError, SCFError
from asesc.models import Model
from asesc.response import energy_and_forces
from asesc.training.data import Frame, collate, read_frames

LABELS = ("energy", "forces", "charges", "dipoles", "dipole", "fermi_level")


def predict(model: Model, frame: Frame) -> dict[str, np.ndarray]:
    """What a model says about the labels of one frame."""
    system = collate([frame]).system
    result = energy_and_forces(model, system)
    prediction = result.prediction
    values = {
        "energy": prediction.energy[0],
        "forces": result.forces,
        "charges": prediction.density.charges,
        "dipole": prediction.dipole[0],
    }
    if model.lmax > 0:
        values["dipoles"] = prediction.density.dipoles
    if prediction.fermi_level is not None:
        values["fermi_level"] = prediction.fermi_level[0]
    return {key: value.detach().numpy() for key, value in values.items()}


def measure(name: Path | str, entrant: Entrant, frames: Path) -> dict[str, Any]:
    """Root mean square errors of a trained entrant, in eV, Å and e; energies per atom.

    Formal charges are no Hirshfeld charges and are not compared with them. ``change_energy`` and
    ``change_forces`` are errors of E(Q) − E(0) or E(field) − E(0) at one geometry, and of the
    forces likewise; ``by_charge`` holds energy and forces per charge. A frame that does not
    converge is counted and left out.
    """
    model = load_model(name, dtype="float64")
    structures, pairs = read(frames, ":"), defaultdict(list)
    unconverged, refused = [], []
    for atoms, frame in zip(structures, read_frames(frames), strict=True):
        seen = entrant.seen(atoms)
        if seen is None:
            refused.append(atoms.info["frame_id"])
            continue
        shown = Frame(
            frame.atoms, float(seen.info["charge"]), tuple(seen.info["electric_field"]), {}
        )
        try:
            found = predict(model, shown)
        except (SCFError, IllPosedError) as error:
            unconverged.append(f"{atoms.info['frame_id']}: {type(error).__name__}")
            continue
        pairs[atoms.info["geometry_id"]].append((atoms, frame.labels, found))
    every = [pair for group in pairs.values() for pair in group]
    formal = set(DENSITY) if entrant.family == "FixedCharges" else set()
    compared = [label for label in LABELS if label not in formal and _has(every, label)]
    return {
        "frames": len(every),
        "refused": len(refused),
        "unconverged": unconverged,
        "errors": {label: rms(_differences(every, label)) for label in compared}
        | changes(pairs.values()),
        "by_charge": {
            str(charge): {
                label: rms(_differences(_of_charge(every, charge), label))
                for label in ("energy", "forces")
            }
            for charge in sorted({int(atoms.info["charge"]) for atoms, _, _ in every})
        },
    }


def changes(groups: Iterable[Sequence[tuple]]) -> dict[str, float]:
    """Errors of the changes with charge or field, against the neutral frame in no field."""
    energies, forces, sizes = [], [], []
    for group in groups:
        base = [pair for pair in group if is_reference(pair[0])]
        for atoms, labels, found in group:
            if not base or is_reference(atoms):
                continue
            zero = base[0]
            per_atom = 1 / len(atoms)
            wanted = (labels["energy"] - zero[1]["energy"]) * per_atom
            energies.append((found["energy"] - zero[2]["energy"]) * per_atom - wanted)
            wanted = labels["forces"] - zero[1]["forces"]
            forces.append((found["forces"] - zero[2]["forces"] - wanted).ravel())
            sizes.append(wanted.ravel())
    if not energies:
        return {}
    return {
        "change_energy": rms(np.array(energies)),
        "change_forces": rms(np.concatenate(forces)),
        "change_forces_label": rms(np.concatenate(sizes)),
    }


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def _of_charge(pairs: Sequence[tuple], charge: int) -> list[tuple]:
    return [pair for pair in pairs if int(pair[0].info["charge"]) == charge]


def _has(pairs: Sequence[tuple], label: str) -> bool:
    return any(label in labels and label in found for _, labels, found in pairs)


def _differences(pairs: Sequence[tuple], label: str) -> np.ndarray:
    """Prediction minus label over all known components; energies per atom."""
    found = []
    for atoms, labels, prediction in pairs:
        if label in labels and label in prediction:
            scale = 1 / len(atoms) if label == "energy" else 1.0
            difference = np.ravel(prediction[label] - labels[label]) * scale
            found.append(difference[~np.isnan(difference)])
    return np.concatenate(found)
