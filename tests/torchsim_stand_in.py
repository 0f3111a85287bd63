"""What TorchSim 0.6 documents of its interface, for Pythons on which it cannot be installed.

Names, shapes and conventions are those of ``torch_sim.models.interface.ModelInterface`` and
``torch_sim.state.SimState``: cell vectors are columns, extras are tensors per system, setters must
be overridden. Where TorchSim is installed the tests use it instead.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import ModuleType

import torch


def _frozen(name):
    def setter(self, value):
        raise NotImplementedError(f"no {name} setter has been defined for this model")

    return property(lambda self: getattr(self, f"_{name}"), setter)


class ModelInterface(torch.nn.Module, ABC):
    device, dtype = _frozen("device"), _frozen("dtype")
    compute_stress, compute_forces = _frozen("compute_stress"), _frozen("compute_forces")

    @abstractmethod
    def forward(self, state, **kwargs):
        """Outputs of a state."""


@dataclass(kw_only=True)
class SimState:
    positions: torch.Tensor
    cell: torch.Tensor
    pbc: torch.Tensor
    atomic_numbers: torch.Tensor
    system_idx: torch.Tensor
    system_extras: dict = field(default_factory=dict)

    @property
    def row_vector_cell(self):
        return self.cell.mT

    @property
    def device(self):
        return self.positions.device

    @property
    def dtype(self):
        return self.positions.dtype


def atoms_to_state(frames, device, dtype):
    options = {"device": device, "dtype": dtype}
    counts = torch.tensor([len(frame) for frame in frames], device=device)
    return SimState(
        positions=torch.cat([torch.tensor(frame.positions, **options) for frame in frames]),
        cell=torch.stack([torch.tensor(frame.cell.array.T.copy(), **options) for frame in frames]),
        pbc=torch.tensor(frames[0].pbc, device=device),
        atomic_numbers=torch.cat([torch.tensor(f.numbers, device=device) for f in frames]),
        system_idx=torch.repeat_interleave(torch.arange(len(frames), device=device), counts),
    )


def modules():
    """The modules that :mod:`asesc.torchsim` and the tests import from."""
    package, models = ModuleType("torch_sim"), ModuleType("torch_sim.models")
    interface, io = ModuleType("torch_sim.models.interface"), ModuleType("torch_sim.io")
    interface.ModelInterface, io.atoms_to_state = ModelInterface, atoms_to_state
    package.models, package.io, models.interface = models, io, interface
    return {module.__name__: module for module in (package, models, interface, io)}
