"""Fixed-point models whose response is set by hand: the same numbers on every atom and edge."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import nn

from asesc.models import FAMILIES, FixedPoint, Model
from asesc.models.readouts import inverse_positive

BACKBONE = {
    "elements": [1, 3],
    "channels": 2,
    "radial_width": 4,
    "layers": 2,
    "edge_lmax": 1,
    "correlation": 1,
    "cutoff": 3.6,
}


@cache
def _built(family: type[Model], **keywords: Any) -> Model:
    torch.manual_seed(0)
    return family(backbone=BACKBONE, **keywords)


def fixed_point(
    *,
    susceptibility: float,
    conductance: float = 1e-9,
    polarizability: float = 1e-9,
    electronegativity: float = 4.5,
    width: float = 1.5,
    family: type[FixedPoint] = FixedPoint,
    **keywords: Any,
) -> FixedPoint:
    """No local multipoles, s, g and α everywhere, and the energy that is stationary for them.

    Building is slow, so that one module per structure is kept: a later call with the same
    ``width``, ``family`` and ``keywords`` changes the numbers of an earlier one's model.
    """
    model = _built(family, width=width, **keywords)
    with torch.no_grad():
        _constant(model.charge_head.net, [0.0, inverse_positive(1.0), electronegativity])
        bias = model.update.atom_head.net[-1].bias.tolist()
        bias[:2] = [inverse_softplus(susceptibility), inverse_positive(polarizability)]
        _constant(model.update.atom_head.net, bias)
        edges = [0.0] * model.update.edge_head.out.out_features
        edges[0] = inverse_positive(conductance) - inverse_positive(0.05)
        edges[1] = inverse_positive(1e-12) - inverse_positive(0.03)
        _constant(model.update.edge_head, edges)
        hardness = inverse_softplus(1 / max(susceptibility, 1e-6))
        _constant(model.energy_head.net, [0.0, hardness, -0.5])
        _constant(model.edge_energy_head, [0.0])
        if model.dipole_head is not None:
            model.dipole_head.net[-1].weight.zero_()
    return model


def quadratic(family: str, *, heads: dict[str, list[float]], **keywords: Any) -> Model:
    """Another family with constant heads."""
    model = _built(FAMILIES[family], **keywords)
    with torch.no_grad():
        for name, bias in heads.items():
            head = getattr(model, name)
            _constant(head if hasattr(head, "out") else head.net, bias)
        for name in ("dipole_head", "vector_head"):
            if getattr(model, name, None) is not None:
                getattr(model, name).net[-1].weight.zero_()
    return model


def _constant(module: nn.Module, bias: list[float]) -> None:
    """Let the last layer return ``bias`` whatever comes in."""
    last = module.out if hasattr(module, "out") else module[-1]
    last.weight.zero_()
    last.bias.copy_(torch.tensor(bias, dtype=last.bias.dtype))


def inverse_softplus(value: float) -> float:
    """The number whose softplus is ``value``; far below zero for zero."""
    if value == 0:
        return -1e4
    return value if value > 30 else math.log(math.expm1(value))
