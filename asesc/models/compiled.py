"""The backbone compiled for a CPU by torch.compile, which checks itself and gives way.

Energies and features are traced once with symbolic numbers of atoms and edges and compiled by
inductor, which needs a C++ compiler; one compilation serves every structure. Compiled code has
first derivatives only: where a graph of the derivatives is wanted (Born charges, ε∞, Hessians),
they are those of the ordinary module.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asesc.errors import SetupError
from asesc.models.backbone import build_mace, mace_environment
from asesc.models.weights import learns, weights_version

Outputs = tuple[Tensor, Tensor]
Function = Callable[[Tensor, Tensor, Tensor], Outputs]

#: Largest relative deviation of energies, features and derivatives from the ordinary module.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}

# Numbers of atoms and edges while tracing: unequal, or one symbol would stand for both, and above
# 32, up to which inductor writes products of another kind. Smaller structures would be compiled
# anew, and are left to the ordinary module.
_ATOMS, _EDGES = 33, 101
_COMPILING = threading.RLock()


class Compiled:
    """Evaluates a ``ScaleShiftMACE`` through ``torch.compile``; has no weights of its own.

    Made when first used, in about two minutes on a new machine and some fifteen seconds where torch
    finds what it compiled before. Structures of less than 33 atoms gain nothing and are left to the
    ordinary module. The first structure is computed both ways; where the numbers disagree by more
    than :data:`TOLERANCE`, or nothing can be compiled, a warning says so and the ordinary module
    goes on.

    Parameters
    ----------
    architecture : mapping
        Of the ordinary module, see :func:`~asesc.models.backbone.constructor_keywords`.

    References
    ----------
    J. Ansel et al., PyTorch 2, ASPLOS 2024, doi:10.1145/3620665.3640366.
    """

    name = "compiled"

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        self._architecture = architecture
        self._made: _Made | None = None

    def __call__(self, mace: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Energies and node features of the module.

        Raises
        ------
        SetupError
            On a GPU.
        """
        vectors, edges = inputs["shifts"], inputs["edge_index"]
        if vectors.device.type != "cpu":
            raise SetupError(
                f"kernels='compiled' is for CPUs, and the model is on {vectors.device}. Use "
                "kernels='cuequivariance' or 'torch'"
            )
        if learns(mace) or len(inputs["node_attrs"]) < _ATOMS or edges.shape[1] < _EDGES:
            return mace(inputs, compute_force=False)
        made = self._up_to_date(mace, inputs)
        if made.function is None:
            return mace(inputs, compute_force=False)
        energies, features = _Evaluation.apply(vectors, inputs, mace, made.function)
        # Energies of free atoms are large: added in double precision, as in the module.
        free = mace.atomic_energies_fn(inputs["node_attrs"])[:, 0]
        return {"node_energy": free.double() + energies.double(), "node_feats": features}

    def _up_to_date(self, mace: nn.Module, inputs: dict[str, Tensor]) -> _Made:
        """The compiled module with the present weights; checked where it is new."""
        version, made = weights_version(mace), self._made
        if made is not None and made.version == version:
            return made
        # Tracing changes modules of the whole process for a moment.
        with _COMPILING:
            made = self._made
            if made is None or made.version != version:  # no other thread made it meanwhile
                made = self._made = _make(mace, self._architecture, inputs, version)
            return made

    def __getstate__(self) -> dict[str, Any]:
        return {"_architecture": self._architecture, "_made": None}


def has_compiler() -> bool:
    """Whether torch finds the C++ compiler that it needs."""
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        return False
    return True


@dataclass(frozen=True)
class _Made:
    """What was compiled of a certain state of the weights; no function where that failed."""

    version: int
    function: Function | None


class _Evaluation(torch.autograd.Function):
    """Compiled values and first derivatives by edge vectors; further ones by the module."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, inputs: dict[str, Tensor], mace: nn.Module, function: Function
    ) -> Outputs:
        ctx.save_for_backward(vectors)
        ctx.inputs, ctx.mace = inputs, mace
        # Always with a derivative, or torch would compile the values alone once more.
        ctx.leaf = vectors.detach().requires_grad_()
        with torch.enable_grad():
            ctx.outputs = function(ctx.leaf, inputs["node_attrs"], inputs["edge_index"])
        energies, features = ctx.outputs
        return energies.detach(), features.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        if not torch.is_grad_enabled():
            with _keeping_values():
                (found,) = torch.autograd.grad(ctx.outputs, ctx.leaf, gradients, retain_graph=True)
            return found, None, None, None
        (vectors,) = ctx.saved_tensors
        outputs = _ordinary(ctx.mace, ctx.inputs, vectors)
        (found,) = torch.autograd.grad(outputs, vectors, gradients, create_graph=True)
        return found, None, None, None


def _ordinary(mace: nn.Module, inputs: dict[str, Tensor], vectors: Tensor) -> Outputs:
    """Interaction energies and features, as the compiled function gives them."""
    output = mace({**inputs, "shifts": vectors}, compute_force=False)
    free = mace.atomic_energies_fn(inputs["node_attrs"])[:, 0]
    return (output["node_energy"] - free.double()).to(vectors.dtype), output["node_feats"]


def _make(
    mace: nn.Module, architecture: Mapping[str, Any], inputs: dict[str, Tensor], version: int
) -> _Made:
    try:
        function = _compiled(mace, architecture)
        error = _deviation(mace, inputs, function)
    # Dynamo and inductor derive all their errors from this one, a missing C++ compiler included.
    except RuntimeError as failure:
        reason = f"it cannot be compiled here ({str(failure).strip().splitlines()[0]})"
    else:
        if error < TOLERANCE[mace.node_embedding.linear.weight.dtype]:
            return _Made(version, function)
        reason = f"its numbers deviate by {error:.1e}"
    warnings.warn(
        f"the backbone goes on with kernels='torch': {reason}. kernels='compiled' needs a C++ "
        "compiler that torch finds (g++, clang++ or cl, or the one named in CXX)",
        UserWarning,
        stacklevel=2,
    )
    return _Made(version, None)


def _deviation(mace: nn.Module, inputs: dict[str, Tensor], function: Function) -> float:
    """Largest relative deviation on one structure, derivatives of all outputs included."""
    leaf = inputs["shifts"].detach().requires_grad_()
    with torch.enable_grad():
        outputs = function(leaf, inputs["node_attrs"], inputs["edge_index"])
        expected = _ordinary(mace, inputs, leaf)
        probe = [torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y) for y in expected]
        found = *outputs, *torch.autograd.grad(outputs, leaf, probe)
        expected = *expected, *torch.autograd.grad(expected, leaf, probe)
    pairs = zip(found, expected, strict=True)
    tiny = torch.finfo(leaf.dtype).tiny
    return max(float((a - b).detach().norm() / b.detach().norm().clamp(min=tiny)) for a, b in pairs)


def _compiled(mace: nn.Module, architecture: Mapping[str, Any]) -> Function:
    weight = next(mace.parameters())
    module = _traceable(architecture).to(weight.dtype).requires_grad_(False)
    module.load_state_dict(dict(mace.named_parameters()), strict=False)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(_EDGES, 3, generator=generator, dtype=weight.dtype).requires_grad_()
    species = torch.arange(_ATOMS) % len(module.atomic_numbers)
    attrs = torch.nn.functional.one_hot(species, len(module.atomic_numbers)).to(weight.dtype)
    edges = torch.randint(_ATOMS, (2, _EDGES), generator=generator)
    # What torch's own parts say to each other while compiling is none of the user's concern.
    with warnings.catch_warnings(), _keeping_values(), torch.enable_grad():
        warnings.simplefilter("ignore")
        function = torch.compile(_traced(module, (vectors, attrs, edges)), dynamic=True)
        torch.autograd.grad(sum(y.sum() for y in function(vectors, attrs, edges)), vectors)
    return function


def _keeping_values() -> AbstractContextManager[None]:
    """Compile and run derivatives so that they can be asked for again, of the same values."""
    return torch._functorch.config.patch(donated_buffer=False)


def _traceable(architecture: Mapping[str, Any]) -> nn.Module:
    """The same module without TorchScript, which tracing cannot look into."""
    with mace_environment():
        import e3nn

        defaults = e3nn.get_optimization_defaults()
        e3nn.set_optimization_defaults(jit_script_fx=False)
        try:
            with torch.random.fork_rng(devices=[]):
                return build_mace(architecture)
        finally:
            e3nn.set_optimization_defaults(**defaults)


def _traced(module: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    with mace_environment():
        import e3nn.o3._spherical_harmonics as harmonics
        from torch.fx.experimental.proxy_tensor import make_fx

    # TorchScript would fix the number of edges; the function it was made from does not.
    scripted = harmonics._spherical_harmonics
    harmonics._spherical_harmonics = scripted._torchdynamo_inline
    try:
        trace = make_fx(_core(module), tracing_mode="symbolic", _allow_non_fake_inputs=True)
        return trace(*inputs)
    finally:
        harmonics._spherical_harmonics = scripted


def _core(mace: nn.Module) -> Function:
    """Interaction energies and node features of a module with one head, of tensors only."""

    def run(vectors: Tensor, attrs: Tensor, edges: Tensor) -> Outputs:
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        radial, cutoff = mace.radial_embedding(lengths, attrs, edges, mace.atomic_numbers)
        x, harmonics = mace.node_embedding(attrs), mace.spherical_harmonics(vectors)
        head = torch.zeros(attrs.shape[0], dtype=torch.int64)
        features = []
        for interaction, product in zip(mace.interactions, mace.products, strict=True):
            x, skip = interaction(attrs, x, harmonics, radial, edges, cutoff=cutoff)
            x = product(node_feats=x, sc=skip, node_attrs=attrs)
            features.append(x)
        # A single readout reads the last layer.
        read = features if len(mace.readouts) > 1 else features[-1:]
        parts = [f(x, head)[:, 0] for f, x in zip(mace.readouts, read, strict=True)]
        if hasattr(mace, "pair_repulsion"):
            parts.append(mace.pair_repulsion_fn(lengths, attrs, edges, mace.atomic_numbers))
        return mace.scale_shift(torch.stack(parts).sum(0), head), torch.cat(features, -1)

    return run
