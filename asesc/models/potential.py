"""What the layers above need of a model, however it finds its energy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from asesc.density import Density
from asesc.electrostatics.backends import BackendReport
from asesc.electrostatics.boundary import ACCURACY
from asesc.errors import InputError, ModelFormatError
from asesc.solvers import SCFOptions, Solution
from asesc.system import System

#: Families by name; filled by subclassing :class:`Potential` with ``family="Name"``.
FAMILIES: dict[str, type[Potential]] = {}


@dataclass(frozen=True)
class Prediction:
    """Result of a model for a batch of B structures with N atoms.

    Parameters
    ----------
    energy : Tensor, (B,), eV
        E = E_short + E_internal + ½⟨p, Jp⟩ − E_field·μ; at a fixed Fermi level μ the grand energy
        Ω = E + μQ.
    charge : Tensor, (B,), e
        Total charge: the given one, or the one that belongs to the Fermi level.
    density : Density
    dipole : Tensor, (B, 3), e Å
        From unwrapped positions; without an itinerant polarisation zero along periodic directions.
        For ions it depends on the origin of the coordinates; the
        calculator reports it about the centre of mass.
    contributions : mapping of str to Tensor, (B,), eV
    potential : Tensor, (N, M), V Å^−l
        Coulomb potential of the density, without the applied field.
    solution : Solution
    chemical_potential : Tensor, (B,), V, optional
        ∂E/∂Q at fixed geometry, where the family defines it.
    spins : Tensor, (N,), optional
        Unpaired electrons on every atom, where the family has spin; they add up to 2S.
    engine : BackendReport, optional
        How the Coulomb operator was computed, and its estimated error.
    """

    energy: Tensor
    charge: Tensor
    density: Density
    dipole: Tensor
    contributions: Mapping[str, Tensor]
    potential: Tensor
    solution: Solution
    chemical_potential: Tensor | None = None
    spins: Tensor | None = None
    engine: BackendReport | None = None

    @property
    def fermi_level(self) -> Tensor | None:
        """μ = ∂E/∂N_e = −∂E/∂Q, (B,), eV.

        Counted from the cell average of the potential in periodic cells, from the vacuum for
        isolated structures and neutral slabs, and from the potential at the plane of a charged one.
        """
        return None if self.chemical_potential is None else -self.chemical_potential

    def split(self, rows: Sequence[int]) -> list[Prediction]:
        """One prediction per structure of ``rows`` atoms each."""
        level, n_structures = self.chemical_potential, len(rows)
        atoms = zip(
            self.density.coefficients.split(rows),
            self.density.basis.widths.split(rows),
            self.potential.split(rows),
            [None] * n_structures if self.spins is None else self.spins.split(rows),
            strict=True,
        )
        return [
            replace(
                self,
                energy=self.energy[b : b + 1],
                charge=self.charge[b : b + 1],
                density=Density(coefficients, replace(self.density.basis, widths=widths)),
                dipole=self.dipole[b : b + 1],
                contributions={k: v[b : b + 1] for k, v in self.contributions.items()},
                potential=potential,
                chemical_potential=None if level is None else level[b : b + 1],
                spins=spins,
            )
            for b, (coefficients, widths, potential, spins) in enumerate(atoms)
        ]


class Potential(nn.Module, ABC):
    """An energy and a density as differentiable functions of a system.

    This is all that calculators, responses, training and the registry of models know of a model.
    Families on our own backbone derive from :class:`~asesc.models.base.Model`, which fills in
    everything but the rule for the density; a model that comes as a whole derives from this class.
    A subclass appears in :data:`FAMILIES` under the name given as
    ``class MyFamily(Potential, family="MyFamily")``, takes only JSON-able keywords and keeps them
    in ``hyperparameters``, so that it can be rebuilt from its card.

    Attributes
    ----------
    hyperparameters : dict
    """

    family: ClassVar[str]
    #: Whether the family takes a field along periodic directions.
    has_itinerant_polarisation: ClassVar[bool] = False
    #: Whether charge beyond the sum of the formal charges can be placed.
    has_variable_charge: ClassVar[bool] = True
    #: Whether the energy is stationary in the density, so that the dipole is −∂E/∂field and the
    #: chemical potential ∂E/∂Q.
    variational: ClassVar[bool] = True
    #: Whether the charge can be found at a fixed Fermi level.
    has_fermi_level: ClassVar[bool] = False
    #: Whether the energy depends on the spin multiplicity.
    has_spin: ClassVar[bool] = False
    #: Whether ``System.charge_sites`` decides among several minima of the energy.
    localises_charge: ClassVar[bool] = False

    hyperparameters: dict[str, Any]

    @property
    def kernels(self) -> str:
        """What computes the learned part; see :meth:`use_kernels`."""
        return "torch"

    def use_kernels(self, name: str) -> Self:
        """Let other kernels compute the learned part: the same numbers, the same weights.

        Parameters
        ----------
        name : str
            ``"torch"``, ``"compiled"`` (CPU) or ``"cuequivariance"`` (GPU).

        Raises
        ------
        InputError
            For an unknown name, or a family that has no other kernels.
        SetupError
            The package is not installed.
        """
        if name != self.kernels:
            raise InputError(
                f"kernels={name!r}, but the family {self.family} is computed by mace's own "
                "modules. Use kernels='torch'"
            )
        return self

    def __init_subclass__(cls, *, family: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if family is not None:
            cls.family = family
            FAMILIES[family] = cls

    @property
    @abstractmethod
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the model knows."""

    @property
    @abstractmethod
    def cutoff(self) -> float:
        """Cutoff of the learned short-range part, Å."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Type of the learned part; electrostatics and sums are always float64."""

    @abstractmethod
    def forward(
        self,
        system: System,
        *,
        boundary: str = "auto",
        accuracy: float = ACCURACY,
        scf: SCFOptions | None = None,
        start: Tensor | None = None,
        order: int = 2,
    ) -> Prediction:
        """Energy, density and dipole of every structure; differentiable in all of the system.

        Parameters
        ----------
        scf : SCFOptions, optional
        start : Tensor, (N, M), e Å^l, optional
        order : int
            See :class:`~asesc.models.base.Problem`.
        """

    def weights(self) -> dict[str, Tensor]:
        """What training determines: all parameters, and nothing that the constructor derives."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy parameters in, casting to the model's types.

        Raises
        ------
        ModelFormatError
            For missing, superfluous or wrongly shaped tensors.
        """
        own = dict(self.named_parameters())
        for problem, names in (
            ("missing", own.keys() - weights.keys()),
            ("unexpected", weights.keys() - own.keys()),
            (
                "of wrong shape",
                {n for n in own.keys() & weights if own[n].shape != weights[n].shape},
            ),
        ):
            if names:
                raise ModelFormatError(
                    f"{len(names)} tensors are {problem}, e.g. {min(names)!r}: the weights belong "
                    f"to another model than these hyperparameters of {self.family!r}"
                )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])

    def set_dtype(self, dtype: torch.dtype) -> Self:
        """Cast the learned part; constants of the electrostatics stay in float64."""
        for module in self.children():
            module.to(dtype)
        return self
