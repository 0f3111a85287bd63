"""Small random models and structures shared by the tests.

A fresh model is almost trivial: its features are of order 1e-3 and its heads start near zero. Here
features are scaled to order one and the heads are drawn again, so that energies, charges, dipoles
and responses of every atom differ visibly.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from polar import random_polar

from asesc.models import FAMILIES, Model
from asesc.pretrained import Measure, ModelCard
from asesc.testing import example_system

#: Elements of the test models with integer formal charges: SiO2 + H2O is neutral.
FORMAL_CHARGES = {1: 1.0, 8: -2.0, 14: 4.0}
NUMBERS = (14, 8, 8, 8, 1, 1)
_WITH_FORMAL_CHARGES = (
    "FixedCharges",
    "SplitCharges",
    "SplitChargeEquilibration",
    "EnergyFunctional",
)

_BACKBONE = {
    "elements": [1, 8, 14],
    "cutoff": 3.6,
    "channels": 4,
    "radial_width": 8,
    "layers": 2,
    "edge_lmax": 2,
    "correlation": 2,
    "n_neighbors": 1.0,
}


def tiny_card(**changes: Any) -> ModelCard:
    """Card of a model 'tiny' of narrow scope."""
    entries: dict[str, Any] = {
        "name": "tiny",
        "level_of_theory": "none",
        "training_data": "random parameters",
        "charge_range": (-1.0, 1.0),
        "field_range": 0.2,
        "boundaries": ("open", "periodic"),
        "errors": {"forces": Measure(0.5, "eV/Å")},
        "limits": "Tests only.",
        "licence": "MIT",
        "citation": "none",
    }
    return ModelCard(**{**entries, **changes})


@cache
def random_model(
    family: str,
    *,
    lmax: int | None = None,
    width: float | None = None,
    seed: int = 0,
    **further: Any,
) -> Model:
    """A family with small random parameters; built once per session, do not modify it."""
    if family == "MACEPolar":
        return random_polar(seed=seed)
    torch.manual_seed(seed)
    own: dict[str, Any] = further if lmax is None else {"lmax": lmax, **further}
    if family in _WITH_FORMAL_CHARGES:
        own["formal_charges"] = FORMAL_CHARGES
    widths = {1: 0.9, 8: 1.1, 14: 1.3} if width is None else width
    model = FAMILIES[family](backbone=_BACKBONE, width=widths, **own)
    with torch.no_grad():
        _scale_features(model)
        for name, parameter in model.named_parameters():
            if "_head." in name and parameter.ndim == 2:
                parameter.add_(1.5 * torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
            elif "_head." in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def _scale_features(model: Model) -> None:
    """Give the features of every layer unit root mean square on a test structure."""
    system = example_system(NUMBERS, (True, True, True))
    layers = model.backbone.mace.products
    for layer, product in enumerate(layers):
        scalars = model.backbone(system).scalars.chunk(len(layers), dim=-1)[layer]
        product.linear.weight.div_(scalars.pow(2).mean().sqrt())
