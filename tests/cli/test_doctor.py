"""`asesc doctor`: green where all is well, red where it is not."""

import pytest
from shell import asesc
from typer.testing import CliRunner

from asesc.cli import app

pytestmark = pytest.mark.usefixtures("workplace")


def test_doctor_is_green(monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    output = asesc("doctor", "--model", "tiny")
    for part in ("torch", "device", "boundaries", "model tiny", "force − finite difference"):
        assert part in output
    assert "dE/dField + dipole" in output
    assert "DirectCoulomb, open boundary" in output
    assert "in 10 directions, one of them of all atoms" in output
    assert "backbone kernels" in output


def test_doctor_compares_other_kernels(monkeypatch):
    """A stand-in for an accelerator, once right and once wrong by a millionth."""
    from asesc.calculators import SCCalculator
    from asesc.cli.doctor import _kernel_check
    from asesc.cli.run import read_structure
    from asesc.models import kernels

    class Stand:
        name, error = "cuequivariance", 0.0

        def __init__(self, architecture):
            pass

        def __call__(self, mace, inputs):
            output = mace(inputs, compute_force=False)
            return output | {"node_energy": output["node_energy"] * (1 + self.error)}

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(kernels._ACCELERATORS, "cuequivariance", Stand)
    atoms = read_structure("tiny")
    atoms.calc = SCCalculator("tiny", kernels="cuequivariance")
    check = _kernel_check(atoms)
    assert check.passed and "forces differ by 0.0e+00 eV/Å" in check.value
    Stand.error = 1e-6
    arguments = ["doctor", "--model", "tiny", "--kernels", "cuequivariance"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "kernels disagree" in result.output


def test_doctor_sees_wrong_forces(monkeypatch):
    """Already an error of a ten-thousandth."""
    from asesc.calculators import SCCalculator

    forces = SCCalculator.get_forces

    def wrong(self, atoms=None):
        return forces(self, atoms) * (1 + 1e-4)

    monkeypatch.setattr(SCCalculator, "get_forces", wrong)
    result = CliRunner().invoke(app, ["doctor", "--model", "tiny"])
    assert result.exit_code == 1
    assert "forces are wrong" in " ".join(result.output.replace("│", " ").split())


def test_doctor_asks_for_models(monkeypatch, tmp_path):
    """A model without an example structure is not a test case; the exit code says what is red."""
    (tmp_path / "models" / "tiny" / "example.xyz").unlink()
    monkeypatch.setattr("asesc.pretrained.list_models", lambda: ["tiny"])
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "none found" in result.output
