"""Whether a calculation lies within what a model was trained for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase.data import chemical_symbols

from asesc.calculators.inputs import Given
from asesc.electrostatics import Boundary
from asesc.errors import ModelFormatError, ModelScopeError
from asesc.pretrained import ModelCard, list_models, model_card

_OVERRIDE = "Pass allow_extrapolation=True to go on at your own risk."


def check_elements(known: Iterable[int], numbers: Iterable[int], name: str) -> None:
    """Refuse elements that the model has no parameters for; there is no override.

    Raises
    ------
    ModelScopeError
        Names the elements, what the model knows and which other models know them.
    """
    known = set(known)
    unknown = sorted({int(z) for z in numbers} - known)
    if not unknown:
        return
    beyond = len(chemical_symbols)
    symbols = [chemical_symbols[z] if 0 <= z < beyond else f"atomic number {z}" for z in unknown]
    others = [card.name for card in _readable_cards() if set(symbols) <= set(card.elements)]
    are, them = ("is", "it") if len(symbols) == 1 else ("are", "them")
    raise ModelScopeError(
        f"{', '.join(symbols)} {are} not in model {name!r}, which knows "
        f"{' '.join(chemical_symbols[z] for z in sorted(known))}. Models that have {them}: "
        f"{', '.join(others) or 'none installed; train one with asesc train'}."
    )


def check_scope(card: ModelCard, *, charge: Given, field: Given, boundary: Boundary) -> None:
    """Refuse a charge, field or boundary outside the model's card.

    Raises
    ------
    ModelScopeError
        States the value, where it came from and the card's range.
    """
    low, high = card.charge_range
    if not low - 1e-9 <= charge.value <= high + 1e-9:
        raise ModelScopeError(
            f"charge {charge.value:+g} e (from {charge.source}) is outside the trained range "
            f"{card.charges} e of model {card.name!r}; nothing is known about its error "
            f"there. {_OVERRIDE}"
        )
    norm = float(np.linalg.norm(field.value))
    if norm > card.field_range + 1e-9:
        raise ModelScopeError(
            f"electric field of {norm:g} V/Å (from {field.source}) is outside the trained range "
            f"0 … {card.field_range:g} V/Å of model {card.name!r}; nothing is known about its "
            f"error there. {_OVERRIDE}"
        )
    if not set(card.boundaries) & boundary_names(boundary):
        raise ModelScopeError(
            f"boundary {boundary.name!r} is outside the scope of model {card.name!r}, trained for "
            f"{', '.join(card.boundaries)}. Set atoms.pbc accordingly, or {_OVERRIDE[0].lower()}"
            f"{_OVERRIDE[1:]}"
        )


def boundary_names(boundary: Boundary) -> set[str]:
    """Names of a boundary and of those it refines: another engine, the same physics."""
    parents = (kind for kind in type(boundary).__mro__ if issubclass(kind, Boundary))
    return {kind.name for kind in parents if kind is not Boundary}


def _readable_cards() -> Iterable[ModelCard]:
    for name in list_models():
        try:
            yield model_card(name)
        except ModelFormatError:
            # A damaged neighbour is no reason to hide the message about this model.
            continue
