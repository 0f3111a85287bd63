"""Boundaries: which directions repeat, and the Coulomb operator that follows from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from asesc.density import GaussianBasis
from asesc.electrostatics.direct import DirectCoulomb
from asesc.electrostatics.kernels import OpenKernel, PeriodicKernel, SlabKernel
from asesc.electrostatics.operator import CoulombOperator
from asesc.electrostatics.reciprocal import ReciprocalCoulomb
from asesc.errors import InputError, did_you_mean
from asesc.system import System

#: Default neglected fraction of the spectrum; relative force errors follow at about ten times it.
ACCURACY = 1e-10

#: Boundaries by name; filled by subclassing :class:`Boundary`.
BOUNDARIES: dict[str, type[Boundary]] = {}


class Boundary(ABC):
    """Electrostatic boundary condition.

    A subclass with a ``name`` enters the table :data:`BOUNDARIES` and is tested by the contract
    tests; nothing else has to know about it.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, *, name: str, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = name
        BOUNDARIES[name] = cls

    @staticmethod
    @abstractmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        """Whether this boundary is the one meant by ASE's ``pbc``."""

    @abstractmethod
    def bind(
        self, system: System, basis: GaussianBasis, *, accuracy: float = ACCURACY
    ) -> CoulombOperator:
        """The Coulomb operator of one geometry."""


class Open(Boundary, name="open"):
    """Isolated molecule or cluster: no images, potential zero at infinity."""

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return not any(pbc)

    def bind(
        self, system: System, basis: GaussianBasis, *, accuracy: float = ACCURACY
    ) -> CoulombOperator:
        return DirectCoulomb(system, basis)


class OpenReciprocal(Open, name="open-reciprocal"):
    """The open boundary by the truncated kernel; the same answer as :class:`Open`."""

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return False

    def bind(
        self, system: System, basis: GaussianBasis, *, accuracy: float = ACCURACY
    ) -> CoulombOperator:
        return ReciprocalCoulomb(system, basis, kernel=OpenKernel(), accuracy=accuracy)


class Periodic(Boundary, name="periodic"):
    """Three periodic directions, any cell, tin-foil; charges neutralised by a background."""

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return all(pbc)

    def bind(
        self, system: System, basis: GaussianBasis, *, accuracy: float = ACCURACY
    ) -> CoulombOperator:
        _require_volume(system)
        return ReciprocalCoulomb(system, basis, kernel=PeriodicKernel(), accuracy=accuracy)


class Slab(Boundary, name="slab"):
    """Two periodic directions and one open axis, any of the three."""

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return sum(pbc) == 2

    def bind(
        self, system: System, basis: GaussianBasis, *, accuracy: float = ACCURACY
    ) -> CoulombOperator:
        _require_area(system)
        kernel = SlabKernel(axis=system.pbc.index(False))
        return ReciprocalCoulomb(system, basis, kernel=kernel, accuracy=accuracy)


def boundary_for(name: str, pbc: tuple[bool, bool, bool]) -> Boundary:
    """The boundary called ``name``, or the one that ``pbc`` means for ``"auto"``.

    Raises
    ------
    InputError
        For an unknown name, a name that contradicts ``pbc``, or one periodic direction only.
    """
    if name == "auto":
        for candidate in BOUNDARIES.values():
            if candidate.accepts(pbc):
                return candidate()
        raise InputError(
            f"pbc={pbc} has one periodic direction: wires are not available. Use three periodic "
            "directions with enough vacuum, or pbc=False for a finite piece"
        )
    if name not in BOUNDARIES:
        raise InputError(
            f"unknown boundary {name!r}.{did_you_mean(name, BOUNDARIES)} "
            f"There are {', '.join(sorted(BOUNDARIES))}"
        )
    boundary = BOUNDARIES[name]
    # An alternative engine (e.g. 'open-reciprocal') answers for the pbc of the class it refines.
    if not any(parent.accepts(pbc) for parent in boundary.__mro__ if parent in BOUNDARIES.values()):
        raise InputError(
            f"boundary={name!r} contradicts atoms.pbc={pbc}; set atoms.pbc to the directions that "
            "repeat, or use boundary='auto'"
        )
    return boundary()


def _require_volume(system: System) -> None:
    volume = system.volume.detach()
    if bool((volume < 1e-6).any()):
        raise InputError(
            f"pbc is True in all directions but the cell volume is {float(volume.min()):.3g} Å³; "
            "set the missing cell vectors (atoms.center(vacuum=...)) or pbc=False"
        )


def _require_area(system: System) -> None:
    first, second = (axis for axis in range(3) if system.pbc[axis])
    cell = system.cell.detach()
    area = torch.linalg.vector_norm(torch.linalg.cross(cell[:, first], cell[:, second]), dim=-1)
    if bool((area < 1e-6).any()):
        raise InputError(
            f"pbc is True along cell vectors {first} and {second} but they span no area; "
            "set these cell vectors or pbc=False"
        )
