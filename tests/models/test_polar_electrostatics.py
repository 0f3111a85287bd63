"""The electrostatics of PolarMACE: graph-longrange's numbers, and what it cannot do."""

from dataclasses import replace

import pytest
import torch
from polar import needs_polar

from asesc.density import GaussianBasis
from asesc.electrostatics import boundary_for
from asesc.models.backbone import mace_environment
from asesc.models.polar_electrostatics import (
    OperatorElectrostatics,
    PairElectrostatics,
    PolarBasis,
    to_cartesian,
)
from asesc.system import System
from asesc.testing import example_system
from asesc.testing.differences import check_derivatives, tiled

FREE, SLAB, BULK = (False, False, False), (True, True, False), (True, True, True)
WIDTH, RECEIVERS = 1.5, [1.5, 2.5]


@pytest.fixture(scope="module")
def original():
    """graph-longrange's features and energy for given l, and our basis with its constants."""

    def build(density_lmax, feature_lmax, *, with_self=False):
        with mace_environment():
            from graph_longrange.energy import GTOElectrostaticEnergy
            from graph_longrange.features import GTOElectrostaticFeatures
            from graph_longrange.gto_utils import DisplacedGTOExternalFieldBlock

            common = {"density_max_l": density_lmax, "density_smearing_width": WIDTH}
            # Far beyond the default, so that what both neglect is below the tolerance.
            common |= {"kspace_cutoff": 5.5, "include_self_interaction": with_self}
            features = GTOElectrostaticFeatures(
                feature_max_l=feature_lmax,
                feature_smearing_widths=RECEIVERS,
                integral_normalization="receiver",
                **common,
            )
            energy = GTOElectrostaticEnergy(**common)
            field = DisplacedGTOExternalFieldBlock(feature_lmax, RECEIVERS, "receiver")
        basis = PolarBasis(
            density_lmax=density_lmax,
            feature_lmax=feature_lmax,
            density_width=WIDTH,
            feature_widths=torch.tensor(RECEIVERS, dtype=torch.float64),
            scale=by_degree(field.matrix.abs().amax(-1), 2),
            feature_self=by_degree(features.self_interaction_terms.overlap_constants, 2),
            energy_self=by_degree(energy.self_interaction_terms.overlap_constants, 1)[0],
            features_with_self=with_self,
            energy_with_self=with_self,
        )
        return features, energy, basis

    return build


def by_degree(values, n):
    first = values[:n]
    second = values[n::3] if len(values) > n else torch.zeros_like(first)
    return torch.stack([first, second], dim=-1)


def multipoles(system: System, lmax: int) -> torch.Tensor:
    """Random charges and dipoles in PolarMACE's order."""
    generator = torch.Generator().manual_seed(3)
    shape = (system.n_atoms, (lmax + 1) ** 2)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def bound(system: System, basis: PolarBasis):
    if not any(system.pbc):
        return PairElectrostatics(system, basis)
    boundary = boundary_for("auto", system.pbc)
    return OperatorElectrostatics(system, basis, boundary=boundary, accuracy=1e-13)


def evaluate_original(features, energy, system, p, monkeypatch):
    """What graph-longrange makes of a system; its helpers create tensors of the default type."""
    with mace_environment():
        from graph_longrange.kspace import compute_k_vectors_flat
    monkeypatch.setattr(torch, "get_default_dtype", lambda: torch.float64)
    reciprocal = 2 * torch.pi * torch.linalg.inv(system.cell.mT)
    k, k2, batch, zero = compute_k_vectors_flat(features.kspace_cutoff, system.cell, reciprocal)
    common = {
        "k_vectors": k,
        "k_norm2": k2,
        "k_vector_batch": batch,
        "k0_mask": zero,
        "node_positions": system.positions,
        "batch": system.batch,
        "volume": system.volume,
        "pbc": torch.tensor([system.pbc] * system.n_structures),
    }
    return features(source_feats=p[:, None], **common), energy(source_feats=p, **common)


@needs_polar
@pytest.mark.parametrize("pbc", [BULK, FREE])
@pytest.mark.parametrize(
    ("density_lmax", "feature_lmax", "with_self"),
    [(1, 1, False), (0, 0, False), (1, 0, True), (0, 1, False), (1, 1, True)],
)
def test_features_and_energy_are_the_originals(
    original, monkeypatch, pbc, density_lmax, feature_lmax, with_self
):
    """Charged channels included; only the value of k_e differs, by 5e-11."""
    features, energy, basis = original(density_lmax, feature_lmax, with_self=with_self)
    system = tiled(example_system((14, 8, 8, 1), pbc), 2)
    p = multipoles(system, density_lmax)
    theirs = evaluate_original(features, energy, system, p, monkeypatch)
    ours = bound(system, basis)
    q = to_cartesian(p)
    torch.testing.assert_close(ours.features(q), theirs[0], rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(ours.energy(q), theirs[1], rtol=1e-9, atol=1e-7)


@needs_polar
def test_slabs_are_the_originals_in_infinite_vacuum(original, monkeypatch):
    """With a cell of height H the original's potential has an offset Q_zz/H: extrapolate it away.

    The slab is neutral, since the original has no charged ones.
    """
    features, energy, basis = original(1, 1)
    system = example_system((14, 8, 8, 1), SLAB)
    flat = system.cell.clone()
    flat[0, :2, 2] = 0.0
    p = multipoles(system, 1)
    p[:, 0] -= p[:, 0].mean()
    ours = bound(replace(system, cell=flat), basis)
    found = []
    for height in (40.0, 80.0):
        flat[0, 2] = torch.tensor([0.0, 0.0, height])
        high = replace(system, cell=flat.clone())
        found.append(evaluate_original(features, energy, high, p, monkeypatch))
    (far, at_40), (farther, at_80) = found
    q = to_cartesian(p)
    torch.testing.assert_close(ours.energy(q), 2 * at_80 - at_40, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.features(q), 2 * farther - far, rtol=0, atol=1e-6)
    assert float((farther - far).abs().max()) > 1e-2


def plain_basis(feature_lmax: int = 1) -> PolarBasis:
    """Receivers that return potentials as they are, self-interaction included."""
    n = len(RECEIVERS)
    return PolarBasis(
        density_lmax=1,
        feature_lmax=feature_lmax,
        density_width=WIDTH,
        feature_widths=torch.tensor(RECEIVERS, dtype=torch.float64),
        scale=torch.ones(n, 2, dtype=torch.float64),
        feature_self=torch.zeros(n, 2, dtype=torch.float64),
        energy_self=torch.zeros(2, dtype=torch.float64),
        features_with_self=True,
        energy_with_self=True,
    )


@pytest.mark.parametrize("pbc", [BULK, SLAB, (False, True, True)])
def test_a_receiver_of_the_sources_width_sees_the_potential(pbc):
    """Features in the order l = 0 of every width, then y, z, x: those of the first width are v."""
    system = example_system((14, 8, 8, 1), pbc)
    q = to_cartesian(multipoles(system, 1))
    electrostatics = bound(system, plain_basis())
    basis = GaussianBasis(1, torch.full((4,), WIDTH, dtype=torch.float64))
    operator = boundary_for("auto", pbc).bind(system, basis, accuracy=1e-13)
    v = operator.potential(q)
    features = electrostatics.features(q)
    torch.testing.assert_close(features[:, [0, 4, 2, 3]], v, rtol=0, atol=1e-9)
    torch.testing.assert_close(electrostatics.potential(q), v, rtol=0, atol=1e-9)
    torch.testing.assert_close(electrostatics.energy(q), operator.energy(q), rtol=0, atol=1e-9)


@pytest.mark.parametrize("pbc", [FREE, BULK, SLAB])
def test_derivatives_of_features(pbc):
    """Of a random combination of all features, with respect to positions and strain."""
    example = example_system((14, 8, 8, 1), pbc)
    p = to_cartesian(multipoles(example, 1))
    weights = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def functional(system: System) -> torch.Tensor:
        copies = system.n_structures
        features = bound(system, plain_basis()).features(p.repeat(copies, 1))
        return system.sum((features * weights.repeat(copies, 1)).sum(-1))

    for deviation in check_derivatives(functional, example):
        assert deviation.holds, str(deviation)


def test_finite_differences_stand_for_dipoles():
    """Two dipoles 30 Å apart: the charges at 0.02 Å err by 0.02 Å/r in the energy."""
    positions = torch.tensor([[0.0, 0, 0], [30.0, 5, -4]], dtype=torch.float64)
    system = replace(example_system((1, 1), FREE), positions=positions)
    q = to_cartesian(multipoles(system, 1))
    q[:, 0] = 0.0
    basis = GaussianBasis(1, torch.full((2,), WIDTH, dtype=torch.float64))
    between = boundary_for("auto", FREE).bind(system, basis).dense()[0, :4, 4:]
    exact = float(q[0] @ between @ q[1])
    assert float(bound(system, plain_basis()).energy(q)) == pytest.approx(exact, rel=3e-3)


def test_batches_may_end_with_a_single_atom():
    """And atoms of different structures do not see each other."""
    pair = example_system((8, 1), FREE)
    both = replace(
        tiled(pair, 2),
        positions=torch.cat([pair.positions, pair.positions[:1]]),
        numbers=torch.tensor([8, 1, 8]),
        batch=torch.tensor([0, 0, 1]),
    )
    q = to_cartesian(multipoles(both, 1))
    energy = bound(both, plain_basis()).energy(q)
    torch.testing.assert_close(energy[:1], bound(pair, plain_basis()).energy(q[:2]))
    assert float(energy[1]) == 0.0
