"""One model, its loss and its optimiser, as Lightning wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from asesc.errors import IllPosedError, InputError, SCFError
from asesc.models import Model, packed_shapes
from asesc.training.config import TrainingConfig
from asesc.training.data import Batch
from asesc.training.evaluate import Comparison
from asesc.training.loss import residuals, total_loss
from asesc.training.self_consistency import map_residuals, require_map, spectral_penalty
from asesc.training.soap import SOAP

_ADVICE = (
    "The weights ran away, or a frame is wild: look at geometries and labels, or lower "
    "optimiser.learning_rate or optimiser.clip and train again, which goes on from the last "
    "complete epoch"
)


class Training(lightning.LightningModule):
    """Everything that happens in a training step and in a validation.

    Parameters
    ----------
    model : Model
    config : TrainingConfig
    """

    def __init__(self, model: Model, config: TrainingConfig) -> None:
        super().__init__()
        require_map(model, config)
        if "fermi_level" in config.targets and not model.has_fermi_level:
            raise InputError(
                f"fermi_level has a target, but {model.family} has no ∂E/∂Q, hence no level. "
                "Remove it from targets or train a family that equilibrates, such as QEq"
            )
        self.model = model
        self._config = config
        self._comparison = Comparison()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        """Lightning's hook; a batch knows how to move itself."""
        return batch.to(device)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch, Σ_label ⟨(error/target)²⟩."""
        targets = self._targets()
        if self._is_direct():
            differences = map_residuals(self.model, batch)
        else:
            differences = self._differences(batch, targets)
        beyond = self._config.linear_beyond
        losses = total_loss(differences, batch, targets, linear_beyond=beyond)
        settings = self._config.self_consistency
        if settings.spectral_radius:
            penalty = spectral_penalty(self.model, batch, settings.spectral_radius)
            losses["spectral_radius"] = settings.spectral_weight * penalty
        for label, loss in losses.items():
            self.log(f"loss_{label}", loss.detach(), on_epoch=True, on_step=False, batch_size=1)
        # A batch may lack every label; its loss is then zero and moves nothing.
        total = sum(losses.values(), start=0.0 * next(self.model.parameters()).sum())
        if not torch.isfinite(total):
            raise IllPosedError(f"the loss is {total.item()} in step {self.global_step}. {_ADVICE}")
        self.log("loss", total.detach(), prog_bar=True, on_epoch=True, batch_size=1)
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before gradients that are no numbers spoil the weights and the checkpoint."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise IllPosedError(f"the gradient is not finite in step {self.global_step}. {_ADVICE}")

    def _differences(self, batch: Batch, targets: Mapping[str, float]) -> dict[str, Tensor]:
        """Prediction minus label; where the model cannot answer any more, with advice."""
        try:
            return residuals(self.model, batch, targets, probe=self._probe(batch))
        except (IllPosedError, SCFError) as error:
            if self.global_step == 0:
                raise
            raise IllPosedError(f"step {self.global_step}: {error}. {_ADVICE}") from error

    def _is_direct(self) -> bool:
        """Whether this step trains one application of the map to the reference density."""
        steps = int(self.trainer.estimated_stepping_batches)
        return self.global_step < self._config.self_consistency.direct * steps

    def _targets(self) -> dict[str, float]:
        """Targets of this step: geometrically from the first to the final ones over the decay."""
        first, last = self._config.targets, self._config.final_targets
        done = self._decayed(self.global_step)
        return {k: first[k] ** (1 - done) * last.get(k, first[k]) ** done for k in first}

    def _decayed(self, step: int) -> float:
        """How much of the decay phase has passed, 0 to 1."""
        steps = int(self.trainer.estimated_stepping_batches)
        phase = max(1.0, self._config.optimiser.decay * steps)
        return min(1.0, max(0.0, (step - (steps - phase)) / phase))

    def _probe(self, batch: Batch) -> Tensor | None:
        """Random field that makes forces show the Born charges, in every other step.

        It is drawn from seed, step and process alone, so that a resumed run sees the same fields.
        """
        targets, step = self._targets(), self.global_step
        if "born_charges" not in targets or "born_charges" not in batch.labels or step % 2:
            return None
        # 3s² = 2 (target F/target Z)²: in every other step, Born charges count in their target.
        scale = math.sqrt(2 / 3) * targets["forces"] / targets["born_charges"]
        random = np.random.default_rng((self._config.seed, 1, step, self.global_rank))
        probe = random.normal(scale=scale, size=(batch.system.n_structures, 3))
        return torch.as_tensor(probe, device=batch.system.positions.device)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self._comparison = Comparison()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Compare all labels; Lightning has put the averaged weights in place by now."""
        self._comparison.add(self.model, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the root mean square error of every label and their sum in targets."""
        errors = self._comparison.errors()
        for label, error in errors.items():
            self.log(f"valid_{label}", error.rmse)
        targets = self._config.targets
        score = sum((errors[label].rmse / targets[label]) ** 2 for label in targets & errors.keys())
        self.log("valid_score", score, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note which model the checkpoint belongs to."""
        checkpoint["method"] = self._config.optimiser.method
        checkpoint["family"] = self.model.family
        checkpoint["hyperparameters"] = self.model.hyperparameters

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse checkpoints of another model or method and of longer runs; keep changed rates."""
        ours = {"family": self.model.family, "hyperparameters": self.model.hyperparameters}
        differing = [name for name, value in ours.items() if checkpoint.get(name) != value]
        if differing:
            raise InputError(
                f"the checkpoint in {self._config.output!r} belongs to another model: its "
                f"{' and '.join(differing)} differ from this configuration and its data. Choose "
                "another output folder, or start anew with --fresh"
            )
        method = self._config.optimiser.method
        if checkpoint.get("method", method) != method:
            raise InputError(
                f"the run in {self._config.output!r} was begun with optimiser.method: "
                f"{checkpoint['method']}, whose averages mean nothing to {method}. Keep the "
                "method, choose another output folder, or start anew with --fresh"
            )
        # Checkpoints are of ends of epochs, before Lightning counts the epoch as done.
        self._refuse_longer_run(checkpoint["epoch"] + 1)
        self._take_over_rates(checkpoint)

    def _refuse_longer_run(self, done: int) -> None:
        """Refuse to pass off a longer run as the one that the configuration describes."""
        wanted = self._config.optimiser.epochs
        if done > wanted:
            raise InputError(
                f"the run in {self._config.output!r} has gone through {done} epochs, and "
                f"optimiser.epochs is {wanted}: its weights are not those of the shorter run. "
                f"Write epochs: {done} to take them as they are, choose another output folder, or "
                "start anew with --fresh"
            )

    def _take_over_rates(self, checkpoint: dict[str, Any]) -> None:
        """Let rates of the configuration hold, where a checkpoint would bring back its own."""
        settings = self._config.optimiser
        states, schedules = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
        for state, schedule in zip(states, schedules, strict=True):
            for n, group in enumerate(state["param_groups"]):
                if group["initial_lr"] != settings.learning_rate:
                    group["lr"] *= settings.learning_rate / group["initial_lr"]
                    group["initial_lr"] = schedule["base_lrs"][n] = settings.learning_rate
                group["weight_decay"] = self._decays()[n]

    def _decays(self) -> tuple[float, float]:
        """Weight decay of matrices and of everything else."""
        return self._config.optimiser.weight_decay, 0.0

    def configure_optimizers(self) -> dict[str, Any]:
        """Linear warm-up, constant rate and cosine decay over the whole run, by step."""
        settings = self._config.optimiser
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        kinds = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
        groups = [
            {"params": kind, "weight_decay": decay}
            for kind, decay in zip(kinds, self._decays(), strict=True)
        ]
        optimiser: torch.optim.Optimizer
        if settings.method == "soap":
            packed = packed_shapes(self.model)
            optimiser = SOAP(groups, lr=settings.learning_rate, packed=packed)
        else:
            optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
        rise = max(1, int(settings.warmup * int(self.trainer.estimated_stepping_batches)))

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * self._decayed(step)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
