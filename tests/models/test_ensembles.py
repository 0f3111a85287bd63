"""A fixed Fermi level: the charge it asks for, the grand energy and its derivatives."""

import math
from dataclasses import replace

import pytest
import torch
from builders import NUMBERS, random_model

from asesc.errors import IllPosedError, InputError
from asesc.models import FAMILIES
from asesc.response import born_effective_charges, energy_and_forces, polarizability
from asesc.system import System
from asesc.testing import example_system
from asesc.units import COULOMB

FREE = (False, False, False)
BULK = (True, True, True)
SHEET = (True, True, False)
EQUILIBRATING = [name for name, family in FAMILIES.items() if family.has_fermi_level]
VARIATIONAL = [name for name in EQUILIBRATING if FAMILIES[name].variational]


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def at_level(system: System, level: float) -> System:
    return replace(system, fermi_level=tensor(level).expand(system.n_structures))


def slab(height: float = 30.0) -> System:
    system = example_system(NUMBERS, SHEET)
    cell = system.cell.clone()
    cell[0, 2] *= height / float(cell[0, 2].norm())
    return replace(system, cell=cell)


@pytest.mark.parametrize("family", ["QEq", "SplitChargeEquilibration"])
@pytest.mark.parametrize("pbc", [FREE, BULK])
def test_charge_of_a_quadratic_energy_is_the_line_through_two_levels(family, pbc):
    """E(Q) = E₀ + E'Q + ½E''Q², so that −μ = E' + E''Q; E' and E'' from E at three charges."""
    system, model = example_system(NUMBERS, pbc), random_model(family)
    with torch.no_grad():
        low, middle, high = (
            float(model(replace(system, charge=tensor(q))).energy) for q in (-1.0, 0.0, 1.0)
        )
        slope, curvature = (high - low) / 2, high - 2 * middle + low
        level = -slope + 0.7
        found = model(at_level(system, level))
    assert float(found.charge) == pytest.approx(-0.7 / curvature, abs=1e-9)
    assert float(found.energy) == pytest.approx(middle - 0.7**2 / (2 * curvature), abs=1e-8)
    assert float(found.fermi_level) == pytest.approx(level, abs=1e-9)
    assert found.contributions["reservoir"] == pytest.approx(level * float(found.charge))


@pytest.mark.parametrize("family", VARIATIONAL)
@pytest.mark.parametrize("pbc", [FREE, BULK])
def test_grand_energy_falls_with_the_level_by_the_number_of_electrons(family, pbc):
    """dΩ/dμ = ∂E/∂Q dQ/dμ + Q + μ dQ/dμ = Q = −N_e; by autograd and by differences."""
    system, model = example_system(NUMBERS, pbc), random_model(family)
    level = tensor(-1.3).requires_grad_()
    prediction = model(replace(system, fermi_level=level))
    (slope,) = torch.autograd.grad(prediction.energy.sum(), level)
    torch.testing.assert_close(slope, prediction.charge, atol=1e-9, rtol=0)
    with torch.no_grad():
        up, down = (float(model(at_level(system, -1.3 + h)).energy) for h in (1e-3, -1e-3))
    assert (up - down) / 2e-3 == pytest.approx(float(prediction.charge.detach()), abs=1e-6)


@pytest.mark.parametrize("family", VARIATIONAL)
def test_reported_level_is_minus_the_charge_derivative(family):
    """μ = ∂E/∂N_e = −∂E/∂Q to 1e-6 V, with a field and for every boundary."""
    model = random_model(family)
    for pbc in (FREE, BULK, SHEET):
        system = replace(example_system(NUMBERS, pbc), charge=tensor(0.4))
        if pbc == FREE:
            system = replace(system, electric_field=tensor(0.1, -0.2, 0.05)[None])
        with torch.no_grad():
            level = float(model(system).fermi_level)
            up, down = (
                float(model(replace(system, charge=tensor(0.4 + h))).energy) for h in (1e-3, -1e-3)
            )
        assert level == pytest.approx(-(up - down) / 2e-3, abs=1e-6)


@pytest.mark.parametrize("family", EQUILIBRATING)
@pytest.mark.parametrize("pbc", [FREE, BULK])
def test_the_level_of_a_charge_gives_back_that_charge(family, pbc):
    """Both ensembles meet in one state, and Ω has the forces of E: ∂Ω/∂R|μ = ∂E/∂R|Q."""
    system = replace(example_system(NUMBERS, pbc), charge=tensor(0.6))
    model, stress = random_model(family), pbc == BULK
    fixed = energy_and_forces(model, system, stress=stress)
    level = float(fixed.prediction.fermi_level.detach())
    found = energy_and_forces(model, at_level(system, level), stress=stress)
    close = {"atol": 1e-8, "rtol": 0}
    torch.testing.assert_close(found.prediction.charge, system.charge, **close)
    p = found.prediction.density.coefficients
    torch.testing.assert_close(p, fixed.prediction.density.coefficients, **close)
    if FAMILIES[family].variational:
        torch.testing.assert_close(found.forces, fixed.forces, **close)
        torch.testing.assert_close(found.stress, fixed.stress, **close)


@pytest.mark.parametrize("family", ["QEq"])
def test_a_reservoir_couples_nothing_but_the_level(family):
    """Two fragments 10⁵ Å apart, no edge between them: at one level each takes the charge it takes
    alone. (At fixed charge the second one would decide what is left for the first. In split-charge
    equilibration fixed shares decide at either.)
    """
    model, one = random_model(family), example_system(NUMBERS, FREE)
    two = example_system(NUMBERS[:4], FREE, seed=5)
    pair = replace(
        one,
        positions=torch.cat([one.positions, two.positions + tensor(1e5, 0, 0)]),
        numbers=torch.cat([one.numbers, two.numbers]),
        batch=torch.zeros(10, dtype=torch.int64),
    )
    with torch.no_grad():
        charges = model(at_level(pair, -1.0)).density.charges
        alone = [model(at_level(s, -1.0)).density.charges for s in (one, two)]
    torch.testing.assert_close(charges, torch.cat(alone), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", EQUILIBRATING)
def test_more_electrons_at_a_higher_level(family):
    """dQ/dμ < 0 without limit on the charge: 20 V move more than 2 e and find their minimum."""
    system = example_system(NUMBERS, BULK)
    batch = replace(
        system,
        positions=system.positions.repeat(3, 1),
        numbers=system.numbers.repeat(3),
        cell=system.cell.repeat(3, 1, 1),
        batch=torch.arange(3).repeat_interleave(6),
        charge=torch.zeros(3, dtype=torch.float64),
        electric_field=torch.zeros(3, 3, dtype=torch.float64),
        fermi_level=tensor(-20.0, 0.0, 20.0),
    )
    with torch.no_grad():
        charge = random_model(family)(batch).charge
    assert bool((charge.diff() < -2).all())


@pytest.mark.parametrize("family", EQUILIBRATING)
def test_a_slab_at_a_fermi_level_needs_its_counter_charge(family):
    model, system = random_model(family), at_level(slab(), -1.0)
    with pytest.raises(IllPosedError, match="boundary='electrodes'"):
        model(system)
    with torch.no_grad():
        near, far = (
            float(model(at_level(slab(h), -1.0), boundary="electrodes").charge) for h in (30, 3000)
        )
    # Far electrodes are a small capacitor: the charge goes to zero like 1/L.
    assert 0 < abs(far) < 0.02 * abs(near) + 1e-3


@pytest.mark.parametrize("family", EQUILIBRATING)
def test_the_zero_of_the_level(family):
    """Slabs: the vacuum. Periodic cells: the average potential, which moves with the vacuum.

    Outside a neutral slab without dipole φ = 0, and φ'' = −4πk_e ρ/A integrates by parts to
    ∫φ dz = ½∫φ'' z² dz = −(2πk_e/A) ∫ρ z² dz. The level −φ − … of the periodic cell of height L,
    whose average of φ is zero, is therefore higher by that over L, and nothing else differs.
    """
    model = random_model(family)
    z, numbers, widths = tensor(-1.6, 0.0, 1.6), torch.tensor([8, 14, 8]), tensor(1.1, 1.3, 1.1)
    levels, area = {}, 3.2**2
    for height, pbc in ((25.0, SHEET), (40.0, SHEET), (25.0, BULK), (40.0, BULK)):
        system = replace(
            example_system(numbers.tolist(), pbc),
            positions=torch.stack([0 * z, 0 * z, z], dim=1),
            cell=torch.diag(tensor(3.2, 3.2, height))[None],
        )
        with torch.no_grad():
            found = model(system)
        levels[height, pbc] = float(found.fermi_level)
        charges, dipoles = found.density.charges, found.density.dipoles[:, 2]
        spread = float((charges * (z**2 + widths**2) + 2 * dipoles * z).sum())
    assert levels[40.0, SHEET] == pytest.approx(levels[25.0, SHEET], abs=1e-7)
    for height in (25.0, 40.0):
        shift = -2 * math.pi * COULOMB * spread / (area * height)
        found = levels[height, BULK] - levels[height, SHEET]
        assert found == pytest.approx(shift, abs=1e-6)
        assert abs(shift) > 0.01


@pytest.mark.parametrize("family", EQUILIBRATING)
def test_second_derivatives_at_a_fixed_level(family):
    """Polarisability and Born charges against differences of dipoles at the same level."""
    model = random_model(family)
    system = at_level(example_system(NUMBERS, FREE), -1.2)
    alpha = polarizability(model, system)[0]
    born = born_effective_charges(model, system).tensor
    step = 1e-4
    with torch.no_grad():
        dipoles = [
            model(replace(system, electric_field=tensor(0, h, 0)[None])).dipole[0]
            for h in (step, -step)
        ]
        moved = []
        for h in (step, -step):
            positions = system.positions.clone()
            positions[2, 1] += h
            moved.append(model(replace(system, positions=positions)).dipole[0])
    differences = (dipoles[0] - dipoles[1]) / (2 * step)
    torch.testing.assert_close(alpha[:, 1], differences, atol=1e-6, rtol=1e-6)
    differences = (moved[0] - moved[1]) / (2 * step)
    torch.testing.assert_close(born[2, :, 1], differences, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - set(EQUILIBRATING)))
def test_families_without_a_level_say_so(family):
    system = example_system(NUMBERS, FREE)
    with torch.no_grad():
        assert random_model(family)(system).fermi_level is None
    with pytest.raises(InputError, match=rf"{family} has no ∂E/∂Q.*Pass charge=…"):
        random_model(family)(at_level(system, -4.0))


def test_fields_along_periodic_directions_have_no_meaning_at_a_fixed_level():
    """−E·r of the charge that is found depends on the origin there."""
    system = replace(example_system(NUMBERS, BULK), electric_field=tensor(0, 0, 0.1)[None])
    random_model("SplitChargeEquilibration")(system)
    with pytest.raises(InputError, match="not defined"):
        random_model("SplitChargeEquilibration")(at_level(system, -1.0))
