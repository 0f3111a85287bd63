"""The template all model families fill in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from asesc.density import Density, GaussianBasis
from asesc.density.harmonics import MAX_L
from asesc.electrostatics import CoulombOperator, boundary_for
from asesc.electrostatics.boundary import ACCURACY
from asesc.electrostatics.field import (
    along_open_axes,
    periodic_axis_of_field,
    require_open_field,
)
from asesc.errors import InputError
from asesc.memory import require_memory
from asesc.models.backbone import Backbone, Features, describe_mace
from asesc.models.ensembles import find_charge
from asesc.models.kernels import accelerator_type
from asesc.models.moments import json_table
from asesc.models.potential import Potential, Prediction
from asesc.solvers import SCFOptions, Solution
from asesc.system import System


@dataclass(frozen=True)
class Problem:
    """Everything that is fixed while the density is being found.

    Parameters
    ----------
    system : System
    features : Features
        Of the backbone; evaluated once per geometry.
    coulomb : CoulombOperator
        Bound to this geometry.
    options : SCFOptions
        For families that iterate.
    start : Tensor, (N, M), e Å^l, optional
        A density near the one sought; may save iterations, never changes what is found.
    order : int
        Derivatives of the density that are exact: 1 is enough for forces, stress and dipole and
        saves linear solves in large structures; 2 for their derivatives, and for training.
    """

    system: System
    features: Features
    coulomb: CoulombOperator
    options: SCFOptions = field(default_factory=SCFOptions)
    start: Tensor | None = None
    order: int = 2

    @property
    def basis(self) -> GaussianBasis:
        """Gaussian basis of the density."""
        return self.coulomb.basis

    @property
    def is_small(self) -> bool:
        """Whether dense matrices of a structure are within the limit of the options."""
        return self.system.layout.shape[1] * self.basis.n_components <= self.options.dense_limit

    @property
    def corrections(self) -> int:
        """Newton corrections of a solution, each with one more exact derivative.

        With matrices a second one costs little, and takes what is left of the start out of the
        value, to the last bit.
        """
        return 2 if self.is_small else self.order

    def require_dense_memory(self) -> None:
        """Refuse to solve with matrices that do not fit into memory; see :mod:`asesc.memory`."""
        require_memory(
            self.system.layout,
            self.basis.n_components,
            self.system.positions.device,
            matrices=6,
            purpose="the dense solve of charge equilibration",
            advice="Take fewer structures at once (batch_size) or a lower scf={'dense_limit': …}",
        )


@dataclass(frozen=True)
class State:
    """The density a family found.

    Parameters
    ----------
    coefficients : Tensor, (N, M), e Å^l
    dipole : Tensor, (B, 3), e Å
        Conjugate to the applied field: E contains −E_field · dipole.
    internal_energy : Tensor, (B,), eV
        All terms of the family that are neither short-range, Coulomb nor applied field.
    solution : Solution
    chemical_potential : Tensor, (B,), V, optional
        ∂E/∂Q at fixed geometry, where the family defines it.
    potential : Tensor, (N, M), V Å^−l, optional
        J p of the density, where the family has it at hand.
    """

    coefficients: Tensor
    dipole: Tensor
    internal_energy: Tensor
    solution: Solution
    chemical_potential: Tensor | None = None
    potential: Tensor | None = None


class Model(Potential):
    """A MACE backbone plus a rule for the density.

    Subclasses implement :meth:`solve` and nothing else; they appear in
    :data:`~asesc.models.potential.FAMILIES` under the name given as
    ``class MyFamily(Model, family="MyFamily")``. Their constructor takes
    ``backbone`` (keywords of :class:`Backbone`) and the common keywords below, all JSON-able, and
    stores them in ``hyperparameters`` so that the model can be rebuilt from its card.

    Parameters
    ----------
    backbone : mapping
        Keywords of :class:`~asesc.models.backbone.Backbone`.
    atomic_energies : mapping of int or symbol to float, eV
        Energy of the isolated atom (or a fit) per element.
    lmax : int
        Highest multipole of the density.
    width : float or mapping of int or symbol to float, Å
        Gaussian width, common or per element.
    own : mapping, optional
        Further JSON-able keywords of the subclass, to be stored in ``hyperparameters``.
    """

    def __init__(
        self,
        *,
        backbone: Mapping[str, Any],
        atomic_energies: Mapping[int | str, float] | None = None,
        lmax: int = 1,
        width: float | Mapping[int | str, float] = 1.0,
        own: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        energies, widths = atomic_energies or {}, width
        self.hyperparameters: dict[str, Any] = {
            "backbone": dict(backbone),
            "atomic_energies": json_table(energies),
            "lmax": lmax,
            "width": json_table(widths) if isinstance(widths, Mapping) else float(widths),
            **(own or {}),
        }
        if not 0 <= lmax <= MAX_L:
            raise InputError(f"lmax={lmax} is not available; choose 0 to {MAX_L}")
        self.lmax = lmax
        self.backbone = Backbone(**backbone)
        self.register_buffer("_energies", self._per_element(energies, default=0.0))
        default = widths if not isinstance(widths, Mapping) else None
        table = widths if isinstance(widths, Mapping) else {}
        self.register_buffer("_widths", self._per_element(table, default=default))
        if not bool((self._widths > 0).all()):
            raise InputError(f"width={width} must be positive for every element, Å")

    @classmethod
    def from_mace(cls, mace: nn.Module, **keywords: Any) -> Self:
        """This family on the backbone of a ``ScaleShiftMACE`` checkpoint.

        Parameters
        ----------
        mace : torch.nn.Module
            A module you have loaded and trust, e.g. of a foundation model. Checkpoints of MACE
            are pickles, which asesc does not open.
        **keywords
            Of the family, without ``backbone``.
        """
        model = cls(backbone={"architecture": describe_mace(mace)}, **keywords)
        model.backbone.copy_mace(mace)
        return model

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the model knows."""
        return self.backbone.elements

    @property
    def cutoff(self) -> float:
        """Cutoff of the backbone, Å."""
        return self.backbone.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Type of the backbone; electrostatics and sums are always float64."""
        return self.backbone.dtype

    @property
    def kernels(self) -> str:
        """What computes the backbone."""
        return getattr(self.backbone.accelerator, "name", "torch")

    def use_kernels(self, name: str) -> Self:
        """Let other kernels compute the backbone, see :meth:`Potential.use_kernels`."""
        accelerator = accelerator_type(name)
        architecture = self.backbone.architecture
        self.backbone.accelerator = None if accelerator is None else accelerator(architecture)
        return self

    def basis(self, system: System) -> GaussianBasis:
        """Gaussian basis of a system's atoms."""
        return GaussianBasis(self.lmax, self._widths[self.backbone.index_of(system.numbers)])

    def forward(
        self,
        system: System,
        *,
        boundary: str = "auto",
        accuracy: float = ACCURACY,
        scf: SCFOptions | None = None,
        start: Tensor | None = None,
        order: int = 2,
        solve: Callable[[Model, Problem], State] | None = None,
    ) -> Prediction:
        """Energy, density and dipole of every structure; differentiable in all of the system.

        Parameters
        ----------
        scf : SCFOptions, optional
        start : Tensor, (N, M), e Å^l, optional
        order : int
            See :class:`Problem`.
        solve : callable, optional
            In place of :meth:`solve`, e.g. that of :class:`~asesc.models.one_map.OneMap`.
        """
        problem = self.problem(
            system, boundary=boundary, accuracy=accuracy, scf=scf, start=start, order=order
        )
        if solve is not None:
            state = solve(self, problem)
        elif system.fermi_level is None:
            state = self.solve(problem)
        else:
            state = self.solve_at_fermi_level(problem)
        return self._prediction(problem, state)

    def _prediction(self, problem: Problem, state: State) -> Prediction:
        """The energy of the density that was found, and everything reported beside it."""
        system, coulomb, level = problem.system, problem.coulomb, problem.system.fermi_level
        charge = system.charge if level is None else system.sum(state.coefficients[:, 0])
        dipole = state.dipole
        if not self.has_itinerant_polarisation:
            dipole = along_open_axes(system, dipole)
        atomic = problem.features.energies + self._energies[self.backbone.index_of(system.numbers)]
        potential = state.potential
        if potential is None:
            potential = coulomb.potential(state.coefficients)
        contributions = {
            "short_range": system.sum(atomic),
            "internal": state.internal_energy,
            "coulomb": 0.5 * system.sum((state.coefficients * potential).sum(-1)),
            "field": -(system.electric_field * dipole).sum(-1),
        }
        if level is not None:
            contributions["reservoir"] = level * charge
        return Prediction(
            energy=sum(contributions.values()),
            charge=charge,
            density=Density(state.coefficients, coulomb.basis),
            dipole=dipole,
            contributions=contributions,
            potential=potential,
            solution=state.solution,
            engine=coulomb.report,
            # −E·r of an added charge has no meaning along periodic directions.
            chemical_potential=(
                state.chemical_potential if periodic_axis_of_field(system) is None else None
            ),
        )

    def problem(
        self,
        system: System,
        *,
        boundary: str = "auto",
        accuracy: float = ACCURACY,
        scf: SCFOptions | None = None,
        start: Tensor | None = None,
        order: int = 2,
    ) -> Problem:
        """Everything that is fixed while the density is being found; keywords of :meth:`forward`.

        Raises
        ------
        InputError
            If the family has no answer for this field or Fermi level.
        """
        system = self._accepted(system.to(dtype=torch.float64))
        coulomb = boundary_for(boundary, system.pbc).bind(
            system, self.basis(system), accuracy=accuracy
        )
        return Problem(system, self.backbone(system), coulomb, scf or SCFOptions(), start, order)

    def _accepted(self, system: System) -> System:
        """The system with the field that this family sees, or InputError."""
        if system.fermi_level is not None and not self.has_fermi_level:
            raise InputError(
                f"fermi_level={system.fermi_level.tolist()} eV, but {self.family} has no ∂E/∂Q: "
                "its density does not minimise an energy at given charge, so that no charge "
                "belongs to a Fermi level. Pass charge=… instead, or use a family that "
                "equilibrates (QEq, SplitChargeEquilibration)"
            )
        # −E·Σqr of a charged cell depends on the choice of origin along periodic directions.
        charged = system.fermi_level is not None or bool((system.charge != 0).any())
        if charged or not self.has_itinerant_polarisation:
            require_open_field(system)
        if self.has_itinerant_polarisation:
            return system
        # Nor may derivatives see −E·r along periodic directions, where r is one of many images.
        return replace(system, electric_field=along_open_axes(system, system.electric_field))

    @abstractmethod
    def solve(self, problem: Problem) -> State:
        """Find the density for a fixed geometry, charge and field."""

    def solve_at_fermi_level(self, problem: Problem) -> State:
        """Find density and charge for a fixed geometry, Fermi level and field.

        Families whose equations hold the level already answer directly.
        """
        return find_charge(self.solve, problem)

    def _per_element(self, table: Mapping[int | str, float], *, default: float | None) -> Tensor:
        """Values in the order of ``elements``."""
        values = {int(z): value for z, value in json_table(table).items()}
        missing = [z for z in self.elements if z not in values]
        if missing and default is None:
            raise InputError(f"no value for atomic numbers {missing}; known are {sorted(values)}")
        return torch.tensor([values.get(z, default) for z in self.elements], dtype=torch.float64)
