"""Models in TorchSim, which relaxes and propagates many structures at once on a GPU.

Needs ``torch-sim-atomistic``, hence Python 3.12 or newer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise ImportError(
        "asesc.torchsim needs TorchSim, which is not installed: pip install torch-sim-atomistic "
        f"(it asks for Python 3.12 or newer). The reason was: {error}"
    ) from error

from asesc.calculators.inputs import Given
from asesc.calculators.opened import open_model
from asesc.calculators.prepared import PreparedModel
from asesc.calculators.scope import check_elements, check_scope
from asesc.electrostatics import boundary_for
from asesc.errors import IllPosedError, InputError, SCFError
from asesc.models import Potential
from asesc.response import energy_and_forces
from asesc.solvers import SCFOptions
from asesc.system import System


class Model(ModelInterface):
    """A model behind TorchSim's ``ModelInterface``.

    Charge, field and spin are read from the state at every call, under TorchSim's names for system
    extras:

    ``total_charge`` (B,), e
        Else ``charge``, else 0.
    ``external_E_field`` (B, 3), V/Å
        With the physicists' sign, as in TorchSim's ``UniformPolarizationModel``: the force on a
        charge q is +qE and the energy contains −E·μ. (mace-torch's wrapper hands the same entry to
        PolarMACE, which has the opposite sign.)
    ``total_spin`` (B,)
        Multiplicity 2S + 1, for families with spin; else ``spin``.

    Parameters
    ----------
    model : str, path or Potential
    device, dtype : str
        As for :class:`~asesc.SCCalculator`; states must have the same.
    kernels : str
        As for :class:`~asesc.SCCalculator`.
    boundary : str
        ``"auto"`` follows the state's ``pbc``.
    scf : mapping, optional
        Fields of :class:`~asesc.solvers.SCFOptions`.
    compute_stress, compute_forces : bool
        May be changed later, as TorchSim does.
    allow_extrapolation : bool
        Do not enforce charge, field and boundaries of the model's card.

    Notes
    -----
    Returns ``energy`` (B,) eV, ``forces`` (N, 3) eV/Å, ``stress`` (B, 3, 3) eV/Å³ (zero where fewer
    than two directions are periodic), ``partial_charges`` (N,) e and ``dipole`` (B, 3) e Å, of ions
    about the origin and zero along periodic directions where the family has no polarisation there.
    In a field along a periodic direction do not wrap positions: moving an ion of formal charge q by
    a cell vector h changes the energy by −q E·h. Iterative families start from the density of the
    last call with the same atoms.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Potential,
        *,
        device: str = "auto",
        dtype: str = "float64",
        kernels: str = "torch",
        boundary: str = "auto",
        scf: Mapping[str, Any] | None = None,
        compute_stress: bool = True,
        compute_forces: bool = True,
        allow_extrapolation: bool = False,
    ) -> None:
        super().__init__()
        opened = open_model(model, device=device, dtype=dtype, kernels=kernels)
        self.potential = opened.model
        self._name = opened.name
        self._card = None if allow_extrapolation else opened.card
        self._boundary, self._scf = boundary, SCFOptions.of(scf)
        self._device, self._dtype = opened.torch_device, opened.model.dtype
        self._compute_stress, self._compute_forces = compute_stress, compute_forces
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    @ModelInterface.compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        """Whether the stress is computed."""
        self._compute_stress = value

    @ModelInterface.compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        """Whether forces are returned."""
        self._compute_forces = value

    @torch.inference_mode(False)
    @torch.enable_grad()
    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Energies, forces, stresses, charges and dipoles of the systems of a state.

        Raises
        ------
        InputError, ModelScopeError
            An extra of the wrong shape; a charge, field or element outside the model's card.
        SCFError, IllPosedError
            Not self-consistent; not finite.
        """
        system = self._system(state)
        self._check_scope(system)
        has_stress = self._compute_stress and sum(system.pbc) >= 2
        outcome = energy_and_forces(
            PreparedModel(self.potential, self._scf, self._start(system)),
            system,
            stress=has_stress,
            boundary=self._boundary,
        )
        prediction = outcome.prediction
        if not prediction.solution.converged:
            raise SCFError(str(prediction.solution), history=prediction.solution.history)
        self._last = system.batch, system.numbers, prediction.density.coefficients.detach()
        found = {
            "energy": prediction.energy,
            "partial_charges": prediction.density.charges,
            "dipole": prediction.dipole,
        }
        if self._compute_forces:
            found["forces"] = outcome.forces
        if self._compute_stress:
            found["stress"] = outcome.stress if has_stress else torch.zeros_like(system.cell)
        if not all(bool(torch.isfinite(value).all()) for value in found.values()):
            raise IllPosedError("a result is not finite; check positions, weights and dtype")
        return {name: value.detach().to(self._dtype) for name, value in found.items()}

    def _system(self, state: Any) -> System:
        """The state with rows as cell vectors and everything real in float64."""
        if state.device != self._device or state.dtype != self._dtype:
            raise InputError(
                f"the state is {state.dtype} on {state.device}, the model {self._dtype} on "
                f"{self._device}; make both the same, e.g. state.to(model.device, model.dtype)"
            )
        n_systems = len(state.cell)
        charge = _extra(state, ("total_charge", "charge"), (n_systems,))
        field = _extra(state, ("external_E_field",), (n_systems, 3))
        return System(
            positions=state.positions.detach().double(),
            numbers=state.atomic_numbers.long(),
            cell=state.row_vector_cell.detach().double(),
            pbc=tuple(state.pbc.tolist()),
            batch=state.system_idx,
            charge=state.cell.new_zeros(n_systems).double() if charge is None else charge,
            electric_field=state.cell.new_zeros(n_systems, 3).double() if field is None else field,
            spin=self._spin(state, n_systems, charge) if self.potential.has_spin else None,
        )

    def _spin(self, state: Any, n_systems: int, charge: Tensor | None) -> Tensor:
        """Multiplicities; where nobody states them the lowest that the electrons allow."""
        spin = _extra(state, ("total_spin", "spin"), (n_systems,))
        if spin is not None:
            return spin
        electrons = torch.zeros_like(state.cell[:, 0, 0], dtype=torch.float64)
        electrons.index_add_(0, state.system_idx, state.atomic_numbers.double())
        return 1 + (electrons - (0 if charge is None else charge)).round() % 2

    def _check_scope(self, system: System) -> None:
        check_elements(self.potential.elements, system.numbers.unique().tolist(), self._name)
        if self._card is None:
            return
        boundary = boundary_for(self._boundary, system.pbc)
        for charge, field in zip(
            system.charge.tolist(), system.electric_field.tolist(), strict=True
        ):
            check_scope(
                self._card,
                charge=Given(charge, "total_charge"),
                field=Given(tuple(field), "external_E_field"),
                boundary=boundary,
            )

    def _start(self, system: System) -> Tensor | None:
        """The density of the last call if it was one of the same atoms."""
        if self._last is None:
            return None
        batch, numbers, density = self._last
        same = torch.equal(batch, system.batch) and torch.equal(numbers, system.numbers)
        return density if same else None


def _extra(state: Any, names: tuple[str, ...], shape: tuple[int, ...]) -> Tensor | None:
    """The first of these system extras that the state has, float64."""
    for name in names:
        if name in state.system_extras:
            value = state.system_extras[name].detach().double()
            if value.shape != shape:
                raise InputError(f"{name} has shape {tuple(value.shape)}; it must be {shape}")
            return value
    return None
