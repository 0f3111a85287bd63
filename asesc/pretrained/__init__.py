"""Trained models by name: find the folder, read the card, verify and load the weights.

A model is a folder with two files, ``weights.safetensors`` and ``card.json``. Neither can carry
code, so opening somebody else's model is safe; pickles are refused.
"""

from asesc.pretrained.card import Measure, ModelCard, checksum
from asesc.pretrained.registry import find_model, list_models, model_card
from asesc.pretrained.weights import load_model, save_model

__all__ = [
    "Measure",
    "ModelCard",
    "checksum",
    "find_model",
    "list_models",
    "load_model",
    "model_card",
    "save_model",
]
