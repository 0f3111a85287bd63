"""What importing the package costs, what it may import, and what it must never call."""

import ast
import statistics
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import asesc

PACKAGE = Path(asesc.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
#: Opens a checkpoint that the user trusts; runs in a process of its own, see below.
UNPICKLES = PACKAGE / "pretrained" / "unpickle_polar.py"


def run_python(code: str) -> str:
    """Standard output of a fresh interpreter in which warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_takes_less_than_half_a_second():
    code = "import time; t = time.perf_counter(); import asesc; print(time.perf_counter() - t)"
    assert statistics.median(float(run_python(code)) for _ in range(5)) < 0.5


@pytest.mark.parametrize(
    "code",
    [
        "import asesc",
        "import asesc.errors, asesc.units",
        "from asesc import list_models; list_models()",
        "from asesc.pretrained import load_model, model_card, save_model",
    ],
)
def test_light_imports_do_not_need_torch(code):
    heavy = "{'torch', 'mace', 'e3nn', 'phonopy', 'pymatgen', 'matplotlib'}"
    assert run_python(f"{code}; import sys; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_importing_mace_leaves_no_trace():
    """In a fresh process: here mace may have been imported long ago."""
    code = """if True:
        import os, logging, torch
        from asesc.models.backbone import Backbone

        def state():
            root = logging.getLogger()
            return dict(os.environ), torch.get_default_dtype(), root.level, len(root.handlers)

        before = state()
        Backbone(elements=[1], cutoff=3.0, channels=1, layers=1)
        assert state() == before, (before, state())
        import sys
        print("mace" in sys.modules)
    """
    assert run_python(code) == "True"


def test_unknown_attribute_lists_what_there_is():
    with pytest.raises(AttributeError, match=r"no attribute 'Calculator'.*SCCalculator"):
        _ = asesc.Calculator
    assert set(asesc.__all__) <= set(dir(asesc))


def test_layers_are_kept():
    """The contracts of setup.cfg; a wheel alone has no contracts to check."""
    checkout = Path(__file__).parents[1]
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ase_lists_the_calculator():
    assert [e.value for e in entry_points(group="ase.plugins", name="asesc")] == ["asesc"]
    (plugin,) = asesc.__ase_plugins__
    assert plugin.implementation is asesc.SCCalculator


FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load"}


def _unsafe(keyword: ast.keyword) -> bool:
    """A keyword that lets a loader run code; ``weights_only=True`` is what forbids it."""
    if keyword.arg == "weights_only":
        return not (isinstance(keyword.value, ast.Constant) and keyword.value.value is True)
    if keyword.arg == "allow_pickle":
        return not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    return False


def forbidden(tree: ast.AST) -> list[str]:
    """Uses of anything that may run code that a file contains."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            names = [ast.unparse(node.func)]
            found += [k.arg for k in node.keywords if _unsafe(k)]
        else:
            continue
        found += [n for n in names if n.split(".")[0] in FORBIDDEN_MODULES or n in FORBIDDEN_CALLS]
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_code_from_files(source):
    expected = ["weights_only", "torch.load"] if source == UNPICKLES else []
    assert forbidden(ast.parse(source.read_text(encoding="utf-8"))) == expected


def test_the_one_that_unpickles_is_imported_by_nothing():
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert UNPICKLES.stem not in ast.unparse(node), source


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from torch import load",
        "x = torch.load(f)",
        "eval('1')",
        "fit(weights_only=False)",
        "fit(weights_only=flag)",
    ],
)
def test_the_search_finds_what_it_looks_for(code):
    assert forbidden(ast.parse(code))


@pytest.mark.parametrize("code", ["import yaml", "fit(weights_only=True)"])
def test_the_search_leaves_alone_what_is_safe(code):
    assert not forbidden(ast.parse(code))
