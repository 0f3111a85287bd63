"""Training on Lightning: optimisation, checkpoints, resuming, and the finished model."""

from __future__ import annotations

import logging
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
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
from torch.utils.data import DataLoader

from asesc.errors import InputError, did_you_mean
from asesc.models import FAMILIES, Model
from asesc.neighbors import find_edges
from asesc.pretrained import Measure, ModelCard, load_model, save_model
from asesc.pretrained.card import TEXTS
from asesc.response import conjugacy_errors
from asesc.system import atomic_number
from asesc.training.config import LABELS, TrainingConfig
from asesc.training.data import (
    BatchDataset,
    BoundaryBatches,
    Frame,
    add_field_frames,
    check_labels,
    check_structures,
    collate,
    fit_atomic_energies,
    read_frames,
)
from asesc.training.evaluate import LabelError, evaluate_frames
from asesc.training.module import Training

#: Instead of a table of atomic energies: those that fit the backbone taken from another model.
REFIT = "refit"
_LAST = "last"
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
#: What Lightning and torch say about each other, which no user can act on.
_EXPECTED_WARNINGS = (
    r".isinstance\(treespec, LeafSpec\). is deprecated",
    "`torch.jit.* is deprecated",
    ".*does not have many workers",
    "It is recommended to use .*sync_dist",
    "Grad strides do not match bucket view strides",
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
)


def train(config: TrainingConfig, *, resume: bool = True, progress: bool = True) -> ModelCard:
    """Train a model and write it, with its card and validation errors, to ``config.output``.

    An interrupted run continues after its last complete epoch when called again with the same
    configuration, and ends with the same weights as if it had not been interrupted. Data, targets,
    number of epochs, learning rate and weight decay may be changed meanwhile and hold from there
    on. Every start writes its own ``log/version_N/metrics.csv``. Deterministic for a seed on one
    machine.

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
        For data without the labels asked for or that the model cannot take, an unknown family or
        keyword of it, or a checkpoint of another model or of more epochs in the output folder.
    ModelFormatError
        If the card could not be written in the end.
    IllPosedError
        If the weights run away; the last checkpoint is from before.
    """
    train_frames, valid_frames = _frames(config)
    output = Path(config.output)
    with _undisturbed(config.seed):
        training = Training(build_model(config, train_frames), config)
        check_structures(train_frames, training.model.elements, "training data")
        check_structures(valid_frames, training.model.elements, "validation data")
        # What would be refused after the last epoch is refused before the first.
        model_card(config, train_frames, {}, {})
        trainer = _trainer(config, output, progress)
        trainer.fit(
            training,
            train_dataloaders=_loader(train_frames, config, shuffle=True),
            val_dataloaders=_loader(valid_frames, config, shuffle=False),
            ckpt_path=_checkpoint(output / f"{_LAST}.ckpt") if resume else None,
            weights_only=True,
        )
    errors = evaluate_frames(training.model, valid_frames, batch_size=config.data.batch_size)
    card = model_card(config, train_frames, errors, _mismatch(training.model, valid_frames))
    return (
        save_model(training.model, output / config.name, card) if trainer.is_global_zero else card
    )


def _frames(config: TrainingConfig) -> tuple[list[Frame], list[Frame]]:
    """Training frames, those in made-up fields included, and validation frames."""
    data = config.data
    train, valid = (
        read_frames(path, prefix=data.prefix, limit=data.limit) for path in (data.train, data.valid)
    )
    check_labels(train, list(config.targets), "training data")
    if not any(config.targets.keys() & frame.labels.keys() for frame in valid):
        raise InputError(
            f"validation data: no frame has one of the labels {', '.join(config.targets)}, so that "
            "there would be no errors to state"
        )
    if data.field_frames > 0:
        train = add_field_frames(train, data.field_frames, seed=config.seed)
    return train, valid


def _checkpoint(path: Path) -> str | None:
    """Where to go on, if there is something.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        damaged = str(error)
    if damaged is not None:
        raise InputError(
            f"the checkpoint {str(path)!r} is damaged ({damaged}), so that there is nothing to go "
            "on from; put a copy in its place, or start anew with --fresh"
        )
    return str(path)


def _loader(frames: Sequence[Frame], config: TrainingConfig, *, shuffle: bool) -> DataLoader:
    sampler = BoundaryBatches(
        frames, batch_size=config.data.batch_size, shuffle=shuffle, seed=config.seed
    )
    # As ``sampler``, not ``batch_sampler``: that is where Lightning looks for set_epoch.
    return DataLoader(BatchDataset(frames), sampler=sampler, batch_size=None)


@contextmanager
def _undisturbed(seed: int) -> Iterator[None]:
    """Seed torch and make it deterministic, hush Lightning, and undo all of it at the end."""
    talkative = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level, workspace = talkative.level, os.environ.get(_CUBLAS)
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    with torch.random.fork_rng(), warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        torch.manual_seed(seed)
        talkative.setLevel(logging.WARNING)
        # Nothing here reads memory before writing it, and filling all of it takes time.
        torch.utils.deterministic.fill_uninitialized_memory = False
        try:
            yield
        finally:
            talkative.setLevel(level)
            torch.utils.deterministic.fill_uninitialized_memory = filled
            torch.use_deterministic_algorithms(was_deterministic, warn_only=warned_only)
            if workspace is None:
                os.environ.pop(_CUBLAS, None)
            else:
                os.environ[_CUBLAS] = workspace


class ShippedAverage(EMAWeightAveraging):
    """Moving average of the weights that is validated and, at the end, left in the model."""

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Also after a resumed run that was complete, of which Lightning trains nothing."""
        self._copy_average_to_current(pl_module)


def _trainer(config: TrainingConfig, output: Path, progress: bool) -> lightning.Trainer:
    settings = config.optimiser
    devices = config.devices or max(1, torch.cuda.device_count())
    callbacks: list[Any] = [
        ShippedAverage(decay=settings.ema_decay, use_buffers=False),
        ModelCheckpoint(
            dirpath=output,
            filename=_LAST,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        ),
    ]
    if progress:
        callbacks.append(RichProgressBar())
    return lightning.Trainer(
        max_epochs=settings.epochs,
        devices=devices,
        # Some weights of the last layer reach no label; one process does not mind.
        strategy="auto" if devices == 1 else "ddp_find_unused_parameters_true",
        gradient_clip_val=settings.clip,
        check_val_every_n_epoch=settings.validate_every,
        callbacks=callbacks,
        logger=CSVLogger(output, name="log"),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        deterministic="warn",
        use_distributed_sampler=False,
        # Forces are gradients, also of validation frames.
        inference_mode=False,
    )


def build_model(config: TrainingConfig, frames: Sequence[Frame]) -> Model:
    """The family of the configuration with statistics of the data filled in, on the backbone of
    another model, or the model to start from as it is."""
    if config.family not in FAMILIES:
        raise InputError(
            f"unknown family {config.family!r}.{did_you_mean(config.family, FAMILIES)}"
        )
    if config.start_from is not None:
        return _start(config, config.start_from)
    keywords = dict(config.model)
    if keywords.get("atomic_energies") == REFIT and config.backbone_from is None:
        raise InputError(
            f"atomic_energies: {REFIT} fits those of another model, but backbone_from names none. "
            "Leave atomic_energies out to fit them to the data"
        )
    known = _keywords(FAMILIES[config.family])
    for key in keywords:
        if key not in known:
            near = did_you_mean(str(key), known)
            raise InputError(f"{config.family} does not know {key!r}.{near}")
    for key in ("backbone", "atomic_energies"):
        if not isinstance(keywords.get(key, {}), Mapping) and keywords[key] != REFIT:
            raise InputError(f"model: {key} is {keywords[key]!r}, not a mapping of keys to values")
    if config.backbone_from is not None:
        return _on_backbone(config, keywords, config.backbone_from, frames)
    energies = keywords.setdefault("atomic_energies", fit_atomic_energies(frames))
    backbone = dict(keywords.get("backbone", {}))
    backbone.setdefault("elements", sorted(atomic_number(z) for z in energies))
    cutoff = backbone.setdefault("cutoff", 5.0)
    if not (isinstance(cutoff, float | int) and cutoff > 0):
        raise InputError(f"model: cutoff of the backbone is {cutoff!r}, not a positive number of Å")
    backbone.setdefault("energy_scale", _force_scale(frames))
    backbone.setdefault("n_neighbors", _mean_neighbours(frames, cutoff))
    keywords["backbone"] = backbone
    return _new(config, keywords)


def _new(config: TrainingConfig, keywords: Mapping[str, Any]) -> Model:
    """The family with random parameters."""
    try:
        return FAMILIES[config.family](**keywords).set_dtype(getattr(torch, config.dtype))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{config.family} does not accept the keys under model: {error}"
        ) from error


def _on_backbone(
    config: TrainingConfig, keywords: Mapping[str, Any], name: str, frames: Sequence[Frame]
) -> Model:
    """The family with new heads on the trained backbone, and atomic energies, of another model."""
    given = load_model(name, dtype=config.dtype)
    if not isinstance(given, Model):
        raise InputError(f"backbone_from={name!r} is a {given.family}, which has no such backbone")
    refit = keywords.get("atomic_energies") == REFIT
    if refit:
        keywords = {key: value for key, value in keywords.items() if key != "atomic_energies"}
    own = ("backbone", "atomic_energies")
    if superfluous := [key for key in own if key in keywords]:
        raise InputError(
            f"{' and '.join(superfluous)} under model: these come from backbone_from={name!r}"
        )
    taken = {key: given.hyperparameters[key] for key in own}
    if refit:
        taken["atomic_energies"] = _refitted(given, frames)
    model = _new(config, {**keywords, **taken})
    model.backbone.load_state_dict(given.backbone.state_dict())
    return model


def _refitted(given: Model, frames: Sequence[Frame]) -> dict[str, float]:
    """Atomic energies for which the backbone of another level of theory agrees with the labels.

    Elements that the compositions do not tell apart are changed by as little as possible.
    """
    old, rest = {int(z): e for z, e in given.hyperparameters["atomic_energies"].items()}, []
    for frame in (f for f in frames if "energy" in f.labels):
        with torch.no_grad():
            bound = float(given.backbone(collate([frame]).system).energies.sum())
        known = bound + sum(old.get(int(z), 0.0) for z in frame.atoms.numbers)
        rest.append(replace(frame, labels={"energy": frame.labels["energy"] - known}))
    if not rest:
        raise InputError(f"atomic_energies: {REFIT} needs frames with energies; there are none")
    change = fit_atomic_energies(rest)
    return {str(z): old.get(z, 0.0) + change.get(z, 0.0) for z in sorted({*old, *change})}


def _start(config: TrainingConfig, name: str) -> Model:
    """A trained model to go on with; its constants must stay what its weights were trained for."""
    model = load_model(name, dtype=config.dtype).train()
    if model.family != config.family or config.model:
        raise InputError(
            f"start_from={name!r} is of the family {model.family} and keeps its own keywords; "
            f"write family: {model.family} and leave out model"
        )
    return model


def _keywords(family: type[Model]) -> set[str]:
    """Keywords that a user may give: of a family's constructor and of those it passes on to."""
    constructors = (kind.__init__ for kind in family.__mro__ if issubclass(kind, Model))
    parameters = (p for init in constructors for p in signature(init).parameters.values())
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"own"}


def _force_scale(frames: Sequence[Frame]) -> float:
    forces = [frame.labels["forces"].ravel() for frame in frames if "forces" in frame.labels]
    return float(np.sqrt(np.nanmean(np.concatenate(forces) ** 2))) or 1.0 if forces else 1.0


def _mean_neighbours(frames: Sequence[Frame], cutoff: float) -> float:
    sample = list(frames)[:: max(1, len(frames) // 50)]
    pairs = [len(find_edges(collate([frame]).system, cutoff).source) for frame in sample]
    return float(max(1.0, sum(pairs) / sum(len(frame.atoms) for frame in sample)))


def _mismatch(model: Model, frames: Sequence[Frame]) -> dict[str, Measure]:
    """How far dipole and Fermi level are from the derivatives of the energy, for the card.

    Empty for variational families, where they are the same numbers.
    """
    if model.variational:
        return {}
    device = next(model.parameters()).device
    errors = conjugacy_errors(model, (collate([f]).to(device).system for f in frames))
    units = {"dipole": LABELS["dipole"], "fermi_level": "eV"}
    return {f"{name}_mismatch": Measure(error, units[name]) for name, error in errors.items()}


def model_card(
    config: TrainingConfig,
    frames: Sequence[Frame],
    errors: Mapping[str, LabelError],
    mismatch: Mapping[str, Measure],
) -> ModelCard:
    """Card with the scope seen in the training data, the errors measured, and, in families that are
    not variational, the ``mismatch`` of dipole and level with the derivatives of the energy."""
    charges = [frame.charge for frame in frames]
    boundaries = {sum(map(bool, frame.atoms.pbc)) for frame in frames}
    names = {0: "open", 2: "slab", 3: "periodic"}
    measures = {label: Measure(error.rmse, LABELS[label]) for label, error in errors.items()}
    if "polarizability" in errors:
        relative = 100 * errors["polarizability"].relative
        measures["polarizability_relative"] = Measure(relative, "%")
    fields = [float(np.linalg.norm(frame.electric_field)) for frame in frames]
    texts = {key: config.card.get(key, "not stated") for key in TEXTS}
    return ModelCard(
        name=config.name,
        charge_range=(min(charges), max(charges)),
        field_range=max(fields) if config.field_range is None else config.field_range,
        boundaries=tuple(names[n] for n in sorted(boundaries)),
        errors=measures | mismatch,
        **texts,
    )
