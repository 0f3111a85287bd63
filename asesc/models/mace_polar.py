"""PolarMACE, the architecture of the MACE-POLAR-1 foundation models, as one of our models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from asesc.density import Density, GaussianBasis
from asesc.density.harmonics import n_components
from asesc.electrostatics import boundary_for
from asesc.electrostatics.boundary import ACCURACY, Open
from asesc.electrostatics.field import along_open_axes, require_open_field
from asesc.errors import InputError, ModelFormatError, SetupError
from asesc.models.backbone import (
    constructor_keywords,
    mace_environment,
    mace_inputs,
    plain_architecture,
    require_same_constants,
)
from asesc.models.contraction import translated_weights
from asesc.models.moments import json_table, read_out_dipole
from asesc.models.polar_electrostatics import (
    EnergySlot,
    FeatureSlot,
    OperatorElectrostatics,
    PairElectrostatics,
    PolarBasis,
    PolarElectrostatics,
    to_cartesian,
)
from asesc.models.potential import Potential, Prediction
from asesc.models.spin import multiplicity
from asesc.neighbors import find_edges
from asesc.solvers import READ_OUT, SCFOptions
from asesc.system import System

#: mace-torch, and the graph-longrange whose interface it was written for.
TESTED = {"mace-torch": "0.3.16", "graph-longrange": "0.4.0"}


class MACEPolar(Potential, family="MACEPolar"):
    """``mace.modules.PolarMACE`` with exact derivatives and physical signs.

    A local MACE proposes charges and dipoles in two spin channels; a *fixed number* of update
    layers, each with weights of its own, correct them from the potential they make; learned Fukui
    functions place what is missing to the total charge and spin.

    - It is not self-consistent: the density is the output of the last layer, no fixed point.
    - It is not variational: the dipole of the density is not −∂E/∂E_field. Both are reported;
      they differ by as much as the training left.
    - The field is the physical one; mace's ``external_field`` is minus it.
    - Stress contains the long-range part, which mace-torch 0.3.16 leaves out.
    - Slabs may be open along any axis and charged; their potential is zero midway between the
      two sides at infinity, which is the limit of infinite vacuum of the original.
    - Isolated systems keep the original's finite differences for dipoles, with which the weights
      were fitted: their energy is invariant under rotation only up to a few meV.

    Parameters
    ----------
    architecture : mapping
        JSON-able configuration, as :meth:`from_mace` makes it.
    atomic_energies : mapping of int to float, eV
        Energy of the isolated atom per element.

    Raises
    ------
    SetupError
        The installed mace-torch and graph-longrange do not fit together.
    InputError
        A configuration outside of what mace or asesc can do: density or features above l = 1,
        features narrower than the density, more than one head.

    References
    ----------
    I. Batatia et al., MACE-POLAR-1, arXiv:2602.19411 (2026).
    """

    has_spin: ClassVar[bool] = True
    variational: ClassVar[bool] = False

    def __init__(
        self,
        *,
        architecture: Mapping[str, Any],
        atomic_energies: Mapping[int | str, float] | None = None,
    ) -> None:
        require_polar()
        super().__init__()
        self.hyperparameters = {
            "architecture": dict(architecture),
            "atomic_energies": json_table(atomic_energies or {}),
        }
        _require_supported(architecture)
        self.polar = _build(architecture)
        table = self.hyperparameters["atomic_energies"]
        energies = [table.get(str(z), 0.0) for z in self.elements]
        self.register_buffer("_energies", torch.tensor(energies, dtype=torch.float64))
        for name, constant in _constants(self.polar).items():
            self.register_buffer(name, constant)
        self.polar.electric_potential_descriptor = FeatureSlot()
        self.polar.coulomb_energy = EnergySlot()

    @classmethod
    def from_mace(cls, mace: nn.Module) -> Self:
        """The same model from a module you have loaded and trust.

        Checkpoints of MACE are pickles, which asesc does not open; ``asesc models import-polar``
        converts one in a process of its own.

        Raises
        ------
        InputError
            Another class of module, or one whose constants are not those of its configuration.
        """
        if type(mace).__name__ != "PolarMACE":
            raise InputError(f"need a mace PolarMACE module, got {type(mace).__name__}")
        with mace_environment():
            from mace.tools.scripts_utils import extract_config_mace_model

            architecture = plain_architecture(extract_config_mace_model(mace))
        energies = torch.as_tensor(architecture["atomic_energies"]).flatten().tolist()
        numbers = architecture["atomic_numbers"]
        # They are added in float64, and not by the network.
        architecture["atomic_energies"] = [0.0] * len(numbers)
        _require_supported(architecture)
        model = cls(
            architecture=architecture,
            atomic_energies=dict(zip(numbers, energies, strict=True)),
        )
        model._copy(mace)
        return model

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(int(z) for z in self.polar.atomic_numbers)

    @property
    def cutoff(self) -> float:
        return float(self.polar.r_max)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

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
        """Energy, density and dipole; ``scf``, ``start`` and ``order`` have no meaning here."""
        system = self._accepted(system.to(dtype=torch.float64))
        electrostatics = self._bind(system, boundary, accuracy)
        output = self.polar(self._inputs(system, electrostatics), compute_force=False)
        moments = to_cartesian(output["density_coefficients"])
        dipole = along_open_axes(system, read_out_dipole(system, moments))
        short_range = output["node_energy"].double() + self._energies[self._index(system)]
        contributions = {
            "short_range": system.sum(short_range),
            "internal": output["electron_energy"].double(),
            "coulomb": output["electrostatic_energy"].double(),
            "field": -(system.electric_field * dipole).sum(-1),
        }
        basis = self._basis()
        components = n_components(basis.density_lmax)
        widths = moments.new_full((len(moments),), basis.density_width)
        return Prediction(
            energy=sum(contributions.values()),
            charge=system.charge,
            density=Density(moments[:, :components], GaussianBasis(basis.density_lmax, widths)),
            dipole=dipole,
            contributions=contributions,
            potential=electrostatics.potential(moments)[:, :components],
            solution=replace(
                READ_OUT, method=f"{self.polar.num_recursion_steps} update layers, not iterated"
            ),
            spins=output["spins"].double(),
        )

    def _accepted(self, system: System) -> System:
        """The system with the field that this family sees, or InputError."""
        if system.fermi_level is not None:
            raise InputError(
                f"fermi_level={system.fermi_level.tolist()} eV, but MACEPolar has no ∂E/∂Q that "
                "its density would obey. Pass charge=… instead, or use a family that equilibrates "
                "(QEq, SplitChargeEquilibration)"
            )
        require_open_field(system)
        return replace(system, electric_field=along_open_axes(system, system.electric_field))

    def _bind(self, system: System, boundary: str, accuracy: float) -> PolarElectrostatics:
        chosen = boundary_for(boundary, system.pbc)
        if isinstance(chosen, Open):
            return PairElectrostatics(system, self._basis())
        return OperatorElectrostatics(system, self._basis(), boundary=chosen, accuracy=accuracy)

    def _basis(self) -> PolarBasis:
        polar = self.polar
        return PolarBasis(
            density_lmax=polar.atomic_multipoles_max_l,
            feature_lmax=polar.field_feature_max_l,
            density_width=polar.atomic_multipoles_smearing_width,
            feature_widths=self._feature_widths,
            scale=self._scale,
            feature_self=self._feature_self,
            energy_self=self._energy_self,
            features_with_self=polar.field_si,
            energy_with_self=polar.include_electrostatic_self_interaction,
        )

    def _inputs(self, system: System, electrostatics: PolarElectrostatics) -> dict[str, Any]:
        """What PolarMACE reads, with positions about their mean to keep float32 exact."""
        mean = system.sum(system.positions.detach()) / system.counts[:, None]
        centred = replace(system, positions=system.positions - mean[system.batch])
        edges = find_edges(system, self.cutoff)
        inputs = mace_inputs(centred, edges, self.polar.atomic_numbers, self.dtype)
        ones = torch.ones_like(system.charge, dtype=self.dtype)
        # PolarMACE lists wave vectors of this cell and then hands them to our slots, which have
        # their own; a tiny cell has one.
        cell = 0.1 * torch.eye(3, dtype=self.dtype, device=ones.device)
        return inputs | {
            "cell": cell.repeat(system.n_structures, 1),
            "rcell": (2 * torch.pi * torch.linalg.inv(cell)).repeat(system.n_structures, 1),
            "volume": electrostatics,
            "pbc": torch.tensor([system.pbc] * system.n_structures, device=ones.device),
            "total_charge": system.charge.to(self.dtype),
            "total_spin": multiplicity(system).to(self.dtype),
            "fermi_level": torch.zeros_like(ones),
            "external_field": -system.electric_field.to(self.dtype),
        }

    def _index(self, system: System) -> Tensor:
        return (system.numbers[:, None] == self.polar.atomic_numbers).int().argmax(-1)

    def _copy(self, mace: nn.Module) -> None:
        """Take over the parameters of a module of the same architecture."""
        require_same_constants(self.polar, mace, but=_ATOMIC_ENERGIES)
        try:
            weights = dict(mace.named_parameters()) | translated_weights(self.polar, mace)
            self.load_weights({f"polar.{name}": weight for name, weight in weights.items()})
        except ModelFormatError as error:
            raise InputError(
                f"the PolarMACE module has other tensors than its configuration implies: {error}. "
                "It was made by another version of mace or modified"
            ) from error


def require_polar() -> None:
    """Refuse versions that do not fit together.

    Raises
    ------
    SetupError
        With the command that installs the right ones.
    """
    found = {name: _version(name) for name in TESTED}
    if found == TESTED:
        return
    pins = " ".join(f"{name}=={pin}" for name, pin in TESTED.items())
    has = " and ".join(f"{name} {number or '(missing)'}" for name, number in found.items())
    raise SetupError(
        f"MACEPolar is tested with one pair of versions, but this environment has {has}. Other "
        "pairs do not fit together: graph-longrange dropped an argument that mace-torch passes. "
        f"Run: pip install {pins}"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _require_supported(architecture: Mapping[str, Any]) -> None:
    for key in ("atomic_multipoles_max_l", "field_feature_max_l"):
        if not 0 <= architecture[key] <= 1:
            raise InputError(
                f"{key}={architecture[key]} of the PolarMACE configuration; mace-torch "
                f"{TESTED['mace-torch']} has 0 and 1"
            )
    widths, own = architecture["field_feature_widths"], "atomic_multipoles_smearing_width"
    if min(widths) < architecture[own]:
        raise InputError(
            f"field_feature_widths={widths} of the PolarMACE configuration hold one below the "
            f"{architecture[own]} Å of the density, which asesc does not resolve"
        )
    if len(architecture["heads"]) != 1:
        raise InputError(
            f"the PolarMACE module has the heads {architecture['heads']}, and their energies "
            "differ. Keep one of them with mace_select_head"
        )


_ATOMIC_ENERGIES = "atomic_energies_fn.atomic_energies"


def _build(architecture: Mapping[str, Any]) -> nn.Module:
    """A ``PolarMACE`` with random parameters from its JSON-able description.

    Without TorchScript, for which e3nn would spend most of the time it takes to open a model.
    """
    with mace_environment():
        import e3nn
        from mace import modules

        defaults = e3nn.get_optimization_defaults()
        e3nn.set_optimization_defaults(jit_script_fx=False)
        try:
            return modules.PolarMACE(**constructor_keywords(architecture))
        finally:
            e3nn.set_optimization_defaults(**defaults)


def _constants(polar: Any) -> dict[str, Tensor]:
    """Normalisations and self-interactions as graph-longrange computed them; see PolarBasis."""
    widths = torch.tensor(polar.field_feature_widths, dtype=torch.float64)
    n = len(widths)
    own = polar.electric_potential_descriptor.self_interaction_terms.overlap_constants
    source = polar.coulomb_energy.self_interaction_terms.overlap_constants
    # Rows: l = 0 of every width, then three components of every width.
    matrix = polar.external_field_contribution.matrix.abs().amax(-1)
    return {
        "_feature_widths": widths,
        "_scale": _by_degree(matrix, n),
        "_feature_self": _by_degree(own, n),
        "_energy_self": _by_degree(source, 1)[0],
    }


def _by_degree(values: Tensor, n: int) -> Tensor:
    """(n,) or (4n,), l = 0 first, to (n, 2) with zeros for an absent l = 1."""
    table = values.new_zeros(n, 2)
    table[:, 0] = values[:n]
    if len(values) > n:
        table[:, 1] = values[n::3]
    return table
