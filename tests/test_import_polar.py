"""Checkpoints of PolarMACE: opened elsewhere, and only if trusted."""

import hashlib
import json
import os
import warnings

import pytest
import torch
from ase.build import molecule
from ase.io import read, write
from polar import needs_polar, polar_mace
from typer.testing import CliRunner

from asesc.cli import app
from asesc.errors import InputError, ModelFormatError
from asesc.models import MACEPolar
from asesc.pretrained import load_model, model_card
from asesc.pretrained.import_polar import import_polar
from asesc.testing import example_system


class Marker:
    """Its pickle writes the number of the process that opens it into a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        code = f"open({str(self._path)!r}, 'w').write(str(__import__('os').getpid()))"
        return exec, (code,)


@pytest.fixture
def marked(tmp_path):
    """A checkpoint with code in it, and the file by which the code shows itself."""
    mark = tmp_path / "mark"
    checkpoint = tmp_path / "polar.model"
    torch.save(Marker(mark), checkpoint)
    return checkpoint, mark


def convert(*arguments):
    return CliRunner().invoke(app, ["models", "import-polar", *map(str, arguments)])


def test_without_trust_nothing_is_opened(marked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint, mark = marked
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    error = convert(checkpoint).exception
    assert isinstance(error, InputError)
    assert f"has sha256 {digest}. It is a pickle: opening it runs whatever code" in str(error)
    assert "pass --trust" in str(error)
    assert not mark.exists() and not (tmp_path / "polar").exists()


@needs_polar
def test_what_is_trusted_is_opened_in_another_process(marked, tmp_path):
    checkpoint, mark = marked
    with pytest.raises(ModelFormatError, match="need a mace PolarMACE module, got NoneType"):
        import_polar(checkpoint, tmp_path / "model", name="model", trust=True)
    assert int(mark.read_text()) != os.getpid()
    assert not (tmp_path / "model").exists()


def test_files_and_folders_are_looked_at_first(marked, tmp_path):
    checkpoint, _ = marked
    missing = convert(tmp_path / "none.model", "--trust").exception
    assert "there is no file" in str(missing)
    assert "exists already" in str(convert(checkpoint, "--output", tmp_path).exception)


@needs_polar
def test_a_checkpoint_becomes_a_folder_without_code(tmp_path, monkeypatch):
    """As published: a compiled module in single precision, saved whole."""
    monkeypatch.chdir(tmp_path)
    module = polar_mace.__wrapped__(multipoles=0, compiled=True).to(torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(module, "MACE-POLAR-0.model")
    environment = dict(os.environ)
    result = convert("MACE-POLAR-0.model", "--trust")
    assert result.exit_code == 0, result.exception
    assert os.environ == environment
    digest = hashlib.sha256((tmp_path / "MACE-POLAR-0.model").read_bytes()).hexdigest()
    assert f"read MACE-POLAR-0.model, sha256 {digest}" in result.output
    folder = tmp_path / "mace-polar-0"
    assert {f.name for f in folder.iterdir()} == {"card.json", "weights.safetensors"}
    card = model_card(folder)
    assert (card.family, card.elements) == ("MACEPolar", ("H", "O", "Si"))
    assert digest in card.training_data
    json.loads((folder / "card.json").read_text())
    again = load_model(folder)
    system = example_system((14, 8, 1), (False, False, False))
    direct = MACEPolar.from_mace(module.to(torch.float64))
    torch.testing.assert_close(again(system).energy, direct(system).energy, rtol=0, atol=1e-5)
    write("water.xyz", molecule("H2O", info={"multiplicity": 5}))
    command = ["run", "water.xyz", "--model", "./mace-polar-0", "--spin", "3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    assert read("water.traj").get_magnetic_moments().sum() == pytest.approx(2)
