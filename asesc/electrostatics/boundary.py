"""Boundaries: which directions repeat, and the Coulomb operator that follows from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from asesc.density import GaussianBasis
from asesc.electrostatics.accuracy import DEFAULT
from asesc.electrostatics.backends import bind_backend
from asesc.electrostatics.kernels import (
    ElectrodeKernel,
    OpenKernel,
    PeriodicKernel,
    SlabKernel,
    extents,
)
from asesc.electrostatics.operator import CoulombOperator
from asesc.electrostatics.plan import MeshPlan
from asesc.errors import InputError, did_you_mean
from asesc.system import System

#: Default relative force error; see :mod:`~asesc.electrostatics.accuracy`.
ACCURACY = DEFAULT

#: Boundaries by name; filled by subclassing :class:`Boundary`.
BOUNDARIES: dict[str, type[Boundary]] = {}


class Boundary(ABC):
    """Electrostatic boundary condition.

    A subclass with a ``name`` enters the table :data:`BOUNDARIES` and is tested by the contract
    tests; nothing else has to know about it.
    """

    name: ClassVar[str]
    #: Engine used where :meth:`bind` is not told; see :mod:`~asesc.electrostatics.backends`.
    backend: ClassVar[str] = "auto"

    def __init_subclass__(cls, *, name: str, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = name
        BOUNDARIES[name] = cls

    @staticmethod
    @abstractmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        """Whether this boundary is the one meant by ASE's ``pbc``."""

    def bind(
        self,
        system: System,
        basis: GaussianBasis,
        *,
        accuracy: float = ACCURACY,
        backend: str | None = None,
        plan: MeshPlan | None = None,
    ) -> CoulombOperator:
        """The Coulomb operator of one geometry; its ``report`` says how it is computed.

        Parameters
        ----------
        accuracy : float
            Relative force error.
        backend : str, optional
            ``"auto"`` or one of :data:`~asesc.electrostatics.backends.BACKENDS`.
        plan : MeshPlan, optional
            Of the report of an earlier operator, to keep its mesh while the cell changes.
        """
        return bind_backend(
            system,
            basis,
            self.kernel(system),
            accuracy=accuracy,
            backend=backend or self.backend,
            plan=plan,
        )

    @abstractmethod
    def kernel(self, system: System) -> PeriodicKernel | SlabKernel | OpenKernel:
        """The Green function, whichever engine sums it."""


class Open(Boundary, name="open"):
    """Isolated molecule or cluster: no images, potential zero at infinity."""

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return not any(pbc)

    def kernel(self, system: System) -> OpenKernel:
        """Truncated outside the structure."""
        return OpenKernel()


class OpenReciprocal(Open, name="open-reciprocal"):
    """The open boundary by the truncated kernel; the same answer as :class:`Open`."""

    backend = "direct-k"

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return False


class Periodic(Boundary, name="periodic"):
    """Three periodic directions, any cell, tin-foil; charges neutralised by a background."""

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return all(pbc)

    def kernel(self, system: System) -> PeriodicKernel:
        """Without k = 0."""
        _require_volume(system)
        return PeriodicKernel()


class Slab(Boundary, name="slab"):
    """Two periodic directions and one open axis, any of the three."""

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return sum(pbc) == 2

    def kernel(self, system: System) -> SlabKernel:
        """Truncated along the open axis."""
        _require_area(system)
        return SlabKernel(axis=system.pbc.index(False))


class Electrodes(Slab, name="electrodes"):
    """A slab whose counter-charge sits on two planes, half of it above and half below.

    The planes are the height L of the cell apart. A neutral slab does not notice them. For a
    charged one they add πk_e Q²L/2A to the energy of the isolated sheet, which places the zero of
    the potential on them; E(Q) is then convex, so that the slab can be held at a Fermi level.
    """

    @staticmethod
    def accepts(pbc: tuple[bool, bool, bool]) -> bool:
        return False

    def kernel(self, system: System) -> ElectrodeKernel:
        """Zero on the electrodes."""
        _require_area(system)
        return ElectrodeKernel(system.pbc.index(False), _open_height(system))


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
    smallest = float(system.volume.detach().min())
    if smallest < 1e-6:
        raise InputError(
            f"pbc is True in all directions but the cell volume is {smallest:.3g} Å³; "
            "set the missing cell vectors (atoms.center(vacuum=...)) or pbc=False"
        )


def _open_height(system: System) -> Tensor:
    """Extent of the cell along the normal of a slab, (B,), Å; it must enclose the atoms."""
    axis = system.pbc.index(False)
    first, second = (a for a in range(3) if a != axis)
    normal = torch.linalg.cross(system.cell[:, first], system.cell[:, second])
    normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    height = (system.cell[:, axis] * normal).sum(-1).abs()
    along = (system.positions * normal[system.batch]).sum(-1)
    thickness = extents(system, along.detach()[:, None])[:, 0]
    if bool((thickness >= height.detach()).any()):
        b = int((thickness - height.detach()).argmax())
        raise InputError(
            f"boundary='electrodes' puts counter-charges half the cell's height "
            f"({float(height[b].detach()):.3g} Å) above and below the slab, which is "
            f"{float(thickness[b]):.3g} Å thick. Give the cell vector along the open axis room: "
            "atoms.center(vacuum=…)"
        )
    return height


def _require_area(system: System) -> None:
    first, second = (axis for axis in range(3) if system.pbc[axis])
    cell = system.cell.detach()
    area = torch.linalg.vector_norm(torch.linalg.cross(cell[:, first], cell[:, second]), dim=-1)
    if bool((area < 1e-6).any()):
        raise InputError(
            f"pbc is True along cell vectors {first} and {second} but they span no area; "
            "set these cell vectors or pbc=False"
        )
