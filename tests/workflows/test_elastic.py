"""Elastic and piezoelectric tensors against straining and relaxing by hand."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from rigid_ions import RigidIons, ionic_crystal

from asesc.errors import IllPosedError, InputError, PropertyUnavailableError
from asesc.phonons import UnrelaxedWarning, elastic_response
from asesc.workflows.elastic import _strain_derivatives


def test_zincblende_against_relaxed_cells():
    """C44 and e14 of relaxed ions: stress and fractional dipole after relaxing in the strain."""
    atoms = ionic_crystal("zincblende", a=5.41, stiffness=8.0)
    response = elastic_response(atoms)
    size, stresses, moments = 2e-3, [], []
    for sign in (-1, 1):
        strained = atoms.copy()
        strained.calc = atoms.calc
        shear = np.zeros((3, 3))
        shear[1, 2] = shear[2, 1] = sign * size / 2
        strained.set_cell(atoms.cell.array @ (np.eye(3) + shear), scale_atoms=True)
        BFGS(strained, logfile=None).run(fmax=1e-7)
        stresses.append(strained.get_stress())
        dipole = strained.get_volume() * strained.calc.get_property("polarization", strained)
        moments.append(dipole @ np.linalg.inv(strained.cell) @ atoms.cell.array)
    stiffness = (stresses[1] - stresses[0]) / (2 * size)
    charge = (moments[1] - moments[0]) / (2 * size) / atoms.get_volume()
    np.testing.assert_allclose(response.elastic[:, 3], stiffness, atol=2e-5)
    np.testing.assert_allclose(response.piezoelectric[:, 3], charge, atol=2e-6)
    assert abs(charge[0]) > 1e-3
    assert response.elastic_clamped[3, 3] > 1.5 * response.elastic[3, 3]
    # Rigid ions that follow a strain carry no proper polarisation.
    np.testing.assert_allclose(response.piezoelectric_clamped, 0, atol=1e-10)


def test_symmetry_units_and_cubic_form():
    """Zincblende has C11, C12, C44 and e14 alone; 1 e/Å² = 16.02 C/m², 1 eV/Å³ = 160.2 GPa."""
    response = elastic_response(ionic_crystal("zincblende", a=5.41, stiffness=8.0))
    expected = np.zeros((6, 6))
    expected[:3, :3] = response.elastic[0, 1]
    expected[range(3), range(3)] = response.elastic[0, 0]
    expected[range(3, 6), range(3, 6)] = response.elastic[3, 3]
    np.testing.assert_allclose(response.elastic, expected, atol=1e-6)
    np.testing.assert_allclose(response.elastic_gpa, 160.21766 * response.elastic, rtol=1e-6)
    e14 = response.piezoelectric[0, 3]
    np.testing.assert_allclose(response.piezoelectric[:, 3:], e14 * np.eye(3), atol=1e-8)
    assert response.piezoelectric_si[0, 3] == pytest.approx(16.021766 * e14, rel=1e-6)
    d14 = 100 * e14 / response.elastic[3, 3]
    assert response.piezoelectric_strain[0, 3] == pytest.approx(d14, rel=1e-6)


def test_clamped_piezoelectricity_is_the_stress_that_a_field_makes(silica):
    """ē_aj = −∂σ_j/∂E_a at clamped ions, fixed voltage: the other derivative of the same energy."""
    step = 1e-3
    clamped, internal, strained = _strain_derivatives(silica.calc, silica, True)
    assert clamped.shape == (6, 6) and internal.shape == (9, 6)
    for axis in range(3):
        stresses = []
        for sign in (-1, 1):
            frame = silica.copy()
            frame.info["electric_field"] = sign * step * np.eye(3)[axis]
            stresses.append(silica.calc.get_property("stress", frame))
        slope = -(stresses[1] - stresses[0]) / (2 * step)
        np.testing.assert_allclose(strained[axis], slope, atol=2e-5)
        assert np.abs(slope).max() > 1e-3


def test_metals_have_no_piezoelectricity_but_stiffness():
    """Cu in EMT, relaxed: Cauchy pressure positive, C11 > C12 > C44 as measured."""
    copper = bulk("Cu", a=3.5899)
    copper.calc = EMT()
    response = elastic_response(copper, piezoelectric=False)
    c11, c12, c44 = (response.elastic_gpa[i] for i in ((0, 0), (0, 1), (3, 3)))
    assert c11 > c12 > c44 > 0
    np.testing.assert_allclose(response.elastic, response.elastic_clamped, atol=1e-8)
    with pytest.raises(InputError, match="piezoelectric=True"):
        _ = response.piezoelectric_si
    with pytest.raises(PropertyUnavailableError, match=r"'polarization' is needed, but EMT"):
        elastic_response(copper)


def test_bad_input(monkeypatch):
    saddle = ionic_crystal(stiffness=0.9)
    with pytest.raises(IllPosedError, match="smallest force constant at Γ is -"):
        elastic_response(saddle)
    stretched = ionic_crystal()
    stretched.set_cell(1.05 * stretched.cell.array, scale_atoms=True)
    with pytest.warns(UnrelaxedWarning, match="GPa: the tensors are those of the stressed"):
        elastic_response(stretched)
    slab = ionic_crystal()
    slab.pbc = (True, True, False)
    with pytest.raises(InputError, match="three periodic directions"):
        elastic_response(slab)
    names = [n for n in RigidIons.implemented_properties if n != "stress"]
    monkeypatch.setattr(RigidIons, "implemented_properties", names)
    with pytest.raises(PropertyUnavailableError, match=r"'stress' is needed.*Choose a model with"):
        elastic_response(ionic_crystal())
