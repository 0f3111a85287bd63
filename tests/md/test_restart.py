"""A run that was stopped and one that was not are the same to the last bit."""

import io

import numpy as np
import pytest
from watched_water import dynamics, gentle_model

from asesc.errors import InputError
from asesc.md import DynamicsCalculator, load_restart, save_restart


def start(**scf):
    calculator = DynamicsCalculator(gentle_model("FixedPoint"), scf=scf or None)
    dyn = dynamics(calculator)
    dyn.atoms.calc = calculator  # the springs of the test are not part of the file
    dyn.dt *= 0.1
    return dyn


@pytest.mark.parametrize("scf", [{}, {"dense_limit": 0}], ids=["matrix", "low rank"])
@pytest.mark.parametrize("stop", [2, 7, 9])
def test_bit_exact(tmp_path, stop, scf):
    """Before there is a history, when there just is one, and later."""
    whole, first, second = start(**scf), start(**scf), start(**scf)
    whole.run(12)
    rng = np.random.default_rng(3)
    first.run(stop)
    save_restart(tmp_path / "run.npz", first.atoms, step=first.nsteps, rng=rng)
    expected = rng.random(3)
    other = np.random.default_rng(4)
    second.nsteps = load_restart(tmp_path / "run.npz", second.atoms, rng=other)
    assert second.nsteps == stop
    np.testing.assert_array_equal(other.random(3), expected)
    second.run(12 - stop)
    np.testing.assert_array_equal(second.atoms.positions, whole.atoms.positions)
    np.testing.assert_array_equal(second.atoms.get_forces(), whole.atoms.get_forces())
    assert second.atoms.calc.one_map.counts == whole.atoms.calc.one_map.counts
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_legacy_random_numbers(tmp_path):
    dyn, rng = start(), np.random.RandomState(1)
    save_restart(tmp_path / "run.npz", dyn.atoms, rng=rng)
    expected, other = rng.normal(), np.random.RandomState(2)
    load_restart(tmp_path / "run.npz", dyn.atoms, rng=other)
    assert other.normal() == expected
    with pytest.raises(InputError, match="another kind"):
        load_restart(tmp_path / "run.npz", dyn.atoms, rng=np.random.default_rng())
    with pytest.raises(InputError, match="saved with random numbers"):
        load_restart(tmp_path / "run.npz", dyn.atoms)


def _array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(3))
    return stream.getvalue()


def test_files_of_others(tmp_path):
    dyn = start()
    save_restart(tmp_path / "run.npz", dyn.atoms)
    with pytest.raises(InputError, match="other numbers"):
        load_restart(tmp_path / "run.npz", dyn.atoms[:2])
    for content in (b"not an archive", _array()):
        (tmp_path / "other.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"other\.npz is not a complete.*no \.npz archive"):
            load_restart(tmp_path / "other.npz", dyn.atoms)
    (tmp_path / "half.npz").write_bytes((tmp_path / "run.npz").read_bytes()[:300])
    with pytest.raises(InputError, match="not a complete restart file"):
        load_restart(tmp_path / "half.npz", dyn.atoms)


def test_random_numbers_without_a_state(tmp_path):
    """The module, which was the default of ASE's thermostats, and a seed."""
    dyn = start()
    for rng in (np.random, 5):
        with pytest.raises(InputError, match="nothing of it can be saved"):
            save_restart(tmp_path / "run.npz", dyn.atoms, rng=rng)
    save_restart(tmp_path / "run.npz", dyn.atoms, rng=np.random.default_rng(1))
    with pytest.raises(InputError, match="neither a numpy"):
        load_restart(tmp_path / "run.npz", dyn.atoms, rng=np.random)
