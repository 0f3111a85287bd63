"""Numbers that options take as text."""

from __future__ import annotations

from math import isfinite

from asesc.errors import InputError


def integers(text: str, option: str, *, count: int | None = None) -> tuple[int, ...]:
    """Integers separated by commas; if wanted, so many of them.

    >>> integers("0,+1,2", "--charges")
    (0, 1, 2)
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or count not in (None, len(numbers)):
        wanted = "integers" if count is None else f"{count} integers"
        raise InputError(f"{option} {text!r} is not {wanted} separated by commas, e.g. 2,2,2")
    return numbers


def direction(text: str, option: str) -> list[float]:
    """Three numbers separated by commas, not all zero.

    >>> direction("0,0,1", "--directions")
    [0.0, 0.0, 1.0]
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not any(numbers) or not all(map(isfinite, numbers)):
        raise InputError(
            f"{option}: {text!r} is not a direction x,y,z; e.g. '1,0,0;0,0,1' for two of them"
        )
    return numbers
