"""Training and evaluation of models."""

from asesc.training.config import TrainingConfig, read_config
from asesc.training.data import read_frames
from asesc.training.evaluate import LabelError, evaluate_frames, plot_parity
from asesc.training.trainer import train

__all__ = [
    "LabelError",
    "TrainingConfig",
    "evaluate_frames",
    "plot_parity",
    "read_config",
    "read_frames",
    "train",
]
