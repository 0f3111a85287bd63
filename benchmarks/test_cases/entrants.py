"""The families that are compared, and how each is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from splits import is_reference

from asesc.models import FAMILIES
from asesc.pretrained import find_model
from asesc.training import TrainingConfig, train
from asesc.training.config import DataConfig, OptimiserConfig

BACKBONE = {
    "cutoff": 5.0,
    "channels": 24,
    "hidden_lmax": 1,
    "edge_lmax": 2,
    "correlation": 3,
    "radial_width": 32,
}
FORMAL = {"sio2": {14: 4.0, 8: -2.0}, "al_water": {13: 0.0, 1: 0.4, 8: -0.8}}
"""Charges of ``FixedCharges``; those of SiO2 are its oxidation states, those of water give it the
dipole moment it has in the liquid."""
ELEMENTS = {"sio2": (8, 14), "al_water": (1, 8, 13)}
TARGETS = {"energy": 0.005, "forces": 0.05}
DENSITY = {"charges": 0.01, "dipoles": 0.01}
SLAB = {"dipole": 0.03}
LEVEL = {"fermi_level": 0.1}
FINAL = {"energy": 0.001}


@dataclass(frozen=True)
class Entrant:
    """One family with its keywords.

    Attributes
    ----------
    name : str
        Of the row.
    family : str
    keywords : mapping
        Of the family, beside the backbone.
    version : str
        Of a model that was trained elsewhere: the beginning of its checksum.
    blind : bool
        Sees neither charge nor field: MACE alone, as ``FixedCharges`` of zero charges.
    """

    name: str
    family: str
    keywords: Mapping[str, Any] = field(default_factory=dict)
    blind: bool = False
    version: str = ""

    @property
    def slug(self) -> str:
        """Name of the model and its files."""
        return "-".join([*self.name.lower().split(), *filter(None, [self.version])])

    def seen(self, atoms: Atoms) -> Atoms | None:
        """A frame as this entrant is given it, or None if it cannot have its charge."""
        atoms = atoms.copy()
        if self.blind:
            atoms.info["charge"], atoms.info["electric_field"] = 0, np.zeros(3)
        elif self.family == "FixedCharges":
            formal = self.keywords["formal_charges"]
            total = sum({int(z): q for z, q in formal.items()}[int(z)] for z in atoms.numbers)
            return atoms if abs(total - atoms.info["charge"]) < 1e-8 else None
        return atoms

    def targets(self, system: str) -> dict[str, float]:
        """Labels this entrant is trained on, with the error aimed at."""
        if self.family == "FixedCharges":
            return dict(TARGETS)
        slab = SLAB if system == "al_water" else {}
        level = LEVEL if slab and FAMILIES[self.family].has_fermi_level else {}
        return {**TARGETS, **DENSITY, **slab, **level}


def trained_elsewhere(name: str) -> Entrant:
    """A finished model as a row of the table."""
    card = json.loads((find_model(name) / "card.json").read_text())
    version = card["sha256"][:8]
    return Entrant(card["name"], card["family"], card["hyperparameters"], version=version)


def entrants(system: str) -> list[Entrant]:
    """All rows of the table of one system."""
    fixed = {"lmax": 0, "width": 1.0}
    zero = dict.fromkeys(ELEMENTS[system], 0.0)
    common = {"lmax": 1, "width": 1.0}
    return [
        Entrant("MACE alone", "FixedCharges", {**fixed, "formal_charges": zero}, blind=True),
        Entrant("FixedCharges", "FixedCharges", {**fixed, "formal_charges": FORMAL[system]}),
        Entrant("LocalCharges", "LocalCharges", common),
        Entrant("SplitCharges", "SplitCharges", common),
        Entrant("QEq", "QEq", common),
        Entrant("SplitChargeEquilibration", "SplitChargeEquilibration", common),
        Entrant("FixedPoint", "FixedPoint", common),
        Entrant("EnergyFunctional", "EnergyFunctional", common),
    ]


@dataclass(frozen=True)
class Budget:
    """The same for every entrant of a system; the backbone has its own.

    Attributes
    ----------
    epochs, backbone_epochs : int
    learning_rate : float
    batch_size : int
    seed : int
    """

    epochs: int = 60
    backbone_epochs: int = 60
    learning_rate: float = 0.005
    batch_size: int = 2
    seed: int = 6
    backbone: str | None = None


def train_backbone(system: str, folder: Path, frames: Sequence[Atoms], budget: Budget) -> Path:
    """MACE alone on the neutral frames in no field; the model's folder."""
    kept = [atoms for atoms in frames if is_reference(atoms)]
    blind = entrants(system)[0]
    start: dict[str, Any]
    if budget.backbone is not None:
        # Another program computed its energies: they have another zero.
        start = {"model": {**blind.keywords, "atomic_energies": "refit"}}
        start["backbone_from"] = budget.backbone
    else:
        backbone = {**BACKBONE, "elements": ELEMENTS[system]}
        start = {"model": {**blind.keywords, "backbone": backbone}}
    return _trained(
        folder / "backbone",
        "backbone",
        blind,
        system,
        kept,
        kept[: max(1, len(kept) // 10)],
        budget,
        start,
    )


def train_entrant(entrant: Entrant, system: str, folder: Path, budget: Budget) -> Path:
    """The entrant from the common backbone on the common frames; the model's folder."""
    start = {
        "model": entrant.keywords,
        "backbone_from": str(folder / "backbone" / "backbone"),
    }
    train_frames, test_frames = (
        [seen for atoms in read(folder / name, ":") if (seen := entrant.seen(atoms)) is not None]
        for name in ("train.xyz", "test.xyz")
    )
    return _trained(
        folder / entrant.slug,
        entrant.slug,
        entrant,
        system,
        train_frames,
        test_frames,
        budget,
        start,
    )


def _trained(
    folder: Path,
    name: str,
    entrant: Entrant,
    system: str,
    train_frames: Sequence[Atoms],
    test_frames: Sequence[Atoms],
    budget: Budget,
    start: Mapping[str, Any],
) -> Path:
    """Train, go on with an interrupted run, or find the finished model."""
    if (folder / name / "card.json").is_file():
        return folder / name
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "train.xyz", train_frames, format="extxyz")
    write(folder / "valid.xyz", test_frames or train_frames[:1], format="extxyz")
    epochs = budget.backbone_epochs if name == "backbone" else budget.epochs
    config = TrainingConfig(
        name=name,
        family=entrant.family,
        data=DataConfig(
            train=str(folder / "train.xyz"),
            valid=str(folder / "valid.xyz"),
            batch_size=budget.batch_size,
        ),
        targets=entrant.targets(system),
        final_targets=FINAL,
        output=str(folder),
        optimiser=OptimiserConfig(
            epochs=epochs,
            learning_rate=budget.learning_rate,
            decay=0.5,
            ema_decay=0.99,
            validate_every=epochs,
        ),
        seed=budget.seed,
        **start,
    )
    train(config, progress=False)
    return folder / name
