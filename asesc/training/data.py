"""Frames with labels, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor, distributed
from torch.utils.data import Dataset, Sampler

from asesc.calculators.inputs import read_charge, read_field
from asesc.calculators.spin import read_spin
from asesc.electrostatics import boundary_for
from asesc.errors import InputError
from asesc.files import read_frames as read_file
from asesc.models.spin import multiplicity
from asesc.system import System
from asesc.training.config import LABELS

#: Shape of a label: per structure or per atom.
_SHAPES: dict[str, tuple[bool, tuple[int, ...]]] = {
    "energy": (False, ()),
    "forces": (True, (3,)),
    "stress": (False, (3, 3)),
    "dipole": (False, (3,)),
    "born_charges": (True, (3, 3)),
    "polarizability": (False, (3, 3)),
    "charges": (True, ()),
    "dipoles": (True, (3,)),
    "fermi_level": (False, ()),
}
_ALIASES = {"born_charges": ("becs",)}


@dataclass(frozen=True)
class Frame:
    """One structure with its labels.

    ``labels`` holds float64 arrays, NaN where a component is not known (the dipole of a slab along
    its periodic directions), ``weights`` one number per label of the frame. Without ``spin`` the
    multiplicity is the lowest.
    """

    atoms: Atoms
    charge: float
    electric_field: tuple[float, float, float]
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    spin: int | None = None


@dataclass(frozen=True)
class Batch:
    """Structures of one boundary with the labels they have.

    ``labels[name]`` is (B, …) or (N, …), and ``weights[name]`` of the same shape. Both are zero
    where a frame has no such label or does not know a component of it.
    """

    system: System
    labels: dict[str, Tensor]
    weights: dict[str, Tensor]

    def is_complete(self, label: str) -> Tensor:
        """Whether a structure knows every component of a label, (B,)."""
        weights = self.weights[label]
        missing = (weights.reshape(len(weights), -1) == 0).any(-1)
        return ~missing if not _SHAPES[label][0] else self.system.sum(missing.double()) == 0

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return Batch(
            self.system.to(device=device),
            {name: value.to(device) for name, value in self.labels.items()},
            {name: value.to(device) for name, value in self.weights.items()},
        )


def read_frames(path: str | Path, *, prefix: str = "REF_", limit: int | None = None) -> list[Frame]:
    """Read labelled structures with ``ase.io.read``; NaN marks a component that is not known.

    Raises
    ------
    InputError
        If the file is missing or cannot be read, a label has the wrong shape or is infinite, or the
        dipole of a crystal, which is known modulo a lattice, lacks a component.
    """
    if not Path(path).is_file():
        raise InputError(f"no data file {str(path)!r}")
    structures = read_file(path, ":" if limit is None else f":{limit}")
    return [_frame(atoms, prefix, f"{path}, frame {n}") for n, atoms in enumerate(structures)]


def _frame(atoms: Atoms, prefix: str, where: str) -> Frame:
    if not len(atoms) or not np.isfinite([*atoms.positions, *atoms.cell]).all():
        raise InputError(f"{where}: there are no atoms, or positions or cell are NaN or infinite")
    labels, weights = {}, {}
    for name in _SHAPES:
        weight = _weight(atoms, name, where)
        label = _label(atoms, name, prefix, where) if weight else None
        if label is not None:
            labels[name], weights[name] = label, weight
    try:
        # As a calculator reads them, synonyms and MACE's field of the opposite sign included.
        charge = read_charge(atoms.info, 0.0)
        electric_field = read_field(atoms.info, (0.0, 0.0, 0.0))
        spin = read_spin(atoms.info, None)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return Frame(
        atoms=Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
        charge=charge.value,
        electric_field=electric_field.value,
        labels=labels,
        weights=weights,
        spin=spin.value,
    )


def _label(atoms: Atoms, name: str, prefix: str, where: str) -> np.ndarray | None:
    """A label in its shape, NaN where a component is not known; None without any component."""
    stores = [atoms.info, atoms.arrays]
    if not prefix and atoms.calc is not None:
        # Where ASE's readers put what has a plain name.
        stores.append(atoms.calc.results)
    keys = [prefix + key for key in _names(name)]
    found = [store[key] for key in keys for store in stores if store.get(key) is not None]
    if not found:
        return None
    array = _array(found[0], f"{where}: label {name!r}")
    if name == "stress" and array.size == 6:
        array = _from_voigt(array)
    per_atom, shape = _SHAPES[name]
    wanted = (len(atoms), *shape) if per_atom else shape
    if array.size != np.prod(wanted, dtype=int) or np.isinf(array).any():
        raise InputError(
            f"{where}: label {name!r} has shape {array.shape} or is infinite; expected "
            f"{wanted} finite numbers, or nan where one is not known"
        )
    if name == "stress" and sum(atoms.pbc) < 2:
        # Some calculators write one, mostly zero, for molecules too; there is no cell to strain.
        return None
    unknown = np.isnan(array)
    if name == "dipole" and atoms.pbc.all() and unknown.any() and not unknown.all():
        raise InputError(
            f"{where}: 'dipole' is {array.tolist()}, but in a crystal it is compared modulo "
            "the cell vectors, which mixes components; give all three or none"
        )
    return None if unknown.all() else array.reshape(wanted)


def _weight(atoms: Atoms, name: str, where: str) -> float:
    """``config_<label>_weight`` of a frame, 1 where it states none."""
    keys = [f"config_{key}_weight" for key in _names(name)]
    for key in keys:
        if key in atoms.info:
            weight = _array(atoms.info[key], f"{where}: {key}")
            if weight.ndim or not 0 <= weight < np.inf:
                raise InputError(f"{where}: {key} is {atoms.info[key]!r}, not a number ≥ 0")
            return float(weight)
    return 1.0


def _names(label: str) -> tuple[str, ...]:
    """Names that data may use for a label, ours first."""
    return (label, *_ALIASES.get(label, ()))


def _array(value: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is {value!r}, not numbers") from error


def _from_voigt(stress: np.ndarray) -> np.ndarray:
    xx, yy, zz, yz, xz, xy = stress
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def collate(frames: Sequence[Frame]) -> Batch:
    """Put frames of one boundary together."""
    system = System.from_atoms(
        [frame.atoms for frame in frames],
        charge=[frame.charge for frame in frames],
        electric_field=[frame.electric_field for frame in frames],
    )
    spins = [
        float(lowest) if frame.spin is None else frame.spin
        for frame, lowest in zip(frames, multiplicity(system), strict=True)
    ]
    system = replace(system, spin=torch.tensor(spins, dtype=torch.float64))
    labels, weights = {}, {}
    for name, (per_atom, shape) in _SHAPES.items():
        if not any(name in frame.labels for frame in frames):
            continue
        rows, factors = [], []
        for frame in frames:
            full = (len(frame.atoms), *shape) if per_atom else shape
            rows.append(frame.labels.get(name, np.full(full, np.nan)))
            factors.append(np.full(full, frame.weights.get(name, 0.0)))
        put_together = np.concatenate if per_atom else np.stack
        values, known = put_together(rows), ~np.isnan(put_together(rows))
        labels[name] = torch.as_tensor(np.where(known, values, 0.0))
        weights[name] = torch.as_tensor(np.where(known, put_together(factors), 0.0))
    return Batch(system, labels, weights)


class BatchDataset(Dataset):
    """Batches by the indices of their frames, as :class:`BoundaryBatches` gives them."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = list(frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        return collate([self._frames[index] for index in indices])


class BoundaryBatches(Sampler[list[int]]):
    """Indices of batches of frames that share a boundary.

    Parameters
    ----------
    shuffle : bool
        Draw other batches in every epoch, from the seed. In a distributed run these are divided
        over the processes, which take the same number of steps: the last ones repeat the first
        batches. Batches in order are for evaluation and stay whole.
    """

    def __init__(
        self, frames: Sequence[Frame], *, batch_size: int, shuffle: bool, seed: int = 0
    ) -> None:
        self._groups: dict[tuple[bool, ...], list[int]] = {}
        for index, frame in enumerate(frames):
            key = tuple(bool(p) for p in frame.atoms.pbc)
            self._groups.setdefault(key, []).append(index)
        self._batch_size, self._shuffle, self._seed = batch_size, shuffle, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffle; Lightning calls it, so that a resumed run continues the sequence."""
        self._epoch = epoch

    def __len__(self) -> int:
        total = sum(-(-len(group) // self._batch_size) for group in self._groups.values())
        return -(-total // self._process()[1])

    def __iter__(self) -> Iterator[list[int]]:
        # A generator: a resumed run makes the iterator before it sets the epoch.
        random = np.random.default_rng((self._seed, self._epoch))
        batches = []
        for group in self._groups.values():
            order = random.permutation(group) if self._shuffle else np.array(group)
            for start in range(0, len(order), self._batch_size):
                batches.append(order[start : start + self._batch_size].tolist())
        if self._shuffle:
            random.shuffle(batches)
        rank, processes = self._process()
        for n in range(len(self)):
            yield batches[(rank + n * processes) % len(batches)]

    def _process(self) -> tuple[int, int]:
        """Rank of this process and number of processes that share the batches."""
        if self._shuffle and distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1


def fit_atomic_energies(frames: Sequence[Frame]) -> dict[int, float]:
    """Least-squares energy per element (minimum norm where compositions do not tell them apart)."""
    labelled = [frame for frame in frames if "energy" in frame.labels]
    elements = sorted({int(z) for frame in frames for z in frame.atoms.numbers})
    if not labelled:
        return dict.fromkeys(elements, 0.0)
    counts = np.array([[(f.atoms.numbers == z).sum() for z in elements] for f in labelled])
    energies = np.array([float(frame.labels["energy"]) for frame in labelled])
    solution, *_ = np.linalg.lstsq(counts.astype(float), energies, rcond=None)
    return dict(zip(elements, solution.tolist(), strict=True))


def add_field_frames(frames: Sequence[Frame], largest: float, *, seed: int) -> list[Frame]:
    """The frames, and a copy of each in a random uniform field where its labels tell the forces.

    These are frames without a field that have forces and Born charges, neutral where they are
    periodic. Directions are uniform on the sphere, sizes uniform up to ``largest`` in V/Å.
    """
    random = np.random.default_rng((seed, 2))
    copies = []
    for frame in frames:
        is_charged_cell = frame.charge != 0 and bool(frame.atoms.pbc.any())
        if not {"forces", "born_charges"} <= frame.labels.keys() or is_charged_cell:
            continue
        if any(frame.electric_field):
            continue
        direction = random.normal(size=3)
        size = random.uniform(0, largest) / np.linalg.norm(direction)
        copies.append(expand_in_field(frame, size * direction))
    return [*frames, *copies]


def expand_in_field(frame: Frame, electric_field: Sequence[float] | np.ndarray) -> Frame:
    """The frame in a small uniform field, with the forces that follow from its Born charges.

        F_kb(ε) = F_kb + Σ_a ε_a Z*_k,ab,

    exact to first order; the next term, ½ ε·∂α/∂R·ε, is a few meV/Å at 0.1 V/Å for oxides. All
    other labels are dropped: the field changes Born charges and stress in first order by
    derivatives that have no label, and the energy of a crystal through its polarisation, which is
    known only modulo its quantum.
    """
    epsilon = np.asarray(electric_field, dtype=float)
    push = np.einsum("a,kab->kb", epsilon, frame.labels["born_charges"])
    return replace(
        frame,
        electric_field=tuple(epsilon.tolist()),
        labels={"forces": frame.labels["forces"] + push},
        weights={"forces": frame.weights["forces"]},
    )


def check_labels(frames: Sequence[Frame], targets: Sequence[str], where: str) -> None:
    """Refuse targets that no frame has a label for."""
    for label in targets:
        if label in LABELS and not any(label in frame.labels for frame in frames):
            raise InputError(
                f"{where}: no frame has the label {label!r}, but it has a target error; remove it "
                "from targets or check data.prefix"
            )


def check_structures(frames: Sequence[Frame], elements: Sequence[int], where: str) -> None:
    """Refuse atoms that a model does not know, and structures that no boundary takes."""
    for pbc in {tuple(bool(p) for p in frame.atoms.pbc) for frame in frames}:
        boundary_for("auto", pbc)
    found = {int(z) for frame in frames for z in frame.atoms.numbers}
    if unknown := sorted(found - set(elements)):
        has, knows = (
            ", ".join(chemical_symbols[z] for z in numbers) for numbers in (unknown, elements)
        )
        raise InputError(
            f"{where}: there are atoms of {has}, but the model knows {knows}; leave these frames "
            "out, or train a model that knows them all"
        )
