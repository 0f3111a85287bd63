"""From a model's name to its folder.

Searched in this order: the folders in the environment variable ``ASESC_MODELS`` (separated as in
``PATH``), the checkout's ``models/``, and ``share/asesc/models`` where the wheel was installed:
beside the package (``pip install --target``) or below the environment's or the user's prefix.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from asesc.errors import ModelFormatError, ModelNotFoundError, did_you_mean
from asesc.pretrained.card import ModelCard

CARD = "card.json"
WEIGHTS = "weights.safetensors"

_PICKLES = frozenset({".pt", ".pth", ".model", ".pkl", ".pickle", ".ckpt"})


def list_models() -> list[str]:
    """Names of all models that can be loaded by name, sorted; does not import torch."""
    return sorted(
        {
            card.parent.name
            for folder in _search_path()
            if folder.is_dir()
            for card in folder.glob(f"*/{CARD}")
        }
    )


def model_card(name: str | os.PathLike[str]) -> ModelCard:
    """Card of a model, without opening its weights; does not import torch.

    Parameters
    ----------
    name
        Name in the registry, or path of a model's folder.

    Raises
    ------
    ModelNotFoundError
        No such name or folder.
    ModelFormatError
        The card breaks a rule of :class:`ModelCard`.
    """
    return read_card(find_model(name))


def read_card(folder: Path) -> ModelCard:
    """Card of the model in a folder that :func:`find_model` returned."""
    path = folder / CARD
    return ModelCard.from_json(path.read_text(encoding="utf-8"), source=str(path))


def find_model(name: str | os.PathLike[str]) -> Path:
    """Folder of a model.

    A text without a path separator is looked up in the registry first, so a shipped model is not
    shadowed by a folder of the same name in the working directory; write ``./name`` for that one.

    Parameters
    ----------
    name
        Name in the registry, or path of a model's folder.

    Raises
    ------
    ModelNotFoundError
        No such name or folder; the message suggests the nearest name.
    ModelFormatError
        It is a pickle, or not a model's folder.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() in _PICKLES:
        raise _pickle_refused(path)
    if isinstance(name, str) and path.name == name:
        for folder in _search_path():
            if (folder / name / CARD).is_file():
                return folder / name
    # An empty text would be the working directory.
    if (path / CARD).is_file() and os.fspath(name):
        return path
    if path.exists() and os.fspath(name):
        raise _not_a_model(path)
    raise ModelNotFoundError(
        f"No model {os.fspath(name)!r}.{did_you_mean(path.name, list_models())} "
        f"Models by name: {', '.join(list_models()) or 'none'}. Searched: "
        f"{', '.join(str(folder) for folder in _search_path())}. Give one of these names or the "
        "path of a model's folder, or add the folder that contains it to ASESC_MODELS."
    )


def _search_path() -> list[Path]:
    """Folders that may contain models, first wins."""
    given = os.environ.get("ASESC_MODELS", "").split(os.pathsep)
    beside = Path(__file__).resolve().parents[2]
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    return [
        *(Path(folder).expanduser() for folder in given if folder),
        *([beside / "models"] if (beside / "setup.cfg").is_file() else []),
        beside / "share/asesc/models",
        *(Path(sysconfig.get_path("data", scheme)) / "share/asesc/models" for scheme in schemes),
    ]


def _pickle_refused(path: Path) -> ModelFormatError:
    return ModelFormatError(
        f"{path} is a pickle by its name. Opening a pickle runs whatever code its author put in, "
        f"so asesc opens only folders with {WEIGHTS} and {CARD}. Load it in a throw-away process "
        "with the program that wrote it, and write the folder with asesc.pretrained.save_model; "
        "for MACE-POLAR-1 'asesc models import-polar' does that."
    )


def _not_a_model(path: Path) -> ModelFormatError:
    if path.is_file():
        return ModelFormatError(
            f"{path} is a file, but a model is a folder with {WEIGHTS} and {CARD}: "
            f"give its folder, {str(path.parent)!r}."
        )
    pickles = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICKLES)
    if pickles:
        return _pickle_refused(pickles[0])
    return ModelFormatError(
        f"The folder {path} has no {CARD}, so nothing says what the model is and where it holds. "
        "Write the folder with asesc.pretrained.save_model."
    )
