"""The corrections against lattice sums, a published-code value and exact limits."""

import numpy as np
import pytest
from ase.build import bulk
from matplotlib.figure import Figure
from scipy.special import erfc

from asesc import CoulombCalculator
from asesc.defects import (
    ChargedDefect,
    Extrapolation,
    PointChargeLattice,
    UnevenPotentialWarning,
    kumagai_correction,
)
from asesc.errors import InputError
from asesc.units import COULOMB

CELLS = {
    # A. A. Coldwell-Horsfall, A. A. Maradudin, J. Math. Phys. 1, 395 (1960),
    # doi:10.1063/1.1703670: −0.880059, −0.895873, −0.895929 per Wigner–Seitz radius.
    "sc": (np.eye(3), 2.837297),
    "fcc": (1 - np.eye(3), 2.888282),
    "bcc": (np.ones((3, 3)) - 2 * np.eye(3), 2.888462),
}


@pytest.mark.parametrize("shape", CELLS)
def test_madelung_constants_of_wigner_crystals(shape):
    cell, constant = CELLS[shape]
    assert PointChargeLattice(4.2 * cell, np.eye(3)).madelung == pytest.approx(constant, abs=2e-6)


def test_anisotropic_potential_solves_its_poisson_equation():
    """∇·ε∇V = 4πk_e/Ω beside the charge, V ~ k_e/√(det ε r·ε⁻¹r) near it, and zero on average."""
    cell = np.array([[5.0, 0.3, 0], [-0.4, 6.0, 0.2], [0.5, 0.1, 4.0]])
    epsilon = np.array([[3.0, 0.4, 0], [0.4, 5.0, -0.3], [0, -0.3, 2.0]])
    lattice = PointChargeLattice(cell, epsilon)
    h, point = 0.01, np.array([1.2, 0.7, 1.9])
    hessian = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        steps = [s * np.eye(3)[a] + t * np.eye(3)[b] for s in (h, -h) for t in (h, -h)]
        pp, pm, mp, mm = lattice.potential(point + np.array(steps))
        hessian[a, b] = (pp - pm - mp + mm) / (4 * h**2)
    volume = np.linalg.det(cell)
    assert (epsilon * hessian).sum() == pytest.approx(4 * np.pi * COULOMB / volume, rel=1e-3)
    near = 0.02 * np.array([0.6, 0.0, 0.8])
    bare = COULOMB / np.sqrt(np.linalg.det(epsilon) * near @ np.linalg.inv(epsilon) @ near)
    # What is left near the charge is the potential of the images, twice the energy.
    assert float(lattice.potential(near)[0]) - bare == pytest.approx(2 * lattice.energy, abs=1e-3)


def site_potentials(cell, positions, charges) -> np.ndarray:
    """Ewald sum of point charges with a uniform background, in V, each without its own potential.

    Written independently of the package: another splitting, other sums.
    """
    volume = abs(np.linalg.det(cell))
    alpha = 0.6
    potential = -2 * alpha / np.sqrt(np.pi) * charges - np.pi / (alpha**2 * volume) * charges.sum()
    difference = positions[:, None] - positions
    span = range(-2, 3)
    for shift in np.stack(np.meshgrid(span, span, span), -1).reshape(-1, 3) @ cell:
        r = np.linalg.norm(difference + shift, axis=-1)
        near = (r > 1e-8) & (r < 11)
        potential += np.where(near, erfc(alpha * r) / np.where(near, r, 1), 0) @ charges
    waves = range(-9, 10)
    for n in np.stack(np.meshgrid(waves, waves, waves), -1).reshape(-1, 3):
        k = 2 * np.pi * np.linalg.inv(cell) @ n
        k2 = k @ k
        if 0 < k2 < 45:
            phase = np.exp(1j * positions @ k)
            weight = 4 * np.pi / volume * np.exp(-k2 / (4 * alpha**2)) / k2
            potential += weight * (phase.conj() * (phase @ charges)).real
    return COULOMB * potential


def test_oxygen_vacancy_of_magnesia_by_point_charges():
    """0.990258 eV by pymatgen-analysis-defects for V_O(2+) in 64 atoms, ε = 9.8.

    Makov and Payne's 2.837297 k_e q²/(2εL) is 0.990260 eV; nothing is to be aligned, because the
    site potentials are those of point charges too.
    """
    crystal = bulk("MgO", "rocksalt", 4.21, cubic=True).repeat(2)
    charges = np.where(crystal.symbols == "Mg", 2.0, -2.0)
    index = int(np.flatnonzero(crystal.symbols == "O")[0])
    kept = np.delete(np.arange(64), index)
    positions, cell = crystal.positions, crystal.cell.array
    perfect = site_potentials(cell, positions, charges) / 9.8
    defect = site_potentials(cell, positions[kept], charges[kept]) / 9.8
    correction = kumagai_correction(
        2,
        cell=cell,
        displacements=positions[kept] - positions[index],
        differences=defect - perfect[kept],
        dielectric=9.8,
    )
    assert correction.energy == pytest.approx(0.990258, abs=3e-6)
    assert correction.alignment == pytest.approx(0, abs=1e-7)
    assert correction.scatter < 1e-7
    assert correction.radius == pytest.approx(4.21)


@pytest.mark.parametrize("supercell", [(2, 2, 2), (2, 2, 3)])
def test_rigid_ions_have_an_exact_limit(supercell):
    """In vacuum E_iso = −q_i v_i + ½k_e q_i²/(σ√π), and what is left is −2πk_e q²σ²/V.

    The removed Gaussian of width σ meets the background through its second moment; the potentials
    are averaged over Gaussians of the same width, so that aligning them takes twice the half.
    """
    crystal = bulk("MgO", "rocksalt", 4.21, cubic=True)
    width = 0.7
    calc = CoulombCalculator(charges={"Mg": 2, "O": -2}, width=width)
    crystal.calc = calc
    crystal.get_potential_energy()
    oxygen = int(np.flatnonzero(crystal.symbols == "O")[0])
    felt = calc.extras["potential"][oxygen, 0]
    isolated = 2 * felt + 0.5 * COULOMB * 4 / (width * np.sqrt(np.pi))
    table = ChargedDefect.vacancy(crystal, "O", calc=calc, supercell=supercell).formation_energies(
        (2,), chempots={"O": 0.0}, vbm=0.0, dielectric=1.0, fmax=None, progress=False
    )
    volume = crystal.get_volume() * np.prod(supercell)
    left = -2 * np.pi * COULOMB * 4 * width**2 / volume
    assert table.energy(2) == pytest.approx(isolated + left, abs=2e-4)
    assert table.rows()[0]["of which correction (eV)"] > 3.0


def test_alignment_sign():
    """A potential that is higher by c in the defect's cell cost q c too much."""
    cell = 10.0 * np.eye(3)
    rng = np.random.default_rng(0)
    places = 10 * rng.random((200, 3))
    model = PointChargeLattice(cell, 4.0 * np.eye(3)).potential(places)
    found = kumagai_correction(
        -1, cell=cell, displacements=places, differences=-model + 0.05, dielectric=4.0
    )
    assert found.alignment == pytest.approx(0.05, abs=1e-9)
    assert found.point_charge == pytest.approx(2.837297 * COULOMB / 80, rel=1e-6)


def test_extrapolation_of_a_known_law():
    lengths = np.array([8.0, 12.0, 16.0, 20.0])
    madelung, epsilon, charge = 2.837297, 3.5, 2.0
    slope = -(charge**2) * COULOMB * madelung / (2 * epsilon)
    energies = 4.2 + slope / lengths + 30.0 / lengths**3
    found = Extrapolation(charge, lengths, energies, None, madelung)
    assert found.limit == pytest.approx(4.2, abs=1e-9)
    assert found.dielectric == pytest.approx(3.5, rel=1e-9)
    neutral = Extrapolation(0.0, lengths, 1.0 + 5 / lengths**3, None, madelung)
    assert neutral.limit == pytest.approx(1.0, abs=1e-9) and neutral.dielectric == np.inf


def test_plots(tmp_path):
    rng = np.random.default_rng(1)
    places = 9 * rng.random((60, 3))
    cell = 9.0 * np.eye(3)
    noise = 0.01 * rng.standard_normal(60)
    model = PointChargeLattice(cell, np.eye(3) * 5).potential(places)
    found = kumagai_correction(
        1, cell=cell, displacements=places, differences=model + noise, dielectric=5.0
    )
    found.plot(tmp_path / "a.png")
    lengths = np.array([8.0, 12.0, 16.0])
    Extrapolation(1.0, lengths, 2 - 5 / lengths, 2 + 1 / lengths**3, 2.84).plot(tmp_path / "b.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in "ab")


@pytest.mark.filterwarnings("ignore::asesc.defects.SmallCellWarning")
def test_plots_name_the_defect_and_the_model():
    crystal = bulk("MgO", "rocksalt", 4.21)
    calc = CoulombCalculator(charges={"Mg": 2, "O": -2}, width=0.7)
    table = ChargedDefect.vacancy(crystal, "O", calc=calc, supercell=(2, 2, 2)).formation_energies(
        (2,),
        chempots={"O": 0.0},
        vbm=0.0,
        dielectric=1.0,
        fmax=None,
        extrapolate=(2, 3, 4),
        progress=False,
    )
    (state,), (growth,) = table.states, table.extrapolations
    first, second = (
        thing.plot(ax=Figure().subplots()).get_title() for thing in (state.correction, growth)
    )
    assert first.startswith("v_O in MgO · CoulombCalculator, 15 atoms\ncharge +2 e: point charge +")
    assert second.startswith("v_O in MgO · CoulombCalculator\ncharge +2 e, images screened by")


def test_bad_input():
    cell = 8.0 * np.eye(3)
    near = {"cell": cell, "displacements": [[1.0, 0, 0]], "differences": [0.1]}
    with pytest.raises(InputError, match=r"no atom is further than 4\.00 Å"):
        kumagai_correction(1, **near, dielectric=3.0)
    far = {"cell": cell, "displacements": [[4, 4, 4], [4, 4, 0]], "differences": [1.0, -1.0]}
    with pytest.warns(UnevenPotentialWarning, match=r"scatter by 1\.\d\d V"):
        kumagai_correction(1, **far, dielectric=3.0)
    for dielectric in (0.5, np.diag([2, 2, -1.0]), [[2, 1, 0], [0, 2, 0], [0, 0, 2]]):
        with pytest.raises(InputError, match="at least 1"):
            kumagai_correction(1, **far, dielectric=dielectric)
