"""Spin multiplicities."""

from __future__ import annotations

from torch import Tensor

from asesc.system import System


def multiplicity(system: System) -> Tensor:
    """2S + 1 of every structure: the given one, or the lowest of its number of electrons, (B,).

    One for an even number of electrons and two for an odd one; a fractional charge counts as the
    nearest integer.
    """
    if system.spin is not None:
        return system.spin
    electrons = system.sum(system.numbers.to(system.charge)) - system.charge.detach().round()
    return 1 + electrons % 2
