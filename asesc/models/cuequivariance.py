"""The backbone through the kernels of cuEquivariance, from its ordinary weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from asesc.errors import InputError, SetupError
from asesc.models.backbone import constructor_keywords, mace_environment
from asesc.models.contraction import path_weights
from asesc.models.convolution import component_order
from asesc.models.weights import learns, weights_version


class CuEquivariance:
    """Evaluates a ``ScaleShiftMACE`` through cuEquivariance; has no weights of its own.

    The other form of the module is made when it is first used, and again when a weight, the type
    or the device of the ordinary module has changed. It is no submodule: it is neither listed nor
    saved, and a copy or a pickle makes it again.

    Derivatives by positions exist to any order, as the kernels' derivatives are the same kernels;
    those by weights do not.

    Parameters
    ----------
    architecture : mapping
        Of the ordinary module, see :func:`~asesc.models.backbone.constructor_keywords`.

    Raises
    ------
    SetupError
        cuequivariance-torch is not installed.

    References
    ----------
    https://docs.nvidia.com/cuda/cuequivariance
    """

    name = "cuequivariance"

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        require_cuequivariance()
        self._architecture = architecture
        self._made: tuple[int, nn.Module, Tensor] | None = None

    def __call__(self, mace: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Output of the module, with the node features in e3nn's layout.

        Raises
        ------
        InputError
            Derivatives by weights would be needed.
        SetupError
            On a GPU without the kernels, or for an architecture they do not cover.
        """
        if learns(mace):
            raise InputError(
                "the backbone has weights that require gradients, which kernels='cuequivariance' "
                "does not compute. Train with kernels='torch', or call requires_grad_(False)"
            )
        if inputs["edge_index"].shape[1] == 0:
            # Whether the kernels take empty arrays is not documented; there is nothing to gain.
            return mace(inputs, compute_force=False)
        version, made = weights_version(mace), self._made
        if made is None or made[0] != version:
            # One assignment: threads that share a model see the old form or the new one.
            made = self._made = (version, *_converted(mace, self._architecture))
        # The kernels are launched on the current device, whichever their arrays are on.
        with torch.cuda.device_of(inputs["positions"]):
            output = made[1](inputs, compute_force=False)
        output["node_feats"] = output["node_feats"].index_select(1, made[2])
        return output

    def __getstate__(self) -> dict[str, Any]:
        return {"_architecture": self._architecture, "_made": None}


def require_cuequivariance() -> None:
    """Refuse where the package is missing.

    Raises
    ------
    SetupError
        With the command that installs it.
    """
    missing = [p for p in ("cuequivariance", "cuequivariance_torch") if find_spec(p) is None]
    if missing:
        raise SetupError(
            f"kernels='cuequivariance' needs {' and '.join(missing)}, not installed here. Run: pip "
            "install cuequivariance-torch cuequivariance-ops-torch-cu12 (or -cu13, as your torch "
            "says in torch.version.cuda), or use kernels='torch'"
        )


def _converted(mace: nn.Module, architecture: Mapping[str, Any]) -> tuple[nn.Module, Tensor]:
    """The same function in cuEquivariance's form, and the columns of its features in our order."""
    weight = next(mace.parameters())
    if weight.is_cuda and find_spec("cuequivariance_ops_torch") is None:
        raise SetupError(
            "kernels='cuequivariance' on a GPU needs cuequivariance-ops-torch-cu12 (or -cu13), "
            "without which it would be slower than kernels='torch'. Run: pip install "
            "cuequivariance-ops-torch-cu12"
        )
    if not weight.is_cuda:
        warnings.warn(
            "cuEquivariance has kernels for GPUs only; on this CPU kernels='cuequivariance' is "
            "right but slower than kernels='torch'",
            UserWarning,
            stacklevel=2,
        )
    other = _build(architecture, weight.dtype, fused=weight.is_cuda).to(weight.device)
    _copy_tensors(mace, other)
    orders, start = [], 0
    for product in mace.products:
        irreps = product.linear.irreps_out
        # From components × channels, the layout of the kernels, to that of e3nn.
        orders.append(start + component_order(irreps).argsort())
        start += irreps.dim
    return other, torch.cat(orders).to(weight.device)


def _build(architecture: Mapping[str, Any], dtype: torch.dtype, *, fused: bool) -> nn.Module:
    # The kernels compute in the type in which they were made.
    with mace_environment(dtype):
        from mace import modules
        from mace.modules.wrapper_ops import CuEquivarianceConfig

        config = CuEquivarianceConfig(
            enabled=True,
            layout="ir_mul",
            group="O3_e3nn",
            optimize_all=True,
            conv_fusion=fused,
        )
        with torch.random.fork_rng(devices=[]):
            module = modules.ScaleShiftMACE(
                **constructor_keywords(architecture), cueq_config=config
            )
    return module.requires_grad_(False).eval()


def _copy_tensors(mace: nn.Module, other: nn.Module) -> None:
    """Weights and constants of the ordinary module, reshaped as the other form keeps them."""
    source = dict(mace.named_parameters())
    for index, product in enumerate(mace.products):
        name = f"products.{index}.symmetric_contractions."
        source = {k: v for k, v in source.items() if not k.startswith(name)}
        paths = [w for c in product.symmetric_contractions.contractions for w in path_weights(c)]
        source[name + "weight"] = torch.cat(paths, 1)
    target = dict(other.named_parameters())
    unlike = source.keys() ^ target.keys() or {
        name for name in source if source[name].numel() != target[name].numel()
    }
    if unlike:
        raise SetupError(
            f"the installed cuequivariance-torch and mace-torch keep {min(unlike)!r} and "
            f"{len(unlike) - 1} other tensors in a form that asesc does not know. Use "
            "kernels='torch'"
        )
    constants = dict(mace.named_buffers())
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(source[name].reshape(tensor.shape))
        for name, tensor in other.named_buffers():
            if name in constants and constants[name].shape == tensor.shape:
                tensor.copy_(constants[name])
