"""Second derivatives on request: as arrays, and from a calculator."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.outputs import Properties
from torch import Tensor

from asesc.calculators.evaluation import with_gradients
from asesc.calculators.fresh import FreshCalculator
from asesc.calculators.prepared import PreparedModel
from asesc.errors import IllPosedError
from asesc.models import Potential
from asesc.response import born_effective_charges, dielectric_tensor, hessian, polarizability
from asesc.system import System

#: Those that ASE has names for. A calculator does not keep them in ``results``: ASE's extxyz writer
#: fails on a property of shape (N, 3, 3).
RESPONSES = ("born_effective_charges", "dielectric_tensor")


class RespondingCalculator(FreshCalculator):
    """What a calculator of models gains: Born charges, ε∞, polarisability and Hessian."""

    def __init__(self, **parameters: Any) -> None:
        self._responses: dict[str, np.ndarray] = {}
        super().__init__(**parameters)

    @abstractmethod
    def _system(self, atoms: Atoms, inputs: Any) -> System:
        """The structure as tensors."""

    @abstractmethod
    def _prepared(self, atoms: Atoms, inputs: Any) -> PreparedModel:
        """The model that answers."""

    def reset(self) -> None:
        """Forget everything that was computed."""
        super().reset()
        self._responses = {}

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """A property under ASE's name, from the cache where it is still valid.

        Born charges are indexed [atom, polarisation, displacement].

        Raises
        ------
        PropertyUnavailableError
            Unknown, or not defined for this structure, with the reason.
        """
        if name in RESPONSES:
            return self._response(name, atoms, allow_calculation)
        return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Collection[str] = ("energy",),
        system_changes: Collection[str] = tuple(all_changes),
    ) -> None:
        """Evaluate and keep the results; ASE's entry point. Responses wait until they are read."""
        self._require_offered(properties)
        first = [name for name in properties if name not in RESPONSES]
        super().calculate(atoms, first, system_changes)

    def calculate_properties(self, atoms: Atoms, properties: Collection[str]) -> Properties:
        """What ``atoms.get_properties`` and drivers of ASE ask for, Born charges included."""
        exported = super().calculate_properties(
            atoms, [name for name in properties if name not in RESPONSES]
        )
        responses = {name: self._response(name, atoms) for name in RESPONSES if name in properties}
        return Properties({**exported, **responses})

    def get_born_effective_charges(self, atoms: Atoms | None = None) -> np.ndarray:
        """Z*[atom, polarisation, displacement] = ∂μ_a/∂R_ib, (N, 3, 3), e.

        The violation of the acoustic sum rule is in ``extras["acoustic_sum_error"]``.
        """
        return self._response("born_effective_charges", atoms)

    def get_dielectric_tensor(self, atoms: Atoms | None = None) -> np.ndarray:
        """ε∞ at clamped ions, (3, 3); needs three periodic directions."""
        return self._response("dielectric_tensor", atoms)

    def get_polarizability(self, atoms: Atoms | None = None) -> np.ndarray:
        """α_ab = ∂μ_a/∂E_b at clamped ions, (3, 3), e Å²/V, as Raman spectra of ASE want it."""
        return self._response("polarizability", atoms)

    def get_hessian(self, atoms: Atoms | None = None) -> np.ndarray:
        """∂²E/∂R∂R, (3N, 3N), eV/Å²; costs 3N backward passes."""
        return self._response("hessian", atoms)

    @with_gradients
    def _response(
        self, name: str, atoms: Atoms | None, allow_calculation: bool = True
    ) -> np.ndarray | None:
        atoms = self._structure(atoms)
        if not allow_calculation and (self.check_state(atoms) or name not in self._responses):
            return None
        # Runs every check, and forgets the responses of another state.
        self.get_property("energy", atoms)
        if name not in self._responses:
            system = self._system(atoms, self._seen)
            prepared = self._prepared(atoms, self._seen)
            array, beside = respond(name, prepared, system, boundary=self._seen.boundary)
            self._responses[name] = array
            self.extras.update(beside)
        return self._responses[name].copy()


def respond(
    name: str, model: Potential, system: System, *, boundary: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """One response property of one structure, and what is to be said beside it.

    Parameters
    ----------
    name : str
        ``"born_effective_charges"`` (N, 3, 3) e, ``"dielectric_tensor"`` (3, 3),
        ``"polarizability"`` (3, 3) e Å²/V or ``"hessian"`` (3N, 3N) eV/Å².

    Raises
    ------
    PropertyUnavailableError
        Not defined for this boundary or family, see :mod:`asesc.response`.
    IllPosedError
        The result is not finite.
    """
    tensor, beside = _compute(name, model, system, boundary)
    array = tensor.detach().cpu().double().numpy().copy()
    if not np.isfinite(array).all():
        raise IllPosedError(
            f"{name!r} of these {system.n_atoms} atoms is not finite although the energy is; two "
            "atoms may coincide with a kink of the model, or float32 overflowed. Use "
            "dtype='float64'"
        )
    return array, beside


def _compute(
    name: str, model: Potential, system: System, boundary: str
) -> tuple[Tensor, dict[str, Any]]:
    if name == "born_effective_charges":
        charges = born_effective_charges(model, system, boundary=boundary)
        error = charges.acoustic_sum_error[0].detach().cpu().numpy().copy()
        return charges.tensor, {"acoustic_sum_error": error}
    if name == "dielectric_tensor":
        return dielectric_tensor(model, system, boundary=boundary)[0], {}
    if name == "polarizability":
        return polarizability(model, system, boundary=boundary)[0], {}
    return hessian(model, system, boundary=boundary), {}
