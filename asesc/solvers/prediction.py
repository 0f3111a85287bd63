"""Always stable predictor-corrector: the next solution from the last ones, time-reversibly.

References
----------
J. Kolafa, J. Comput. Chem. 25, 335 (2004), doi:10.1002/jcc.10385.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import comb

import torch
from torch import Tensor

from asesc.errors import InputError


class Aspc:
    """Extrapolate x(t + h) from k + 2 values a constant time step apart.

        x̃(t + h) = Σ_(j=1)^(k+2) B_j x(t − (j−1)h),   B_j = (−1)^(j+1) j C(2k+4, k+2−j)/C(2k+2, k+1)

    followed by x = x̃ + ω (M(x̃) − x̃), ω = (k+2)/(2k+3), with one application of a map M towards
    the solution. The error of x̃ is O(h²) and time reversible to O(h^(2k+3)); the
    damped corrector keeps the recursion stable wherever the map itself converges.

    Parameters
    ----------
    order : int
        k; 2 or 3 for molecular dynamics, below which the energy drifts.
    """

    def __init__(self, order: int = 2) -> None:
        if order < 0:
            raise InputError(f"order={order} of the predictor must be 0 or more; 2 is usual")
        self.order = order
        self._history: deque[Tensor] = deque(maxlen=order + 2)

    @property
    def weights(self) -> tuple[float, ...]:
        """B_1 … B_(k+2); they add up to one, so that what is linear in x is conserved."""
        k, whole = self.order, comb(2 * self.order + 2, self.order + 1)
        return tuple(
            (-1) ** (j + 1) * j * comb(2 * k + 4, k + 2 - j) / whole for j in range(1, k + 3)
        )

    @property
    def damping(self) -> float:
        """ω of the corrector."""
        return (self.order + 2) / (2 * self.order + 3)

    @property
    def history(self) -> tuple[Tensor, ...]:
        """The values, newest first."""
        return tuple(self._history)

    @property
    def is_ready(self) -> bool:
        """Whether there are enough values to extrapolate from."""
        return len(self._history) == self._history.maxlen

    def predict(self) -> Tensor | None:
        """x̃ of the next step: before there are k + 2 values of lower order, None without any."""
        if not self._history:
            return None
        lower = Aspc(len(self._history) - 2) if len(self._history) > 1 else None
        weights = (1.0,) if lower is None else lower.weights
        return sum(b * x for b, x in zip(weights, self._history, strict=True))  # type: ignore[return-value]

    def push(self, x: Tensor) -> None:
        """Add the newest value."""
        self._history.appendleft(x.detach().clone())

    def restore(self, values: Iterable[Tensor]) -> None:
        """Values of an earlier run, newest first."""
        self._history.clear()
        for x in reversed([torch.as_tensor(value) for value in values]):
            self._history.appendleft(x)

    def clear(self) -> None:
        """Forget everything."""
        self._history.clear()
