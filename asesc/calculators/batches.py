"""Many structures through one calculator: batches, executors, failures frame by frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console
from rich.progress import Progress

from asesc.calculators.evaluation import Evaluation
from asesc.errors import InputError
from asesc.memory import SavedMemory, available_memory

if TYPE_CHECKING:
    from asesc.calculators.fresh import FreshCalculator

#: What a frame may fail with while the others go on: everything that calculators and torch raise
#: about numbers and memory, and a worker that died. Programming errors are not among them.
FAILURES = (RuntimeError, MemoryError)

#: An evaluation or the error of its frame.
Answer = Evaluation | Exception

#: Atoms beyond which a batch on a CPU saves no more overhead and leaves its caches.
CPU_ATOMS = 300
#: Atoms of one task of an executor, at most.
TASK_ATOMS = 600
# Part of the free memory that a batch may take, and what a pass holds over what autograd keeps.
_PART, _OVER_SAVED = 0.5, 2.0


@dataclass(frozen=True)
class Evaluations(Sequence[Evaluation]):
    """Outcome of :func:`evaluate_many`, in the order of the structures.

    A sequence: ``outcome[i].results["energy"]``. Asking for a frame that failed raises its error,
    so that no loop takes a hole for a number; ``failures`` says beforehand which they are.

    Parameters
    ----------
    structures : sequence of Atoms
        As they were given.
    answers : sequence
        An :class:`~asesc.calculators.Evaluation` or an exception for each.
    """

    structures: Sequence[Atoms]
    answers: Sequence[Answer]

    @property
    def failures(self) -> dict[int, Exception]:
        """The error of every frame that has no numbers, by its index."""
        pairs = enumerate(self.answers)
        return {n: answer for n, answer in pairs if isinstance(answer, Exception)}

    @property
    def frames(self) -> list[Atoms]:
        """Copies of all structures with their results attached, ready for ``ase.io.write``.

        Those that failed have no calculator.
        """
        return [_attached(*pair) for pair in zip(self.structures, self.answers, strict=True)]

    def __len__(self) -> int:
        return len(self.answers)

    @overload
    def __getitem__(self, index: int) -> Evaluation: ...

    @overload
    def __getitem__(self, index: slice) -> Evaluations: ...

    def __getitem__(self, index: int | slice) -> Evaluation | Evaluations:
        if isinstance(index, slice):
            return Evaluations(self.structures[index], self.answers[index])
        if isinstance(answer := self.answers[index], Exception):
            raise answer
        return answer


def evaluate_many(
    structures: Iterable[Atoms],
    calc: FreshCalculator,
    *,
    properties: Collection[str] = ("energy", "forces"),
    batch: int | str = "auto",
    executor: Executor | None = None,
    progress: bool | str = True,
) -> Evaluations:
    """Evaluate many structures in batches, without touching what ``calc`` has cached.

    Sizes, boundaries, charges and fields may differ; what is in ``atoms.info`` counts as always.
    The numbers are those of one structure after the other, to rounding.

    Parameters
    ----------
    structures : iterable of Atoms
    calc : SCCalculator or CoulombCalculator
    properties : collection of str
        A frame fails where one of them is not defined. All that are defined are computed.
    batch : "auto" or int
        Structures per batch; 1 takes one after the other. ``"auto"`` fills batches of one boundary
        with structures of similar size up to 300 atoms on a CPU, where more gains nothing, and up
        to half of the free memory on any device; what an atom needs is measured on the largest
        structure.
    executor : concurrent.futures.Executor, optional
        Threads, processes, or the pool of Dask, Parsl or MPI. Tasks hold ``batch`` structures, or
        with ``"auto"`` up to 600 atoms. For processes the calculator is pickled: a model of the
        registry travels as its name and checksum, and is opened once per process.
    progress : bool or str
        A bar on standard error, on a terminal only; a text says what it counts.

    Returns
    -------
    Evaluations
        In the order of the structures. A frame that cannot be evaluated is in ``failures`` with its
        index and error, and the others have their numbers.

    Raises
    ------
    InputError
        Something is not a structure, ``calc`` not one of ours, or ``batch`` not a size.
    PropertyUnavailableError
        The calculator has no such property at all.
    """
    frames = list(structures)
    for n, frame in enumerate(frames):
        if not isinstance(frame, Atoms):
            raise InputError(f"structure {n} is {type(frame).__name__}, not ase.Atoms")
    if not hasattr(calc, "evaluate_batch"):
        raise InputError(
            f"{calc!r} is no SCCalculator or CoulombCalculator; to other calculators of ASE give "
            "one structure after the other"
        )
    if batch != "auto" and not (isinstance(batch, int) and batch > 0):
        raise InputError(f"batch={batch!r}; give a number of structures ≥ 1, or 'auto'")
    calc._require_offered(properties)
    request = _Request(calc, frames, properties, batch)
    tasks = _tasks(frames, None if executor is None else batch)
    parts = request.here(tasks) if executor is None else request.elsewhere(executor, tasks)
    answers: dict[int, Answer] = {}
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    with Progress(console=console, transient=True, disable=hidden) as bar:
        row = bar.add_task("structures" if progress is True else str(progress), total=len(frames))
        for done in parts:
            answers |= done
            bar.advance(row, len(done))
    return Evaluations(frames, [answers[n] for n in range(len(frames))])


def attempted(calc: FreshCalculator, frame: Atoms, properties: Collection[str]) -> Answer:
    """One structure, or its error."""
    try:
        return calc.evaluate(frame, properties)
    except FAILURES as error:
        return error


def _tasks(frames: Sequence[Atoms], batch: int | str | None) -> list[list[int]]:
    """Indices of one boundary each, the largest structures first; short tasks for executors."""
    groups: dict[tuple[bool, ...], list[int]] = defaultdict(list)
    for n in sorted(range(len(frames)), key=lambda n: -len(frames[n])):
        groups[tuple(frames[n].pbc.tolist())].append(n)
    tasks = []
    for left in groups.values():
        while left:
            size = len(left) if batch is None else batch
            task = _fitting(left, frames, TASK_ATOMS) if size == "auto" else left[:size]
            tasks.append(task)
            left = left[len(task) :]
    return tasks


@dataclass(frozen=True)
class _Request:
    """What is asked of which structures, and how many of them may make a batch."""

    calc: FreshCalculator
    frames: Sequence[Atoms]
    properties: Collection[str]
    batch: int | str

    def here(self, tasks: Iterable[Sequence[int]]) -> Iterator[Mapping[int, Answer]]:
        """Batch by batch in this process."""
        for task in tasks:
            yield from self._batches(task)

    def elsewhere(
        self, executor: Executor, tasks: Iterable[Sequence[int]]
    ) -> Iterator[Mapping[int, Answer]]:
        """Task by task wherever the executor runs them, in the order in which they end."""
        futures = {
            executor.submit(replace(self, frames=[self.frames[n] for n in task]).answers): task
            for task in tasks
        }
        for future in as_completed(futures):
            try:
                yield dict(zip(futures[future], future.result(), strict=True))
            except FAILURES as error:
                yield dict.fromkeys(futures[future], error)

    def answers(self) -> list[Answer]:
        """All structures, which have one boundary, in their order."""
        found: dict[int, Answer] = {}
        for part in self._batches(range(len(self.frames))):
            found |= part
        return [found[n] for n in range(len(self.frames))]

    def _batches(self, indices: Sequence[int]) -> Iterator[dict[int, Answer]]:
        """Answers of one boundary, batch by batch, the largest structures first."""
        if self.batch != "auto":
            for start in range(0, len(indices), self.batch):
                yield self._one_batch(indices[start : start + self.batch])
            return
        # A smaller structure needs no more per atom than the largest, which is measured alone.
        per_atom, left = 0.0, list(indices)
        while left:
            most = _most_atoms(self.calc, per_atom) if per_atom else 1
            part = _fitting(left, self.frames, most)
            left = left[len(part) :]
            with SavedMemory(self.calc.weights()) as memory:
                done = self._one_batch(part)
            atoms = sum(len(self.frames[n]) for n in part)
            per_atom = max(per_atom, memory.bytes / max(1, atoms))
            yield done

    def _one_batch(self, indices: Sequence[int]) -> dict[int, Answer]:
        frames = [self.frames[n] for n in indices]
        return dict(zip(indices, self.calc.evaluate_batch(frames, self.properties), strict=True))


def _most_atoms(calc: FreshCalculator, bytes_per_atom: float) -> float:
    """How many atoms a batch may hold."""
    room = _PART * available_memory(calc.torch_device) / (_OVER_SAVED * bytes_per_atom)
    return min(room, CPU_ATOMS) if calc.torch_device.type == "cpu" else room


def _fitting(indices: Sequence[int], frames: Sequence[Atoms], most: float) -> Sequence[int]:
    """As many of the first as ``most`` atoms allow, each padded to the largest; at least one."""
    return indices[: max(1, int(most // max(1, len(frames[indices[0]]))))]


def _attached(structure: Atoms, answer: Answer) -> Atoms:
    """A copy with its results, as files and other programs expect them."""
    frame = structure.copy()
    if not isinstance(answer, Exception):
        named = {k: v for k, v in answer.results.items() if k in all_properties}
        frame.calc = SinglePointCalculator(frame, **named)
    return frame
