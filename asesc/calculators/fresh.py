"""ASE's caching rules with inputs that ASE does not know of: the shell of our calculators."""

from __future__ import annotations

import copy
import re
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from torch import Tensor

from asesc.calculators.batches import Answer, Evaluations, attempted, evaluate_many
from asesc.calculators.evaluation import Evaluation
from asesc.calculators.inputs import INPUT_KEYS, unread_keys
from asesc.calculators.landscape import AtomsLandscape
from asesc.calculators.names import unknown_keyword, unknown_property
from asesc.errors import InputError
from asesc.solvers import Solution


class Pool(Protocol):
    """Evaluates structures of several calculators at once."""

    def evaluate(
        self, calc: FreshCalculator, atoms: Atoms, properties: Collection[str]
    ) -> Evaluation:
        """What ``calc`` is asked for these atoms."""


class FreshCalculator(Calculator):
    """An ASE calculator that is never stale.

    Subclasses say which parameters are sound (:meth:`_checked`), what their answer depends on
    besides the geometry (:meth:`_inputs`, a value with ``==`` that shares no memory with
    ``atoms``) and how to compute it (:meth:`evaluate`).
    This class recomputes when positions, numbers, cell, pbc, a parameter or an input changed (for
    the dipole of an ion also masses), and only then: ``atoms.info`` is compared by the values that
    are read from it, so an array edited in place is noticed and a comment is not.

    Attributes
    ----------
    results : dict
        ASE's names only.
    extras : dict
        Other outputs of the same evaluation, see :class:`Evaluation`.
    scf : Solution or None
        Report of the solver.
    pool : Pool or None
        What evaluates several calculators together, see :class:`asesc.neb.ImagePool`.
    """

    nolabel = True
    discard_results_on_any_change = True
    # Neither is an input; ASE's default is to recompute for them.
    ignored_changes: ClassVar[set[str]] = {"initial_charges", "initial_magmoms"}

    def __init__(self, **parameters: Any) -> None:
        self._seen: Any = None
        self._told: set[str] = set()
        self.extras: dict[str, Any] = {}
        self.scf: Solution | None = None
        self.pool: Pool | None = None
        super().__init__(**parameters)

    @abstractmethod
    def _inputs(self, atoms: Atoms) -> Any:
        """What the answer depends on besides the geometry; may raise InputError."""

    @abstractmethod
    def _checked(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Parameters about to be set, checked and in plain immutable types."""

    @abstractmethod
    def evaluate(self, atoms: Atoms, properties: Collection[str] = ("energy",)) -> Evaluation:
        """Compute without reading or changing what is cached."""

    def evaluate_batch(
        self, frames: Sequence[Atoms], properties: Collection[str] = ("energy",), **starts: Any
    ) -> list[Answer]:
        """Outcome or error of every structure; here one after the other."""
        return [attempted(self, frame, properties) for frame in frames]

    def evaluate_many(
        self,
        structures: Iterable[Atoms],
        properties: Collection[str] = ("energy",),
        **options: Any,
    ) -> Evaluations:
        """:func:`asesc.evaluate_many` with this calculator."""
        return evaluate_many(structures, self, properties=properties, **options)

    @property
    def torch_device(self) -> torch.device:
        """Where the numbers are computed."""
        return torch.device("cpu")

    def weights(self) -> Iterable[Tensor]:
        """The tensors of the model, if there is one."""
        return ()

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Change parameters; what was computed with the old ones is forgotten.

        Raises
        ------
        TypeError
            For an unknown keyword, with the nearest known one.
        """
        for name in parameters:
            if name not in self.default_parameters:
                raise unknown_keyword(name, type(self), self.default_parameters)
        return super().set(**self._checked(parameters))

    def reset(self) -> None:
        """Forget everything that was computed."""
        super().reset()
        self._seen, self.extras, self.scf = None, {}, None

    def clone(self) -> Self:
        """A calculator with the same parameters and weights and a state of its own.

        One per image of a NEB or per thread.
        """
        twin = copy.copy(self)
        twin.parameters = copy.deepcopy(self.parameters)
        twin._told, twin.pool = set(self._told), None
        # ASE stores a method bound to the original.
        twin.get_spin_polarized = twin._deprecated_get_spin_polarized
        twin.reset()
        return twin

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation; ``"inputs"`` for info entries and parameters."""
        changes = super().check_state(atoms, tol)
        if self._moves_origin(atoms):
            changes.append("masses")
        try:
            same = self._inputs(atoms) == self._seen
        except InputError:
            # Whoever asks for a property will get this error from the calculation itself; a
            # writer that only asks whether results are at hand must not.
            same = False
        return changes if same else [*changes, "inputs"]

    def _moves_origin(self, atoms: Atoms) -> bool:
        """Whether other masses move the centre of mass, about which the dipole of an ion is."""
        if self.atoms is None or self.extras.get("charge", 0) == 0:
            return False
        return not np.array_equal(self.atoms.get_masses(), atoms.get_masses())

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """A property under ASE's name, from the cache where it is still valid.

        Raises
        ------
        PropertyUnavailableError
            Unknown, or not defined for this structure, with the reason.
        """
        self._require_offered((name,))
        return super().get_property(name, self._structure(atoms), allow_calculation)

    def _require_offered(self, properties: Collection[str]) -> None:
        """Refuse names that no evaluation answers, in place of an answer without them."""
        if isinstance(properties, str):
            raise InputError(
                f"properties={properties!r} is one name, not a collection of names. Pass "
                f"({properties!r},)"
            )
        for name in properties:
            if name not in self.implemented_properties:
                raise unknown_property(name, type(self), self.implemented_properties)

    def get_landscape(self, atoms: Atoms | None = None) -> AtomsLandscape:
        """Charge density and potential between the atoms: at points, on grids, plane averages."""
        atoms = self._structure(atoms)
        self.get_property("energy", atoms)
        return AtomsLandscape(atoms, self.extras)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Collection[str] = ("energy",),
        system_changes: Collection[str] = tuple(all_changes),
    ) -> None:
        """Evaluate and keep the results; ASE's entry point."""
        atoms = self._structure(atoms)
        if system_changes:
            # Nothing of the old structure must survive a failure with the new one.
            self.reset()
        evaluate = self.evaluate if self.pool is None else partial(self.pool.evaluate, self)
        self.accept(atoms, evaluate(atoms, properties))

    def accept(self, atoms: Atoms, evaluation: Evaluation) -> None:
        """Keep an evaluation of these atoms as if this calculator had made it."""
        self.atoms, self._seen = atoms.copy(), self._inputs(atoms)
        self.results = evaluation.results
        self.extras, self.scf = evaluation.extras, evaluation.scf

    def _structure(self, atoms: Atoms | None) -> Atoms:
        if atoms is None:
            atoms = self.atoms
        if atoms is None:
            raise InputError(
                "the calculator has not seen a structure yet; pass atoms, or set atoms.calc and "
                "ask the atoms"
            )
        return atoms

    def _tell_unread(self, atoms: Atoms, *, read: Collection[str] = INPUT_KEYS) -> None:
        """Warn of entries of ``atoms.info`` that look like one of the keys ``read``."""
        for key, meant in unread_keys(atoms.info):
            if meant in read:
                self._tell(
                    f"atoms.info[{key!r}] looks like {meant!r} but is not read; rename it if it is "
                    "meant, or ignore this warning"
                )

    def _tell(self, advice: str) -> None:
        """Warn once per calculator, not once per step; other numbers make no other advice."""
        told = re.sub(r"\d+(\.\d+)?", "#", advice)
        if told not in self._told:
            self._told.add(told)
            warnings.warn(advice, UserWarning, stacklevel=2)
