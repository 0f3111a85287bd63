"""What a solver did, in one object, one line or one table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One rung of a solver's ladder.

    Parameters
    ----------
    name : str
    structures : int
        How many structures were handed to it.
    converged : int
        How many of them it brought to convergence.
    maps, products : int
        Evaluations of the map and products with its Jacobian.
    residual : float
        Largest component over the structures handed to it, at its end.
    note : str
        Why it stopped, or what it found.
    """

    name: str
    structures: int
    converged: int
    maps: int
    products: int
    residual: float
    note: str = ""

    def __str__(self) -> str:
        line = (
            f"{self.name}: {self.converged} of {self.structures} converged, {self.maps} maps, "
            f"{self.products} products, residual {self.residual:.1e}"
        )
        return f"{line} ({self.note})" if self.note else line


@dataclass(frozen=True)
class Solution:
    """Outcome of a solve; the numbers themselves travel beside it.

    Parameters
    ----------
    method : str
        Human-readable name of the algorithm.
    converged : bool
    iterations : int
        Applications of the operator or map, Jacobian products included; 0 for a closed form, 1 for
        a direct solve.
    residual : float
        Largest component of the residual, in the units of the right-hand side.
    history : tuple of float
        Residual per iteration.
    stages : tuple of Stage
        Rungs of the ladder in the order in which they were climbed.
    """

    method: str
    converged: bool
    iterations: int
    residual: float
    history: tuple[float, ...] = ()
    stages: tuple[Stage, ...] = ()

    def __str__(self) -> str:
        state = "converged" if self.converged else "NOT converged"
        plural = "" if self.iterations == 1 else "s"
        return (
            f"{self.method}: {state} after {self.iterations} iteration{plural}, "
            f"residual {self.residual:.1e}"
        )

    def report(self) -> str:
        """The line of ``str`` and one further line per stage."""
        return "\n".join([str(self), *(f"  {stage}" for stage in self.stages)])


#: For families whose density is read out, not solved for.
READ_OUT = Solution("read out", converged=True, iterations=0, residual=0.0)
