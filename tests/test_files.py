"""Any file gives its frames or one error in words."""

import gzip
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.db import connect
from ase.io import write

from asesc.errors import InputError
from asesc.files import read_frames


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_frames_by_slices():
    write("a.xyz", [Atoms(symbol) for symbol in ("H", "O", "Si")])
    found = {
        index: [str(a.symbols) for a in read_frames("a.xyz", index)] for index in (":2", "-1:")
    }
    assert found == {":2": ["H", "O"], "-1:": ["Si"]}
    assert len(read_frames(Path("a.xyz"))) == 3


@pytest.mark.parametrize("name", ["water@300K.xyz", "water@2"])
def test_an_at_sign_belongs_to_the_name(name):
    """ASE takes what follows for the number of a frame."""
    write(name, molecule("H2O"), format="xyz")
    (water,) = read_frames(name)
    assert len(water) == 3


def cut(name: str, part: float) -> None:
    data = Path(name).read_bytes()
    Path(name).write_bytes(data[: int(part * len(data))])


def compressed(name):
    with gzip.open(name, "wt") as file:
        file.write("2\n\nH 0 0 0\nH 0 0 1\n" * 50)
    cut(name, 0.5)


def database(name):
    connect(name).write(molecule("H2O"))
    cut(name, 0.5)


def loop(name):
    write(name, bulk("Si"))
    cut(name, 0.98)


def scaled(name):
    write(name, bulk("Si"), format="vasp")
    lines = Path(name).read_text().splitlines()
    Path(name).write_text("\n".join([lines[0], "1 2", *lines[2:]]))


def half(name):
    write(name, bulk("Si"))
    cut(name, 0.5)


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("a.xyz.gz", compressed),  # EOFError
        ("a.db", database),  # sqlite3.DatabaseError
        ("a.cif", loop),  # RuntimeError
        ("POSCAR", scaled),  # RuntimeError
        ("a.xsf", half),  # AssertionError or RuntimeError
        ("a.traj", half),  # OSError or MemoryError
    ],
)
def test_a_damaged_file_is_one_error(name, damaged):
    damaged(name)
    with pytest.raises(InputError, match=f"ASE cannot read '{name}', which may be damaged: ."):
        read_frames(name)


def test_nothing_to_read():
    Path("a.xyz").write_text("")
    with pytest.raises(InputError, match=r"does not know the format of 'a\.xyz': Empty file"):
        read_frames("a.xyz")
    Path("notes.txt").write_text("not a structure")
    with pytest.raises(InputError, match="does not know the format"):
        read_frames("notes.txt")
    with pytest.raises(InputError, match=r"cannot open 'none\.xyz': No such file"):
        read_frames("none.xyz")
