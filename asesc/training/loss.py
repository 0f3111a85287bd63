"""How far predictions are from their labels, in one number per label."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from asesc.models import Model
from asesc.training.comparison import compare
from asesc.training.data import Batch


def residuals(
    model: Model, batch: Batch, targets: Collection[str], *, probe: Tensor | None = None
) -> dict[str, Tensor]:
    """Prediction minus label for every label of the batch among ``targets``, graph attached.

    Parameters
    ----------
    targets : collection of str
    probe : Tensor, (B, 3), V/Å, optional
        Direction in which Born charges are seen. One backward pass of E − ε·μ gives
        −(F + Zᵀε): forces and, for random ε of zero mean, Born charges at the price of forces.
        With ⟨ε_a²⟩ = s² the mean square over components has the expectation ⟨ΔF²⟩ + 3s²⟨ΔZ²⟩.
        Without it Born charges are not looked at.

    Returns
    -------
    dict of str to Tensor
        Energies per atom; dipoles of periodic cells as the nearest branch modulo e·h.
    """
    labels = (set(batch.labels) & set(targets)) - {"born_charges"}
    if probe is not None:
        # The dipole's strain derivative has no label; leave stress to the batches without probe.
        labels.discard("stress")
    pairs = compare(model, batch, labels, probe=probe, create_graph=True)
    return {label: pair.predicted - pair.reference for label, pair in pairs.items()}


def total_loss(
    differences: Mapping[str, Tensor],
    batch: Batch,
    targets: Mapping[str, float],
    *,
    linear_beyond: float = 10.0,
) -> dict[str, Tensor]:
    """Weighted pseudo-Huber loss of every label, in units of its target error.

        ℓ(x) = 2δ² (√(1 + (x/δ)²) − 1),   x² = ⟨Δ²⟩/target²,   δ = ``linear_beyond``,

    which is x² for errors below δ targets and linear beyond. ⟨Δ²⟩ is the mean over the known
    components of a row, an atom or a structure; the loss is the mean over the rows that know one.
    """
    losses = {}
    for label, difference in differences.items():
        if label not in targets:
            continue
        weights = batch.weights[label].reshape(len(difference), -1)
        known = weights > 0
        rows = torch.where(known, (difference / targets[label]).reshape(known.shape), 0.0)
        x2 = (rows * rows).sum(-1) / known.sum(-1).clamp(min=1) / linear_beyond**2
        huber = 2 * linear_beyond**2 * (torch.sqrt(1 + x2) - 1)
        losses[label] = (weights.amax(-1) * huber).sum() / known.any(-1).sum().clamp(min=1)
    return losses
