"""The model card: what a model is, what it was trained for and how well it does there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from typing import Any, NoReturn

from ase.data import atomic_numbers

from asesc.errors import ModelFormatError, did_you_mean
from asesc.units import UNITS


@dataclass(frozen=True)
class Measure:
    """A number with its unit, for example a root-mean-square error of 25 meV/Å."""

    value: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything about a model but its weights; ``card.json`` has exactly these keys.

    Parameters
    ----------
    name : str
        Name in the registry and of the model's folder: lower-case letters, digits, ``. _ -``.
    level_of_theory, training_data, limits, licence, citation : str
        Text for the reader; ``limits`` says in words where not to trust the model.
    charge_range : tuple of 2 float, e
        Smallest and largest total charge in the training data.
    field_range : float, V/Å
        Largest norm of the applied field in the training data; 0 for none.
    boundaries : tuple of str
        Names of the boundaries that the model may be used with.
    errors : mapping of label to Measure
        Root-mean-square errors on the validation data; in families that are not variational also
        ``dipole_mismatch`` and ``fermi_level_mismatch``, see :mod:`asesc.response.conjugacy`.
    units : mapping of quantity to unit
        Must agree with :data:`asesc.units.UNITS`.
    family, hyperparameters, elements, asesc_version, sha256
        Filled in by :func:`asesc.pretrained.save_model`: class of the model, its constructor's
        keywords, chemical symbols, version that wrote the card, and the checksum of everything
        that decides a number, see :meth:`checksum`.

    Raises
    ------
    ModelFormatError
        A value breaks one of these rules; the message names the key, the value and the rule.
    """

    name: str
    level_of_theory: str
    training_data: str
    charge_range: tuple[float, float]
    field_range: float
    boundaries: tuple[str, ...]
    errors: Mapping[str, Measure]
    limits: str
    licence: str
    citation: str
    units: Mapping[str, str] = field(default_factory=lambda: dict(UNITS))
    family: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    elements: tuple[str, ...] = ()
    asesc_version: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        for key, rule, holds in _rules(self):
            if not holds:
                raise ModelFormatError(
                    f"Model card {self.name!r}: {key!r} is {getattr(self, key)!r}, but it must be "
                    f"{rule}. The calculator relies on it; correct the card."
                )

    @property
    def charges(self) -> str:
        """Range of the total charge as text: ``"0"``, ``"+1"`` or ``"-1 … +1"``, in e."""
        ends = dict.fromkeys(f"{end:+g}" if end else "0" for end in self.charge_range)
        return " … ".join(ends)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> ModelCard:
        """Read a complete card as :func:`~asesc.pretrained.save_model` writes it.

        Parameters
        ----------
        text
            Contents of ``card.json``.
        source
            Where it came from, for the messages.

        Raises
        ------
        ModelFormatError
            Not JSON, missing or unknown keys, or a value against the rules.
        """
        card = cls(**_revive(_parse(text, source)))
        unsaved = [key for key in _WRITTEN_BY_SAVE if not getattr(card, key)]
        if unsaved:
            raise ModelFormatError(
                f"{source} has nothing under {', '.join(unsaved)}: without these the weights "
                "cannot be verified and rebuilt. Write the folder with asesc.pretrained.save_model."
            )
        return card

    def checksum(self, weights: bytes) -> str:
        """sha256 of everything that decides a number, see :func:`checksum`.

        Texts, scope and errors may be edited without it; what they describe may not.
        """
        return checksum(self.family, self.hyperparameters, weights)

    def to_json(self) -> str:
        """Contents of ``card.json``: the same card always gives the same text."""
        return _json(asdict(self), repr(self.name)) + "\n"


def checksum(family: str, hyperparameters: Mapping[str, Any], weights: bytes) -> str:
    """sha256 of family and hyperparameters in canonical JSON, followed by the weights file."""
    # Through JSON once: afterwards all keys are texts, also where they are sorted.
    plain = json.loads(_json([family, hyperparameters], "of the hyperparameters"))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode() + weights).hexdigest()


def _json(value: Any, name: str) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(
            f"Model card {name} cannot be written as JSON: {error}. Hyperparameters and "
            "errors must be plain finite numbers, strings, lists and dictionaries."
        ) from error


_WRITTEN_BY_SAVE = ("family", "elements", "asesc_version", "sha256")
_NAME = r"[a-z0-9][a-z0-9._-]*"
#: Entries of a card that its author writes.
TEXTS = ("level_of_theory", "training_data", "limits", "licence", "citation")


def _rules(card: ModelCard) -> Iterator[tuple[str, str, bool]]:
    """Yield key, rule in words and whether it holds."""
    yield "name", "lower-case letters, digits and . _ -", _matches(card.name, _NAME)
    for key in TEXTS:
        text = getattr(card, key)
        yield key, "a non-empty text", isinstance(text, str) and bool(text.strip())
    yield from _rules_of_scope(card)
    yield from _rules_of_content(card)


def _rules_of_scope(card: ModelCard) -> Iterator[tuple[str, str, bool]]:
    """Where the model may be used, and in which units it answers."""
    charges = card.charge_range
    is_range = isinstance(charges, tuple) and len(charges) == 2 and all(map(_is_finite, charges))
    ordered = is_range and charges[0] <= charges[1]
    yield "charge_range", "two numbers in e, the smaller first", ordered
    yield "field_range", "a number of V/Å, at least 0", _is_size(card.field_range)
    yield "boundaries", "a list of boundary names", _is_texts(card.boundaries, at_least=1)
    distinct = _is_texts(card.elements) and len(set(card.elements)) == len(card.elements)
    known = distinct and all(symbol in atomic_numbers for symbol in card.elements)
    yield "elements", "distinct chemical symbols", known
    ours = isinstance(card.units, Mapping) and card.units.items() <= UNITS.items()
    yield "units", f"units of asesc, {dict(UNITS)}", ours


def _rules_of_content(card: ModelCard) -> Iterator[tuple[str, str, bool]]:
    """What the model is and how well it does."""
    errors = card.errors.values() if isinstance(card.errors, Mapping) else (None,)
    measured = all(_is_measure(error) for error in errors)
    yield "errors", "label: {value: finite and at least 0, unit: text}", measured
    yield "family", "a text", isinstance(card.family, str)
    yield "hyperparameters", "a dictionary", isinstance(card.hyperparameters, Mapping)
    yield "asesc_version", "a text", isinstance(card.asesc_version, str)
    sealed = card.sha256 == "" or _matches(card.sha256, r"[0-9a-f]{64}")
    yield "sha256", "64 hexadecimal digits", sealed


def _is_measure(value: object) -> bool:
    return isinstance(value, Measure) and _is_size(value.value) and isinstance(value.unit, str)


def _matches(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_size(value: object) -> bool:
    return _is_finite(value) and value >= 0


def _is_texts(value: object, *, at_least: int = 0) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) >= at_least
        and all(isinstance(text, str) and text for text in value)
    )


def _parse(text: str, source: str) -> dict[str, Any]:
    """JSON object with exactly the keys of a card."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a finite number")

    try:
        entries = json.loads(text, parse_constant=refuse)
    except ValueError as error:
        raise ModelFormatError(
            f"{source} is not valid JSON: {error}. The file is damaged or was edited by hand; "
            "fetch the model again."
        ) from error
    keys = [f.name for f in fields(ModelCard)]
    if not isinstance(entries, dict):
        raise ModelFormatError(f"{source} must hold one JSON object with the keys {keys}.")
    for key in entries:
        if key not in keys:
            raise ModelFormatError(
                f"{source} has the unknown key {key!r}.{did_you_mean(key, keys)} "
                "It may come from a newer asesc: pip install --upgrade asesc."
            )
    missing = [key for key in keys if key not in entries]
    if missing:
        raise ModelFormatError(
            f"{source} lacks {', '.join(missing)}; the scope of the model would be unknown. "
            "Complete the card or fetch the model again."
        )
    return entries


def _revive(entries: dict[str, Any]) -> dict[str, Any]:
    """Turn JSON's lists and dictionaries back into tuples and measures, where they are such."""
    revived = {
        k: tuple(v) if k in _TUPLES and isinstance(v, list) else v for k, v in entries.items()
    }
    if isinstance(entries["errors"], dict):
        revived["errors"] = {
            label: Measure(**error)
            if isinstance(error, dict) and error.keys() == {"value", "unit"}
            else error
            for label, error in entries["errors"].items()
        }
    return revived


_TUPLES = ("charge_range", "boundaries", "elements")
