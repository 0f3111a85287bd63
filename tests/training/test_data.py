"""Frames as they are read, put into batches and drawn."""

from itertools import chain

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from builders import random_model
from teaching import ALL_LABELS, frame_of, labelled, water

from asesc.errors import InputError
from asesc.training.data import (
    BatchDataset,
    BoundaryBatches,
    Frame,
    add_field_frames,
    check_labels,
    collate,
    expand_in_field,
    fit_atomic_energies,
    read_frames,
)

SHAPES = {
    "energy": (),
    "forces": (3, 3),
    "stress": (3, 3),
    "dipole": (3,),
    "born_charges": (3, 3, 3),
    "polarizability": (3, 3),
    "charges": (3,),
    "dipoles": (3, 3),
    "fermi_level": (),
}
PER_ATOM = ("forces", "born_charges", "charges", "dipoles")


def random_labels(names=ALL_LABELS, *, seed=0, pbc=True) -> Atoms:
    """Three atoms whose labels are numbers without meaning."""
    random = np.random.default_rng(seed)
    atoms = water(seed, periodic=pbc)
    for name in names:
        array = random.normal(size=SHAPES[name])
        store = atoms.arrays if name in PER_ATOM else atoms.info
        store[f"REF_{name}"] = array.reshape(3, -1).squeeze() if name in PER_ATOM else array
    return atoms


def frames_of(*pbcs: bool) -> list[Frame]:
    return [frame_of(random_labels(("energy",), seed=n, pbc=p)) for n, p in enumerate(pbcs)]


def test_labels_survive_the_file(tmp_path):
    atoms = random_labels()
    atoms.info.update(charge=0.0, electric_field=np.array([0.0, 0.1, 0.0]))
    write(tmp_path / "data.xyz", [atoms, water(1)])
    full, bare = read_frames(tmp_path / "data.xyz")
    assert {name: array.shape for name, array in full.labels.items()} == SHAPES
    for name, array in full.labels.items():
        store = atoms.arrays if name in PER_ATOM else atoms.info
        np.testing.assert_allclose(array.ravel(), np.ravel(store[f"REF_{name}"]), atol=1e-7)
    assert (full.charge, full.electric_field) == (0.0, (0.0, 0.1, 0.0))
    assert bare.labels == {} and bare.electric_field == (0.0, 0.0, 0.0)
    assert len(read_frames(tmp_path / "data.xyz", limit=1)) == 1


def test_voigt_stress_becomes_a_matrix():
    atoms = water(0, periodic=True)
    atoms.info["REF_stress"] = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    expected = [[1, 6, 5], [6, 2, 4], [5, 4, 3]]  # xx yy zz yz xz xy
    np.testing.assert_array_equal(frame_of(atoms).labels["stress"], expected)


def test_born_charges_have_a_second_name():
    atoms = water(0)
    atoms.arrays["REF_becs"] = np.arange(27.0).reshape(3, 9)
    born = frame_of(atoms).labels["born_charges"]
    assert born[1, 2, 0] == 9 + 6  # row-major [polarisation, displacement]


def test_weights_are_read_and_zero_is_no_label():
    atoms = random_labels(("energy", "forces"))
    atoms.info.update(config_energy_weight=0, config_forces_weight=0.5)
    frame = frame_of(atoms)
    assert frame.labels.keys() == {"forces"}
    assert frame.weights == {"forces": 0.5}


def test_weights_follow_the_second_name_too():
    atoms = water(0)
    atoms.arrays["REF_becs"] = np.arange(27.0).reshape(3, 9)
    atoms.info["config_becs_weight"] = 0
    assert frame_of(atoms).labels == {}


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf, "heavy", [1.0, 2.0]])
def test_weights_that_mean_nothing_are_refused(weight):
    atoms = random_labels(("energy",))
    atoms.info["config_energy_weight"] = weight
    with pytest.raises(InputError, match="test: config_energy_weight is"):
        frame_of(atoms)


def test_charge_and_field_are_read_as_by_a_calculator():
    """MACE's key has the opposite sign; two keys that disagree are no frame."""
    atoms = water(0)
    atoms.info.update(total_charge=1, external_field=[0.0, 0.0, 0.2], multiplicity=2)
    frame = frame_of(atoms)
    assert (frame.charge, frame.electric_field, frame.spin) == (1.0, (0.0, 0.0, -0.2), 2)
    atoms.info["electric_field"] = [0.0, 0.0, 0.2]
    with pytest.raises(InputError, match=r"test: atoms\.info has both 'electric_field'"):
        frame_of(atoms)
    with pytest.raises(InputError, match=r"test: .* looks like V/m"):
        frame_of(Atoms("H", info={"electric_field": [0, 0, 5e8]}))


def test_labels_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="test: label 'energy' is 'low', not numbers"):
        frame_of(Atoms("H", info={"REF_energy": "low"}))


@pytest.mark.parametrize("name", sorted(ALL_LABELS))
@pytest.mark.parametrize("damage", ["shape", "inf"])
def test_damaged_labels_are_refused(name, damage):
    atoms = random_labels((name,))
    store = atoms.arrays if name in PER_ATOM else atoms.info
    array = np.array(store[f"REF_{name}"])
    if damage == "inf":
        array.reshape(-1)[-1:] = np.inf
        store[f"REF_{name}"] = array
    else:
        store[f"REF_{name}"] = np.stack([array, array], axis=-1)
    with pytest.raises(InputError, match=f"test: label '{name}'"):
        frame_of(atoms)


def test_components_that_are_not_known_have_no_weight():
    """A slab's dipole along its periodic directions, the force on one atom, no energy at all."""
    slab, other = random_labels(("energy", "forces", "dipole"), pbc=False), water(1)
    for atoms in (slab, other):
        atoms.set_cell([4, 4, 4])
        atoms.pbc = (True, True, False)
    slab.info["REF_dipole"] = [np.nan, np.nan, 0.3]
    slab.info["REF_energy"] = np.nan
    slab.arrays["REF_forces"][1] = np.nan
    slab.info["config_dipole_weight"] = 2.0
    batch = collate([frame_of(other), frame_of(slab)])
    assert batch.labels.keys() == {"forces", "dipole"}
    assert batch.labels["dipole"].tolist() == [[0, 0, 0], [0, 0, 0.3]]
    assert batch.weights["dipole"].tolist() == [[0, 0, 0], [0, 0, 2]]
    assert batch.weights["forces"][:, 0].tolist() == [0, 0, 0, 1, 0, 1]
    assert batch.is_complete("forces").tolist() == [False, False]


def test_a_crystal_knows_all_of_its_dipole_or_nothing():
    atoms = random_labels(("dipole",))
    atoms.info["REF_dipole"] = [np.nan, 0.0, 0.3]
    with pytest.raises(InputError, match="give all three or none"):
        frame_of(atoms)


def test_missing_files_and_labels_are_told(tmp_path):
    with pytest.raises(InputError, match="no data file"):
        read_frames(tmp_path / "none.xyz")
    with pytest.raises(InputError, match="no frame has the label 'stress'"):
        check_labels(frames_of(True), ["energy", "stress"], "training data")


def test_batches_hold_zeros_and_weights_where_labels_are_missing():
    full = frame_of(random_labels(("energy", "forces")))
    bare = frame_of(random_labels(("energy",), seed=1))
    batch = collate([bare, full])
    assert batch.labels.keys() == {"energy", "forces"}
    assert not batch.labels["forces"][:3].any()
    np.testing.assert_array_equal(batch.labels["forces"][3:], full.labels["forces"])
    np.testing.assert_array_equal(batch.weights["forces"][:, 1], [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(batch.weights["energy"], [1, 1])
    assert batch.is_complete("forces").tolist() == [False, True]
    assert batch.is_complete("energy").tolist() == [True, True]
    assert batch.system.n_structures == 2


def test_spins_are_read_or_the_lowest():
    """Water is a triplet here, its cation a doublet by its number of electrons."""
    triplet, cation = (random_labels(("energy",), pbc=False) for _ in range(2))
    triplet.info["spin"], cation.info["charge"] = 3, 1
    batch = collate([frame_of(triplet), frame_of(cation)])
    assert batch.system.spin.tolist() == [3.0, 2.0]
    triplet.info["spin"] = 0.5
    with pytest.raises(InputError, match=r"atoms\.info\['spin'\]=0\.5 is not a multiplicity"):
        frame_of(triplet)


def test_a_batch_has_one_boundary_and_an_epoch_every_frame_once():
    frames = frames_of(*[True, False, True, True, False, True, True] * 2)
    sampler = BoundaryBatches(frames, batch_size=3, shuffle=True)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 6
    assert sorted(chain.from_iterable(batches)) == list(range(14))
    for batch in batches:
        assert len({tuple(frames[i].atoms.pbc) for i in batch}) == 1
        assert BatchDataset(frames)[batch].system.n_structures == len(batch)


def test_the_shuffle_depends_on_seed_and_epoch_alone():
    frames = frames_of(*[True] * 12)

    def drawn(seed, epoch):
        sampler = BoundaryBatches(frames, batch_size=2, shuffle=True, seed=seed)
        iterator = iter(sampler)
        sampler.set_epoch(epoch)  # Lightning makes the iterator of a resumed run first
        return list(iterator)

    assert drawn(0, 3) == drawn(0, 3)
    assert drawn(0, 3) != drawn(0, 4)
    assert drawn(0, 3) != drawn(1, 3)
    ordered = BoundaryBatches(frames, batch_size=5, shuffle=False)
    assert list(ordered) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_processes_share_the_batches(monkeypatch):
    frames = frames_of(*[True] * 14)
    sampler = BoundaryBatches(frames, batch_size=2, shuffle=True)
    whole = list(sampler)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(list(sampler))
    assert [len(share) for share in shares] == [3, 3, 3] == [len(sampler)] * 3
    assert {tuple(b) for share in shares for b in share} == {tuple(b) for b in whole}
    ordered = BoundaryBatches(frames, batch_size=2, shuffle=False)
    assert len(list(ordered)) == 7  # every process validates on everything


def test_atomic_energies_are_fitted():
    frames = []
    for symbols, energy in [("OH2", -14.0), ("O2", -18.0), ("H2", -5.0)]:
        atoms = Atoms(symbols, np.eye(3)[: len(Atoms(symbols))])
        atoms.info["REF_energy"] = energy
        frames.append(frame_of(atoms))
    assert fit_atomic_energies(frames) == pytest.approx({1: -2.5, 8: -9.0})
    only_water = fit_atomic_energies(frames[:1])
    assert 2 * only_water[1] + only_water[8] == pytest.approx(-14.0)
    assert fit_atomic_energies([frame_of(water(0))]) == {1: 0.0, 8: 0.0}


def test_forces_in_a_field_follow_from_born_charges():
    frame = frame_of(random_labels())
    field = np.array([0.01, -0.02, 0.03])
    moved = expand_in_field(frame, field)
    assert moved.labels.keys() == moved.weights.keys() == {"forces"}
    assert moved.electric_field == tuple(field)
    pushed = moved.labels["forces"] - frame.labels["forces"]
    for atom in range(3):
        expected = frame.labels["born_charges"][atom].T @ field
        np.testing.assert_allclose(pushed[atom], expected, atol=1e-15)


def test_field_frames_agree_with_the_teacher_to_first_order():
    teacher = random_model("SplitChargeEquilibration")
    atoms = water(0, periodic=True)
    frame = frame_of(labelled(teacher, atoms, ("forces", "born_charges")))
    rest = []
    for size in (1e-2, 2e-2):
        field = np.array([0.0, 0.6, 0.8]) * size
        exact = frame_of(labelled(teacher, atoms, ("forces",), field=field)).labels["forces"]
        rest.append(np.abs(expand_in_field(frame, field).labels["forces"] - exact).max())
    assert rest[0] < 1e-4
    assert rest[1] / rest[0] == pytest.approx(4, rel=0.1)  # what is left is quadratic


def test_field_frames_are_made_where_the_labels_allow():
    plain, labels = frame_of(random_labels(("energy", "forces"))), ("forces", "born_charges")
    able = frame_of(random_labels(labels))
    charged = random_labels(labels)
    charged.info["charge"] = 1
    in_field = random_labels(labels)
    in_field.info["electric_field"] = [0.0, 0.0, 0.1]
    frames = [plain, able, frame_of(charged), frame_of(in_field)]
    more = add_field_frames(frames, 0.2, seed=0)
    assert more[:4] == frames and len(more) == 5
    assert 0 < np.linalg.norm(more[4].electric_field) <= 0.2
    assert add_field_frames(frames, 0.2, seed=0)[4].electric_field == more[4].electric_field
    assert add_field_frames(frames, 0.2, seed=1)[4].electric_field != more[4].electric_field


def test_a_molecule_has_no_stress():
    atoms = water(0)
    atoms.info["REF_stress"] = np.zeros(6)
    assert not frame_of(atoms).labels


@pytest.mark.parametrize("name", ["plain.extxyz", "plain.traj"])
def test_without_prefix_labels_are_where_ase_puts_them(tmp_path, name):
    atoms = water(0)
    forces = np.arange(9.0).reshape(3, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=-2.0, forces=forces)
    write(tmp_path / name, atoms)
    (frame,) = read_frames(tmp_path / name, prefix="")
    assert frame.labels["energy"] == -2.0
    np.testing.assert_allclose(frame.labels["forces"], forces)
    (frame,) = read_frames(tmp_path / name)
    assert not frame.labels


def test_places_that_are_no_numbers_are_refused():
    atoms = water(0)
    atoms.positions[1, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        frame_of(atoms)
    with pytest.raises(InputError, match="there are no atoms"):
        frame_of(Atoms())
