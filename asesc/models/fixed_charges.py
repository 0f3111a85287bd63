"""Fixed formal charges: the Coulomb baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from asesc.errors import InputError
from asesc.models.base import Model, Problem, State
from asesc.models.moments import coefficients_of, json_table, read_out_dipole
from asesc.solvers import READ_OUT


class FixedCharges(Model, family="FixedCharges"):
    """p_i = (q⁰ of the element, 0); E = E_short + ½⟨p, Jp⟩ − E_field·μ.

    No response of any kind; the charges of a structure must add up to its total charge. The
    polarisation Σ q⁰ r is defined for ions of integer charge, so that fields may point along
    periodic directions of neutral cells.

    Parameters
    ----------
    formal_charges : mapping of int or symbol to float, e
        Charge of every element.
    **common
        See :class:`~asesc.models.base.Model`; ``lmax`` is 0.
    """

    has_itinerant_polarisation: ClassVar[bool] = True
    has_variable_charge: ClassVar[bool] = False

    def __init__(self, *, formal_charges: Mapping[int | str, float], **common: Any) -> None:
        common.setdefault("lmax", 0)
        super().__init__(own={"formal_charges": json_table(formal_charges)}, **common)
        self.register_buffer("_charges", self._per_element(formal_charges, default=None))

    def solve(self, problem: Problem) -> State:
        system = problem.system
        charges = self._charges[self.backbone.index_of(system.numbers)]
        total = system.sum(charges)
        wrong = (total - system.charge).abs() > 1e-8
        if bool(wrong.any()):
            b = int(wrong.nonzero()[0])
            raise InputError(
                f"charge={float(system.charge[b]):g} but the fixed charges of structure {b} add up "
                f"to {float(total[b]):g} e; pass that charge or use a family that can change it"
            )
        coefficients = coefficients_of(charges, None, self.lmax)
        return State(
            coefficients=coefficients,
            dipole=read_out_dipole(system, coefficients),
            internal_energy=torch.zeros_like(system.charge),
            solution=READ_OUT,
        )
