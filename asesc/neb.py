"""Images of a path as one batch per step, from plain ASE code."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any

from ase import Atoms

from asesc.calculators import Evaluation, SCCalculator
from asesc.errors import InputError


class ImagePool:
    """Calculators that evaluate all images of a path together.

    The first image that is asked after a step has every image whose positions, cell or inputs
    changed since evaluated in one batch; the others then find their numbers there. Images may be
    asked in any order, a fixed one is evaluated once, and one that is changed alone is evaluated
    alone. A structure that fails raises its error when it is asked, and the others keep theirs.

    Parameters
    ----------
    calc : SCCalculator
        Its parameters and weights; it is itself left alone.

    Attributes
    ----------
    n_batches : int
        How many batches were evaluated.

    Raises
    ------
    InputError
        ``calc`` is no SCCalculator.

    Examples
    --------
    >>> from ase.build import molecule
    >>> images = [molecule("H2O") for _ in range(5)]
    >>> pool = ImagePool(SCCalculator("nma")).attach(images)
    >>> for i, image in enumerate(images):
    ...     image.positions[1, 0] += 0.01 * i
    >>> energies = [image.get_potential_energy() for image in images]
    >>> pool.n_batches
    1
    """

    def __init__(self, calc: SCCalculator) -> None:
        if not isinstance(calc, SCCalculator):
            raise InputError(
                f"a pool of images needs an SCCalculator, got {calc!r}; SCCalculator(…) first"
            )
        self._calc = calc
        self._members: list[tuple[Atoms, SCCalculator]] = []
        self._lock = threading.RLock()
        self.n_batches = 0

    def attach(self, images: Sequence[Atoms]) -> ImagePool:
        """Give every image a calculator of its own that belongs to this pool; returns the pool."""
        if isinstance(images, Atoms):
            raise InputError("give the list of all images, not one of them")
        for image in images:
            image.calc = self._calc.clone()
            image.calc.pool = self
            self._members.append((image, image.calc))
        return self

    def evaluate(self, calc: SCCalculator, atoms: Atoms, properties: Collection[str]) -> Evaluation:
        """What ``calc`` is asked for these atoms; the other stale images come along."""
        # NEB(parallel=True) asks from one thread per image.
        with self._lock:
            others = [
                (image, member)
                for image, member in self._members
                if member is not calc and image.calc is member and _is_stale(image, member, calc)
            ]
            pairs = [(atoms, calc), *others]
            starts = [member.last_density(image) for image, member in pairs]
            frames = [image for image, _ in pairs]
            own, *answers = calc.evaluate_batch(frames, properties, starts=starts)
            self.n_batches += 1
            for (image, member), answer in zip(others, answers, strict=True):
                if isinstance(answer, Evaluation):
                    member.reset()
                    member.accept(image, answer)
        if isinstance(own, Exception):
            raise own
        return own

    def __getstate__(self) -> dict[str, Any]:
        # Locks do not travel, and a copied image leaves the pool.
        return {"_calc": self._calc}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_calc"])


def _is_stale(image: Atoms, member: SCCalculator, asked: SCCalculator) -> bool:
    """Whether an image needs numbers that a batch of ``asked`` gives."""
    same = member.model is asked.model and member.parameters == asked.parameters
    return same and bool(member.check_state(image))
