"""The ASE calculator for models with self-consistent electrostatics."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from asesc import __version__
from asesc.calculators.evaluation import Evaluation, dipole_origin, evaluate, with_gradients
from asesc.calculators.inputs import (
    Given,
    parse_charge,
    parse_fermi_level,
    parse_field,
    read_charge,
    read_fermi_level,
    read_field,
    require_whole,
)
from asesc.calculators.many import ManyStructures
from asesc.calculators.names import require_boundary
from asesc.calculators.opened import OpenedModel, open_model
from asesc.calculators.prepared import PreparedModel
from asesc.calculators.responses import RESPONSES, RespondingCalculator, respond
from asesc.calculators.sanity import doubts
from asesc.calculators.scope import check_elements, check_scope
from asesc.calculators.sites import read_sites
from asesc.calculators.spin import choose_spin, parse_spin, refuse_unread_spin
from asesc.electrostatics import boundary_for
from asesc.electrostatics.accuracy import parse_accuracy
from asesc.errors import InputError
from asesc.models import Potential
from asesc.solvers import SCFOptions
from asesc.system import System

_LOG = logging.getLogger(__name__)
_OPENING = ("model", "dtype", "device", "kernels")


@dataclass(frozen=True)
class _Inputs:
    """What the answer depends on besides the geometry, as values."""

    charge: Given
    field: Given
    fermi_level: Given | None
    spin: Given | None
    sites: tuple[float, ...] | None
    boundary: str
    accuracy: float
    scf: SCFOptions
    weights: int


class SCCalculator(ManyStructures, RespondingCalculator):
    """Energies, forces, stress and electrical response of a model, under ASE's names.

    Parameters
    ----------
    model : str, path or Potential
        Name of a pretrained model, a model's folder, or an instance (which has no card, hence no
        scope beyond its elements).
    charge : float, e
        Total charge; ``atoms.info["charge"]`` (or ``"total_charge"``) overrides it per frame. In
        models whose charge localises ``atoms.info["charge_sites"]`` = [atom, …] says where it is.
    spin : int, optional
        Multiplicity 2S + 1 of families with spin, or ``atoms.info["spin"]``; else the lowest.
    electric_field : (3,), V/Å
        Uniform field E with the physicists' sign: the force on a charge q is +qE and the energy
        contains −E·μ. ``atoms.info["electric_field"]`` overrides it; MACE's
        ``atoms.info["external_field"]`` has the opposite sign and is converted.
    fermi_level : float, eV, optional
        Fermi level μ = ∂E/∂N_e of a reservoir of electrons, in place of the total charge, which
        is then found and reported in ``extras["charge"]``; energy and free energy are the grand
        energy Ω = E − μN_e = E + μQ and the forces its gradient. Counted from the average
        potential of a periodic cell and from the vacuum of an isolated structure; a slab needs
        ``boundary="electrodes"``. ``atoms.info["fermi_level"]`` overrides it per frame.
    boundary : str
        ``"auto"`` follows ``atoms.pbc``; else a name from ``asesc.electrostatics.BOUNDARIES``.
    device, dtype : str
        ``"auto"`` (first GPU, else CPU), ``"cpu"``, ``"cuda:1"`` …; ``"float64"`` or ``"float32"``,
        of the learned part.
    kernels : str
        What computes the backbone; the numbers are the same. ``"torch"``; ``"compiled"`` for long
        runs on a CPU with a C++ compiler, see :class:`~asesc.models.compiled.Compiled`;
        ``"cuequivariance"`` for GPUs, see :class:`~asesc.models.cuequivariance.CuEquivariance`.
    accuracy : float or str
        Relative error of the Coulomb forces, ``"default"`` (1e-6), ``"fast"`` (1e-5), ``"high"``
        (1e-9) or a number; it decides engine and cut-offs, which ``extras["coulomb_engine"]`` names
        with their estimated error.
    scf : mapping, optional
        Fields of :class:`~asesc.solvers.SCFOptions`, for example ``{"tolerance": 1e-9}``; families
        that solve directly meet every tolerance.
    allow_extrapolation, allow_fractional_charge : bool
        Do not enforce charge, field and boundaries of the model's card; accept part of a charge.

    Raises
    ------
    TypeError, InputError, ModelScopeError, SetupError, ModelNotFoundError, ModelFormatError

    Notes
    -----
    ``results`` holds energy, free_energy, forces, charges, and where they are defined fermi_level
    (eV, also at fixed charge: −∂E/∂Q), stress, dipole (along open directions; for an ion about the
    centre of mass, see ``extras["dipole_origin"]``) or polarization (three periodic directions,
    modulo its quantum), and for families with spin magmoms and magmom (unpaired electrons). Born
    charges and the dielectric tensor come through ``get_property``, polarizability and Hessian
    through methods. A call costs one evaluation and one backward pass. Iterative families start
    from the last density of the same atoms; ``calc.scf.report()`` tells what they did.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
        "charges",
        "dipole",
        "polarization",
        "fermi_level",
        "magmom",
        "magmoms",
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
        "kernels": "torch",
        "accuracy": "default",
        "scf": None,
        "allow_extrapolation": False,
        "allow_fractional_charge": False,
    }

    def __init__(
        self,
        model: str | os.PathLike[str] | Potential,
        *,
        charge: float = 0.0,
        spin: int | None = None,
        electric_field: Collection[float] = (0.0, 0.0, 0.0),
        fermi_level: float | None = None,
        boundary: str = "auto",
        device: str = "auto",
        dtype: str = "float64",
        kernels: str = "torch",
        accuracy: float | str = "default",
        scf: Mapping[str, Any] | None = None,
        allow_extrapolation: bool = False,
        allow_fractional_charge: bool = False,
        **unknown: Any,
    ) -> None:
        self._opened: OpenedModel | None = None
        self._last: tuple[Any, np.ndarray] | None = None
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
            kernels=kernels,
            accuracy=accuracy,
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
        require_boundary(checked.get("boundary", "auto"))
        if "accuracy" in checked:
            parse_accuracy(checked["accuracy"])
        if (scf := checked.get("scf")) is not None:
            if not isinstance(scf, Mapping):
                raise InputError(f"scf must be a mapping of options to numbers, got {scf!r}")
            SCFOptions.of(scf)
            checked["scf"] = dict(scf)
        opened = self._open(checked)
        checked["spin"] = parse_spin(checked.get("spin", self.parameters.get("spin")))
        refuse_unread_spin({}, checked["spin"], opened)
        checked["fermi_level"] = self._level(checked, opened)
        if opened is not self._opened:
            self.reset()
            self._opened, checked["model"] = opened, opened.name
        return checked

    def _level(self, checked: Mapping[str, Any], opened: OpenedModel) -> float | None:
        level = checked.get("fermi_level", self.parameters.get("fermi_level"))
        if level is not None and not opened.model.has_fermi_level:
            raise InputError(
                f"fermi_level={level!r}, but model {opened.name!r} of the family "
                f"{opened.model.family} works at fixed total charge: it has no ∂E/∂Q from which a "
                "charge would follow. Pass charge=… instead"
            )
        return parse_fermi_level(level)

    def _open(self, checked: dict[str, Any]) -> OpenedModel:
        """The model that the parameters ask for; the present one if they do not touch it."""
        if self._opened is not None and not checked.keys() & set(_OPENING):
            return self._opened
        options = {**self.parameters, **checked}
        source = checked["model"] if "model" in checked else self._opened.source
        return open_model(source, **{name: options[name] for name in _OPENING[1:]})

    @property
    def model(self) -> Potential:
        """The model that is evaluated; shared with copies and clones."""
        return self._opened.model

    @property
    def torch_device(self) -> torch.device:
        """Where the weights are and the numbers are computed."""
        return self._opened.torch_device

    def weights(self) -> Iterable[Tensor]:
        """The tensors of the model."""
        return self.model.parameters()

    @with_gradients
    def evaluate(self, atoms: Atoms, properties: Collection[str] = ("energy",)) -> Evaluation:
        """Compute without reading or changing what is cached; see :class:`Evaluation`.

        Raises
        ------
        InputError, ModelScopeError, PropertyUnavailableError, SCFError, IllPosedError
        """
        self._require_offered(properties)
        inputs, system = self._bind(atoms)
        prepared = self._prepared(atoms, inputs)
        outcome = evaluate(
            prepared,
            system,
            boundary=inputs.boundary,
            origin=dipole_origin(atoms),
            properties=properties,
        )
        for name in set(RESPONSES) & set(properties):
            array, beside = respond(name, prepared, system, boundary=inputs.boundary)
            outcome.results[name] = array
            outcome.extras.update(beside)
        self._complete(atoms, inputs, system, outcome)
        return outcome

    def _complete(self, atoms: Atoms, inputs: _Inputs, system: System, outcome: Evaluation) -> None:
        """What was read from where; and the scope of a charge that was found."""
        if inputs.fermi_level is not None:
            found = Given(outcome.extras["charge"], f"fermi_level={inputs.fermi_level.value:g}")
            self._check_card(atoms, inputs, found)
        if inputs.spin is not None:
            outcome.extras.update(spin=inputs.spin.value, spin_source=inputs.spin.source)
        outcome.extras.update(
            charge_source=inputs.charge.source,
            electric_field=np.array(inputs.field.value),
            electric_field_source=inputs.field.source,
            boundary=boundary_for(inputs.boundary, system.pbc).name,
        )

    def get_fermi_level(self, atoms: Atoms | None = None) -> float:
        """μ = ∂E/∂N_e, eV, as ASE's electronic-structure calculators name it."""
        return self.get_property("fermi_level", atoms)

    def _inputs(self, atoms: Atoms) -> _Inputs:
        given = self.parameters
        self._require_opened(given)
        charge = parse_charge(given["charge"])
        level = parse_fermi_level(given["fermi_level"])
        level = read_fermi_level(atoms.info, level, charge=charge)
        charge = read_charge(atoms.info, charge) if level is None else Given(0.0, "the Fermi level")
        return _Inputs(
            charge=charge,
            field=read_field(atoms.info, parse_field(given["electric_field"])),
            fermi_level=level,
            spin=choose_spin(atoms, given["spin"], charge=charge, opened=self._opened),
            sites=read_sites(atoms.info, len(atoms), self._opened),
            boundary=given["boundary"],
            accuracy=parse_accuracy(given["accuracy"]),
            scf=SCFOptions.of(given["scf"]),
            weights=self._opened.version,
        )

    def _require_opened(self, given: Mapping[str, Any]) -> None:
        """Refuse an entry that is true only after another opening of the model."""
        for name in _OPENING:
            true = getattr(self._opened, "name" if name == "model" else name)
            if given[name] != true:
                raise InputError(
                    f"parameters[{name!r}] was changed in place from {true!r} to {given[name]!r}, "
                    f"and nothing else with it; call calc.set({name}={given[name]!r}) instead"
                )

    def _prepared(self, atoms: Atoms, inputs: _Inputs) -> PreparedModel:
        """The model with its solver options, and the last density of the same atoms."""
        start = self.last_density(atoms)
        return PreparedModel(self.model, inputs.scf, start, accuracy=inputs.accuracy)

    def last_density(self, atoms: Atoms) -> Tensor | None:
        """Where to start from for these atoms, (N, M), e Å^l: what was found for them last."""
        if self._last is None or self._last[0] != self._identity(atoms):
            return None
        return torch.as_tensor(self._last[1], device=self.torch_device)

    def accept(self, atoms: Atoms, evaluation: Evaluation) -> None:
        """Keep an evaluation of these atoms as if this calculator had made it."""
        super().accept(atoms, evaluation)
        self._last = self._identity(atoms), self.extras["multipoles"].copy()

    def _identity(self, atoms: Atoms) -> tuple[Any, ...]:
        """What must be the same for a density to be a good start."""
        return self._opened.version, atoms.numbers.tobytes()

    def _check_scope(self, atoms: Atoms, inputs: _Inputs) -> None:
        if not self.parameters["allow_fractional_charge"]:
            require_whole(inputs.charge)
        check_elements(self.model.elements, atoms.numbers, self._opened.name)
        self._check_card(atoms, inputs, inputs.charge)

    def _check_card(self, atoms: Atoms, inputs: _Inputs, charge: Given) -> None:
        """Refuse what is outside the scope of the model's card."""
        boundary = boundary_for(inputs.boundary, tuple(bool(p) for p in atoms.pbc))
        card = self._opened.card
        if card is not None and not self.parameters["allow_extrapolation"]:
            check_scope(card, charge=charge, field=inputs.field, boundary=boundary)

    def _system(self, atoms: Atoms, inputs: _Inputs) -> System:
        return System.from_atoms(
            atoms,
            charge=inputs.charge.value,
            electric_field=inputs.field.value,
            fermi_level=None if inputs.fermi_level is None else inputs.fermi_level.value,
            spin=None if inputs.spin is None else inputs.spin.value,
            charge_sites=inputs.sites,
            device=self.torch_device,
        )

    def _advise(self, atoms: Atoms, inputs: _Inputs) -> None:
        charge, source = inputs.charge.value, inputs.charge.source
        self._tell_unread(atoms)
        for doubt in doubts(atoms, charge=charge, charge_source=source):
            self._tell(doubt)
        if charge != self.parameters["charge"]:
            given = self.parameters["charge"]
            _LOG.info("charge %+g from %s overrides the calculator's %+g", charge, source, given)

    def todict(self) -> dict[str, Any]:
        """What a trajectory stores about the calculation; plain JSON."""
        given = self.parameters
        return {
            "model": self._opened.name,
            "family": self.model.family,
            "sha256": self._opened.sha256,
            "charge": given["charge"],
            "spin": given["spin"],
            "electric_field": list(given["electric_field"]),
            "fermi_level": given["fermi_level"],
            "scf": given["scf"],
            "accuracy": given["accuracy"],
            "boundary": given["boundary"],
            "dtype": given["dtype"],
            "kernels": given["kernels"],
            "allow_extrapolation": given["allow_extrapolation"],
            "asesc": __version__,
            "mace": version("mace-torch"),
            "torch": str(torch.__version__),
        }
