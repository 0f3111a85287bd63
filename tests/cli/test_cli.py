"""Every command, as a user types it."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from builders import random_model, tiny_card
from shell import PNG, asesc, refused
from teaching import labelled, water, write_run
from typer.testing import CliRunner

from asesc import SCCalculator
from asesc.cli import app, main
from asesc.cli.record import Record
from asesc.cli.run import output_paths, parse_vector
from asesc.errors import InputError
from asesc.pretrained import save_model
from asesc.training.module import Training

pytestmark = pytest.mark.usefixtures("workplace")


def test_help_is_fast_and_does_not_import_torch():
    script = (
        "import sys, asesc.cli, typer.testing as t\n"
        "out = t.CliRunner().invoke(asesc.cli.app, ['--help'])\n"
        "assert 'doctor' in out.output, out.output\n"
        "slow = {'torch', 'numpy.linalg', 'ase.io', 'matplotlib', 'lightning'} & set(sys.modules)\n"
        "sys.exit(str(slow) if 'torch' in slow or 'lightning' in slow else 0)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, since tests run beside each other.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.7


def test_every_command_shows_an_example():
    for command in ("run", "doctor", "train", "evaluate"):
        assert "Example: asesc" in asesc(command, "--help")
    for command in ("list", "info"):
        assert "Example: asesc" in asesc("models", command, "--help")
    assert asesc("--version").count(".") == 2


def test_run_in_a_field(workplace):
    output = asesc("run", "tiny", "--model", "tiny", "--field", "0,0,0.05", "--charge", "1")
    for part in ("H2O, model tiny", "+1.00000000", "0.05000", "V/Å", "Debye", "dense LU"):
        assert part in output
    assert "density charge of H" in output
    assert "Born charge" in " ".join(output.split())  # what a density charge is not
    frame = read("tiny.traj")
    assert frame.get_charges().sum() == pytest.approx(1)
    assert frame.get_potential_energy() == pytest.approx(_number(output, "energy"), abs=1e-6)
    assert (workplace / "tiny.png").read_bytes().startswith(PNG)


def _number(output: str, row: str) -> float:
    line = next(line for line in output.splitlines() if line.startswith(f"│ {row} "))
    return float(line.split("│")[2])


def test_options_win_over_the_file(workplace):
    atoms = water(1)
    atoms.info.update(charge=-1, external_field=[0, 0, 0.1])
    write("ion.xyz", atoms)
    assert "-1.00000000" in asesc("run", "ion.xyz", "--model", "tiny")
    output = asesc("run", "ion.xyz", "--model", "tiny", "--charge", "0", "--field", "0.1,0,0")
    assert "+0.00000000" in output and "0.10000  0.00000  0.00000" in output


def test_relax(workplace):
    output = asesc("run", "tiny", "--model", "tiny", "--relax", "--steps", "3", "--output", "r")
    frames = read("r.traj", ":")
    assert len(frames) == 4
    assert frames[-1].get_potential_energy() < frames[0].get_potential_energy()
    assert (workplace / "r.png").read_bytes().startswith(PNG)
    assert "not relaxed to 0.01 eV/Å within 3 steps" in output


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_dynamics(workplace, ensemble):
    options = ["--md", ensemble, "--steps", "4", "--timestep", "0.2", "--temperature", "200"]
    asesc("run", "tiny", "--model", "tiny", *options)
    frames = read("tiny.traj", ":")
    assert len(frames) == 5
    assert frames[0].get_temperature() > 20  # velocities are there from the first frame on
    assert (workplace / "tiny.png").read_bytes().startswith(PNG)
    if ensemble == "nve":
        total = [frame.get_total_energy() for frame in frames]
        assert np.ptp(total) < 0.05 * np.ptp([f.get_potential_energy() for f in frames])


def test_fixed_fermi_level(workplace):
    """The level that a charge of 0.5 e has gives that charge back, whatever the file says."""
    atoms = water(1)
    atoms.calc = SCCalculator(
        random_model("SplitChargeEquilibration"),
        charge=0.5,
        allow_fractional_charge=True,
        allow_extrapolation=True,
    )
    level = atoms.calc.get_property("fermi_level", atoms)
    atoms.info["charge"] = -1
    write("ion.xyz", Atoms(atoms), write_results=False)
    output = asesc("run", "ion.xyz", "--model", "tiny", "--fermi-level", f"{level:.12f}")
    assert _number(output, "total charge") == pytest.approx(0.5, abs=1e-7)
    assert _number(output, "Fermi level") == pytest.approx(level, abs=1e-6)


def test_the_input_is_not_overwritten(workplace):
    write("water.traj", water(2))
    before = (workplace / "water.traj").read_bytes()
    assert "wrote water-run.traj" in asesc("run", "water.traj", "--model", "tiny")
    assert (workplace / "water.traj").read_bytes() == before


def test_a_refused_run_touches_no_file(workplace, capsys, monkeypatch):
    asesc("run", "tiny", "--model", "tiny")
    before = (workplace / "tiny.traj").read_bytes()
    refused(capsys, monkeypatch, "run", "tiny", "--model", "tiny", "--charge", "5")
    refused(capsys, monkeypatch, "run", "tiny", "--model", "tiny", "--relax", "--cell")
    assert (workplace / "tiny.traj").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "none.xyz", "--model", "tiny"), "no structure file 'none.xyz'"),
        (("run", "tiny", "--model", "tny"), "Did you mean 'tiny'"),
        (("run", "tiny", "--model", "tiny", "--field", "1,2"), "not three numbers"),
        (("run", "tiny", "--model", "tiny", "--spin", "2"), "spin=2, but model 'tiny' has no spin"),
        (("run", "tiny", "--model", "tiny", "--field", "0,0,0.5"), "0.5 V/Å (from --field) is out"),
        (
            ("run", "tiny", "--model", "tiny", "--charge", "3"),
            "charge +3 e (from --charge) is outside the trained range -1 … +1 e",
        ),
        (
            ("run", "tiny", "--model", "tiny", "--charge", "3"),
            "Pass --allow-extrapolation to go on",
        ),
        (
            ("run", "ion.xyz", "--model", "tiny"),
            "charge +3 e (from atoms.info['charge']) is outside",
        ),
        (("run", "tiny", "--model", "tiny", "--relax", "--md", "nve"), "one after the other"),
        (("run", "tiny", "--model", "tiny", "--cell"), "add --relax"),
        (
            ("run", "tiny", "--model", "tiny", "--md", "nvt", "--temperature", "0"),
            "raise --temperature, or use nve",
        ),
        (
            ("run", "tiny", "--model", "tiny", "--charge", "0.5"),
            "charge +0.5 e (from --charge) is not an integer",
        ),
        (("run", "tiny", "--model", "tiny", "--output", "no/where"), "there is no folder 'no'"),
        (("run", "tiny", "--model", "tiny", "--dtype", "float16"), "choose 'float64'"),
        (("run", "gold.xyz", "--model", "tiny"), "Au is not in model 'tiny'"),
        (("run", "broken.xyz", "--model", "tiny"), "ASE cannot read 'broken.xyz'"),
        (("run", "notes.txt", "--model", "tiny"), "ASE "),
        (("models", "info", "tinny"), "Did you mean 'tiny'"),
        (("models", "info", ""), "No model ''"),
        (("train", "tiny.traj"), "is not a text file"),
        (("train", "none.yaml"), "no configuration file"),
        (("evaluate", "tiny", "none.xyz"), "no data file"),
        (("evaluate", "tiny", "gold.xyz"), "has no label named REF_energy"),
        (("evaluate", "tiny", "labelled.xyz"), "there are atoms of Au, but the model knows"),
        (("evaluate", "tiny", "gold.xyz", "--plot", "a.xyz"), "'a.xyz' is no picture"),
        (("evaluate", "tiny", "gold.xyz", "--plot", "no/a.png"), "there is no folder 'no'"),
        (("evaluate", "tiny", "broken.xyz"), "ASE cannot read 'broken.xyz'"),
        (("doctor", "--model", "tinny"), "Did you mean 'tiny'"),
    ],
)
def test_mistakes_end_as_one_message(capsys, monkeypatch, workplace, arguments, message):
    gold = molecule("H2O")
    gold.symbols[0] = "Au"
    write("gold.xyz", gold)
    gold.info["REF_energy"] = 1.0
    write("labelled.xyz", gold)
    (workplace / "broken.xyz").write_text("3\n\nO 0 0\n")
    (workplace / "notes.txt").write_text("not a structure")
    (workplace / "tiny.traj").write_bytes(b"\xbd\x00")
    ion = molecule("H2O")
    ion.info["charge"] = 3
    write("ion.xyz", ion)
    assert message in refused(capsys, monkeypatch, *arguments)


@pytest.mark.parametrize("command", ["run", "phonons", "spectra", "slab", "defect", "doctor"])
def test_kernels_reach_the_model(capsys, monkeypatch, command):
    write("ice.extxyz", Atoms(water(0), cell=(5, 5, 5), pbc=True))
    arguments = {"doctor": [], "defect": ["ice.extxyz", "--vacancy", "0", "--chempot", "O=0"]}
    given = (command, *arguments.get(command, ["tiny"]), "--model", "tiny")
    message = refused(capsys, monkeypatch, *given, "--kernels", "cuequivarianc")
    assert "--kernels 'cuequivarianc'; choose one of torch, " in message
    assert "Did you mean 'cuequivariance'" in message


def test_models_are_listed_and_shown(monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    listed = asesc("models", "list")
    for part in ("tiny", "H O Si", "-1 … +1", "0.2", "open", "MIT"):
        assert part in listed
    shown = asesc("models", "info", "tiny")
    for part in ("SplitChargeEquilibration", "up to 0.2 V/Å", "Tests only.", "0.5 eV/Å", "sha256"):
        assert part in shown


def test_no_file_can_be_written(workplace, capsys, monkeypatch):
    """Refused before anything is computed, or as one message."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert "is read-only" in refused(capsys, monkeypatch, "run", "tiny", "--model", "tiny")
    (workplace / "tiny.traj").mkdir()
    assert "tiny.traj" in refused(capsys, monkeypatch, "run", "tiny", "--model", "tiny")


@pytest.mark.filterwarnings("default")
def test_warnings_speak_of_no_code(capsys, monkeypatch):
    atoms = water(0)
    atoms.info["Charge"] = 1
    write("ion.xyz", atoms)
    monkeypatch.setattr(sys, "argv", ["asesc", "run", "ion.xyz", "--model", "tiny"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    shown = capsys.readouterr().err
    assert "warning: atoms.info['Charge'] looks like 'charge' but is not read" in shown
    assert ".py" not in shown and "UserWarning" not in shown


def test_ctrl_c_keeps_the_steps_so_far(workplace, monkeypatch):
    keep = Record.__call__

    def interrupted(self):
        keep(self)
        if len(self._energies) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Record, "__call__", interrupted)
    result = CliRunner().invoke(app, ["run", "tiny", "--model", "tiny", "--md", "nve"])
    assert result.exit_code != 0
    assert "stopped; the steps so far are in tiny.traj" in result.output
    assert len(read("tiny.traj", ":")) == 3


def test_a_model_is_listed_under_the_name_that_opens_it(monkeypatch, tmp_path):
    (tmp_path / "models" / "tiny").rename(tmp_path / "models" / "small")
    monkeypatch.setenv("COLUMNS", "150")
    listed = asesc("models", "list")
    assert "small" in listed and "tiny" not in listed
    assert "SplitChargeEquilibration" in asesc("models", "info", "small")


def test_a_damaged_model_hides_no_other(tmp_path):
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "card.json").write_text("{}")
    listed = asesc("models", "list")
    assert "broken cannot be used" in listed and "tiny" in listed


def test_a_folder_is_a_model_with_its_example(workplace, capsys, monkeypatch):
    assert "model ../models/tiny" in asesc("run", "../models/tiny", "--model", "../models/tiny")
    assert (workplace / "tiny.traj").is_file()
    (workplace / "../models/tiny/example.xyz").unlink()
    message = refused(capsys, monkeypatch, "doctor", "--model", "../models/tiny")
    assert "has no example structure; put one into its folder" in message


def test_evaluate_prints_a_table_and_draws(workplace, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    teacher = random_model("SplitChargeEquilibration")
    labels = ("energy", "forces", "dipole", "born_charges", "polarizability")
    write("data.xyz", [labelled(teacher, water(n), labels) for n in range(2)])
    output = asesc("evaluate", "tiny", "data.xyz")
    for label in ("energy", "forces", "dipole", "born charges", "polarizability", "RMSE"):
        assert label in output
    assert "0.00000" in output  # the teacher is right
    assert (workplace / "tiny-parity.png").read_bytes().startswith(PNG)
    asesc("evaluate", "tiny", "data.xyz", "--limit", "1", "--plot", "one.png")
    assert (workplace / "one.png").is_file()
    assert "wrote two.png" in asesc("evaluate", "tiny", "data.xyz", "--limit", "1", "--plot", "two")
    assert (workplace / "two.png").is_file()


def test_labels_that_a_model_has_no_answer_to(workplace, capsys, monkeypatch):
    save_model(random_model("LocalCharges"), "../models/local", tiny_card(name="local"))
    atoms = Atoms("OH2", water(0).positions, info={"REF_fermi_level": -4.0})
    write("levels.xyz", atoms)
    message = refused(capsys, monkeypatch, "evaluate", "local", "levels.xyz")
    assert "local has nothing to compare with the labels of levels.xyz" in message


def test_train_resume_and_use_a_model(workplace, monkeypatch):
    path = write_run(workplace, n_frames=2, optimiser={"epochs": 1})
    output = asesc("train", str(path), "--no-progress")
    assert "validation RMSE, forces" in output
    first = json.loads((workplace / "out/student/card.json").read_text())["sha256"]
    asesc("train", str(path), "--no-progress")
    assert json.loads((workplace / "out/student/card.json").read_text())["sha256"] == first

    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Training, "on_train_epoch_start", interrupted)
        stopped = CliRunner().invoke(app, ["train", str(path), "--no-progress", "--fresh"])
    assert stopped.exit_code == 1
    assert f"`asesc train {path}` goes on from the last complete epoch" in stopped.output
    monkeypatch.setenv("ASESC_MODELS", str(workplace / "out"))
    write("water.xyz", water(0))
    assert "model student" in asesc("run", "water.xyz", "--model", "student")


def test_paths_and_vectors():
    os.mkdir("models")
    assert [str(p) for p in output_paths("a/b.cif", None)] == ["b.traj", "b.png"]
    assert [str(p) for p in output_paths("b.cif", "run.1")] == ["run.1.traj", "run.1.png"]
    assert [str(p) for p in output_paths("w_0.96.cif.gz", None)] == ["w_0.96.traj", "w_0.96.png"]
    assert [str(p) for p in output_paths("b.cif", "c.traj")] == ["c.traj", "c.png"]
    assert [str(p) for p in output_paths("a/b.cif", "models/")] == ["models/b.traj", "models/b.png"]
    assert [str(p) for p in output_paths("a/b.cif", ".")] == ["b.traj", "b.png"]
    assert [str(p) for p in output_paths("a/b.cif", "..")] == ["../b.traj", "../b.png"]
    assert [str(p) for p in output_paths("a/b.cif", ".traj")] == ["b.traj", "b.png"]
    assert parse_vector("0, -1e-2,3") == [0.0, -0.01, 3.0]
    with pytest.raises(InputError, match="not three numbers"):
        parse_vector("0,0,x")


def test_the_record_keeps_every_step(workplace):
    from ase.calculators.emt import EMT

    atoms = molecule("N2", calculator=EMT())
    record = Record(atoms, workplace / "n2.traj")
    for shift in (0.0, 0.1, 0.2):
        atoms.positions[0, 2] += shift
        record()
    record.close()
    assert len(read("n2.traj", ":")) == 3
    assert os.path.getsize(record.plot(workplace / "n2.png", title="N2")) > 10_000
