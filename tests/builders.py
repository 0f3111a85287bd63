"""Small random models and structures shared by the tests.

Heads start near zero, so that a fresh model is almost trivial; here every parameter of the heads is
drawn again, large enough that charges, dipoles and responses differ visibly from atom to atom.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from asesc.models import FAMILIES, Model

#: Elements of the test models with integer formal charges: SiO2 + H2O is neutral.
FORMAL_CHARGES = {1: 1.0, 8: -2.0, 14: 4.0}
NUMBERS = (14, 8, 8, 8, 1, 1)

_BACKBONE = {
    "elements": [1, 8, 14],
    "cutoff": 3.6,
    "channels": 4,
    "radial_width": 8,
    "layers": 2,
    "edge_lmax": 2,
    "correlation": 2,
    "n_neighbors": 10.0,
}


@cache
def random_model(
    family: str, *, lmax: int | None = None, width: float | None = None, seed: int = 0
) -> Model:
    """A family with small random parameters; built once per session, do not modify it."""
    torch.manual_seed(seed)
    own: dict[str, Any] = {} if lmax is None else {"lmax": lmax}
    if family in ("FixedCharges", "SplitCharges", "SplitChargeEquilibration"):
        own["formal_charges"] = FORMAL_CHARGES
    widths = {1: 0.9, 8: 1.1, 14: 1.3} if width is None else width
    model = FAMILIES[family](backbone=_BACKBONE, width=widths, **own)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_head." in name and parameter.ndim == 2:
                parameter.add_(torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
            elif "_head." in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model
