"""The backbone compiled by torch: the same numbers, or the ordinary module and a warning."""

import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from builders import NUMBERS

from asesc import SCCalculator
from asesc.errors import SetupError
from asesc.models import FAMILIES, compiled
from asesc.testing import example_system

BACKBONE = {"elements": [1, 8, 14], "channels": 2, "cutoff": 3.6, "radial_width": 8, "edge_lmax": 1}
WANTED = ("energy", "forces", "stress")
needs_compiler = pytest.mark.skipif(
    not compiled.has_compiler(), reason="torch finds no C++ compiler"
)


def structure() -> Atoms:
    system = example_system(NUMBERS, (True,) * 3)
    cell = system.cell[0].numpy()
    atoms = Atoms(NUMBERS, positions=system.positions.numpy(), cell=cell, pbc=True)
    return atoms.repeat((3, 2, 1))


def calculators(**keywords) -> tuple[SCCalculator, SCCalculator]:
    torch.manual_seed(4)
    model = FAMILIES["SplitChargeEquilibration"](backbone=BACKBONE).requires_grad_(False)
    return SCCalculator(model, kernels="compiled", **keywords), SCCalculator(model, **keywords)


def require_equal(a: SCCalculator, b: SCCalculator, atoms: Atoms, limit: float = 1e-10) -> None:
    first, second = a.evaluate(atoms, WANTED).results, b.evaluate(atoms, WANTED).results
    for name in WANTED:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=limit, err_msg=name)


@needs_compiler
def test_the_numbers_are_the_same():
    """One compilation for every size; second derivatives, for which compiled code has none."""
    fast, ordinary = calculators()
    atoms = structure()
    with torch._dynamo.config.patch(error_on_recompile=True):
        require_equal(fast, ordinary, atoms)
        assert fast.model.backbone.accelerator._made.function is not None
        require_equal(fast, ordinary, atoms.repeat((1, 1, 2)))
        require_equal(fast, ordinary, atoms[:3])
        for name in ("get_born_effective_charges", "get_dielectric_tensor"):
            a, b = (getattr(calc, name)(atoms) for calc in (fast, ordinary))
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


def broken(monkeypatch, function) -> None:
    monkeypatch.setattr(compiled, "_compiled", function)


def test_without_a_compiler_the_ordinary_module_goes_on(monkeypatch):
    def fails(mace, architecture):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    broken(monkeypatch, fails)
    fast, ordinary = calculators()
    with pytest.warns(UserWarning, match=r"goes on with kernels='torch'.*No working C"):
        require_equal(fast, ordinary, structure(), 1e-12)


def test_wrong_numbers_are_found_out(monkeypatch, recwarn):
    """An error in the derivative alone, of one part in a million."""

    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return (1 + 1e-6) * gradient

    def wrong(mace, architecture):
        core = compiled._core(compiled._traceable(architecture).requires_grad_(False))
        return lambda vectors, attrs, edges: core(Off.apply(vectors), attrs, edges)

    def copied(mace, architecture):
        module = compiled._traceable(architecture).requires_grad_(False)
        module.load_state_dict(mace.state_dict(), strict=False)
        core = compiled._core(module)
        return lambda vectors, attrs, edges: core(Off.apply(vectors), attrs, edges)

    for function in (wrong, copied):
        broken(monkeypatch, function)
        fast, ordinary = calculators()
        require_equal(fast, ordinary, structure(), 1e-12)
    deviations = [float(str(w.message).split("deviate by ")[1].split(". ")[0]) for w in recwarn]
    assert deviations[0] > 0.1
    assert deviations[1] == pytest.approx(1e-6, rel=0.01)


def test_nothing_is_compiled_for_atoms_without_neighbours(monkeypatch):
    broken(monkeypatch, lambda *a: pytest.fail("compiled"))
    fast, ordinary = calculators()
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 9]])
    assert fast.evaluate(atoms).results["energy"] == ordinary.evaluate(atoms).results["energy"]


def test_changed_weights_are_compiled_again(monkeypatch):
    made = []

    def counted(mace, architecture):
        made.append(architecture)
        return lambda vectors, attrs, edges: (_ for _ in ()).throw(RuntimeError("no"))

    broken(monkeypatch, counted)
    fast, _ = calculators()
    with pytest.warns(UserWarning, match="cannot be compiled"):
        fast.evaluate(structure())
    moved = structure()
    moved.rattle(0.01)
    fast.evaluate(moved)
    assert len(made) == 1
    with torch.no_grad():
        for weight in fast.model.parameters():
            weight.mul_(1.01)
    with pytest.warns(UserWarning, match="cannot be compiled"):
        fast.evaluate(structure())
    assert len(made) == 2


def test_a_pickle_holds_no_code():
    fast, _ = calculators()
    again = pickle.loads(pickle.dumps(fast))
    assert again.model.kernels == fast.clone().model.kernels == "compiled"
    assert again.model.backbone.accelerator._made is None


def test_a_gpu_is_refused():
    inputs = {"shifts": torch.empty(3, 3, device="meta"), "edge_index": None}
    with pytest.raises(SetupError, match=r"is for CPUs.*meta.*cuequivariance"):
        compiled.Compiled({})(None, inputs)
