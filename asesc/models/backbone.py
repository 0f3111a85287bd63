"""MACE as a backbone: node features and a short-range energy.

Only this file, ``compiled``, ``cuequivariance`` and ``mace_polar`` import mace and e3nn. Importing
them changes an environment variable, and building them needs another default dtype;
:func:`mace_environment` undoes both.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asesc.errors import InputError
from asesc.models.contraction import replace_contractions, translated_weights
from asesc.models.convolution import fuse_convolutions
from asesc.neighbors import Edges, find_edges
from asesc.system import System, atomic_number

_UNSAFE_LOAD = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def mace_environment(dtype: torch.dtype = torch.float64) -> Iterator[None]:
    """Import or build mace and e3nn objects without leaving traces in the process.

    mace sets an environment variable that switches off torch's safe loading, and e3nn needs it
    while it reads its own constants; what mace imports sets others. Modules are built in float64,
    so that their Clebsch–Gordan tables are exact in whatever type they are cast to later, unless
    they cannot be cast and need their ``dtype`` from the start.
    """
    environment, default = dict(os.environ), torch.get_default_dtype()
    os.environ[_UNSAFE_LOAD] = "1"
    torch.set_default_dtype(dtype)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            # mace announces on import which accelerators it lacks.
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(default)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


@dataclass(frozen=True)
class Features:
    """What the backbone says about every atom, and the edges it used.

    Parameters
    ----------
    scalars : Tensor, (N, S)
    vectors : Tensor, (N, V, 3)
        l = 1 features, components x, y, z.
    energies : Tensor, (N,), eV
        Short-range atomic energies, float64.
    edges : Edges
    edge_vectors : Tensor, (E, 3), Å
        r_j − r_i in float64.
    """

    scalars: Tensor
    vectors: Tensor
    energies: Tensor
    edges: Edges
    edge_vectors: Tensor


class Backbone(nn.Module):
    """``mace.modules.ScaleShiftMACE`` with its features exposed.

    Parameters
    ----------
    elements : sequence of int or symbols
        The model knows these.
    cutoff : float, Å
    channels : int
        Channels per irrep.
    hidden_lmax, edge_lmax : int
        Highest l of the node features and of the spherical harmonics on edges.
    layers, correlation : int
        Message-passing layers and body order minus one of each.
    radial_width : int
        Width of the three hidden layers of the radial network.
    energy_scale, energy_shift : float, eV
        Root mean square and mean of the atomic interaction energies of the training data.
    n_neighbors : float
        Average number of neighbours; normalises the messages.
    architecture : mapping, optional
        Full description of another ScaleShiftMACE as :func:`describe_mace` gives it; then the
        keywords above do not apply. Use :meth:`Model.from_mace` to start from a checkpoint.

    References
    ----------
    I. Batatia et al., MACE, NeurIPS 2022, arXiv:2206.07697.
    """

    def __init__(self, *, architecture: Mapping[str, Any] | None = None, **keywords: Any) -> None:
        super().__init__()
        self.architecture = dict(architecture or new_architecture(**keywords))
        self.mace = build_mace(self.architecture)
        #: What computes the output of ``mace`` in its place, see :mod:`asesc.models.kernels`.
        self.accelerator: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]] | None = None
        self.elements = tuple(int(z) for z in self.mace.atomic_numbers)
        self.cutoff = float(self.mace.r_max)
        self._slices = [_feature_slices(product) for product in self.mace.products]
        self.n_scalars = sum(n for ((_, n), _) in self._slices)
        self.n_vectors = sum(n for (_, (_, n)) in self._slices)

    def copy_mace(self, mace: nn.Module) -> None:
        """Take over the parameters of a module of the same architecture.

        Its contractions may have the couplings of cuequivariance, see
        :func:`~asesc.models.contraction.translated_weights`.

        Raises
        ------
        InputError
            If a constant of the module is not what its architecture implies, so that saving the
            parameters alone would lose it.
        """
        require_same_constants(self.mace, mace)
        parameters = dict(mace.named_parameters()) | translated_weights(self.mace, mace)
        with torch.no_grad():
            for name, parameter in self.mace.named_parameters():
                parameter.copy_(parameters[name])

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        return next(self.parameters()).dtype

    def forward(self, system: System) -> Features:
        """Features of a system; energies and edge vectors come back in float64."""
        edges = find_edges(system, self.cutoff)
        edge_vectors = edges.vectors(system)
        inputs = mace_inputs(system, edges, self.mace.atomic_numbers, self.dtype)
        # mace forms r_j − r_i + shift and nothing else. In single precision the differences would
        # lose digits with the size of the structure; rounded as a whole they keep all.
        inputs["positions"] = torch.zeros_like(inputs["positions"])
        inputs["shifts"] = edge_vectors.to(self.dtype)
        if self.accelerator is None:
            output = self.mace(inputs, compute_force=False)
        else:
            output = self.accelerator(self.mace, inputs)
        scalars, vectors = self._split(output["node_feats"])
        energies = output["node_energy"].double()
        return Features(scalars, vectors, energies, edges, edge_vectors)

    def index_of(self, numbers: Tensor) -> Tensor:
        """Position of every atomic number in ``elements``, (N,)."""
        return (numbers[:, None] == self.mace.atomic_numbers).int().argmax(-1)

    def _split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        scalars, vectors, start = [], [], 0
        for product, ((s, n_s), (v, n_v)) in zip(self.mace.products, self._slices, strict=True):
            scalars.append(features[:, start + s : start + s + n_s])
            block = features[:, start + v : start + v + 3 * n_v]
            vectors.append(block.reshape(len(features), n_v, 3))
            start += product.linear.irreps_out.dim
        return torch.cat(scalars, -1), torch.cat(vectors, 1)


def mace_inputs(
    system: System, edges: Edges, atomic_numbers: Tensor, dtype: torch.dtype
) -> dict[str, Tensor]:
    """A system as mace's modules take it, differentiable in positions and cell.

    Raises
    ------
    InputError
        For elements that are not among ``atomic_numbers``.
    """
    one_hot = system.numbers[:, None] == atomic_numbers
    missing = ~one_hot.any(-1)
    if bool(missing.any()):
        unknown = sorted({int(z) for z in system.numbers[missing]})
        raise InputError(
            f"atomic numbers {unknown} are not in the model, which knows {atomic_numbers.tolist()}"
        )
    return {
        # mace marks its positions as requiring gradients; give it its own tensor.
        "positions": system.positions.to(dtype, copy=True),
        "node_attrs": one_hot.to(dtype),
        "edge_index": torch.stack([edges.source, edges.target]),
        "shifts": edges.translations(system).to(dtype),
        "unit_shifts": edges.shifts.to(dtype),
        "cell": system.cell.to(dtype),
        "batch": system.batch,
        "ptr": torch.cat([system.counts.new_zeros(1), system.counts.cumsum(0)]),
    }


def require_same_constants(own: nn.Module, given: nn.Module, *, but: str = "") -> None:
    """Refuse a module whose constants, ``but`` one, are not those that its architecture implies.

    Couplings of contractions may differ and are compared in :func:`translated_weights`.
    """
    expected, found = dict(own.named_buffers()), dict(given.named_buffers())
    for name in (expected.keys() & found.keys()) - {but}:
        if ".symmetric_contractions." in name:
            continue
        a, b = expected[name].double(), found[name].double()
        if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-5):
            raise InputError(
                f"the constant {name!r} of the MACE module differs from its architecture's; such a "
                "modified module cannot be used"
            )


def new_architecture(
    *,
    elements: Sequence[int | str] = (),
    cutoff: float = 5.0,
    channels: int = 32,
    hidden_lmax: int = 1,
    edge_lmax: int = 2,
    layers: int = 2,
    correlation: int = 2,
    radial_width: int = 32,
    energy_scale: float = 1.0,
    energy_shift: float = 0.0,
    n_neighbors: float = 20.0,
) -> dict[str, Any]:
    """Full description of a new ``ScaleShiftMACE`` from the keywords of :class:`Backbone`."""
    _require_sound(
        elements,
        cutoff=cutoff,
        n_neighbors=n_neighbors,
        channels=channels,
        layers=layers,
        correlation=correlation,
    )
    irreps = "+".join(f"{channels}x{l}{'oe'[l % 2 == 0]}" for l in range(hidden_lmax + 1))
    return {
        "r_max": cutoff,
        "num_bessel": 8,
        "num_polynomial_cutoff": 5,
        "max_ell": edge_lmax,
        "interaction_cls_first": "RealAgnosticInteractionBlock",
        "interaction_cls": "RealAgnosticResidualInteractionBlock",
        "num_interactions": layers,
        "num_elements": len(elements),
        "hidden_irreps": irreps,
        "MLP_irreps": "16x0e",
        "gate": "silu",
        "atomic_energies": [0.0] * len(elements),
        "avg_num_neighbors": n_neighbors,
        "atomic_numbers": [atomic_number(z) for z in elements],
        "correlation": correlation,
        "radial_MLP": [radial_width] * 3,
        "keep_last_layer_irreps": True,
        "atomic_inter_scale": energy_scale,
        "atomic_inter_shift": energy_shift,
    }


def _require_sound(elements: Sequence[int | str], **positive: float) -> None:
    """Refuse keywords that would build a broken module."""
    if not elements or len(set(elements)) != len(elements):
        raise InputError(f"elements must be distinct atomic numbers, at least one; got {elements}")
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{name} of the backbone is {value}; it must be positive")


def packed_shapes(model: nn.Module) -> dict[Tensor, list[tuple[int, ...]]]:
    """Shapes of the tensors that e3nn keeps one after another in flat parameters, by parameter."""
    found = {}
    for module in model.modules():
        instructions, weight = (
            getattr(module, "instructions", None),
            getattr(module, "weight", None),
        )
        if instructions is None or not isinstance(weight, nn.Parameter) or weight.ndim != 1:
            continue
        paths = (path for path in instructions if getattr(path, "has_weight", True))
        found[weight] = [tuple(path.path_shape) for path in paths]
    return found


def _feature_slices(product: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """(offset, multiplicity) of the even scalars and the odd vectors of one layer."""
    found = {"0e": (0, 0), "1o": (0, 0)}
    offset = 0
    for multiplicity, irrep in product.linear.irreps_out:
        if str(irrep) in found:
            found[str(irrep)] = (offset, multiplicity)
        offset += multiplicity * irrep.dim
    return found["0e"], found["1o"]


def describe_mace(mace: nn.Module) -> dict[str, Any]:
    """JSON-able architecture of a ``ScaleShiftMACE``, e.g. of a foundation model's checkpoint.

    Raises
    ------
    InputError
        For another class, for extra embeddings, or for kernels of an accelerator.
    """
    if type(mace).__name__ != "ScaleShiftMACE":
        raise InputError(
            f"the backbone must be a mace ScaleShiftMACE module, got {type(mace).__name__}"
        )
    with mace_environment():
        from mace.tools.scripts_utils import extract_config_mace_model

        architecture = plain_architecture(extract_config_mace_model(mace))
    irreps = [str(product.linear.irreps_out) for product in mace.products]
    return architecture | {"keep_last_layer_irreps": len(irreps) > 1 and irreps[-1] == irreps[0]}


def plain_architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as mace extracts it from a module, in JSON-able form.

    Raises
    ------
    InputError
        For extra embeddings, or for kernels of an accelerator.
    """
    with mace_environment():
        from mace import modules

        gates = {function: name for name, function in modules.gate_dict.items()}
    config = dict(config)
    if config.pop("embedding_specs") or config.pop("cueq_config"):
        raise InputError(
            "the MACE module has extra embeddings or accelerator kernels; convert it to plain e3nn "
            "form first (mace_convert_cueq_e3nn)"
        )
    config["gate"] = gates[config["gate"]]
    return {key: _plain(value) for key, value in config.items()}


def _plain(value: Any) -> Any:
    """A number, string or list in place of a tensor, array, class or irreps."""
    if isinstance(value, type):
        return value.__name__
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if value is None or isinstance(value, bool | int | float | str | list):
        return value
    return str(value)


_IRREPS = ("hidden_irreps", "MLP_irreps", "edge_irreps")


def build_mace(architecture: Mapping[str, Any]) -> nn.Module:
    """A ``ScaleShiftMACE`` with random parameters from its JSON-able description."""
    with mace_environment():
        from mace import modules

        mace = modules.ScaleShiftMACE(**constructor_keywords(architecture))
        fuse_convolutions(mace)
        replace_contractions(mace)
        return mace


def constructor_keywords(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """What mace's constructors take, from the JSON-able form of :func:`plain_architecture`."""
    with mace_environment():
        from e3nn import o3
        from mace import modules

        keywords = dict(architecture)
        for key in _IRREPS:
            if keywords.get(key) is not None:
                keywords[key] = o3.Irreps(keywords[key])
        for key in ("interaction_cls", "interaction_cls_first"):
            keywords[key] = modules.interaction_classes[keywords[key]]
        if "readout_cls" in keywords:
            keywords["readout_cls"] = modules.readout_classes[keywords["readout_cls"]]
        keywords["gate"] = modules.gate_dict[keywords["gate"]]
        keywords["atomic_energies"] = np.array(keywords["atomic_energies"])
        # Where cuequivariance happens to be installed, mace would take another basis of couplings,
        # with other weights. Weights must mean the same on every machine.
        keywords["use_reduced_cg"] = False
        return keywords
