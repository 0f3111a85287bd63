"""Restart files: a run that was killed goes on as if it had not been."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from ase import Atoms

from asesc.errors import InputError
from asesc.md.calculator import DynamicsCalculator


def save_restart(
    path: str | os.PathLike[str], atoms: Atoms, *, step: int = 0, rng: Any = None
) -> None:
    """Write positions, momenta, cell and the history of the density, never half a file.

    Parameters
    ----------
    path : str or path
        ``.npz``; replaced in one operation once the new file is complete.
    atoms : Atoms
        After a step, with the forces of its positions computed.
    step : int
        Of the dynamics, returned by :func:`load_restart`.
    rng : numpy.random.Generator or RandomState, optional
        Of a thermostat.

    Raises
    ------
    InputError
        If ``rng`` is something else, whose state cannot be saved.

    Notes
    -----
    The file holds what the last step started from, so that on loading its forces are computed once
    more to the last bit.
    """
    path = Path(path)
    values = {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "momenta": atoms.get_momenta(),
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "step": np.array(step),
        "rng": np.array(json.dumps(_state(rng), default=_plain)),
    }
    if isinstance(atoms.calc, DynamicsCalculator):
        values |= {f"history/{name}": value for name, value in atoms.calc.arrays().items()}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, **values)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_restart(path: str | os.PathLike[str], atoms: Atoms, *, rng: Any = None) -> int:
    """Put atoms, their calculator and the random numbers where the file says; returns the step.

    Parameters
    ----------
    atoms : Atoms
        The same atoms with their calculator, at any positions.
    rng : numpy.random.Generator or RandomState, optional
        Of the kind that was saved.

    Raises
    ------
    InputError
        If the file belongs to other atoms or another kind of random numbers, or is damaged.
    """
    try:
        with Path(path).open("rb") as stream:
            if not is_zipfile(stream):
                raise ValueError("it is no .npz archive, or was cut off")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                values = {name: file[name] for name in file.files}
        numbers = values["numbers"]
        saved = json.loads(str(values["rng"]))
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} is not a complete restart file: {error}") from error
    if not np.array_equal(numbers, atoms.numbers):
        raise InputError(
            f"{path} holds {len(numbers)} atoms with other numbers than these {len(atoms)}; load "
            "it into the atoms that it was saved from"
        )
    if (_state(rng) is None) != (saved is None):
        raise InputError(
            f"{path} was saved {'without' if saved is None else 'with'} random numbers; pass "
            "rng=… both when saving and when loading, or neither"
        )
    atoms.set_cell(values["cell"])
    atoms.set_pbc(values["pbc"])
    atoms.set_positions(values["positions"], apply_constraint=False)
    atoms.set_momenta(values["momenta"], apply_constraint=False)
    if rng is not None:
        _set_state(rng, saved)
    history = {
        name.removeprefix("history/"): value
        for name, value in values.items()
        if name.startswith("history/")
    }
    if history and isinstance(atoms.calc, DynamicsCalculator):
        atoms.calc.restore(atoms, history)
    return int(values["step"])


def _state(rng: Any) -> dict[str, Any] | None:
    if rng is None:
        return None
    if isinstance(rng, np.random.RandomState):
        return rng.get_state(legacy=False)
    if isinstance(rng, np.random.Generator):
        return rng.bit_generator.state
    raise InputError(
        f"rng={rng!r} is neither a numpy.random.Generator nor a RandomState, so that nothing of it "
        "can be saved; give the thermostat np.random.default_rng(seed), and pass that"
    )


def _set_state(rng: Any, state: dict[str, Any]) -> None:
    if "key" in state.get("state", {}):
        state["state"]["key"] = np.array(state["state"]["key"], dtype=np.uint32)
    try:
        if isinstance(rng, np.random.RandomState):
            rng.set_state(state)
        else:
            rng.bit_generator.state = state
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the random numbers were saved from {state.get('bit_generator')}, and {rng} is of "
            "another kind"
        ) from error


def _plain(value: Any) -> Any:
    return value.tolist()
