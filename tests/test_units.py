"""Constants against CODATA 2022 as scipy has it; ASE's own are of 2014."""

import pytest
import scipy.constants as codata

from asesc import units


def test_constants():
    coulomb = codata.e / (4 * codata.pi * codata.epsilon_0) / codata.angstrom
    assert pytest.approx(coulomb, rel=1e-7) == units.COULOMB
    epsilon = codata.epsilon_0 * codata.angstrom / codata.e
    assert pytest.approx(epsilon, rel=1e-7) == units.VACUUM_PERMITTIVITY
    debye = 1e-21 / codata.c / codata.e / codata.angstrom
    assert pytest.approx(debye, rel=1e-7) == units.DEBYE
    assert pytest.approx(1e-10, rel=1e-12) == units.VOLT_PER_METRE
