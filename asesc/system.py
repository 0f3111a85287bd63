"""Structures as tensors: the one input type of everything below the calculators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from asesc.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class System:
    """One or several structures with one common boundary, atoms concatenated.

    Parameters
    ----------
    positions : Tensor, (N, 3), Å
        Not wrapped: dipoles and fields need whole molecules.
    numbers : Tensor, (N,), int64
        Atomic numbers.
    cell : Tensor, (B, 3, 3), Å
        Rows are the lattice vectors, as in ASE.
    pbc : tuple of 3 bool
        Periodic directions; the same for all structures of the batch.
    batch : Tensor, (N,), int64
        Structure index of every atom, ascending.
    charge : Tensor, (B,), e
        Total charge.
    electric_field : Tensor, (B, 3), V/Å
        Uniform applied field with the physicists' sign: the force on a charge q is +qE.
    fermi_level : Tensor, (B,), eV, optional
        Electron chemical potential μ = ∂E/∂N_e = −∂E/∂Q of a reservoir. Where it is given the
        total charge is found, and ``charge`` is not read.
    spin : Tensor, (B,), optional
        Multiplicity 2S + 1, for models that have spin.
    charge_sites : Tensor, (N,), optional
        Where the charge beyond the formal charges is put, as weights ≥ 0 per atom, in models whose
        charge localises. A structure without positive weights leaves the choice to the model.
    """

    positions: Tensor
    numbers: Tensor
    cell: Tensor
    pbc: tuple[bool, bool, bool]
    batch: Tensor
    charge: Tensor
    electric_field: Tensor
    fermi_level: Tensor | None = None
    spin: Tensor | None = None
    charge_sites: Tensor | None = None

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms | Sequence[Atoms],
        *,
        charge: float | Sequence[float] = 0.0,
        electric_field: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
        fermi_level: float | Sequence[float] | None = None,
        spin: int | Sequence[int] | None = None,
        charge_sites: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> System:
        """Convert ASE structures.

        Parameters
        ----------
        atoms : Atoms or sequence of Atoms
            All with the same ``pbc``.
        charge : float or (B,), e
        electric_field : (3,) or (B, 3), V/Å
        fermi_level : float or (B,), eV, optional
        spin : int or (B,), optional
            Multiplicity 2S + 1.
        charge_sites : (N,), optional
            Weights of the atoms that carry the charge.

        Raises
        ------
        InputError
            For no structure, an empty structure or mixed boundaries.
        """
        frames = list(atoms) if isinstance(atoms, (list, tuple)) else [atoms]
        pbc = _common_pbc(frames)
        n_structures = len(frames)
        options = {"dtype": dtype, "device": device}
        field = np.broadcast_to(np.asarray(electric_field, dtype=float), (n_structures, 3))
        charges = np.broadcast_to(np.asarray(charge, dtype=float), (n_structures,))
        levels = None
        if fermi_level is not None:
            levels = np.broadcast_to(np.asarray(fermi_level, dtype=float), (n_structures,))
        spins = None
        if spin is not None:
            spins = np.broadcast_to(np.asarray(spin, dtype=float), (n_structures,))
        counts = torch.tensor([len(frame) for frame in frames], device=device)
        return cls(
            positions=torch.as_tensor(np.concatenate([f.positions for f in frames]), **options),
            numbers=torch.as_tensor(
                np.concatenate([f.numbers for f in frames]), dtype=torch.int64, device=device
            ),
            cell=torch.as_tensor(np.stack([f.cell.array for f in frames]), **options),
            pbc=pbc,
            batch=torch.repeat_interleave(torch.arange(n_structures, device=device), counts),
            charge=torch.as_tensor(charges.copy(), **options),
            electric_field=torch.as_tensor(field.copy(), **options),
            fermi_level=None if levels is None else torch.as_tensor(levels.copy(), **options),
            spin=None if spins is None else torch.as_tensor(spins.copy(), **options),
            charge_sites=None if charge_sites is None else torch.tensor(charge_sites, **options),
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms N of the whole batch."""
        return self.positions.shape[0]

    @property
    def n_structures(self) -> int:
        """Number of structures B."""
        return self.cell.shape[0]

    @cached_property
    def counts(self) -> Tensor:
        """Atoms per structure, (B,)."""
        if self.n_structures == 1:
            return torch.full((1,), self.n_atoms, device=self.batch.device)
        return torch.bincount(self.batch, minlength=self.n_structures)

    @cached_property
    def layout(self) -> BlockLayout:
        """How atoms are laid out in one padded block per structure."""
        return BlockLayout(self.batch, self.counts)

    @property
    def volume(self) -> Tensor:
        """Cell volume, (B,), Å³; meaningful for three periodic directions."""
        return cell_volume(self.cell)

    def sum(self, values: Tensor) -> Tensor:
        """Sum a per-atom quantity over each structure: (N, …) → (B, …)."""
        out = values.new_zeros((self.n_structures, *values.shape[1:]))
        return out.index_add(0, self.batch, values)

    def strained(self, strain: Tensor) -> System:
        """Apply r → r(1 + ε), h → h(1 + ε) and E → E(1 + ε)⁻¹, symmetric strain ε (B, 3, 3).

        The voltage E·h along every cell vector stays what it is. In a crystal that is the field
        whose strain derivatives do not depend on which images of the atoms are stored; a field
        normal to a slab does not notice strains in its plane.
        """
        deform = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain
        positions = torch.einsum("ia,iab->ib", self.positions, deform[self.batch])
        field = torch.linalg.solve(deform, self.electric_field)
        return replace(self, positions=positions, cell=self.cell @ deform, electric_field=field)

    def split(self) -> list[System]:
        """The structures of the batch one by one, in their order; :func:`joined` undoes it."""
        rows = self.counts.tolist()
        level, spin, sites = self.fermi_level, self.spin, self.charge_sites
        singles = zip(
            self.positions.split(rows),
            self.numbers.split(rows),
            [None] * len(rows) if sites is None else sites.split(rows),
            strict=True,
        )
        return [
            replace(
                self,
                positions=positions,
                numbers=numbers,
                cell=self.cell[b : b + 1],
                batch=torch.zeros_like(numbers),
                charge=self.charge[b : b + 1],
                electric_field=self.electric_field[b : b + 1],
                fermi_level=None if level is None else level[b : b + 1],
                spin=None if spin is None else spin[b : b + 1],
                charge_sites=weights,
            )
            for b, (positions, numbers, weights) in enumerate(singles)
        ]

    def to(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> System:
        """The same system on another device or with its real tensors in another type."""
        level, sites, spin = self.fermi_level, self.charge_sites, self.spin
        return replace(
            self,
            positions=self.positions.to(device=device, dtype=dtype),
            numbers=self.numbers.to(device=device),
            cell=self.cell.to(device=device, dtype=dtype),
            batch=self.batch.to(device=device),
            charge=self.charge.to(device=device, dtype=dtype),
            electric_field=self.electric_field.to(device=device, dtype=dtype),
            fermi_level=None if level is None else level.to(device=device, dtype=dtype),
            charge_sites=None if sites is None else sites.to(device=device, dtype=dtype),
            spin=None if spin is None else spin.to(device=device, dtype=dtype),
        )


def joined(systems: Sequence[System]) -> System:
    """Structures as one batch, in their order; :meth:`System.split` undoes it.

    All must have the same boundary, and each optional input must be given for all or for none.
    """
    first = systems[0]
    optional = {
        name: None
        if getattr(first, name) is None
        else torch.cat([getattr(system, name) for system in systems])
        for name in ("fermi_level", "spin", "charge_sites")
    }
    firsts = np.cumsum([0, *(system.n_structures for system in systems[:-1])]).tolist()
    return replace(
        first,
        positions=torch.cat([system.positions for system in systems]),
        numbers=torch.cat([system.numbers for system in systems]),
        cell=torch.cat([system.cell for system in systems]),
        batch=torch.cat([s.batch + n for s, n in zip(systems, firsts, strict=True)]),
        charge=torch.cat([system.charge for system in systems]),
        electric_field=torch.cat([system.electric_field for system in systems]),
        **optional,
    )


def cell_volume(cells: Tensor) -> Tensor:
    """|a·(b × c)| of cells (B, 3, 3): (B,), Å³; for 3 × 3 far cheaper than a LAPACK determinant."""
    a, b, c = cells.unbind(1)
    return (a * torch.linalg.cross(b, c)).sum(-1).abs()


class BlockLayout:
    """Maps per-atom rows to one zero-padded block per structure and back.

    Pair matrices and dense solves work on blocks (B, n, …) with n the largest structure, so one
    structure costs no padding and a batch needs no loop over structures.
    """

    def __init__(self, batch: Tensor, counts: Tensor) -> None:
        self.shape = (len(counts), int(counts.max()))
        self.full = len(batch) == self.shape[0] * self.shape[1]
        self._batch, self._counts = batch, counts

    @cached_property
    def rank(self) -> Tensor:
        """Position of every atom in its structure, (N,)."""
        first = torch.cumsum(self._counts, 0) - self._counts
        return torch.arange(len(self._batch), device=self._batch.device) - first[self._batch]

    @cached_property
    def flat(self) -> Tensor:
        """Row of every atom in the flattened blocks, (N,)."""
        return self._batch * self.shape[1] + self.rank

    @cached_property
    def mask(self) -> Tensor:
        """True where a block row is an atom, (B, n)."""
        n_structures, n = self.shape
        if self.full:
            return torch.ones(self.shape, dtype=torch.bool, device=self._batch.device)
        mask = torch.zeros(n_structures * n, dtype=torch.bool, device=self._batch.device)
        mask[self.flat] = True
        return mask.view(n_structures, n)

    def pad(self, values: Tensor) -> Tensor:
        """(N, …) → (B, n, …), zeros where there is no atom."""
        n_structures, n = self.shape
        if self.full:
            return values.reshape(n_structures, n, *values.shape[1:])
        out = values.new_zeros((n_structures * n, *values.shape[1:]))
        return out.index_copy(0, self.flat, values).view(n_structures, n, *values.shape[1:])

    def unpad(self, blocks: Tensor) -> Tensor:
        """(B, n, …) → (N, …)."""
        rows = blocks.flatten(0, 1)
        return rows if self.full else rows[self.flat]


def atomic_number(key: int | str) -> int:
    """Of a chemical symbol, or of the number itself, also as text.

    Raises
    ------
    InputError
    """
    number = atomic_numbers.get(str(key), None)
    if number is None and str(key).isdecimal():
        number = int(key)
    if number is None or not 0 < number < len(chemical_symbols):
        raise InputError(f"{key!r} is neither a chemical symbol nor an atomic number")
    return number


def _common_pbc(frames: Sequence[Atoms]) -> tuple[bool, bool, bool]:
    if not frames:
        raise InputError("no structure was given; pass at least one ase.Atoms")
    if any(len(frame) == 0 for frame in frames):
        raise InputError("a structure has no atoms; nothing can be computed for it")
    boundaries = {tuple(bool(p) for p in frame.pbc) for frame in frames}
    if len(boundaries) > 1:
        raise InputError(
            f"one batch has one boundary, but these structures have pbc {sorted(boundaries)}; "
            "evaluate each boundary in a batch of its own"
        )
    return boundaries.pop()
