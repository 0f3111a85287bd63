"""The loss: in units of targets, robust, and seeing Born charges through forces."""

import numpy as np
import pytest
import torch
from builders import random_model
from teaching import ALL_LABELS, frame_of, labelled, water

from asesc.models import FAMILIES
from asesc.response import born_effective_charges, energy_and_forces
from asesc.training import evaluate_frames
from asesc.training.comparison import compare, nearest_branch
from asesc.training.data import collate
from asesc.training.loss import residuals, total_loss
from asesc.training.trainer import _keywords

SQE = "SplitChargeEquilibration"
RESPONDING = ("QEq", SQE)


def batch_of(labels, *, periodic=False, n=2, family=SQE, **options):
    """Labels of a model for water; the same family has zero error on them."""
    teacher = random_model(family)
    return collate(
        [
            frame_of(labelled(teacher, water(i, periodic=periodic), labels, **options))
            for i in range(n)
        ]
    )


def test_the_teacher_is_right_about_its_own_labels():
    labels = ("energy", "forces", "stress", "dipole", "polarizability", "charges", "dipoles")
    batch = batch_of(labels, periodic=True, field=(0.0, 0.02, 0.01))
    differences = residuals(random_model(SQE), batch, labels)
    assert differences.keys() == set(labels)
    for label, difference in differences.items():
        assert float(difference.detach().abs().max()) < 1e-6, label


def test_losses_and_errors_see_the_same_predictions():
    """With and without graph, in full or through a probe: one function answers both."""
    labels, model = ALL_LABELS - {"fermi_level"}, random_model(SQE)  # no level in such a field
    batch = batch_of(labels, periodic=True, field=(0.0, 0.02, 0.01))
    for label, pair in compare(model, batch, labels).items():
        torch.testing.assert_close(
            pair.predicted, pair.reference, atol=1e-6, rtol=1e-6, msg=label, check_dtype=False
        )
        batch.labels[label].zero_()
    full = compare(model, batch, labels)
    for label, difference in residuals(model, batch, labels).items():
        expected = full[label].predicted - full[label].reference
        torch.testing.assert_close(difference.detach(), expected.detach(), msg=label)


def test_only_targets_are_evaluated():
    batch = batch_of(("energy", "forces", "dipole"))
    assert residuals(random_model(SQE), batch, ("energy",)).keys() == {"energy"}


@pytest.mark.parametrize("family", RESPONDING)
def test_one_backward_pass_sees_forces_and_born_charges(family):
    """∂(E − ε·μ)/∂R = −(F + Zᵀε), with F and Z computed one by one."""
    model, labels = random_model(family), ("forces", "born_charges")
    batch = batch_of(labels, family=family)
    batch.labels["forces"].zero_()
    batch.labels["born_charges"].zero_()
    probe = torch.tensor([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6]], dtype=torch.float64)
    seen = residuals(model, batch, labels, probe=probe)["forces"]
    forces = energy_and_forces(model, batch.system).forces
    born = born_effective_charges(model, batch.system).tensor
    expected = forces + torch.einsum("na,nab->nb", probe[batch.system.batch], born)
    torch.testing.assert_close(seen, expected, rtol=1e-7, atol=1e-8)


def test_frames_without_born_charges_are_not_probed():
    with_born = frame_of(labelled(random_model(SQE), water(0), ("forces", "born_charges")))
    without = frame_of(labelled(random_model(SQE), water(1), ("forces",)))
    batch = collate([with_born, without])
    probe = torch.ones(2, 3, dtype=torch.float64)
    seen = residuals(random_model(SQE), batch, ("forces", "born_charges"), probe=probe)["forces"]
    assert float(seen.detach().abs().max()) < 1e-6


def test_the_expectation_over_probes():
    """⟨|ΔF + ΔZᵀε|²⟩ per component = ⟨ΔF²⟩ + 3s²⟨ΔZ²⟩ for normal ε of width s."""
    random = np.random.default_rng(0)
    force, born, s = random.normal(size=(5, 3)), random.normal(size=(5, 3, 3)), 0.7
    probes = random.normal(scale=s, size=(200_000, 3))
    squares = np.mean((force + np.einsum("pa,kab->pkb", probes, born)) ** 2)
    expected = np.mean(force**2) + 3 * s**2 * np.mean(born**2)
    assert squares == pytest.approx(expected, rel=1e-2)


def test_the_loss_is_in_units_of_the_targets():
    batch = batch_of(("energy", "forces"))
    targets = {"energy": 0.01, "forces": 0.2}
    one_target = {
        "energy": torch.full((2,), 0.01, dtype=torch.float64),
        "forces": torch.full((6, 3), -0.2, dtype=torch.float64),
        "dipole": torch.ones(2, 3, dtype=torch.float64),
    }
    losses = total_loss(one_target, batch, targets)
    assert losses.keys() == targets.keys()
    for loss in losses.values():
        assert float(loss) == pytest.approx(1.0, rel=3e-3)


def test_wild_errors_count_linearly():
    batch = batch_of(("energy",))

    def loss(error):
        difference = {"energy": torch.full((2,), float(error), dtype=torch.float64)}
        return float(total_loss(difference, batch, {"energy": 1.0})["energy"])

    assert loss(1e-3) == pytest.approx(1e-6, rel=1e-6)
    assert loss(1e5) == pytest.approx(2 * 10 * 1e5, rel=1e-3)


def test_weights_choose_the_frames():
    batch = batch_of(("energy", "forces"))
    batch.weights["forces"][:3], batch.weights["forces"][3:] = 0.0, 2.0
    difference = torch.zeros(6, 3, dtype=torch.float64)
    difference[:3] = 1e3
    difference[3:] = 1e-3
    losses = total_loss({"forces": difference}, batch, {"forces": 1.0})
    assert float(losses["forces"]) == pytest.approx(2 * 1e-6, rel=1e-6)  # also in a batch of one
    batch.weights["forces"][:] = 0
    assert float(total_loss({"forces": difference}, batch, {"forces": 1.0})["forces"]) == 0


def test_unknown_components_count_neither_in_the_loss_nor_in_the_errors():
    """The dipole of a slab: only the component along the open axis is compared."""
    model, atoms = random_model(SQE), water(0, periodic=True)
    atoms.pbc = (True, True, False)
    atoms.set_cell([4.0, 4.0, 4.0])
    frame = labelled(model, atoms, ("energy", "forces", "dipole"))
    frame.info["REF_dipole"] = [np.nan, np.nan, frame.info["REF_dipole"][2] + 0.02]
    frame.arrays["REF_forces"] = frame.arrays["REF_forces"] + 0.1
    frame.arrays["REF_forces"][0] = np.nan
    batch = collate([frame_of(frame)])
    targets = {"dipole": 0.01, "forces": 0.1}
    losses = total_loss(residuals(model, batch, targets), batch, targets)
    assert float(losses["dipole"].detach()) == pytest.approx(4.0, rel=1e-2)
    assert float(losses["forces"].detach()) == pytest.approx(1.0, rel=1e-2)
    errors = evaluate_frames(model, [frame_of(frame)])
    assert errors["dipole"].rmse == pytest.approx(0.02)
    assert errors["dipole"].reference.size == 1
    assert errors["forces"].rmse == pytest.approx(0.1)
    assert errors["forces"].reference.size == 6
    assert errors["energy"].percent == "–"  # one energy has no fluctuation
    assert errors["forces"].percent == f"{100 * errors['forces'].relative:.3g} %"


def test_the_polarisation_quantum_is_no_error():
    batch = batch_of(("energy",), periodic=True)
    cell = batch.system.cell
    small = torch.tensor([[0.1, -0.2, 0.05]] * 2, dtype=torch.float64)
    steps = torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    shifted = small + torch.einsum("ba,bac->bc", steps, cell)
    torch.testing.assert_close(nearest_branch(shifted, batch.system), small)
    isolated = batch_of(("energy",)).system
    assert nearest_branch(shifted, isolated) is shifted


def test_a_quantum_more_in_the_label_changes_nothing():
    """Dipoles of crystals from a Berry phase are known modulo e·h, in the loss and in the table."""
    teacher, student = random_model(SQE), random_model(SQE, seed=1)
    frames = [labelled(teacher, water(i, periodic=True), ("dipole",)) for i in range(2)]
    shifted = [atoms.copy() for atoms in frames]
    for n, atoms in enumerate(shifted):
        atoms.info["REF_dipole"] = atoms.info["REF_dipole"] + (2, -1, n) @ atoms.cell.array
    outcomes = []
    for structures in (frames, shifted):
        read = [frame_of(atoms) for atoms in structures]
        error = evaluate_frames(student, read)["dipole"]
        difference = residuals(student, collate(read), ("dipole",))["dipole"].detach()
        outcomes.append((difference, torch.as_tensor(error.predicted - error.reference)))
        assert float(difference.abs().max()) > 1e-3
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "MACEPolar"])
def test_the_level_is_counted_from_the_vacuum_and_from_the_origin(family):
    """A slab that moves up in the field takes its level along; families without a level skip it."""
    model, atoms = random_model(family), water(0, periodic=True)
    atoms.pbc, field = (True, True, False), (0.0, 0.0, 0.03)
    atoms.set_cell([4.0, 4.0, 12.0])
    batch = batch_of_slabs(atoms, field)
    pairs = compare(model, batch, ("energy", "fermi_level"))
    assert ("fermi_level" in pairs) == model.has_fermi_level
    if model.has_fermi_level:
        low, high = pairs["fermi_level"].predicted.detach()
        assert float(high - low) == pytest.approx(0.03 * 1.5, abs=1e-9)


def batch_of_slabs(atoms, field):
    """The slab and its copy 1.5 Å higher, in a field."""
    frames = []
    for shift in (0.0, 1.5):
        moved = atoms.copy()
        moved.positions[:, 2] += shift
        moved.info.update(electric_field=np.array(field), REF_energy=0.0, REF_fermi_level=-4.0)
        frames.append(frame_of(moved))
    return collate(frames)


TRAINABLE = {
    "energy": FAMILIES,
    "forces": FAMILIES,
    "stress": FAMILIES,
    "dipole": [f for f in FAMILIES if f != "FixedCharges"],
    "born_charges": [f for f in FAMILIES if f != "FixedCharges"],
    "charges": [f for f in FAMILIES if f != "FixedCharges"],
    "dipoles": [f for f in FAMILIES if f != "FixedCharges"],
    "polarizability": RESPONDING,
    "fermi_level": [f for f in FAMILIES if FAMILIES[f].has_fermi_level],
}


@pytest.mark.parametrize(
    ("label", "family"), [(label, family) for label in TRAINABLE for family in TRAINABLE[label]]
)
def test_a_step_along_the_gradient_lowers_the_loss(label, family):
    """Every label of every family that has it moves the weights in the right direction."""
    labels = {label, "forces"} if label == "born_charges" else {label}
    teacher, targets = random_model(family), dict.fromkeys(labels, 1.0)
    frames = [labelled(teacher, water(i, periodic=label == "stress"), labels) for i in range(2)]
    batch = collate([frame_of(atoms) for atoms in frames])
    probe = None
    if label == "born_charges":
        probe = torch.tensor([[3.0, -2.0, 5.0]] * 2, dtype=torch.float64)
    student = random_model(family, seed=1)
    start = {name: weight.clone() for name, weight in student.weights().items()}

    def loss() -> torch.Tensor:
        differences = residuals(student, batch, labels, probe=probe)
        return sum(total_loss(differences, batch, targets).values())

    before = loss()
    weights = list(student.parameters())
    gradient = torch.autograd.grad(before, weights, allow_unused=True, materialize_grads=True)
    step = 1e-3 * before.detach() / sum((g**2).sum() for g in gradient)
    with torch.no_grad():
        for weight, slope in zip(weights, gradient, strict=True):
            weight -= step * slope
    after = loss().detach()
    student.load_weights(start)
    assert float(after / before.detach()) == pytest.approx(1 - 1e-3, abs=2e-4)


def test_keywords_of_a_family_are_known():
    assert {"backbone", "lmax", "formal_charges"} <= _keywords(FAMILIES[SQE])
    assert "formal_charges" not in _keywords(FAMILIES["QEq"])
