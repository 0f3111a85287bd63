"""Training runs: they learn, are reproducible, resumable, and ship the averaged weights."""

import json
import logging
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import read, write
from builders import random_model
from teaching import ALL_LABELS, frame_of, run, water, write_run

from asesc import load_model
from asesc.errors import InputError, ModelFormatError
from asesc.pretrained import save_model
from asesc.system import System
from asesc.training import evaluate_frames, read_config, read_frames
from asesc.training.module import Training
from asesc.training.trainer import build_model


def initial_errors(path):
    """Of the untrained student."""
    config = read_config(path)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        student = build_model(config, read_frames(config.data.train))
    return evaluate_frames(student, read_frames(config.data.valid))


def test_a_student_learns_its_teacher(tmp_path):
    path = write_run(
        tmp_path,
        dtype="float32",
        data={"batch_size": 8},
        targets={"energy": 1.0, "forces": 1.0},
        optimiser={"epochs": 60, "validate_every": 60, "method": "adamw", "learning_rate": 0.06},
    )
    before = initial_errors(path)
    card, _ = run(path)
    for label in ("energy", "forces"):
        assert card.errors[label].value < before[label].rmse / 4


def test_both_precisions_learn_alike(tmp_path):
    errors = {}
    for dtype in ("float32", "float64"):
        path = write_run(tmp_path, n_frames=4, dtype=dtype, optimiser={"epochs": 3})
        card, weights = run(path, resume=False)
        errors[dtype] = card.errors["forces"].value
        assert {w.dtype for w in weights.values()} == {getattr(torch, dtype)}
    assert errors["float32"] == pytest.approx(errors["float64"], rel=1e-3)


def test_all_labels_together_in_a_crystal(tmp_path):
    labels = ALL_LABELS - {"dipole"}
    path = write_run(
        tmp_path,
        labels=labels,
        periodic=True,
        n_frames=4,
        data={"field_frames": 0.1},
        optimiser={"method": "adamw", "epochs": 10, "validate_every": 10, "learning_rate": 0.02},
    )
    before = initial_errors(path)
    card, _ = run(path)
    assert labels | {"polarizability_relative"} == card.errors.keys()
    # Student and teacher begin with nearly the same Fermi level, below its target error.
    learned = labels - {"fermi_level"}
    ratios = [card.errors[label].value / before[label].rmse for label in learned]
    assert np.mean(ratios) < 0.9
    assert 0 < card.field_range <= 0.1


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("validate_every", [1, 3])
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(tmp_path, monkeypatch, validate_every):
    labels = ("energy", "forces", "stress", "born_charges")
    settings = {"epochs": 4, "validate_every": validate_every, "ema_decay": 0.9, "decay": 0.6}
    final = {"energy": 0.01, "born_charges": 0.02}  # both schedules are under way at the stop
    options = {"optimiser": settings, "final_targets": final}
    path = write_run(tmp_path, labels=labels, periodic=True, **options)
    card, whole = run(path)

    def stop(self):
        if self.current_epoch == 2:
            raise Interrupt

    with monkeypatch.context() as patched, pytest.raises(Interrupt):
        patched.setattr(Training, "on_train_epoch_start", stop)
        run(path, resume=False)
    again, resumed = run(path)
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)
    assert again == card
    finished, _ = run(path)  # nothing left to do
    assert finished.sha256 == card.sha256


def following(tmp_path, steps, **options):
    """A training whose step can be set, and the learning rates of its ``steps`` steps."""
    config = read_config(write_run(tmp_path, n_frames=2, **options))
    training = Training(random_model("SplitChargeEquilibration"), config)
    training.trainer = SimpleNamespace(estimated_stepping_batches=steps, global_step=0)
    scheduler = training.configure_optimizers()["lr_scheduler"]["scheduler"]
    return training, np.array([scheduler.lr_lambdas[0](step) for step in range(steps + 1)])


def test_the_learning_rate_rises_stays_and_falls(tmp_path):
    """A tenth of 200 steps up, constant, and half a cosine over the last 40 %."""
    _, rates = following(tmp_path, 200, optimiser={"warmup": 0.1, "decay": 0.4})
    np.testing.assert_allclose(rates[:20], np.arange(1, 21) / 20)
    np.testing.assert_array_equal(rates[20:121], 1.0)
    np.testing.assert_allclose(rates[120:], 0.5 * (1 + np.cos(np.pi * np.arange(81) / 80)))
    assert rates[160] == pytest.approx(0.5) and rates[200] == 0
    _, whole = following(tmp_path, 200, optimiser={"warmup": 0.0, "decay": 1.0})
    np.testing.assert_allclose(whole, 0.5 * (1 + np.cos(np.pi * np.arange(201) / 200)))


def test_targets_go_geometrically_to_the_final_ones(tmp_path):
    first, last = {"energy": 0.1, "forces": 0.2}, {"energy": 0.001}
    options = {"targets": first, "final_targets": last, "optimiser": {"decay": 0.5}}
    training, _ = following(tmp_path, 100, **options)
    for step, energy in [(0, 0.1), (50, 0.1), (75, 0.01), (100, 0.001), (101, 0.001)]:
        training.trainer.global_step = step
        assert training._targets() == pytest.approx({"energy": energy, "forces": 0.2})


def test_the_seed_decides(tmp_path):
    path = write_run(tmp_path, n_frames=4, optimiser={"epochs": 2})
    first, _ = run(path, resume=False)
    second, _ = run(path, resume=False)
    assert first.sha256 == second.sha256
    path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
    assert run(path, resume=False)[0].sha256 != first.sha256


def test_averaged_weights_are_validated_and_shipped(tmp_path, monkeypatch):
    path = write_run(tmp_path, n_frames=4, optimiser={"epochs": 3, "validate_every": 1})
    average, validated = None, []

    def follow(self, outputs, batch, index):
        """Recompute the average beside Lightning's own; it starts at the first step's weights."""
        nonlocal average
        now = {n: w.clone() for n, w in self.model.weights().items()}
        average = now if average is None else {n: 0.9 * average[n] + 0.1 * now[n] for n in now}

    def seen(self):
        validated.append({n: w.clone() for n, w in self.model.weights().items()})

    monkeypatch.setattr(Training, "on_train_batch_end", follow)
    validation_step = Training.validation_step
    monkeypatch.setattr(
        Training, "validation_step", lambda self, b, i: (seen(self), validation_step(self, b, i))[1]
    )
    _, weights = run(path)
    for name, tensor in average.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(validated[-1][name], tensor, rtol=1e-12, atol=1e-14)


def test_validation_is_logged_per_label(tmp_path):
    path = write_run(tmp_path, n_frames=4, optimiser={"epochs": 2, "validate_every": 1})
    card, _ = run(path)
    table = np.genfromtxt(tmp_path / "out/log/version_0/metrics.csv", delimiter=",", names=True)
    logged = table["valid_forces"][np.isfinite(table["valid_forces"])]
    assert len(logged) == 2
    assert logged[-1] == pytest.approx(card.errors["forces"].value, rel=1e-6)
    run(path, resume=False)
    assert (tmp_path / "out/log/version_1/metrics.csv").is_file()


def test_the_process_is_left_as_it_was(tmp_path, capfd):
    path = write_run(tmp_path, n_frames=2, optimiser={"epochs": 1})
    environment, state = dict(os.environ), torch.random.get_rng_state()
    level = logging.getLogger("lightning.pytorch.utilities.rank_zero").level
    run(path)
    assert os.environ == environment
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert logging.getLogger("lightning.pytorch.utilities.rank_zero").level == level
    out, err = capfd.readouterr()
    assert out + err == ""


def test_the_checkpoint_carries_no_code(tmp_path):
    path = write_run(tmp_path, n_frames=2, optimiser={"epochs": 1})
    run(path)
    torch.load(tmp_path / "out/last.ckpt", weights_only=True)


def test_the_checkpoint_of_another_model_is_refused(tmp_path):
    path = write_run(tmp_path, n_frames=2, optimiser={"epochs": 1})
    run(path)
    text = path.read_text()
    assert "cutoff: 3.6" in text
    path.write_text(text.replace("cutoff: 3.6", "cutoff: 3.5"))
    with pytest.raises(InputError, match=r"belongs to another model.*--fresh"):
        run(path)
    run(path, resume=False)


def test_the_card_states_what_was_seen(tmp_path):
    texts = {"level_of_theory": "random numbers", "licence": "MIT"}
    path = write_run(tmp_path, n_frames=4, card=texts, optimiser={"epochs": 1})
    card, _ = run(path)
    assert (card.charge_range, card.field_range, card.boundaries) == ((0, 0), 0, ("open",))
    assert (card.level_of_theory, card.licence, card.limits) == (
        "random numbers",
        "MIT",
        "not stated",
    )
    assert card.elements == ("H", "O", "Si")
    written = json.loads((tmp_path / "out/student/card.json").read_text())
    assert written["sha256"] == card.sha256
    model = load_model(tmp_path / "out" / "student")
    errors = evaluate_frames(model, read_frames(tmp_path / "valid.xyz"))
    assert errors["forces"].rmse == pytest.approx(card.errors["forces"].value, rel=1e-9)


def test_training_can_start_from_a_model(tmp_path):
    teacher = random_model("SplitChargeEquilibration")
    settings = {"epochs": 1, "learning_rate": 1e-12}
    first, _ = run(write_run(tmp_path, n_frames=4, optimiser=settings))
    save_model(teacher, tmp_path / "teacher", first)
    options = {"start_from": str(tmp_path / "teacher"), "optimiser": settings}
    card, _ = run(write_run(tmp_path, n_frames=4, model={}, **options), resume=False)
    assert card.errors["forces"].value < 1e-6
    with pytest.raises(InputError, match="keeps its own keywords"):
        run(write_run(tmp_path, n_frames=4, **options))


def test_training_can_start_from_the_backbone_of_another_family(tmp_path):
    """Backbone and atomic energies are the other model's to the last bit; heads are new."""
    given = random_model("SplitCharges")
    card, _ = run(write_run(tmp_path, n_frames=2, optimiser={"epochs": 1}))
    save_model(given, tmp_path / "given", card)
    folder, own = str(tmp_path / "given"), {"lmax": 1, "width": 1.2}
    path = write_run(tmp_path, "QEq", n_frames=2, backbone_from=folder, model=own)
    config = read_config(path)
    frames = read_frames(config.data.train)
    model = build_model(config, frames)
    for name, weight in given.backbone.state_dict().items():
        torch.testing.assert_close(model.backbone.state_dict()[name], weight, rtol=0, atol=0)
    for key in ("backbone", "atomic_energies"):
        assert model.hyperparameters[key] == given.hyperparameters[key]
    assert model.hyperparameters["width"] == 1.2
    with pytest.raises(InputError, match="backbone under model"):
        build_model(replace(config, model={"backbone": {"cutoff": 3.0}}), frames)
    polar = random_model("MACEPolar")
    save_model(polar, tmp_path / "polar", card)
    with pytest.raises(InputError, match="MACEPolar, which has no such backbone"):
        build_model(replace(config, backbone_from=str(tmp_path / "polar")), frames)


def test_a_backbone_of_another_level_of_theory_takes_its_zero_of_energy(tmp_path):
    """Labels that are the backbone's energies and known energies of atoms give these back."""
    given = random_model("SplitCharges")
    card, _ = run(write_run(tmp_path, n_frames=2, optimiser={"epochs": 1}))
    save_model(given, tmp_path / "given", card)
    zero, frames = {1: -3.0, 8: 7.5}, []
    for atoms in (water(0), water(1), molecule("H2O2"), molecule("O2")):
        bound = given.backbone(System.from_atoms(atoms)).energies.sum().item()
        atoms.info["REF_energy"] = bound + sum(zero[z] for z in atoms.numbers)
        frames.append(frame_of(atoms))
    own = {"width": 1.0, "atomic_energies": "refit"}
    path = write_run(tmp_path, "QEq", n_frames=2, backbone_from=str(tmp_path / "given"), model=own)
    config = read_config(path)
    found = build_model(config, frames).hyperparameters["atomic_energies"]
    assert found == pytest.approx({"1": -3.0, "8": 7.5}, abs=1e-3)  # single precision
    for frame in frames:
        del frame.labels["energy"]
    with pytest.raises(InputError, match="needs frames with energies"):
        build_model(config, frames)
    with pytest.raises(InputError, match="backbone_from names none"):
        build_model(replace(config, backbone_from=None), frames)


def test_a_level_needs_a_family_that_has_one(tmp_path):
    path = write_run(tmp_path, "SplitCharges", targets={"fermi_level": 0.1})
    with pytest.raises(InputError, match=r"SplitCharges has no ∂E/∂Q, hence no level"):
        Training(random_model("SplitCharges"), read_config(path))


def test_statistics_of_the_data_fill_the_model(tmp_path):
    config = read_config(write_run(tmp_path, "QEq", n_frames=4, model={"backbone": {"cutoff": 3}}))
    frames = read_frames(config.data.train)
    model = build_model(config, frames)
    backbone = model.hyperparameters["backbone"]
    assert backbone["elements"] == [1, 8]
    assert backbone["n_neighbors"] == pytest.approx(2.0)  # in a water molecule
    forces = np.concatenate([f.labels["forces"] for f in frames])
    assert backbone["energy_scale"] == pytest.approx(np.sqrt((forces**2).mean()))
    assert model.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "Qeq"}, "unknown family 'Qeq'. Did you mean 'QEq'"),
        ({"model": {"lmaks": 1}}, "QEq does not know 'lmaks'. Did you mean 'lmax'"),
        ({"model": {"backbone": {"cutof": 3}}}, "unexpected keyword argument 'cutof'"),
        ({"model": {"backbone": 3}}, "model: backbone is 3, not a mapping"),
        ({"model": {"backbone": {"cutoff": -1}}}, "cutoff of the backbone is -1, not a positive"),
        ({"model": {"backbone": {"correlation": 0}}}, "correlation of the backbone is 0; it must"),
        ({"model": {"width": "wide"}}, "does not accept the keys under model: could not convert"),
    ],
)
def test_models_that_do_not_exist_are_refused(tmp_path, change, message):
    config = read_config(write_run(tmp_path, "QEq", n_frames=2))
    with pytest.raises(InputError, match=message):
        build_model(replace(config, **change), read_frames(config.data.train))


def test_what_would_fail_in_the_end_fails_at_once(tmp_path):
    path = write_run(tmp_path, n_frames=2, name="No spaces")
    with pytest.raises(ModelFormatError, match="'name' is 'No spaces'"):
        run(path)
    path = write_run(tmp_path, n_frames=2, card={"licence": 5})
    with pytest.raises(ModelFormatError, match="'licence' is 5"):
        run(path)
    path = write_run(tmp_path, n_frames=2)
    frames = read(tmp_path / "valid.xyz", ":")
    frames[0].symbols[0] = "C"
    write(tmp_path / "valid.xyz", frames)
    with pytest.raises(
        InputError, match="validation data: there are atoms of C, but the model kno"
    ):
        run(path)
    frames[0].symbols[0], frames[0].pbc, frames[0].cell = "O", (True, False, False), (9, 9, 9)
    write(tmp_path / "valid.xyz", frames)
    with pytest.raises(InputError, match="wires are not available"):
        run(path)
    write(tmp_path / "valid.xyz", water(0))
    with pytest.raises(InputError, match="validation data: no frame has one of the labels"):
        run(path)
    assert not (tmp_path / "out" / "last.ckpt").exists()
