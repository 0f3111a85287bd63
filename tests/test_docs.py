"""Every example in a docstring is run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import asesc

ROOT = Path(__file__).parents[1]
MODULES = ["asesc", *(m.name for m in pkgutil.walk_packages(asesc.__path__, "asesc."))]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    if name == "asesc.torchsim":
        pytest.importorskip("torch_sim", reason="it is built on TorchSim's interface")
    if name == "asesc.electrostatics.stencil_loops":
        pytest.importorskip("numba", reason="it is what numba compiles")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_first_example_of_the_readme(monkeypatch, capsys):
    """Energy, forces, stress, Born charges and ε∞ of quartz, as a newcomer types it."""
    monkeypatch.chdir(ROOT)
    first = re.search("```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(first[1], names)
    crystal = names["crystal"]
    assert crystal.calc.extras["electric_field"].tolist() == [0, 0, 0.05]
    assert str(crystal.get_potential_energy()) in capsys.readouterr().out
    assert abs(crystal.calc.extras["acoustic_sum_error"]).max() < 1e-6
