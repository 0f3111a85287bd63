"""The model behind a calculator: opened once, shared by copies, pickled without code."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asesc.errors import InputError, ModelFormatError, SetupError, did_you_mean
from asesc.models import FAMILIES, Potential
from asesc.pretrained import ModelCard, checksum, load_model, model_card

_DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model on its device, with what is needed to open it again elsewhere.

    Deep copies are the object itself, so calculators that are copied with their atoms share one
    set of weights. A pickle holds name and checksum of a model from the registry or a folder, and
    family, hyperparameters and tensors of one that was made in the program.

    Parameters
    ----------
    model : Potential
    source : str or Potential
        Name, absolute folder, or the instance that the user passed.
    card : ModelCard or None
        None for an instance, whose scope nobody has written down.
    dtype, device, kernels : str
        As asked for; ``"auto"`` is decided again where a pickle is opened.
    """

    model: Potential
    source: str | Potential
    card: ModelCard | None
    dtype: str
    device: str
    kernels: str

    @property
    def name(self) -> str:
        """Name of the card; the family of an instance."""
        return self.card.name if self.card else self.model.family

    @property
    def torch_device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def sha256(self) -> str:
        """Checksum of the weights, as in the card."""
        if self.card:
            return self.card.sha256
        return checksum(self.model.family, self.model.hyperparameters, _tensors(self.model))

    @property
    def version(self) -> int:
        """Changes when a weight is changed in place, e.g. by a training step, or cast."""
        return hash(tuple((weight.data_ptr(), weight._version) for weight in self._weights))

    @cached_property
    def _weights(self) -> tuple[Tensor, ...]:
        # Walking a tree of modules takes longer than everything else that a cached answer needs.
        return tuple(self.model.parameters())

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenedModel:
        return self

    def __reduce__(self) -> tuple[Callable[..., OpenedModel], tuple[Any, ...]]:
        if self.card is not None:
            asked = self.dtype, self.device, self.kernels
            return _open_again, (self.source, self.card.sha256, *asked)
        model = self.model
        if FAMILIES.get(model.family) is not type(model):
            raise ModelFormatError(
                f"{type(model).__name__} is not in the table of families, so a pickle could not "
                "rebuild it. Save it with asesc.pretrained.save_model and open the folder"
            )
        return _rebuild, (
            model.family,
            copy.deepcopy(model.hyperparameters),
            _tensors(model),
            self.dtype,
            self.device,
            self.kernels,
        )


# Weights made in inference mode could never be differentiated through.
@torch.inference_mode(False)
def open_model(
    source: str | os.PathLike[str] | Potential,
    *,
    dtype: str = "float64",
    device: str = "auto",
    kernels: str = "torch",
) -> OpenedModel:
    """Open a model by name, folder or as it is.

    Parameters
    ----------
    source
        An instance is used as it is where type, device and kernels agree, and copied where not;
        the user's own is never changed.
    dtype : "float64" or "float32"
        Of the learned part; electrostatics and sums are always float64.
    device
        ``"auto"`` is the first GPU, else the CPU; an instance stays where it is.
    kernels : "torch", "compiled" or "cuequivariance"
        What computes the backbone; the numbers and the stored weights are the same.

    Raises
    ------
    InputError
        For an unknown dtype or something that is not a model.
    SetupError
        The device does not exist here, or the kernels are not installed.
    ModelNotFoundError, ModelFormatError
        See :func:`asesc.pretrained.load_model`.
    """
    if dtype not in _DTYPES:
        raise InputError(
            f"dtype={dtype!r}; choose 'float64' (exact derivatives) or 'float32' (faster on GPUs)."
            f"{did_you_mean(str(dtype), _DTYPES)}"
        )
    if isinstance(source, Potential):
        place = _device(device) if device != "auto" else next(source.parameters()).device
        model = _adapted(source, _DTYPES[dtype], place, kernels)
        return OpenedModel(model, source, None, dtype, device, kernels)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"model must be a name, a folder or an asesc.models.Potential, got "
            f"{type(source).__name__}; wrap a bare network in one of the families "
            f"{', '.join(FAMILIES)}"
        )
    card = model_card(source)
    model = load_model(source, dtype=dtype, device=_device(device)).requires_grad_(False)
    model.use_kernels(kernels)
    # A folder is kept as an absolute path, so that a calculator survives os.chdir.
    is_name = isinstance(source, str) and Path(source).name == source
    place = source if is_name else str(Path(source).expanduser().resolve())
    return OpenedModel(model, place, card, dtype, device, kernels)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type != "cuda":
            torch.zeros(1, dtype=torch.float64, device=device).item()
    # What torch raises for text that is no device, and for devices that cannot do this.
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        raise SetupError(
            f"device={name!r} is not a device for numbers of type float64 here: {error}. Use "
            "'cpu', 'cuda' or 'auto'"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        build = "a CPU build" if torch.version.cuda is None else f"built for {torch.version.cuda}"
        raise SetupError(
            f"device={name!r} but torch {torch.__version__} ({build}) sees "
            f"{torch.cuda.device_count()} GPUs; use device='cpu' or 'auto', or install torch for "
            "your GPU"
        )
    return device


def _adapted(model: Potential, dtype: torch.dtype, device: torch.device, kernels: str) -> Potential:
    found = model.dtype, next(model.parameters()).device, model.kernels
    if found == (dtype, device, kernels):
        return model
    # Not a deep copy: e3nn's compiled parts would travel through torch's deprecated jit archives.
    copy = _made(type(model), model.hyperparameters, model.weights()).set_dtype(dtype).to(device)
    return copy.use_kernels(kernels)


def _made(
    family: type[Potential], hyperparameters: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Potential:
    """A new model with these weights in float64, leaving the random state as it was."""
    with torch.random.fork_rng(devices=[]):
        model = family(**hyperparameters)
    model.load_weights(weights)
    return model.requires_grad_(False).eval()


def _tensors(model: Potential) -> bytes:
    from safetensors.torch import save

    return save({name: w.cpu().contiguous().clone() for name, w in model.weights().items()})


def _open_again(source: str, sha256: str, dtype: str, device: str, kernels: str) -> OpenedModel:
    here = model_card(source).sha256
    if here != sha256:
        raise ModelFormatError(
            f"the pickled calculator used model {source!r} with sha256 {sha256[:12]}…, but the "
            f"model of that name here has {here[:12]}…: its numbers would differ. "
            "Install the same version of the model"
        )
    return _opened_once(source, sha256, dtype, device, kernels)


# A pool of processes gets the same calculator with every task. The checksum tells models apart that
# were saved under one name.
@lru_cache(maxsize=2)
def _opened_once(source: str, sha256: str, dtype: str, device: str, kernels: str) -> OpenedModel:
    return open_model(source, dtype=dtype, device=device, kernels=kernels)


def _rebuild(
    family: str,
    hyperparameters: Mapping[str, Any],
    tensors: bytes,
    dtype: str,
    device: str,
    kernels: str,
) -> OpenedModel:
    from safetensors.torch import load

    if family not in FAMILIES:
        raise ModelFormatError(
            f"the pickled calculator uses the family {family!r}, which is not known here. Import "
            f"the module that defines it first; known are {', '.join(FAMILIES)}"
        )
    model = _made(FAMILIES[family], hyperparameters, load(tensors))
    return open_model(model, dtype=dtype, device=device, kernels=kernels)
