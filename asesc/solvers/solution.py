"""What a solver did, in one object and one line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Solution:
    """Outcome of a solve; the numbers themselves travel beside it.

    Parameters
    ----------
    method : str
        Human-readable name of the algorithm.
    converged : bool
    iterations : int
        Applications of the operator; 0 for a closed form, 1 for a direct solve.
    residual : float
        Largest component of the residual, in the units of the right-hand side.
    history : tuple of float
        Residual per iteration.
    """

    method: str
    converged: bool
    iterations: int
    residual: float
    history: tuple[float, ...] = ()

    def __str__(self) -> str:
        state = "converged" if self.converged else "NOT converged"
        plural = "" if self.iterations == 1 else "s"
        return (
            f"{self.method}: {state} after {self.iterations} iteration{plural}, "
            f"residual {self.residual:.1e}"
        )


#: For families whose density is read out, not solved for.
READ_OUT = Solution("read out", converged=True, iterations=0, residual=0.0)
