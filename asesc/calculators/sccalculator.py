"""The ASE calculator for models with self-consistent electrostatics."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms

from asesc import __version__
from asesc.calculators.evaluation import Evaluation, evaluate, with_gradients
from asesc.calculators.fresh import FreshCalculator
from asesc.calculators.inputs import (
    Given,
    parse_charge,
    parse_field,
    read_charge,
    read_field,
    refuse_spin,
    require_whole,
    spin_refused,
    unread_keys,
)
from asesc.calculators.opened import OpenedModel, open_model
from asesc.calculators.responses import respond
from asesc.calculators.sanity import check_contacts, check_geometry, doubts
from asesc.calculators.scope import check_elements, check_scope
from asesc.electrostatics import BOUNDARIES, boundary_for
from asesc.errors import InputError, did_you_mean
from asesc.models import Model
from asesc.system import System

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Inputs:
    """What the answer depends on besides the geometry, as values."""

    charge: Given
    field: Given
    boundary: str
    weights: int


class SCCalculator(FreshCalculator):
    """Energies, forces, stress and electrical response of a model, under ASE's names.

    Parameters
    ----------
    model : str, path or Model
        Name of a pretrained model, a model's folder, or an instance (which has no card, hence no
        scope beyond its elements).
    charge : float, e
        Total charge. ``atoms.info["charge"]`` (or ``"total_charge"``) overrides it per frame.
    spin : int, optional
        Multiplicity 2S + 1, for models with a spin input; none of the present families has one.
    electric_field : (3,), V/Å
        Uniform field E with the physicists' sign: the force on a charge q is +qE and the energy
        contains −E·μ. ``atoms.info["electric_field"]`` overrides it; MACE's
        ``atoms.info["external_field"]`` has the opposite sign and is converted.
    fermi_level : float, eV, optional
        Reserved for families with a fixed potential; refused by those of fixed charge.
    boundary : str
        ``"auto"`` follows ``atoms.pbc``; else a name from ``asesc.electrostatics.BOUNDARIES``.
    device : str
        ``"auto"`` (first GPU, else CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …
    dtype : str
        ``"float64"`` or ``"float32"``, of the learned part.
    scf : None
        Reserved for iterative families; the present ones solve directly.
    allow_extrapolation : bool
        Do not enforce the charge, field and boundaries of the model's card.
    allow_fractional_charge : bool
        Accept a total charge that is not an integer.

    Raises
    ------
    TypeError
        Unknown keyword.
    InputError, ModelScopeError, SetupError, ModelNotFoundError, ModelFormatError

    Notes
    -----
    ``results`` holds energy, free_energy, forces, charges, and where they are defined stress,
    dipole (along open directions; for an ion about the centre of mass, see
    ``extras["dipole_origin"]``) or polarization (three periodic directions, modulo its quantum).
    Born charges and the dielectric tensor come through ``get_property``, polarizability and
    Hessian through methods. A call costs one evaluation and one backward pass.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
        "charges",
        "dipole",
        "polarization",
        "born_effective_charges",
        "dielectric_tensor",
    ]
    default_parameters: ClassVar[dict[str, Any]] = {
        "model": None,
        "charge": 0.0,
        "spin": None,
        "electric_field": (0.0, 0.0, 0.0),
        "fermi_level": None,
        "boundary": "auto",
        "device": "auto",
        "dtype": "float64",
        "scf": None,
        "allow_extrapolation": False,
        "allow_fractional_charge": False,
    }

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        charge: float = 0.0,
        spin: int | None = None,
        electric_field: Collection[float] = (0.0, 0.0, 0.0),
        fermi_level: float | None = None,
        boundary: str = "auto",
        device: str = "auto",
        dtype: str = "float64",
        scf: None = None,
        allow_extrapolation: bool = False,
        allow_fractional_charge: bool = False,
        **unknown: Any,
    ) -> None:
        self._opened: OpenedModel | None = None
        self._responses: dict[str, np.ndarray] = {}
        super().__init__(
            **unknown,
            model=model,
            charge=charge,
            spin=spin,
            electric_field=electric_field,
            fermi_level=fermi_level,
            boundary=boundary,
            device=device,
            dtype=dtype,
            scf=scf,
            allow_extrapolation=allow_extrapolation,
            allow_fractional_charge=allow_fractional_charge,
        )

    def _checked(self, parameters: dict[str, Any]) -> dict[str, Any]:
        checked = dict(parameters)
        if "charge" in checked:
            checked["charge"] = parse_charge(checked["charge"])
        if "electric_field" in checked:
            checked["electric_field"] = parse_field(checked["electric_field"])
        _refuse_unknown_boundary(checked.get("boundary", "auto"))
        opened = self._open(checked)
        for name in ("spin", "fermi_level", "scf"):
            if checked.get(name) is not None:
                raise _reserved(name, checked[name], opened)
        if opened is not self._opened:
            self.reset()
            self._opened, checked["model"] = opened, opened.name
        return checked

    def _open(self, checked: dict[str, Any]) -> OpenedModel:
        """The model that the parameters ask for; the present one if they do not touch it."""
        if self._opened is not None and not checked.keys() & {"model", "device", "dtype"}:
            return self._opened
        options = {**self.parameters, **checked}
        source = checked["model"] if "model" in checked else self._opened.source
        return open_model(source, dtype=options["dtype"], device=options["device"])

    @property
    def model(self) -> Model:
        """The model that is evaluated; shared with copies and clones."""
        return self._opened.model

    @with_gradients
    def evaluate(self, atoms: Atoms, properties: Collection[str] = ("energy",)) -> Evaluation:
        """Compute without reading or changing what is cached; see :class:`Evaluation`.

        Raises
        ------
        InputError, ModelScopeError, PropertyUnavailableError, SCFError, IllPosedError
        """
        check_geometry(atoms)
        inputs = self._inputs(atoms)
        self._check_scope(atoms, inputs)
        system = self._system(atoms, inputs)
        check_contacts(system)
        self._advise(atoms, inputs)
        outcome = evaluate(
            self.model,
            system,
            boundary=inputs.boundary,
            origin=atoms.get_center_of_mass(),
            properties=properties,
        )
        outcome.extras.update(
            charge=inputs.charge.value,
            charge_source=inputs.charge.source,
            electric_field=np.array(inputs.field.value),
            electric_field_source=inputs.field.source,
            boundary=boundary_for(inputs.boundary, system.pbc).name,
        )
        return outcome

    def _inputs(self, atoms: Atoms) -> _Inputs:
        refuse_spin(atoms.info, self._opened.name)
        return _Inputs(
            charge=read_charge(atoms.info, parse_charge(self.parameters["charge"])),
            field=read_field(atoms.info, parse_field(self.parameters["electric_field"])),
            boundary=self.parameters["boundary"],
            weights=self._opened.version,
        )

    def _check_scope(self, atoms: Atoms, inputs: _Inputs) -> None:
        if not self.parameters["allow_fractional_charge"]:
            require_whole(inputs.charge)
        opened = self._opened
        check_elements(opened.model.elements, atoms.numbers, opened.name)
        boundary = boundary_for(inputs.boundary, tuple(bool(p) for p in atoms.pbc))
        if opened.card is not None and not self.parameters["allow_extrapolation"]:
            check_scope(opened.card, charge=inputs.charge, field=inputs.field, boundary=boundary)

    def _system(self, atoms: Atoms, inputs: _Inputs) -> System:
        return System.from_atoms(
            atoms,
            charge=inputs.charge.value,
            electric_field=inputs.field.value,
            device=self._opened.torch_device,
        )

    def _advise(self, atoms: Atoms, inputs: _Inputs) -> None:
        charge, source = inputs.charge.value, inputs.charge.source
        for key, meant in unread_keys(atoms.info):
            self._tell(
                f"atoms.info[{key!r}] looks like {meant!r} but is not read; rename it if it is "
                "meant, or ignore this warning"
            )
        for doubt in doubts(atoms, charge=charge, charge_source=source):
            self._tell(doubt)
        if charge != self.parameters["charge"]:
            given = self.parameters["charge"]
            _LOG.info("charge %+g from %s overrides the calculator's %+g", charge, source, given)

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
        if name not in ("born_effective_charges", "dielectric_tensor"):
            return super().get_property(name, atoms, allow_calculation)
        # Not kept in ``results``: ASE's extxyz writer fails on a property of shape (N, 3, 3).
        return self._response(name, atoms, allow_calculation)

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
            array, beside = respond(name, self.model, system, boundary=self._seen.boundary)
            self._responses[name] = array
            self.extras.update(beside)
        return self._responses[name].copy()

    def todict(self) -> dict[str, Any]:
        """What a trajectory stores about the calculation; plain JSON."""
        given = self.parameters
        return {
            "model": self._opened.name,
            "family": self.model.family,
            "sha256": self._opened.sha256,
            "charge": given["charge"],
            "electric_field": list(given["electric_field"]),
            "boundary": given["boundary"],
            "dtype": given["dtype"],
            "allow_extrapolation": given["allow_extrapolation"],
            "asesc": __version__,
            "mace": version("mace-torch"),
            "torch": str(torch.__version__),
        }


def _refuse_unknown_boundary(name: str) -> None:
    known = ["auto", *BOUNDARIES]
    if name not in known:
        raise InputError(
            f"boundary={name!r} is not known.{did_you_mean(str(name), known)} Choose one of "
            f"{', '.join(known)}"
        )


def _reserved(name: str, value: Any, opened: OpenedModel) -> InputError:
    """The error for a parameter that no present family takes."""
    family = opened.model.family
    if name == "spin":
        return spin_refused(f"spin={value!r}", opened.name)
    if name == "fermi_level":
        return InputError(
            f"fermi_level={value!r}, but model {opened.name!r} of the family {family} works at "
            "fixed total charge: the level follows from the charge "
            "(calc.extras['chemical_potential'] where the family defines it). Pass charge=… instead"
        )
    return InputError(
        f"scf={value!r}, but the family {family} of model {opened.name!r} is solved directly and "
        "has no iterations to set; leave scf=None"
    )
