"""What a contract check measured, and the error of a broken contract."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from asesc.errors import AsescError


class ContractError(AsescError, AssertionError):
    """A boundary or model breaks its contract."""


@dataclass(frozen=True)
class Deviation:
    """One measured number, its limit and why it matters."""

    what: str
    value: float
    limit: float
    why: str

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit (NaN is not)."""
        return self.value <= self.limit

    def __str__(self) -> str:
        sign = "≤" if self.holds else "EXCEEDS"
        return f"{self.what}: {self.value:.1e} {sign} {self.limit:.0e}"


@dataclass(frozen=True)
class ContractReport:
    """Everything a check measured."""

    subject: str
    deviations: tuple[Deviation, ...]

    @property
    def violations(self) -> tuple[Deviation, ...]:
        """The deviations beyond their limit."""
        return tuple(d for d in self.deviations if not d.holds)

    def __str__(self) -> str:
        return "\n".join([self.subject, *(f"  {d}" for d in self.deviations)])

    def require(self) -> ContractReport:
        """Return the report itself.

        Raises
        ------
        ContractError
            With every violated clause: what, value, limit and why.
        """
        if self.violations:
            lines = (f"  {d} — {d.why}" for d in self.violations)
            raise ContractError("\n".join([f"{self.subject} breaks its contract:", *lines]))
        return self


def largest(difference: Tensor) -> float:
    """Largest absolute component of a tensor."""
    return float(difference.detach().abs().max())
