"""The two classic failures of QEq, and that split-charge equilibration has neither."""

import numpy as np
import pytest
import torch
from ase import Atoms
from builders import random_model

from asesc.response import polarizability
from asesc.system import System

SIZES = (8, 16, 32, 64)


def chain_exponents(family: str) -> np.ndarray:
    """Local exponents of α(N) along a chain of N atoms 2.5 Å apart, σ = 1.5 Å."""
    model = random_model(family, width=1.5)
    alphas = []
    for n in SIZES:
        chain = Atoms(f"H{n}", positions=[[2.5 * i, 0, 0] for i in range(n)])
        alphas.append(float(polarizability(model, System.from_atoms(chain))[0, 0, 0]))
    return np.diff(np.log2(alphas))


def test_polarizability_of_a_chain_grows_like_its_length_cubed_in_qeq():
    """χ + ηq + Jq − E x = −μ is the same for every atom, however far: a conductor.

    On a long chain J q of a slowly varying q(x) is local up to a logarithm, J q ≈ 2k_e ln(L/σ) q/a
    per atom of spacing a, so that q ≈ E x/(η + 2k_e ln(L/σ)/a) and

        α = Σ q x/E ≈ N³a²/(12 [η + 2k_e ln(L/σ)/a]).

    The exponent climbs towards 3 and stays below it by the logarithm.
    """
    exponents = chain_exponents("QEq")
    assert exponents[0] > 2.3
    assert np.all(np.diff(exponents) > 0)
    assert exponents[-1] < 3


def test_polarizability_of_a_chain_is_extensive_in_sqe():
    """Inside a long chain in a field E all atoms are alike: Σ_j t_ij = 0, so that q = 0.

    All u_i are equal then, every bond is driven by E a alone and carries t = −g E a, and each atom
    adds the same amount to α: g a² and its dipole in the field of the others. α ~ N; the two ends
    add a constant.
    """
    exponents = chain_exponents("SplitChargeEquilibration")
    assert np.all(np.diff(exponents) < 0)
    assert exponents[-1] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("distance", [30.0, 1000.0])
def test_dissociation(distance):
    """Neutral fragments stay neutral in SQE; in QEq they keep a fractional charge for ever.

    SQE: no edge crosses the gap, and transfers t_ij = −t_ji within a fragment add up to zero, so
    that its charge is the sum of its formal charges, an integer, to the last bit.
    QEq: with A and B at infinity E = χ_A q + ½η_A q² + χ_B (−q) + ½η_B q² is least at
    q = (χ_B − χ_A)/(η_A + η_B), which is no integer and does not know the distance.
    """
    silica = Atoms("SiO2", positions=[[0, 0, 0], [1.6, 0, 0], [-1.6, 0.3, 0]])
    water = Atoms("OH2", positions=np.array([[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0]]))
    water.translate([distance, 0, 0])
    system = System.from_atoms(silica + water)

    def charge_of_silica(family: str) -> float:
        with torch.no_grad():
            return float(random_model(family)(system).density.charges[:3].sum())

    assert abs(charge_of_silica("SplitChargeEquilibration")) < 1e-12
    assert abs(charge_of_silica("QEq")) > 0.02
