"""Charges, dipoles and coefficients: the bookkeeping shared by the families."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from asesc.density.harmonics import n_components
from asesc.errors import InputError
from asesc.system import System, atomic_number


def read_out_dipole(system: System, coefficients: Tensor) -> Tensor:
    """μ = Σ_i (q_i r_i + d_i) from unwrapped positions, (B, 3), e Å."""
    moments = coefficients[:, :1] * system.positions
    if coefficients.shape[1] > 1:
        moments = moments + coefficients[:, 1:4]
    return system.sum(moments)


def excess_charge(system: System, charges: Tensor, weights: Tensor) -> Tensor:
    """(Q − Σq) divided over the atoms in proportion to positive weights, (N,), e."""
    missing = system.charge - system.sum(charges)
    return missing[system.batch] * weights / system.sum(weights)[system.batch]


def json_table(table: Mapping[int | str, float]) -> dict[str, float]:
    """A table per element as it goes into a model card, by atomic number; it may be by symbol.

    Raises
    ------
    InputError
        For a key that is no element, or a value that is no number.
    """
    numbers = [str(atomic_number(key)) for key in table]
    try:
        return dict(zip(numbers, map(float, table.values()), strict=True))
    except (TypeError, ValueError) as error:
        raise InputError(f"{dict(table)} is not a table of one number per element") from error


def coefficients_of(charges: Tensor, dipoles: Tensor | None, lmax: int) -> Tensor:
    """(N,) charges and (N, 3) dipoles → (N, M) coefficients; components not given are zero."""
    columns = [charges[:, None]]
    if lmax > 0 and dipoles is not None:
        columns.append(dipoles)
    filled = sum(column.shape[1] for column in columns)
    columns.append(charges.new_zeros(len(charges), n_components(lmax) - filled))
    return torch.cat(columns, dim=-1)
