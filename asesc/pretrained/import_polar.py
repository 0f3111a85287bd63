"""From a downloaded checkpoint of PolarMACE to a folder without code."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asesc.errors import AsescError, InputError, ModelFormatError
from asesc.pretrained.card import ModelCard
from asesc.pretrained.weights import save_model

if TYPE_CHECKING:
    from torch import Tensor

_SECONDS = 1800


@dataclass(frozen=True)
class Imported:
    """A converted model: its card, and the sha256 of the file that was read."""

    card: ModelCard
    sha256: str


def import_polar(
    file: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    name: str,
    trust: bool = False,
) -> Imported:
    """Convert a checkpoint of ``mace.modules.PolarMACE``, for example of MACE-POLAR-1.

    Such a file is a pickle: opening it runs whatever its author put in. It is opened in a process
    of its own, which hands back tensors and a configuration; the model is rebuilt here from these
    and verified by its checksum ever after. The process has your permissions: this keeps foreign
    code out of the running program and of all later ones, but not off your machine.

    Parameters
    ----------
    file
        The checkpoint.
    folder
        Of the model to be written.
    name
        Of the model in its card.
    trust
        Whether you trust the author of the file.

    Returns
    -------
    Imported
        Scope and texts of the card are those of MACE-POLAR-1; edit ``card.json`` for another one.

    Raises
    ------
    InputError
        No such file, or it is not trusted.
    SetupError
        The extra ``asesc[polar]`` is not installed.
    ModelFormatError
        It is not a checkpoint of PolarMACE, or of another version.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"there is no file {path}; download the checkpoint first")
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if not trust:
        raise InputError(
            f"{path} has sha256 {sha256}. It is a pickle: opening it runs whatever code its author "
            "put in, with your permissions. Compare the checksum with the one its author states, "
            "and pass --trust (trust=True) if you trust them"
        )
    card = _card(name, path.name, sha256)
    from asesc.models.mace_polar import MACEPolar, require_polar

    require_polar()
    with tempfile.TemporaryDirectory(prefix="asesc-") as temporary:
        _unpickle(data, Path(temporary), path)
        hyperparameters, weights = _read(Path(temporary), path)
    try:
        model = MACEPolar(**hyperparameters)
        model.set_dtype(next(iter(weights.values())).dtype).load_weights(weights)
    except (AsescError, LookupError, TypeError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    return Imported(save_model(model, folder, card), sha256)


def _unpickle(data: bytes, folder: Path, path: Path) -> None:
    """Let another interpreter open exactly the bytes whose checksum was taken."""
    command = [sys.executable, "-P", "-W", "ignore", "-m", "asesc.pretrained.unpickle_polar"]
    try:
        done = subprocess.run(
            [*command, str(folder)], input=data, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _unusable(path, f"opening it took more than {_SECONDS} s") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _unusable(path, lines[-1] if lines else f"exit code {done.returncode}")


def _read(folder: Path, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the other process left: configuration and tensors, neither of which can be code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        hyperparameters = json.loads((folder / "hyperparameters.json").read_text())
        return hyperparameters, load_file(folder / "weights.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise _unusable(path, str(error)) from error


def _unusable(path: Path, reason: str) -> ModelFormatError:
    return ModelFormatError(
        f"{path} could not be converted: {reason}. It must be a whole model as mace-torch 0.3.16 "
        "saves it (torch.save of a PolarMACE with one head), on a CPU or GPU"
    )


def _card(name: str, file: str, sha256: str) -> ModelCard:
    return ModelCard(
        name=name,
        level_of_theory="ωB97M-V/def2-TZVPD",
        training_data=f"OMol25, for MACE-POLAR-1; converted from {file}, sha256 {sha256}",
        charge_range=(-10.0, 10.0),
        field_range=0.0,
        boundaries=("open", "periodic"),
        errors={},
        limits=(
            "Theory, data and scope are those of MACE-POLAR-1 and were not read from the file: "
            "edit them for another checkpoint. Trained on molecules; its authors tested molecular "
            "crystals. Not self-consistent and not variational: the dipole of the density is not "
            "-dE/dfield. Open energies are invariant under rotation up to a few meV."
        ),
        licence="that of the checkpoint",
        citation="I. Batatia et al., MACE-POLAR-1, arXiv:2602.19411 (2026)",
    )
