"""Starting from somebody else's MACE checkpoint."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from asesc.errors import InputError
from asesc.models import FAMILIES, LocalCharges
from asesc.models.backbone import describe_mace, mace_environment
from asesc.neighbors import find_edges
from asesc.system import System

CUTOFF = 4.0


def made() -> torch.nn.Module:
    """A ScaleShiftMACE unlike our default: density blocks, ZBL, Agnesi, scalars in the end."""
    torch.manual_seed(0)
    with mace_environment():
        from e3nn import o3
        from mace import modules

        return modules.ScaleShiftMACE(
            atomic_inter_scale=1.3,
            atomic_inter_shift=-0.2,
            r_max=CUTOFF,
            num_bessel=6,
            num_polynomial_cutoff=5,
            max_ell=3,
            interaction_cls_first=modules.RealAgnosticDensityInteractionBlock,
            interaction_cls=modules.RealAgnosticDensityResidualInteractionBlock,
            num_interactions=2,
            num_elements=2,
            hidden_irreps=o3.Irreps("8x0e+8x1o"),
            MLP_irreps=o3.Irreps("16x0e"),
            atomic_energies=np.array([-1.0, -5.0]),
            avg_num_neighbors=7.0,
            atomic_numbers=[1, 8],
            correlation=3,
            gate=torch.nn.functional.silu,
            pair_repulsion=True,
            distance_transform="Agnesi",
            radial_MLP=[16, 16, 16],
        )


@pytest.fixture(scope="module")
def mace() -> torch.nn.Module:
    return made()


def symmetric_couplings(*args: Any, **keywords: Any) -> list[Any]:
    """A basis of what mace's couplings span, summed over permutations: fewer, and mixed.

    Stands in for ``cuequivariance.reduced_symmetric_tensor_product_basis``.
    """
    from mace.tools.cg import U_matrix_real

    name, couplings = U_matrix_real(*args, **keywords | {"use_cueq_cg": False})[-2:]
    nu = keywords["correlation"]
    features = range(couplings.ndim - 1 - nu, couplings.ndim - 1)
    other = [d for d in range(couplings.ndim) if d not in features]
    orders = [other[:-1] + list(order) + other[-1:] for order in permutations(features)]
    flat = sum(couplings.permute(order) for order in orders).flatten(0, -2)
    left, values, _ = torch.linalg.svd(flat, full_matrices=False)
    rank = max(1, int((values > 1e-10).sum()))
    return [name, left[:, :rank].view(*couplings.shape[:-1], rank)]


@pytest.fixture(params=["installed", "symmetric"])
def checkpoint(request, monkeypatch) -> torch.nn.Module:
    """With the couplings that mace takes here, and with those it takes beside cuequivariance."""
    if request.param == "installed":
        return request.getfixturevalue("mace")
    with mace_environment():
        from mace.modules import symmetric_contraction

    with monkeypatch.context() as patch:
        patch.setattr(symmetric_contraction, "U_matrix_real", symmetric_couplings)
        module = made()
    contractions = module.products[0].symmetric_contractions.contractions
    assert [c.weights_max.shape[1] for c in contractions] == [8, 12]  # instead of 23 and 51
    return module


def test_short_range_energy_is_the_checkpoints(checkpoint: torch.nn.Module) -> None:
    mace, system = checkpoint, System.from_atoms(molecule("H2O"))
    edges = find_edges(system, CUTOFF)
    zeros = torch.zeros(len(edges.source), 3, dtype=torch.float64)
    reference = mace(
        {
            "positions": system.positions.clone(),
            "node_attrs": torch.tensor([[0, 1], [1, 0], [1, 0]], dtype=torch.float64),
            "edge_index": torch.stack([edges.source, edges.target]),
            "shifts": zeros,
            "unit_shifts": zeros,
            "cell": system.cell,
            "batch": system.batch,
            "ptr": torch.tensor([0, 3]),
        },
        compute_force=False,
    )["energy"]
    model = LocalCharges.from_mace(mace)
    energy = model(system).contributions["short_range"]
    torch.testing.assert_close(energy, reference, rtol=0, atol=1e-10)


def test_is_rebuilt_from_its_hyperparameters(mace: torch.nn.Module) -> None:
    system = System.from_atoms(molecule("H2O"))
    model = LocalCharges.from_mace(mace)
    keywords = json.loads(json.dumps(model.hyperparameters))
    rebuilt = FAMILIES[model.family](**keywords)
    rebuilt.load_weights(model.weights())
    torch.testing.assert_close(rebuilt(system).energy, model(system).energy, rtol=0, atol=1e-10)


def test_other_modules_are_refused() -> None:
    with pytest.raises(InputError, match="ScaleShiftMACE module, got Linear"):
        describe_mace(torch.nn.Linear(1, 1))


def test_a_changed_constant_is_refused(mace: torch.nn.Module) -> None:
    model = LocalCharges.from_mace(mace)
    wide = dict(model.backbone.mace.named_buffers())["r_max"]
    wide += 1.0
    with pytest.raises(InputError, match="'r_max'"):
        model.backbone.copy_mace(mace)
    wide -= 1.0
    contraction = model.backbone.mace.products[0].symmetric_contractions.contractions[0]
    contraction.U_matrix_2 *= torch.arange(16.0)[:, None]  # spans something else
    with pytest.raises(InputError, match="couplings of degree 2"):
        model.backbone.copy_mace(mace)
