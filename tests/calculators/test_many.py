"""Batches of structures: the numbers of single ones, and their messages."""

import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from builders import random_model

from asesc import CoulombCalculator, SCCalculator, evaluate_many
from asesc.calculators import batches
from asesc.errors import InputError, PropertyUnavailableError, SCFError
from asesc.models import FAMILIES


class Watched(SCCalculator):
    """Knows the sizes of its batches."""

    def evaluate_batch(self, frames, properties=("energy",), **starts):
        self.__dict__.setdefault("sizes", []).append([len(frame) for frame in frames])
        return super().evaluate_batch(frames, properties, **starts)


@pytest.fixture
def calc():
    return Watched(random_model("SplitChargeEquilibration"), charge=1)


@pytest.fixture
def crushed(water):
    frame = water.copy()
    frame.positions[1] = frame.positions[0] + 0.1
    return frame


def assert_same(calc, frames, properties=("energy", "forces"), **options):
    """Every result of a batch is that of its structure alone."""
    together = evaluate_many(frames, calc, properties=properties, **options)
    assert together.failures == {}
    for frame, found in zip(frames, together, strict=True):
        expected = calc.evaluate(frame, properties)
        assert found.results.keys() == expected.results.keys()
        for name, value in expected.results.items():
            np.testing.assert_allclose(found.results[name], value, atol=1e-9, err_msg=name)
        assert found.extras.keys() == expected.extras.keys()
        np.testing.assert_allclose(found.extras["potential"], expected.extras["potential"])


def rattled(atoms, n):
    frames = [atoms.copy() for _ in range(n)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
    return frames


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_with_sizes_and_boundaries_mixed(family, water, silica, sheet):
    """Energy, forces, stress, dipoles, polarisation, levels and spins."""
    crystal = silica.repeat((1, 1, 2))
    crystal.rattle(0.05, seed=7)
    frames = [water, silica, sheet, crystal, molecule("H2O2"), water.copy()]
    if family in ("SplitCharges", "SplitChargeEquilibration", "EnergyFunctional"):
        silica.info["electric_field"] = [0.05, 0.0, 0.02]
    if family == "FixedCharges":
        frames = [water, silica, sheet, crystal]
    assert_same(SCCalculator(random_model(family)), frames, batch=4)


def test_charges_fields_and_levels_mixed(calc):
    ion, dimer = molecule("H2O"), molecule("H2O2")
    ion.rattle(0.05, seed=0)
    dimer.info.update(charge=-1, electric_field=[0.0, 0.1, 0.0])
    held = ion.copy()
    held.info["fermi_level"] = -2.0
    free = SCCalculator(random_model("SplitChargeEquilibration"))
    assert_same(calc, [ion, dimer, ion])
    assert_same(free, [dimer, held, molecule("H2O"), held])


def test_one_batch_where_one_is_enough(calc, water):
    assert_same(calc, rattled(water, 5), batch=5)
    assert calc.sizes == [[3] * 5]


def test_automatic_batches_hold_similar_sizes(calc, water, silica, monkeypatch):
    monkeypatch.setattr(batches, "CPU_ATOMS", 9)
    for frame in (silica, silica2 := silica.repeat((2, 1, 1))):
        frame.info["charge"] = 0
    assert_same(calc, [water, silica, silica2, *rattled(water, 4)])
    # The largest of every boundary is measured alone.
    assert calc.sizes == [[6], [3], [3], [3, 3, 3], [3]]


def test_memory_limits_a_batch(calc, water, monkeypatch):
    frames = rattled(water, 5)
    with batches.SavedMemory(calc.weights()) as one:
        calc.evaluate(frames[0])
    with batches.SavedMemory(calc.weights()) as five:
        calc.evaluate_batch(frames)
    assert five.bytes == pytest.approx(5 * one.bytes, rel=0.2)
    calc.sizes.clear()
    monkeypatch.setattr(batches, "available_memory", lambda device: 4 * 2.1 * one.bytes)
    evaluate_many(frames, calc)
    assert calc.sizes == [[3], [3, 3], [3, 3]]


def test_a_frame_that_fails_is_named_and_the_rest_is_kept(calc, water, crushed):
    strange = Atoms("Xe", [(0, 0, 0)])
    outcome = evaluate_many([water, crushed, strange, water, Atoms()], calc)
    assert sorted(outcome.failures) == [1, 2, 4]
    assert "Xe" in str(outcome.failures[2])
    expected = calc.evaluate(water).results["energy"]
    assert outcome[0].results["energy"] == pytest.approx(expected, abs=1e-9)
    assert outcome[3].results["energy"] == pytest.approx(expected, abs=1e-9)
    with pytest.raises(InputError, match=r"atoms 0 and 1 are 0\.17 Å apart"):
        _ = outcome[1]
    with pytest.raises(InputError, match="Å apart"):
        [item.results for item in outcome]
    assert outcome[2:].failures.keys() == {0, 2}


def test_a_failure_of_the_solver_is_that_of_one_frame(water):
    """Here the batch as a whole does not converge, so its frames are taken one by one."""
    far = molecule("H2O2")
    far.info["electric_field"] = [0.0, 0.0, 0.3]
    model = random_model("FixedPoint")
    calc = SCCalculator(model, scf={"max_maps": 1, "dense_limit": 1})
    outcome = evaluate_many([water, far], calc)
    assert all(isinstance(error, SCFError) for error in outcome.failures.values())
    assert len(outcome.failures) == 2


def test_properties_without_a_meaning_fail_where_they_have_none(calc, water, silica):
    silica.info["charge"] = 0
    outcome = evaluate_many([water, silica], calc, properties=("stress",))
    assert list(outcome.failures) == [0]
    assert isinstance(outcome.failures[0], PropertyUnavailableError)
    assert outcome[1].results["stress"].shape == (6,)
    outcome = evaluate_many([silica, water], calc, properties=("born_effective_charges",))
    assert outcome[0].results["born_effective_charges"].shape == (3, 3, 3)
    assert outcome.frames[0].calc.results.keys() >= {"energy", "forces", "stress"}


def test_copies_with_results_go_into_files(calc, water, crushed, tmp_path):
    outcome = evaluate_many([water, crushed, water], calc, batch=3)
    write(tmp_path / "frames.extxyz", [f for f in outcome.frames if f.calc is not None])
    frames = read(tmp_path / "frames.extxyz", ":")
    expected = calc.evaluate(water).results
    for name in ("energy", "forces", "dipole"):
        value = frames[1].calc.results[name]
        np.testing.assert_allclose(value, expected[name], atol=1e-7, err_msg=name)
    assert outcome.frames[1].calc is None and water.calc is None


@pytest.mark.parametrize("batch", ["auto", 2])
def test_threads(calc, water, crushed, batch):
    frames = [*rattled(water, 3), crushed]
    with ThreadPoolExecutor(2) as executor:
        outcome = evaluate_many(frames, calc, batch=batch, executor=executor)
    assert list(outcome.failures) == [3]
    for frame, found in zip(frames[:3], outcome[:3], strict=True):
        expected = calc.evaluate(frame).results["forces"]
        np.testing.assert_allclose(found.results["forces"], expected, atol=1e-9)


def test_processes(calc, water, crushed):
    """The calculator, the results and the errors travel."""
    plain = SCCalculator(random_model("SplitChargeEquilibration"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        outcome = evaluate_many([water, crushed], plain, executor=executor)
    expected = plain.evaluate(water).results
    np.testing.assert_allclose(outcome[0].results["forces"], expected["forces"], atol=1e-11)
    assert "Å apart" in str(outcome.failures[1])


def test_a_worker_that_dies_takes_only_its_frames(calc, water):
    class Mortal(Executor):
        n = 0

        def submit(self, function, *arguments):
            future, self.n = Future(), self.n + 1
            if self.n == 2:
                future.set_exception(BrokenProcessPool("a process was killed"))
            else:
                future.set_result(function(*arguments))
            return future

    outcome = evaluate_many(rattled(water, 3), calc, batch=1, executor=Mortal())
    assert list(outcome.failures) == [1] and "killed" in str(outcome.failures[1])


def test_bare_multipoles(water, silica):
    calc = CoulombCalculator(charges={"H": 0.5, "O": -1.0, "Si": 2.0})
    assert_same(calc, [water, silica, water])


def test_the_cache_is_left_alone(calc, water):
    water.calc = calc
    energy = water.get_potential_energy()
    other = water.copy()
    other.rattle(0.1, seed=3)
    calc.evaluate_many([other, other])
    assert calc.results["energy"] == energy


def test_what_is_no_structure_or_size(calc, water):
    with pytest.raises(InputError, match=r"structure 1 is str, not ase\.Atoms"):
        evaluate_many([water, "water.xyz"], calc)
    with pytest.raises(InputError, match="'tiny' is no SCCalculator"):
        evaluate_many([water], "tiny")
    with pytest.raises(InputError, match="batch=0"):
        evaluate_many([water], calc, batch=0)
    assert len(evaluate_many([], calc)) == 0
