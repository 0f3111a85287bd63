"""Errors of a model on labelled frames: what the card states and ``asesc evaluate`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asesc.models import Model
from asesc.training.comparison import compare
from asesc.training.config import LABELS
from asesc.training.data import Batch, BoundaryBatches, Frame, collate


@dataclass(frozen=True)
class LabelError:
    """Errors over all components of one label.

    Parameters
    ----------
    rmse, mae : float
        In ``unit``.
    relative : float
        Root mean square error over root mean square of the label's fluctuation about its mean for
        energies and over the label itself otherwise; ``nan`` for labels that are all the same, as
        one energy is.
    reference, predicted : ndarray
        All components, for a parity plot; dipoles of crystals on the label's branch.
    """

    label: str
    unit: str
    rmse: float
    mae: float
    relative: float
    reference: np.ndarray
    predicted: np.ndarray

    @property
    def percent(self) -> str:
        """``relative`` in percent as text; a dash where it has no meaning."""
        return "–" if math.isnan(self.relative) else f"{100 * self.relative:.3g} %"


class Comparison:
    """Predictions beside the labels of the batches that were added."""

    def __init__(self) -> None:
        self._pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(self, model: Model, batch: Batch) -> None:
        """Evaluate a batch, in its field, and keep every label it has, without graph."""
        with torch.enable_grad():
            pairs = compare(model, batch, batch.labels)
        for label, (reference, predicted) in pairs.items():
            keep = batch.weights[label] > 0
            pair = _array(reference[keep]), _array(predicted.detach()[keep])
            self._pairs.setdefault(label, []).append(pair)

    def errors(self) -> dict[str, LabelError]:
        """Errors of every label seen, in the order of :data:`LABELS`."""
        errors = {}
        for label in LABELS:
            if label in self._pairs:
                reference, predicted = map(np.concatenate, zip(*self._pairs[label], strict=True))
                errors[label] = _error(label, reference, predicted)
        return errors


def evaluate_frames(
    model: Model, frames: Sequence[Frame], *, batch_size: int = 4
) -> dict[str, LabelError]:
    """Errors of every label that the frames have, on the model's device.

    Born charges and polarisabilities are evaluated in full; frames in a field are evaluated in
    their field.
    """
    device = next(model.parameters()).device
    comparison = Comparison()
    for indices in BoundaryBatches(frames, batch_size=batch_size, shuffle=False):
        comparison.add(model, collate([frames[i] for i in indices]).to(device))
    return comparison.errors()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


def _error(label: str, reference: np.ndarray, predicted: np.ndarray) -> LabelError:
    difference = predicted - reference
    rmse = float(np.sqrt(np.mean(difference**2)))
    base = reference - reference.mean() if label == "energy" else reference
    scale = float(np.sqrt(np.mean(base**2)))
    return LabelError(
        label=label,
        unit=LABELS[label],
        rmse=rmse,
        mae=float(np.mean(np.abs(difference))),
        relative=rmse / scale if scale > 0 else float("nan"),
        reference=reference,
        predicted=predicted,
    )


def plot_parity(errors: dict[str, LabelError], path: str | Path, *, title: str) -> None:
    """Predicted against reference for every label, one panel each, written to ``path``."""
    from matplotlib.figure import Figure

    columns = min(3, len(errors))
    rows = -(-len(errors) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.4 * rows), layout="constrained")
    figure.suptitle(title)
    for n, error in enumerate(errors.values(), start=1):
        axes = figure.add_subplot(rows, columns, n)
        shift = error.reference.mean() if error.label == "energy" else 0.0
        size = 2 if error.reference.size > 1000 else 5
        axes.plot(error.reference - shift, error.predicted - shift, ".", ms=size, alpha=0.5)
        low, high = axes.get_xlim()
        axes.plot([low, high], [low, high], color="0.4", lw=0.8)
        axes.grid(alpha=0.25)
        name = error.label.replace("_", " ")
        relative = " − mean" if error.label == "energy" else ""
        axes.set(xlabel=f"reference {name}{relative} ({error.unit})", ylabel="predicted")
        axes.set_title(f"RMSE {error.rmse:.3g} {error.unit} ({error.percent})", size=9)
    figure.savefig(path, dpi=150)
