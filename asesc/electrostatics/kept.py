"""Results that depend on the cells only, kept from one step of a run to the next."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def kept_by_cells(
    maxsize: int,
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorate ``function(cells, *rest)`` to keep its last results.

    They are found by the numbers in ``cells`` (B, 3, 3), compared bit by bit, and by the other
    arguments, which have to be hashable. The function is given a copy without graph, outside of
    inference mode, so that what it returns serves later calls of any kind.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        @lru_cache(maxsize=maxsize)
        @torch.inference_mode(False)
        def by_numbers(
            numbers: bytes, dtype: torch.dtype, device: torch.device, *rest: Any
        ) -> Result:
            cells = torch.frombuffer(bytearray(numbers), dtype=dtype).view(-1, 3, 3)
            return function(cells.to(device), *rest)

        @wraps(function)
        def kept(cells: Tensor, *rest: Any) -> Result:
            numbers = cells.detach().cpu().numpy().tobytes()
            return by_numbers(numbers, cells.dtype, cells.device, *rest)

        return kept

    return decorate
