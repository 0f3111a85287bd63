"""Training on Lightning: optimisation, checkpoints, resuming, and the finished model."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from asesc.errors import InputError, did_you_mean
from asesc.models import FAMILIES, Model
from asesc.neighbors import find_edges
from asesc.pretrained import Measure, ModelCard, load_model, save_model
from asesc.training.config import LABELS, TrainingConfig
from asesc.training.data import (
    Batch,
    BoundaryBatches,
    Frame,
    FrameDataset,
    check_labels,
    collate,
    fit_atomic_energies,
    read_frames,
)
from asesc.training.evaluate import LabelError, evaluate_frames
from asesc.training.loss import residuals, total_loss

_LOG = logging.getLogger("asesc")


class Training(lightning.LightningModule):
    """One model, its loss and its optimiser.

    Parameters
    ----------
    model : Model
    config : TrainingConfig
    valid : sequence of Frame
        Evaluated in full every ``config.optimiser.validate_every`` epochs.
    """

    def __init__(self, model: Model, config: TrainingConfig, valid: Sequence[Frame]) -> None:
        super().__init__()
        self.model = model
        self._config = config
        self._valid = list(valid)
        self._probes = np.random.default_rng((config.seed, 1))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        """Lightning's hook; a batch knows how to move itself."""
        return batch.to(device)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch, Σ_label ⟨(error/target)²⟩."""
        differences = residuals(self.model, batch, self._probe(batch, index))
        losses = total_loss(differences, batch, self._config.targets)
        for label, loss in losses.items():
            self.log(f"loss_{label}", loss.detach(), on_epoch=True, on_step=False, batch_size=1)
        total = sum(losses.values())
        self.log("loss", total.detach(), prog_bar=True, on_epoch=True, batch_size=1)
        return total

    def _probe(self, batch: Batch, index: int) -> Tensor | None:
        """Random field that makes forces show the Born charges, on every other batch."""
        targets = self._config.targets
        if "born_charges" not in targets or "born_charges" not in batch.labels or index % 2:
            return None
        # With ⟨ε²⟩/3 = (target F / target Z)² both errors count in units of their targets.
        scale = targets["forces"] / targets["born_charges"]
        random = self._probes.normal(scale=scale, size=(batch.system.n_structures, 3))
        return torch.as_tensor(random, device=batch.system.positions.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Nothing per batch: the whole set is evaluated at the end of the epoch."""

    def on_validation_epoch_end(self) -> None:
        """Log the root mean square error of every label and their sum in targets."""
        with torch.inference_mode(False), torch.enable_grad():
            errors = evaluate_frames(
                self.model, self._valid, batch_size=self._config.data.batch_size
            )
        for label, error in errors.items():
            self.log(f"valid_{label}", error.rmse)
        targets = self._config.targets
        score = sum((errors[label].rmse / targets[label]) ** 2 for label in targets & errors.keys())
        self.log("valid_score", score, prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; linear warm-up and cosine decay over the whole run, step by step."""
        settings = self._config.optimiser
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {
                "params": [p for p in parameters if p.ndim > 1],
                "weight_decay": settings.weight_decay,
            },
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, amsgrad=True)
        steps = int(self.trainer.estimated_stepping_batches)
        rise = max(1, int(settings.warmup * steps))

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def train(config: TrainingConfig, *, resume: bool = True, progress: bool = True) -> ModelCard:
    """Train a model and write it, with its card and validation errors, to ``config.output``.

    An interrupted run continues from its last checkpoint when called again with the same
    configuration. The log is ``metrics.csv``.

    Parameters
    ----------
    resume : bool
        Continue from ``last.ckpt`` in the output folder if there is one.
    progress : bool
        Show a progress bar.

    Returns
    -------
    ModelCard
        With root mean square errors on the validation frames.

    Raises
    ------
    InputError
        For data without the labels asked for, or an unknown family.
    """
    lightning.seed_everything(config.seed, verbose=False)
    train_frames = _frames(config, config.data.train)
    valid_frames = _frames(config, config.data.valid)
    check_labels(train_frames, list(config.targets), "training data")
    model = build_model(config, train_frames)
    output = Path(config.output)
    training = Training(model, config, valid_frames)
    trainer = _trainer(config, output, progress)
    checkpoint = output / "last.ckpt"
    trainer.fit(
        training,
        train_dataloaders=_loader(train_frames, config, shuffle=True),
        val_dataloaders=_loader(valid_frames[:1], config, shuffle=False),
        ckpt_path=str(checkpoint) if resume and checkpoint.is_file() else None,
        weights_only=True if resume and checkpoint.is_file() else None,
    )
    errors = evaluate_frames(model, valid_frames, batch_size=config.data.batch_size)
    return save_model(model, output / config.name, model_card(config, train_frames, errors))


def _frames(config: TrainingConfig, path: str) -> list[Frame]:
    return read_frames(path, prefix=config.data.prefix, limit=config.data.limit)


def _loader(frames: Sequence[Frame], config: TrainingConfig, *, shuffle: bool) -> DataLoader:
    sampler = BoundaryBatches(
        frames, batch_size=config.data.batch_size, shuffle=shuffle, seed=config.seed
    )
    return DataLoader(FrameDataset(frames), batch_sampler=sampler, collate_fn=collate)


def _trainer(config: TrainingConfig, output: Path, progress: bool) -> lightning.Trainer:
    settings = config.optimiser
    callbacks: list[Any] = [
        EMAWeightAveraging(decay=settings.ema_decay),
        ModelCheckpoint(dirpath=output, save_last=True, save_top_k=0, every_n_epochs=1),
    ]
    if progress:
        callbacks.append(RichProgressBar())
    return lightning.Trainer(
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip,
        check_val_every_n_epoch=settings.validate_every,
        callbacks=callbacks,
        logger=CSVLogger(output, name="", version=""),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        deterministic="warn",
        use_distributed_sampler=False,
    )


def build_model(config: TrainingConfig, frames: Sequence[Frame]) -> Model:
    """The family of the configuration with statistics of the data filled in."""
    if config.family not in FAMILIES:
        raise InputError(
            f"unknown family {config.family!r}.{did_you_mean(config.family, FAMILIES)}"
        )
    keywords = dict(config.model)
    energies = keywords.setdefault("atomic_energies", fit_atomic_energies(frames))
    backbone = dict(keywords.get("backbone", {}))
    backbone.setdefault("elements", sorted(int(z) for z in energies))
    backbone.setdefault("cutoff", 5.0)
    backbone.setdefault("energy_scale", _force_scale(frames))
    backbone.setdefault("n_neighbors", _mean_neighbours(frames, backbone["cutoff"]))
    keywords["backbone"] = backbone
    model = FAMILIES[config.family](**keywords).set_dtype(getattr(torch, config.dtype))
    if config.start_from is not None:
        model.load_weights(load_model(config.start_from).weights())
    return model


def _force_scale(frames: Sequence[Frame]) -> float:
    forces = [frame.labels["forces"].ravel() for frame in frames if "forces" in frame.labels]
    return float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else 1.0


def _mean_neighbours(frames: Sequence[Frame], cutoff: float) -> float:
    sample = list(frames)[:: max(1, len(frames) // 50)]
    pairs = [len(find_edges(collate([frame]).system, cutoff).source) for frame in sample]
    return float(max(1.0, sum(pairs) / sum(len(frame.atoms) for frame in sample)))


def model_card(
    config: TrainingConfig, frames: Sequence[Frame], errors: Mapping[str, LabelError]
) -> ModelCard:
    """Card with the scope seen in the training data and the errors measured."""
    charges = [frame.charge for frame in frames]
    boundaries = {sum(map(bool, frame.atoms.pbc)) for frame in frames}
    names = {0: "open", 2: "slab", 3: "periodic"}
    measures = {label: Measure(error.rmse, LABELS[label]) for label, error in errors.items()}
    if "polarizability" in errors:
        relative = 100 * errors["polarizability"].relative
        measures["polarizability_relative"] = Measure(relative, "%")
    fields = [float(np.linalg.norm(frame.electric_field)) for frame in frames]
    texts = {
        key: config.card.get(key, "not stated")
        for key in ("level_of_theory", "training_data", "limits", "licence", "citation")
    }
    return ModelCard(
        name=config.name,
        charge_range=(min(charges), max(charges)),
        field_range=max(fields),
        boundaries=tuple(names[n] for n in sorted(boundaries)),
        errors=measures,
        **texts,
    )
