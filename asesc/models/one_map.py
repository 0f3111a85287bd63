"""One map per step of molecular dynamics: the density follows the atoms without being converged.

Unknowns x and, where the energy is not stationary in them, adjoints λ are extrapolated
(:class:`~asesc.solvers.Aspc`), corrected by one map each, and the Lagrangian

    L(R; x, λ) = E(R; x) + λ·r(R; x),    forces = −∂L/∂R at fixed x and λ,

is evaluated there. Its error is of second order in those of x and λ.

The corrector is x − K r with K ≈ (∂r/∂x)⁻¹, built once in a while: a matrix for small structures,
which every step improves, and of low rank for large ones (:mod:`asesc.solvers.kernel`). Steps whose
residual stands out are converged fully, and counted.

References
----------
J. Kolafa, J. Comput. Chem. 25, 335 (2004), doi:10.1002/jcc.10385; A. M. N. Niklasson, J. Chem.
Phys. 152, 104103 (2020), doi:10.1063/1.5143270 (kernels).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from asesc.errors import InputError
from asesc.models.base import Model, Problem, State
from asesc.models.stationary import Stationary, stationary
from asesc.solvers import Aspc, Solution, frozen_jacobian
from asesc.solvers.jacobian import Jacobian
from asesc.solvers.kernel import DenseKernel, Kernel, kernel_from, krylov_kernel

# A step is converged fully if its residual exceeds the running median this many times.
_OUTLIER, _MEMORY = 10.0, 50


@dataclass
class Counts:
    """What a trajectory has cost.

    Parameters
    ----------
    steps : int
        Geometries in all.
    started : int
        Of them, converged fully because there was no history.
    fallbacks : int
        Of them, converged fully because of their residual.
    maps : int
        Maps of all steps but the started ones, Jacobian products of full convergence included.
    kernels : int
        How often K was built.
    built : int
        The step at which it was built last.
    """

    steps: int = 0
    started: int = 0
    fallbacks: int = 0
    maps: int = 0
    kernels: int = 0
    built: int = 0

    @property
    def maps_per_step(self) -> float:
        """Mean over the steps that had a history; NaN before there are any."""
        followed = self.steps - self.started
        return self.maps / followed if followed else float("nan")


@dataclass(frozen=True)
class _Snapshot:
    """All that a step starts from."""

    x: tuple[Tensor, ...]
    adjoints: tuple[Tensor, ...]
    kernel: Kernel | None
    recent: tuple[float, ...]
    start: Tensor | None
    counts: Counts


class OneMap:
    """Solver of one trajectory; what it remembers belongs to that trajectory only.

    Parameters
    ----------
    order : int
        Of the predictor, see :class:`~asesc.solvers.Aspc`.
    residual_limit : float, optional
        Largest component of the residual after the corrector, above which a step is converged
        fully: by default 5e-3 e Å^l for a fixed point, 2e-2 V Å^−l for a minimum of an energy.

    Attributes
    ----------
    counts : Counts
    """

    def __init__(self, *, order: int = 3, residual_limit: float | None = None) -> None:
        if residual_limit is not None and not residual_limit > 0:
            raise InputError(
                f"residual_limit={residual_limit} must be positive; None takes that of the family"
            )
        self.order, self.residual_limit = order, residual_limit
        self._x, self._adjoints = Aspc(order), Aspc(order)
        self._kernel: Kernel | None = None
        self._recent: deque[float] = deque(maxlen=_MEMORY)
        self._start: Tensor | None = None
        self.counts = Counts()
        self._before = self._snapshot()

    def fresh(self) -> OneMap:
        """Another one with the same settings and nothing to remember."""
        return OneMap(order=self.order, residual_limit=self.residual_limit)

    def clear(self) -> None:
        """Begin anew with the next step; what was counted stays."""
        self._x.clear()
        self._adjoints.clear()
        self._recent.clear()
        self._kernel = self._start = None
        self._before = self._snapshot()

    def solve(self, model: Model, problem: Problem) -> State:
        """The state of the next step.

        Raises
        ------
        SCFError, IllPosedError
            Where full convergence is needed and fails.
        """
        self._before = self._snapshot()
        self.counts.steps += 1
        if problem.start is None and self._start is not None:
            problem = replace(problem, start=self._start)
        followed = problem.system.n_structures == 1 and torch.is_grad_enabled()
        equations = stationary(model, problem) if followed else None
        if equations is None:
            state = self._extrapolated(model, problem) if followed else _solve(model, problem)
            self.counts.fallbacks += 1
            self.counts.maps += state.solution.iterations
        elif not self._x.is_ready or self._kernel is None:
            state = self._converged(model, problem, equations, is_start=not self._x.is_ready)
        else:
            state = self._followed(model, problem, equations)
        self._start = state.coefficients.detach()
        return state

    def _extrapolated(self, model: Model, problem: Problem) -> State:
        """A family without equations of this kind: converged, from the extrapolated density."""
        guess = self._x.predict()
        state = _solve(model, problem if guess is None else replace(problem, start=guess))
        self._x.push(state.coefficients)
        return state

    def _followed(self, model: Model, problem: Problem, equations: Stationary) -> State:
        """One map for x and one for λ."""
        guess, kernel = self._x.predict(), self._kernel
        with torch.no_grad():
            first = equations.residual(guess)
            step = kernel.apply(first)
        self.counts.maps += 1
        x = (guess - step).detach().requires_grad_()
        state, residual = equations.state(x, Solution("one map", True, 1, 0.0))
        before, after = (float(r.detach().abs().max()) for r in (first, residual))
        is_old = self.counts.steps - self.counts.built >= kernel.least_age
        is_worn = is_old and after > max(kernel.worn * before, problem.options.tolerance)
        if not self._accepts(after, self.residual_limit or equations.residual_limit):
            self.counts.fallbacks += 1
            self._kernel = None if is_worn else kernel
            start = state.coefficients.detach() if after < before else problem.start
            return self._converged(model, replace(problem, start=start), equations)
        self._recent.append(after)
        self._kernel = kernel.updated(-step, residual.detach() - first)
        self._x.push(guess - self._x.damping * step)
        multiplier = self._multiplier(problem, equations, state, residual, x)
        if is_worn:
            self._build(problem, equations, x.detach(), guess)
        constraint = problem.system.sum((multiplier * residual).sum(-1))
        return replace(
            state,
            internal_energy=state.internal_energy + constraint,
            solution=Solution("one map", True, 1, after, (before, after)),
        )

    def _accepts(self, residual: float, limit: float) -> bool:
        if not residual < limit:
            return False
        enough = len(self._recent) >= _MEMORY // 5
        return not enough or residual < _OUTLIER * median(self._recent)

    def _multiplier(
        self, problem: Problem, equations: Stationary, state: State, residual: Tensor, x: Tensor
    ) -> Tensor:
        """λ that makes L stationary in x to second order, without graph, and its history."""
        energy = density_energy(problem, state)
        if equations.variational:
            (slope,) = torch.autograd.grad(energy.sum(), x, retain_graph=True)
            return -self._kernel.apply(slope, transposed=True)
        guess = self._adjoints.predict()
        lagrangian = energy.sum() + (guess * residual).sum()
        (slope,) = torch.autograd.grad(lagrangian, x, retain_graph=True)
        step = self._kernel.apply(slope, transposed=True)
        self._adjoints.push(guess - self._adjoints.damping * step)
        return guess - step

    def _converged(
        self, model: Model, problem: Problem, equations: Stationary, *, is_start: bool = False
    ) -> State:
        """A step as it is without history, which then starts or repairs the history."""
        state = _solve(model, problem)
        x, guess = equations.unknowns(state.coefficients), self._x.predict()
        self._x.push(x)
        if is_start:
            self.counts.started += 1
        else:
            self.counts.maps += state.solution.iterations
        if self._x.is_ready and self._kernel is None:
            self._build(problem, equations, x, guess)
        if not equations.variational:
            self._adjoints.push(_exact_multiplier(problem, equations, x))
        return state

    def _build(self, problem: Problem, equations: Stationary, x: Tensor, guess: Tensor) -> None:
        """K at x, for residuals like that of the guess."""
        self.counts.kernels += 1
        self.counts.built = self.counts.steps
        if problem.is_small:
            self._kernel = DenseKernel(torch.linalg.inv(equations.jacobian(x)[0]))
        else:
            with torch.no_grad():
                seed = equations.residual(guess)
            self._kernel = krylov_kernel(Jacobian(equations.residual, x), seed)

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(
            self._x.history,
            self._adjoints.history,
            self._kernel,
            tuple(self._recent),
            self._start,
            replace(self.counts),
        )

    def arrays(self) -> dict[str, Tensor]:
        """What the last step started from: a new solver that takes it repeats that step exactly."""
        before = self._before
        values = {f"x{j}": x for j, x in enumerate(before.x)}
        values |= {f"adjoint{j}": x for j, x in enumerate(before.adjoints)}
        values["recent"] = torch.tensor(before.recent, dtype=torch.float64)
        values["counts"] = torch.tensor(list(vars(before.counts).values()))
        if before.kernel is not None:
            values |= {f"kernel_{name}": part for name, part in before.kernel.tensors().items()}
        return values if before.start is None else values | {"start": before.start}

    def restore(self, values: dict[str, Tensor]) -> None:
        """Take what :meth:`arrays` gave."""
        self.clear()
        for aspc, name in ((self._x, "x"), (self._adjoints, "adjoint")):
            kept = (values.get(f"{name}{j}") for j in range(self.order + 2))
            aspc.restore(x for x in kept if x is not None)
        self._recent.extend(values["recent"].tolist())
        parts = {name: value for name, value in values.items() if name.startswith("kernel_")}
        self._kernel = kernel_from({n.removeprefix("kernel_"): part for n, part in parts.items()})
        self._start = values.get("start")
        self.counts = Counts(*values["counts"].tolist())
        self._before = self._snapshot()


def _solve(model: Model, problem: Problem) -> State:
    """As the model does it."""
    held = problem.system.fermi_level is not None
    return model.solve_at_fermi_level(problem) if held else model.solve(problem)


def density_energy(problem: Problem, state: State) -> Tensor:
    """The part of the energy that depends on the density, (B,), eV."""
    system, p = problem.system, state.coefficients
    potential = state.potential if state.potential is not None else problem.coulomb.potential(p)
    energy = state.internal_energy + 0.5 * system.sum((p * potential).sum(-1))
    energy = energy - (system.electric_field * state.dipole).sum(-1)
    if system.fermi_level is not None:
        energy = energy + system.fermi_level * system.sum(p[:, 0])
    return energy


def _exact_multiplier(problem: Problem, equations: Stationary, x: Tensor) -> Tensor:
    """λ = −(∂r/∂x)⁻ᵀ ∂E/∂x at the solution, (N, M)."""
    x = x.detach().requires_grad_()
    state, _ = equations.state(x, Solution("one map", True, 1, 0.0))
    (slope,) = torch.autograd.grad(density_energy(problem, state).sum(), x)
    inverse = frozen_jacobian(
        equations.residual,
        x.detach(),
        layout=problem.system.layout,
        options=problem.options,
        jacobian=equations.jacobian if problem.is_small else None,
    )
    return -inverse(slope, True)
