"""What those who compute a module in its place must know about its weights."""

from __future__ import annotations

import torch
from torch import nn


def learns(module: nn.Module) -> bool:
    """Whether derivatives by weights may be asked for."""
    return torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())


def weights_version(module: nn.Module) -> int:
    """Another number after a weight, the type or the device has changed."""
    return hash(tuple((p.data_ptr(), p._version, p.dtype) for p in module.parameters()))
