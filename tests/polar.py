"""A small PolarMACE with random parameters, where the extra ``asesc[polar]`` is installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pytest
import torch

from asesc.models import MACEPolar
from asesc.models.backbone import mace_environment
from asesc.models.mace_polar import TESTED


def installed() -> dict[str, str | None]:
    """The versions that are here."""

    def found(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {name: found(name) for name in TESTED}


#: Why PolarMACE cannot run here; empty where it can.
MISSING = "" if installed() == TESTED else f"needs {TESTED}, has {installed()}"
needs_polar = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@cache
def polar_mace(*, multipoles: int = 1, compiled: bool = False, seed: int = 0) -> torch.nn.Module:
    """``mace.modules.PolarMACE`` as a training would leave it, but random; do not modify it.

    The Fukui weights are kept positive, as otherwise their sum passes through zero.
    """
    torch.manual_seed(seed)
    with mace_environment():
        import e3nn
        from e3nn import o3
        from mace import modules

        defaults = e3nn.get_optimization_defaults()
        e3nn.set_optimization_defaults(jit_script_fx=compiled)
        block = modules.RealAgnosticResidualNonLinearInteractionBlock
        hidden = "4x0e+4x1o" if multipoles else "4x0e"
        module = modules.PolarMACE(
            r_max=3.6,
            num_bessel=6,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls_first=block,
            interaction_cls=block,
            num_interactions=2 if multipoles else 1,
            num_elements=3,
            hidden_irreps=o3.Irreps(hidden),
            edge_irreps=o3.Irreps(hidden),
            MLP_irreps=o3.Irreps("4x0e"),
            atomic_energies=np.array([-1.0, -5.0, -9.0]),
            avg_num_neighbors=3.0,
            atomic_numbers=[1, 8, 14],
            correlation=2,
            gate=torch.nn.functional.silu,
            radial_MLP=[8, 8],
            apply_cutoff=False,  # to the radial features, but to the messages
            atomic_inter_scale=1.3,
            atomic_inter_shift=-0.2,
            atomic_multipoles_max_l=multipoles,
            atomic_multipoles_smearing_width=1.2,
            field_feature_max_l=1 if multipoles else 0,
            field_feature_widths=[1.2, 2.0],
            num_recursion_steps=2,
            add_local_electron_energy=True,
            kspace_cutoff_factor=2.0,
        )
        e3nn.set_optimization_defaults(**defaults)
    _tame(module)
    return module


def _tame(module: Any) -> None:
    """Energies and charges of order one, positive Fukui weights."""
    with torch.no_grad():
        module.fukui_source_map.linear_2.bias.fill_(4.0)
        for update in module.field_dependent_charges_maps:
            update.readout.linear_2.weight.mul_(0.1)
            update.readout.linear_2.bias[-2:] = 4.0
        for source in module.lr_source_maps:
            for degree, weight in zip("0011", source.linear.weight_views(), strict=False):
                weight.mul_(0.1 if degree == "0" else 3.0)


@cache
def random_polar(*, multipoles: int = 1, seed: int = 0) -> MACEPolar:
    """The adapter on such a module; skips the test where the extra is absent."""
    if MISSING:
        pytest.skip(MISSING)
    return MACEPolar.from_mace(polar_mace(multipoles=multipoles, seed=seed))
