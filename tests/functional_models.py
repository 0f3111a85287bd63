"""Energy functionals whose heads are set by hand, so that their physics is known."""

from dataclasses import replace
from typing import Any

import torch
from builders import NUMBERS, random_model

from asesc.models import EnergyFunctional, Model, Prediction
from asesc.models.functionals import _EDGE_AMPLITUDE
from asesc.models.readouts import AtomVectors, EdgeScalars, inverse_positive
from asesc.models.split_charge_equilibration import _CONDUCTANCE, _POLARIZABILITY
from asesc.system import System

#: A raw number whose softplus is zero to any precision that matters.
OFF = -200.0


def quadratic_twin(quadratic: Model, **own: Any) -> EnergyFunctional:
    """The energy functional with the heads of a quadratic model and all networks off."""
    model = EnergyFunctional(**quadratic.hyperparameters, **own)
    model.load_weights(model.weights() | quadratic.weights())
    switch_off(model)
    return model


@torch.no_grad()
def switch_off(model: EnergyFunctional) -> None:
    """Make the amplitudes of all ridges zero."""
    per_ridge = 2 + model.atom_functional.dimension
    for layer, stride in (
        (model.atom_functional.ridge_head.net[-1], per_ridge),
        (model.edge_functional.ridge_head.out, 3),
    ):
        layer.weight[::stride] = 0
        layer.bias[::stride] = OFF


@torch.no_grad()
def uniform_model(
    functional: str = "convex",
    *,
    conductance: float = 0.1,
    hardness: float = 2.0,
    polarizability: float = 1e-5,
    well: float = 0.0,
    width: float = 1.0,
    bend: float = 0.1,
    quadratic: bool = False,
) -> EnergyFunctional:
    """Every atom and every edge alike: numbers in e/V, V/e, e Å²/V, eV and Å; χ = 0, b_ij = 0.

    ``conductance`` is multiplied by the envelope of the edge. The ridges keep their initial values
    but for the amplitude ``bend`` of those of edges, V²; ``quadratic`` models have none.
    """
    model = EnergyFunctional(
        functional=functional,
        backbone=random_model("EnergyFunctional").hyperparameters["backbone"],
        width=width,
    )
    for name, module in model.named_modules():
        if name.startswith("backbone"):
            continue
        if isinstance(module, EdgeScalars):
            module.out.weight.zero_()
        elif isinstance(module, AtomVectors) or name.endswith("head"):
            module.net[-1].weight.zero_()
    start = inverse_positive(_CONDUCTANCE)
    bond = OFF - inverse_positive(_POLARIZABILITY)
    edge = torch.tensor([_raw(conductance) - start, 0.0, bond])
    model.edge_head.out.bias.copy_(edge)
    model.charge_head.net[-1].bias[1] = _raw(hardness)
    model.polarizability_head.net[-1].bias.fill_(_raw(polarizability))
    edge_ridges = model.edge_functional.ridge_head
    edge_ridges.out.bias[::3] = _raw(bend) - inverse_positive(_EDGE_AMPLITUDE)
    if functional == "localised":
        model.atom_functional.well_head.net[-1].bias.fill_(_raw(well))
    if quadratic:
        switch_off(model)
    return model


class PlacedCharge:
    """A localised model with its charge on the fourth of :data:`NUMBERS`, in any order and cell.

    Where a charge is told to be, everything is smooth; where it is searched for or left to itself,
    another minimum may be found after the atoms have moved.
    """

    def __init__(self, model: EnergyFunctional) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, system: System, **options: Any) -> Prediction:
        sites = (torch.arange(len(NUMBERS)) == 3).double()
        if int(system.numbers[0]) == NUMBERS[-1]:
            sites = sites.flip(0)
        copies = system.n_atoms // len(sites)
        return self._model(replace(system, charge_sites=sites.repeat(copies)), **options)


def _raw(value: float) -> float:
    """What softplus turns into ``value``."""
    if value == 0:
        return OFF
    return value if value > 30 else inverse_positive(value)
