"""The landscape of a calculation: the potential of the self-consistency, between the atoms."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from builders import random_model

from asesc import CoulombCalculator, SCCalculator
from asesc.errors import InputError
from asesc.units import COULOMB


def test_point_charge_far_away():
    ion = Atoms("Na", [(0.3, 0, 0)])
    ion.calc = CoulombCalculator(charges={"Na": 1}, width=0.5)
    scape = ion.calc.get_landscape(ion)
    points = np.array([[[8.3, 0, 0], [0.3, 0, 12.0]]])
    np.testing.assert_allclose(scape.potential(points), [[COULOMB / 8, COULOMB / 12]], rtol=1e-12)
    assert scape.potential(points).shape == (1, 2)
    peak = (2 * np.pi * 0.25) ** -1.5
    assert scape.charge(ion.positions)[0] == pytest.approx(peak, rel=1e-12)


@pytest.mark.parametrize("boundary", ["periodic", "slab", "open"])
def test_narrow_probe_is_the_potential_of_the_self_consistency(boundary, silica, sheet):
    """φ at a distant probe equals the potential that a narrow Gaussian there would feel.

    Asked of two independent paths: the landscape, and the operator with one more, empty site.
    """
    atoms = {"periodic": silica, "slab": sheet, "open": silica}[boundary].copy()
    if boundary == "open":
        atoms.pbc = False
    atoms.calc = SCCalculator(random_model("QEq"))
    atoms.get_potential_energy()
    extras = atoms.calc.extras
    np.testing.assert_allclose(extras["widths"], [1.3, 1.1, 1.1])
    probe = np.array([1.2, 2.6, 0.4])
    with_site = atoms.copy() + Atoms("X", [probe])
    with_site.calc = CoulombCalculator(
        charges=[*extras["multipoles"][:, 0], 0.0],
        dipoles=[*extras["multipoles"][:, 1:4], (0, 0, 0)],
        width={"Si": 1.3, "O": 1.1, "X": 0.25},
    )
    with_site.get_potential_energy()
    felt = with_site.calc.extras["potential"][-1, 0]
    # The mean over a Gaussian is φ + ½σ²∇²φ + …, with ∇²φ from Poisson's equation.
    scape = atoms.calc.get_landscape(atoms)
    laplacian = -4 * np.pi * COULOMB * scape.charge(probe)
    found = scape.potential(probe)
    assert found + 0.5 * 0.25**2 * laplacian == pytest.approx(felt, abs=2e-3)
    assert np.ptp(scape.potential(atoms.positions)) > 0.1
    np.testing.assert_allclose(
        with_site.calc.extras["potential"][:-1], extras["potential"], atol=1e-7
    )


def test_grid_follows_the_cell(silica):
    silica.calc = SCCalculator(random_model("QEq"))
    scape = silica.calc.get_landscape(silica)
    grid = scape.potential_on_grid(spacing=0.5)
    assert grid.shape == (7, 8, 9)
    fractions = np.array([3 / 7, 5 / 8, 2 / 9])
    point = fractions @ silica.cell.array
    assert grid[3, 5, 2] == pytest.approx(float(scape.potential(point)), abs=1e-9)
    charge = scape.charge_on_grid(spacing=0.5)
    assert charge.sum() * silica.cell.volume / charge.size == pytest.approx(0, abs=1e-9)


def test_landscape_is_of_the_present_state(sheet):
    """A changed field changes it; φ then contains −E·r along the open axis."""
    sheet.calc = SCCalculator(random_model("LocalCharges"))
    points = sheet.positions + np.array([0, 0, 3.0])
    before = sheet.calc.get_landscape(sheet).potential(points)
    sheet.calc.set(electric_field=(0, 0, 0.2))
    after = sheet.calc.get_landscape(sheet).potential(points)
    np.testing.assert_allclose(after - before, -0.2 * points[:, 2], atol=1e-12)


def test_bad_questions():
    water = molecule("H2O")
    water.calc = SCCalculator(random_model("LocalCharges"))
    scape = water.calc.get_landscape(water)
    with pytest.raises(InputError, match=r"span no volume.*center\(vacuum"):
        scape.potential_on_grid()
    with pytest.raises(InputError, match=r"\(…, 3\) Cartesian"):
        scape.potential([1.0, 2.0])
    with pytest.raises(InputError, match="spacing=0 Å"):
        scape.charge_on_grid(spacing=0)
