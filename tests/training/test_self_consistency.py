"""Training through the fixed point, on one application of the map, and against stiff maps."""

from pathlib import Path

import pytest
import torch
from builders import random_model
from teaching import frame_of, labelled, water, write_run

from asesc import load_model
from asesc.errors import InputError
from asesc.pretrained import model_card
from asesc.response import conjugacy_errors
from asesc.training import evaluate_frames, read_config, read_frames, train
from asesc.training.data import collate
from asesc.training.module import Training
from asesc.training.self_consistency import map_residuals, spectral_penalty
from asesc.training.trainer import build_model

DENSITY = ("charges", "dipoles")


def batch_of(teacher, labels, n=2):
    frames = [labelled(teacher, water(i), labels, charge=1.0 * i) for i in range(n)]
    return collate([frame_of(atoms) for atoms in frames])


STUDENTS = [("FixedPoint", {"update": "gated"}), ("EnergyFunctional", {})]


@pytest.mark.parametrize(("family", "own"), STUDENTS)
def test_the_map_returns_the_density_of_its_own_fixed_point(family, own):
    teacher = random_model(family, **own)
    batch = batch_of(teacher, DENSITY)
    differences = map_residuals(teacher, batch)
    assert differences.keys() == set(DENSITY)
    for difference in differences.values():
        assert float(difference.detach().abs().max()) < 1e-7
    student = random_model(family, seed=1, **own)
    assert float(map_residuals(student, batch)["charges"].detach().abs().max()) > 1e-2


def test_structures_without_a_density_do_not_count():
    teacher = random_model("FixedPoint", update="gated")
    frames = [labelled(teacher, water(0), DENSITY), labelled(teacher, water(1), ("charges",))]
    batch = collate([frame_of(atoms) for atoms in frames])
    differences = map_residuals(random_model("FixedPoint", update="gated", seed=1), batch)
    charges = differences["charges"].detach().abs()
    assert float(charges[:3].max()) > 1e-2 and float(charges[3:].max()) == 0


def test_direct_training_needs_densities_and_a_map(tmp_path):
    batch = batch_of(random_model("QEq"), ("energy", "charges"))
    with pytest.raises(InputError, match="no frame has dipoles; label the frames or set"):
        map_residuals(random_model("FixedPoint", update="gated"), batch)
    path = write_run(tmp_path, n_frames=2, self_consistency={"direct": 0.5})
    config = read_config(path)
    wells = random_model("EnergyFunctional", functional="localised")
    for model in (random_model("SplitChargeEquilibration"), wells):
        with pytest.raises(InputError, match=f"{model.family} is not one"):
            Training(model, config)
    Training(random_model("EnergyFunctional"), config)
    path = write_run(tmp_path, n_frames=2, self_consistency={"spectral_radius": 2.0})
    with pytest.raises(InputError, match="EnergyFunctional has none"):
        Training(random_model("EnergyFunctional"), read_config(path))
    path = write_run(tmp_path, n_frames=2, self_consistency={"direct": 1.5})
    with pytest.raises(InputError, match=r"direct is 1\.5, not a fraction of 0 to 1"):
        read_config(path)


def test_the_penalty_is_the_excess_of_the_largest_eigenvalue():
    """ρ of ∂F/∂p from the dense Jacobian, and its derivative in a parameter by differences."""
    model = random_model("FixedPoint", update="gated")
    batch = batch_of(model, ("energy",))
    problem = model.problem(batch.system)
    with torch.no_grad():
        p = model.solve(problem).coefficients
        jacobian = model.density_map(problem).jacobian(p)
    radii = torch.linalg.eigvals(torch.eye(12).double() - jacobian).abs().amax(-1)
    found = spectral_penalty(model, batch, 0.5)
    expected = (radii - 0.5).clamp(min=0).pow(2).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    assert float(spectral_penalty(model, batch, 2 * float(radii.max())).detach()) == 0
    bias = model.update.atom_head.net[-1].bias
    (slope,) = torch.autograd.grad(found, bias)
    assert float(slope[0]) > 0  # more susceptible, stiffer
    with torch.no_grad():
        bias[0] -= 0.1 * slope[0].sign()
        lower = spectral_penalty(model, batch, 0.5).detach()
        bias[0] += 0.1 * slope[0].sign()
    assert float(lower) < float(found.detach())


def learn(tmp_path, labels, **changes):
    """Train a student of a random fixed-point teacher: it before and after, and the data."""
    path = write_run(
        tmp_path,
        "FixedPoint",
        labels=labels,
        n_frames=2,
        data={"batch_size": 2},
        targets=dict.fromkeys(labels, 1.0),
        optimiser={"epochs": 20, "validate_every": 20, "method": "adamw", "learning_rate": 0.06},
        **changes,
    )
    config = read_config(path)
    frames = read_frames(config.data.train)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        before = build_model(config, frames)
    train(config, progress=False)
    return before, load_model(Path(config.output) / "student"), frames


def test_a_student_learns_through_the_fixed_point(tmp_path):
    """Implicit differentiation, with a penalty on stiff maps beside the labels."""
    stiff = {"spectral_radius": 50.0}
    before, after, frames = learn(tmp_path, ("forces",), self_consistency=stiff)
    old, new = (evaluate_frames(model, frames)["forces"].rmse for model in (before, after))
    assert new < old / 2
    card = model_card(tmp_path / "out" / "student")
    mismatch = conjugacy_errors(after, [collate([frame]).system for frame in frames])
    for name, value in mismatch.items():
        stated = card.errors[f"{name}_mismatch"].value
        assert value > 0 and stated == pytest.approx(value, rel=1e-2)


def test_a_student_learns_the_map_directly(tmp_path):
    """direct=1: one application of the map to the reference density is all that is trained."""
    before, after, frames = learn(tmp_path, DENSITY, self_consistency={"direct": 1.0})
    batch = collate(frames)
    with torch.no_grad():
        for label in DENSITY:
            old, new = (
                float(map_residuals(m, batch)[label].square().mean()) for m in (before, after)
            )
            assert new < 0.95 * old
