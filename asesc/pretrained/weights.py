"""Between a model in memory and its folder: every load verifies, every save is reproducible.

torch is imported inside the functions: listing models and reading cards does not wait for it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ase.data import atomic_numbers, chemical_symbols

from asesc import __version__
from asesc.errors import InputError, ModelFormatError, did_you_mean
from asesc.pretrained.card import ModelCard
from asesc.pretrained.registry import CARD, WEIGHTS, find_model, read_card

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from asesc.models import Potential


def load_model(
    name: str | os.PathLike[str],
    *,
    dtype: str | torch.dtype = "float64",
    device: str | torch.device = "cpu",
) -> Potential:
    """Rebuild a trained model from its card and fill in the verified weights.

    Parameters
    ----------
    name
        Name in the registry, or path of a model's folder.
    dtype
        ``"float64"`` or ``"float32"``; weights stored in another precision are cast.
    device
        Any torch device.

    Returns
    -------
    Potential
        In evaluation mode. The global default dtype and random state are as before.

    Raises
    ------
    ModelNotFoundError
        No such name or folder; the message suggests the nearest name.
    ModelFormatError
        Checksum, card, family or tensors are not what they must be; or the file is a pickle.
    """
    precision = _precision(dtype)
    folder = find_model(name)
    card = read_card(folder)
    tensors = _verified_tensors(folder / WEIGHTS, card)
    model = _build(card)
    _fill(model, tensors, card)
    return model.set_dtype(precision).to(device).eval()


def save_model(model: Potential, folder: str | os.PathLike[str], card: ModelCard) -> ModelCard:
    """Write a model's folder; the same model and card always give the same bytes.

    Each of the two files is replaced atomically, the card last: an interrupted save is noticed by
    the checksum and never loads as a mixture.

    Parameters
    ----------
    model
        Its parameters are stored in the precision that they have; constants are rebuilt at load.
    folder
        Created where needed; existing files of a model in it are replaced.
    card
        What the author knows; family, hyperparameters, elements, version and checksum are taken
        from the model.

    Returns
    -------
    ModelCard
        The card as written.

    Raises
    ------
    ModelFormatError
        A tensor is not finite, or the hyperparameters cannot be written as JSON.
    """
    from safetensors.torch import save

    tensors = {
        # safetensors refuses tensors that share memory or have gaps
        name: tensor.cpu().contiguous().clone()
        for name, tensor in model.weights().items()
    }
    _check_finite(tensors, f"Model {card.name!r}")
    weights = save(tensors)
    complete = replace(
        card,
        family=model.family,
        hyperparameters=dict(model.hyperparameters),
        elements=tuple(chemical_symbols[number] for number in model.elements),
        asesc_version=__version__,
    )
    complete = replace(complete, sha256=complete.checksum(weights))
    text = complete.to_json()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _replace_file(folder / WEIGHTS, weights)
    _replace_file(folder / CARD, text.encode())
    return complete


def _precision(dtype: str | torch.dtype) -> torch.dtype:
    import torch

    known = {"float64": torch.float64, "float32": torch.float32}
    if dtype in known.values():
        return dtype
    if dtype not in known:
        raise InputError(
            f"dtype is {dtype!r}, but a model computes in 'float64' (the default, exact "
            "derivatives) or 'float32' (faster on GPUs); choose one of these."
        )
    return known[dtype]


def _verified_tensors(path: Path, card: ModelCard) -> dict[str, Tensor]:
    """Tensors of the weights file, read once so that what was checked is what is used."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise ModelFormatError(
            f"{path.parent} has a card but no {WEIGHTS}: the copy is incomplete. Fetch it again."
        )
    data = path.read_bytes()
    # torch.save writes zip archives or bare pickles; byte 8 of a safetensors file is a brace.
    if data.startswith((b"PK\x03\x04", b"\x80")) and data[8:9] != b"{":
        raise ModelFormatError(
            f"{path} is a pickle (torch.save) under another name. Opening it would run whatever "
            "code its author put in. Load it in a throw-away process and write the folder with "
            "asesc.pretrained.save_model."
        )
    found = card.checksum(data)
    if found != card.sha256:
        raise ModelFormatError(
            f"{path} ({len(data)} bytes) with family and hyperparameters of its card has sha256 "
            f"{found}, but the card says {card.sha256}: the weights are damaged, incomplete or of "
            "another model, or the card was edited, and results would be wrong without a sign of "
            "it. Fetch the folder again, or save the model again."
        )
    try:
        return load(data)
    except SafetensorError as error:
        raise ModelFormatError(
            f"{path} is not a safetensors file: {error}. Save the model again with "
            "asesc.pretrained.save_model."
        ) from error


def _build(card: ModelCard) -> Potential:
    """Model of the card's family with fresh weights, leaving the random state as it was."""
    import torch

    from asesc.models import FAMILIES

    if card.family not in FAMILIES:
        raise ModelFormatError(
            f"Model {card.name!r} is of the family {card.family!r}, which this asesc does not have."
            f"{did_you_mean(card.family, FAMILIES)} Families: {', '.join(FAMILIES)}. "
            f"{_versions(card)}"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            model = FAMILIES[card.family](**card.hyperparameters)
    # What a constructor may raise on values that it was never meant to get.
    except (
        ArithmeticError,
        AttributeError,
        InputError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ModelFormatError(
            f"Model {card.name!r}: {card.family} does not accept the hyperparameters "
            f"{dict(card.hyperparameters)}: {error}. {_versions(card)}"
        ) from error
    listed = sorted(atomic_numbers[symbol] for symbol in card.elements)
    if sorted(model.elements) != listed:
        raise ModelFormatError(
            f"Model {card.name!r}: the card lists the elements {', '.join(card.elements)}, but the "
            f"hyperparameters give {', '.join(chemical_symbols[z] for z in model.elements)}. "
            "The scope would be checked against the wrong list; save the model again."
        )
    return model


def _fill(model: Potential, tensors: dict[str, Tensor], card: ModelCard) -> None:
    """Copy stored tensors into the model after checking names, shapes and values."""
    _check_finite(tensors, f"Model {card.name!r}")
    try:
        model.load_weights(tensors)
    except ModelFormatError as error:
        raise ModelFormatError(f"Model {card.name!r}: {error}. {_versions(card)}") from error


def _check_finite(tensors: dict[str, Tensor], source: str) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ModelFormatError(
                f"{source}: tensor {name!r} has {bad} of {tensor.numel()} values that are NaN or "
                "infinite, so every energy would be. The training diverged; take an earlier "
                "checkpoint or lower the learning rate."
            )


def _versions(card: ModelCard) -> str:
    return (
        f"Written by asesc {card.asesc_version}, read by asesc {__version__}: install the version "
        "that wrote it, or save the model again."
    )


def _replace_file(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
