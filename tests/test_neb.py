"""Paths through a pool of images are those of separate calculators, with one batch per step."""

import copy

import numpy as np
import pytest
from ase.build import molecule
from ase.mep import NEB
from ase.optimize import FIRE
from builders import random_model

from asesc import SCCalculator
from asesc.errors import InputError
from asesc.neb import ImagePool


@pytest.fixture(params=["SplitChargeEquilibration", "FixedPoint"])
def calc(request):
    return SCCalculator(random_model(request.param), scf={"tolerance": 1e-10})


def ends():
    first, last = molecule("H2O"), molecule("H2O")
    first.rattle(0.02, seed=1)
    last.rattle(0.02, seed=2)
    last.rotate(40, "x", center=last.positions[0], rotate_cell=False)
    return first, last


def path(n=5):
    first, last = ends()
    return [first, *(first.copy() for _ in range(n - 2)), last]


def relaxed(images, *, steps, **options):
    band = NEB(images, climb=True, k=0.3, method="improvedtangent", **options)
    band.interpolate("idpp")
    optimiser = FIRE(band, logfile=None)
    optimiser.run(fmax=0, steps=steps)
    return np.array([image.get_potential_energy() for image in images])


def test_the_path_of_separate_calculators_in_one_batch_per_step(calc):
    apart = path()
    for image in apart:
        image.calc = calc.clone()
    expected = relaxed(apart, steps=4)
    images = path()
    pool = ImagePool(calc).attach(images)
    energies = relaxed(images, steps=4)
    # The start and four steps; the fixed ends were part of the first batch.
    assert pool.n_batches == 5
    np.testing.assert_allclose(energies, expected, atol=1e-7)
    for one, other in zip(images, apart, strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-7)
    assert np.ptp(expected) > 0.01 and calc.results == {}


def test_only_what_changed_is_evaluated(calc, monkeypatch):
    images = path()
    pool = ImagePool(calc).attach(images)
    images[3].get_forces()  # out of order
    assert pool.n_batches == 1
    sizes = []
    together = type(calc).evaluate_batch

    def watched(self, frames, *arguments, **keywords):
        sizes.append(len(frames))
        return together(self, frames, *arguments, **keywords)

    monkeypatch.setattr(type(calc), "evaluate_batch", watched)
    assert [image.calc.check_state(image) for image in images] == [[]] * 5
    images[1].positions[0] += 0.01
    for image in reversed(images):
        image.get_potential_energy()
    assert sizes == [1]
    images[2].info["electric_field"] = [0.0, 0.0, 0.1]
    images[4].rattle(0.01)
    for image in images:
        expected = calc.clone().evaluate(image).results
        np.testing.assert_allclose(image.get_forces(), expected["forces"], atol=1e-8)
        np.testing.assert_allclose(image.get_dipole_moment(), expected["dipole"], atol=1e-8)
    assert sizes == [1, 2]


def test_parameters_of_one_image(calc):
    images = path(3)
    pool = ImagePool(calc).attach(images)
    images[1].calc.set(electric_field=(0.0, 0.0, 0.2))
    energies = [image.get_potential_energy() for image in images]
    assert pool.n_batches == 2
    changed = calc.clone()
    changed.set(electric_field=(0.0, 0.0, 0.2))
    assert energies[1] == pytest.approx(changed.evaluate(images[1]).results["energy"], abs=1e-9)
    assert energies[2] == pytest.approx(calc.evaluate(images[2]).results["energy"], abs=1e-9)


def test_an_image_that_fails_leaves_the_others_their_numbers(calc):
    images = path(3)
    pool = ImagePool(calc).attach(images)
    images[1].positions[1] = images[1].positions[0] + 0.1
    assert np.isfinite(images[0].get_potential_energy())
    assert np.isfinite(images[2].get_potential_energy())
    assert pool.n_batches == 1
    with pytest.raises(InputError, match="Å apart"):
        images[1].get_forces()


def test_images_in_threads(calc):
    images = path(4)
    ImagePool(calc).attach(images)
    band = NEB(images, parallel=True, method="improvedtangent")
    forces = band.get_forces()
    for image in images:
        image.calc = calc.clone()
    expected = NEB(images, method="improvedtangent").get_forces()
    np.testing.assert_allclose(forces, expected, atol=1e-8)


def test_copies_leave_the_pool(calc):
    images = path(3)
    pool = ImagePool(calc).attach(images)
    other = copy.deepcopy(images[1])
    other.rattle(0.05)
    assert other.get_potential_energy() == pytest.approx(
        calc.evaluate(other).results["energy"], abs=1e-9
    )
    assert pool.n_batches == 0
    twin = images[1].calc.clone()
    assert twin.pool is None


def test_what_is_no_calculator_and_no_path(calc):
    with pytest.raises(InputError, match="needs an SCCalculator, got 'nma'"):
        ImagePool("nma")
    with pytest.raises(InputError, match="list of all images"):
        ImagePool(calc).attach(molecule("H2O"))
