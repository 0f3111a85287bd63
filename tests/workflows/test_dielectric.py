"""Polar modes: sum rules and limits that hold for any crystal, on random polar ones."""

import numpy as np
import pytest
from rigid_ions import ionic_crystal

from asesc.errors import InputError
from asesc.phonons import DielectricResponse, dielectric_response, phonons
from asesc.units import COULOMB
from asesc.workflows.modes import PER_THZ, WAVENUMBER

DIRECTIONS = [(1, 0, 0), (0.3, -0.5, 0.8)]


def random_response(n_modes: int = 7, seed: int = 0) -> DielectricResponse:
    """A stable crystal without symmetry: any charges and ε∞ are allowed."""
    generator = np.random.default_rng(seed)
    square = generator.normal(size=(3, 3))
    return DielectricResponse(
        high_frequency=2 * np.eye(3) + 0.2 * square @ square.T,
        wavenumbers=np.sort(generator.uniform(100, 1000, n_modes)),
        mode_charges=generator.normal(size=(n_modes, 3)),
        volume=60.0,
        title="random",
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_cochran_and_cowley(direction):
    """Π ω_LO²/ω_TO² = q̂·ε0·q̂/q̂·ε∞·q̂ along any direction of any crystal.

    Cochran, Cowley, J. Phys. Chem. Solids 23, 447 (1962), doi:10.1016/0022-3697(62)90084-7.
    """
    response = random_response()
    unit = np.array(direction) / np.linalg.norm(direction)
    expected = (unit @ response.static @ unit) / (unit @ response.high_frequency @ unit)
    product = (response.longitudinal(direction) / response.wavenumbers).prod() ** 2
    assert product == pytest.approx(expected, rel=1e-10)
    pairs = response.splittings(direction)
    product = np.prod([pair.longitudinal / pair.transverse for pair in pairs]) ** 2
    assert product == pytest.approx(expected, rel=1e-6)
    ladder = [value for pair in pairs for value in (pair.transverse, pair.longitudinal)]
    assert ladder == sorted(ladder)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_longitudinal_modes_are_zeros_of_the_dielectric_function(direction):
    response = random_response(seed=1)
    unit = np.array(direction) / np.linalg.norm(direction)
    along = unit @ response.function(response.longitudinal(direction), damping=1e-9) @ unit
    assert np.abs(along.real).max() < 1e-8
    static = response.function(np.array([0.0]))[0]
    np.testing.assert_allclose(static, response.static, rtol=1e-12)
    far = response.function(np.array([1e7]))[0]
    np.testing.assert_allclose(far, response.high_frequency, rtol=1e-6)


def test_absorption_has_the_area_of_the_oscillator_strengths():
    """∫ ν Im ε dν = (π/2) Σ (4π k_e/V) S: the f-sum rule, in wave numbers."""
    response = random_response(n_modes=3, seed=2)
    grid = np.arange(0.5, 6000, 0.5)
    absorbed = np.trapezoid(
        grid[:, None, None] * response.function(grid, damping=3.0).imag, grid, axis=0
    )
    plasma = 4 * np.pi * COULOMB / response.volume * WAVENUMBER**2
    expected = np.pi / 2 * plasma * response.oscillator_strengths.sum(axis=0)
    np.testing.assert_allclose(absorbed, expected, rtol=0.01, atol=0.01 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore::asesc.phonons.UnrelaxedWarning")
@pytest.mark.filterwarnings("ignore::asesc.phonons.ImaginaryModesWarning")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_longitudinal_modes_are_those_of_phonopy(silica, direction):
    ph = phonons(silica, (1, 1, 1), progress=False)
    q = ph.primitive.cell @ direction
    found = PER_THZ * ph.run_qpoints([[0, 0, 0]], nac_q_direction=q).frequencies[0]
    acoustic = np.argsort(np.abs(found))[:3]
    response = dielectric_response(ph)
    np.testing.assert_allclose(
        response.longitudinal(direction), np.delete(found, acoustic), rtol=1e-6
    )


def test_modes_without_charge_and_degenerate_ones():
    """A threefold mode has one longitudinal partner along any direction; a silent one has none."""
    charges = np.vstack([np.zeros((1, 3)), 0.4 * np.linalg.qr(np.ones((3, 3)) + np.eye(3))[0]])
    numbers = np.array([200.0, 300.0, 300.001, 300.002])
    response = DielectricResponse(2 * np.eye(3), numbers, charges, 40.0, "cubic")
    lows = [response.splittings(direction) for direction in DIRECTIONS]
    assert [len(pairs) for pairs in lows] == [1, 1]
    assert lows[0][0].longitudinal == pytest.approx(lows[1][0].longitudinal, abs=0.01)
    assert response.contributions[0].any() == np.False_
    silent = DielectricResponse(2 * np.eye(3), numbers, 0 * charges, 40.0, "covalent")
    assert silent.splittings((0, 0, 1)) == []
    np.testing.assert_array_equal(silent.static, 2 * np.eye(3))


def test_reflectivity_is_total_between_the_modes(tmp_path):
    """Reststrahlen: without damping |r| = 1 from TO to LO, since ε < 0 there."""
    response = dielectric_response(phonons(ionic_crystal(), (1, 1, 1), progress=False))
    (pair,) = response.splittings((0, 0, 1))
    inside = np.linspace(pair.transverse + 1, pair.longitudinal - 1, 20)
    np.testing.assert_allclose(response.reflectivity(inside, (0, 0, 1), damping=1e-9), 1, atol=1e-6)
    outside = response.reflectivity(np.array([10.0]), (0, 0, 1))
    index = np.sqrt(response.static[2, 2])
    assert outside == pytest.approx(((index - 1) / (index + 1)) ** 2, rel=1e-2)
    axes = response.plot(tmp_path / "reflectivity.png")
    assert axes.get_xlabel() == "wave number (cm⁻¹)" and "RigidIons" in axes.get_title()
    assert (tmp_path / "reflectivity.png").stat().st_size > 10_000


def test_a_direction_is_three_numbers():
    for direction in [(0, 0, 0), (1, 0), 3.0]:
        with pytest.raises(InputError, match="three numbers, not all zero"):
            random_response().longitudinal(direction)
