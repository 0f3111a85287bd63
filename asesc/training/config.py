"""What a training run is, as one YAML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from asesc.errors import InputError, did_you_mean
from asesc.pretrained.card import TEXTS

#: Labels that can be trained on, with the unit of their target error.
LABELS: dict[str, str] = {
    "energy": "eV/atom",
    "forces": "eV/Å",
    "stress": "eV/Å³",
    "dipole": "e Å",
    "born_charges": "e",
    "polarizability": "e Å²/V",
    "charges": "e",
    "dipoles": "e Å",
    "fermi_level": "eV",
}

#: Ways to move the weights.
METHODS = ("soap", "adamw")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the frames are and what their labels are called.

    Parameters
    ----------
    train, valid : str
        Anything ``ase.io.read`` reads, compressed or not; relative to the configuration file, and
        environment variables (``$ASESC_DATA/…``) are expanded.
    prefix : str
        Labels are read as ``<prefix>energy``, ``<prefix>forces``, … from ``info`` and ``arrays``,
        without a prefix also from results as ASE reads them; Born charges also as
        ``<prefix>becs``, and ``charge`` and ``electric_field`` without prefix.
        A frame that lacks a label, or has ``config_<label>_weight=0``, is not trained on it.
        The zero of a Fermi level is that of :attr:`~asesc.models.Prediction.fermi_level`: cell
        average in crystals, vacuum otherwise (mean of both sides of a slab), where in a field the
        applied potential −E·r is zero at the origin of the positions.
    batch_size : int
        Structures per step; batches hold one boundary.
    limit : int, optional
        Use only the first frames, for trials.
    field_frames : float, V/Å
        Also train on a copy of every frame in a random field up to this size, with the forces that
        follow from its Born charges (see :func:`~asesc.training.data.expand_in_field`).
    """

    train: str
    valid: str
    prefix: str = "REF_"
    batch_size: int = 4
    limit: int | None = None
    field_frames: float = 0.0


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How the weights are moved.

    Parameters
    ----------
    epochs : int
    method : str
        ``soap`` or ``adamw``. :class:`~asesc.training.soap.SOAP` needs fewer steps where a run is
        longer than some hundred of them.
    learning_rate : float
        Peak of a schedule with a linear rise over the fraction ``warmup`` of the run and a cosine
        decay to zero over its last fraction ``decay``; constant in between.
    warmup, decay : float
        Fractions of all steps, 0 to 1.
    weight_decay : float
        On weight matrices only.
    clip : float
        Largest norm of the gradient.
    ema_decay : float
        Of the exponential moving average that is validated and shipped.
    validate_every : int
        Epochs between validations.
    """

    epochs: int = 100
    method: str = "soap"
    learning_rate: float = 0.01
    warmup: float = 0.03
    decay: float = 1.0
    weight_decay: float = 1e-6
    clip: float = 10.0
    ema_decay: float = 0.99
    validate_every: int = 5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(
                f"optimiser: unknown method {self.method!r}.{did_you_mean(self.method, METHODS)} "
                f"There are {' and '.join(METHODS)}"
            )
        if self.learning_rate <= 0:
            raise InputError(f"optimiser: learning_rate is {self.learning_rate:g}, not positive")
        for name in ("warmup", "decay", "ema_decay"):
            value = getattr(self, name)
            if value > 1:
                raise InputError(f"optimiser: {name} is {value:g}, not a fraction of 0 to 1")


@dataclass(frozen=True, kw_only=True)
class SelfConsistencyConfig:
    """How the density of a ``FixedPoint`` or convex ``EnergyFunctional`` model is trained.

    By default through the converged density, whose derivatives are exact (implicit
    differentiation). See :mod:`asesc.training.self_consistency`.

    Parameters
    ----------
    direct : float
        First fraction of the run in which the map alone is trained, on the reference density: the
        loss is that of F(p_ref) − p_ref in the labels ``charges`` and ``dipoles``, and nothing is
        solved. A cheap start; what it learns need not be stable when iterated.
    spectral_radius : float
        Largest modulus ρ₀ of the eigenvalues of ∂F/∂p that costs nothing; 0 switches the term off.
        ``FixedPoint`` only.
    spectral_weight : float
        Weight of the mean of max(0, ρ − ρ₀)² in the loss.
    """

    direct: float = 0.0
    spectral_radius: float = 0.0
    spectral_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.direct > 1:
            raise InputError(
                f"self_consistency: direct is {self.direct:g}, not a fraction of 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One training run.

    Parameters
    ----------
    name : str
        Of the model, as in its card.
    family : str
        A key of ``asesc.models.FAMILIES``.
    model : mapping
        Keywords of the family; ``elements``, ``atomic_energies``, ``energy_scale`` and
        ``n_neighbors`` are filled in from the training data where absent.
    targets : mapping of label to float
        Error aimed at, per label (units: :data:`LABELS`). The loss is Σ (error/target)², so that
        these numbers are the relative weights; labels not named are not trained on.
    final_targets : mapping of label to float
        Targets of the last step: over the fraction ``optimiser.decay`` of the run, targets go
        geometrically from the first to these. Labels not named keep theirs. A tight energy target
        from the start would drown the forces, which hold most of the information.
    self_consistency : SelfConsistencyConfig
        Section of its own, for families whose density answers itself.
    card : mapping
        Texts of the model card, keys :data:`~asesc.pretrained.card.TEXTS`.
    output : str
        Folder for checkpoints, log and the finished model; relative to the configuration file.
    dtype : str
        ``float32`` or ``float64`` for the backbone; electrostatics are always float64.
    linear_beyond : float
        Errors of more than this many targets count linearly, not as squares. Small numbers keep a
        few wild frames from ruling, large ones (with a large ``optimiser.clip``) fit rare events.
    start_from : str, optional
        Name of a model to go on with, instead of ``model``; or its folder, with a slash, relative
        to the configuration file.
    backbone_from : str, optional
        Likewise, of a model of any family whose backbone and atomic energies are the start; the
        heads are new. ``model`` then holds neither, or ``atomic_energies: refit`` where the data
        are of another level of theory, whose energies have another zero.
    field_range : float, V/Å, optional
        Largest applied field that the card allows; by default the largest of the training data.
        Models that know the field through Born charges and polarisability state it here.
    devices : int, optional
        Processes, one per GPU; by default all GPUs of the machine, or one process on the CPU.
    """

    name: str
    family: str
    data: DataConfig
    targets: Mapping[str, float]
    output: str
    model: Mapping[str, Any] = field(default_factory=dict)
    final_targets: Mapping[str, float] = field(default_factory=dict)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    self_consistency: SelfConsistencyConfig = field(default_factory=SelfConsistencyConfig)
    card: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float32"
    seed: int = 0
    linear_beyond: float = 10.0
    start_from: str | None = None
    backbone_from: str | None = None
    field_range: float | None = None
    devices: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise InputError(f"dtype={self.dtype!r}; choose 'float32' or 'float64'")
        if not self.linear_beyond > 0:
            raise InputError(f"linear_beyond={self.linear_beyond:g}; it is a positive number")
        if not self.targets:
            raise InputError(f"no targets: name at least one label to train on, of {list(LABELS)}")
        for label, target in (*self.targets.items(), *self.final_targets.items()):
            if label not in LABELS:
                raise InputError(
                    f"unknown label {label!r} in targets.{did_you_mean(str(label), LABELS)}"
                )
            if not (isinstance(target, float | int) and target > 0):
                raise InputError(f"target error of {label!r} is {target!r}, not a positive number")
        for key in self.card:
            if key not in TEXTS:
                near = did_you_mean(str(key), TEXTS)
                raise InputError(f"unknown key {key!r} in card.{near} It has {', '.join(TEXTS)}")
        if superfluous := self.final_targets.keys() - self.targets.keys():
            raise InputError(
                f"final_targets names {sorted(superfluous)}, which targets does not; a label is "
                "trained on from the start or not at all"
            )
        if self.start_from is not None and self.backbone_from is not None:
            raise InputError(
                "start_from and backbone_from are both given; the first takes a whole model, heads "
                "included, the second its backbone alone"
            )
        if "born_charges" in self.targets and "forces" not in self.targets:
            raise InputError(
                "born_charges are trained as the change of forces in a field; name a target for "
                "forces too"
            )


def read_config(path: str | Path) -> TrainingConfig:
    """Read a YAML file; its relative paths are taken relative to the file.

    Raises
    ------
    InputError
        If the file is missing, not a mapping, or has unknown, missing or mistyped keys.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no configuration file {str(path)!r}")
    try:
        raw = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not a text file: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path.name} is not valid YAML: {error}") from error
    config = _build(TrainingConfig, raw, where=path.name)
    base = path.resolve().parent
    data = replace(
        config.data,
        train=_located(config.data.train, base),
        valid=_located(config.data.valid, base),
    )
    return replace(
        config,
        data=data,
        output=_located(config.output, base),
        start_from=_named_or_located(config.start_from, base),
        backbone_from=_named_or_located(config.backbone_from, base),
    )


class _Loader(yaml.SafeLoader):
    """YAML in which no key overrides an earlier one in silence."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Refuse a key that is there twice, before what is merged by ``<<`` counts as given."""
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        for number, (key, _) in enumerate(node.value):
            if key.value in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
        return node


def _named_or_located(model: str | None, base: Path) -> str | None:
    """The name of a model as it is, a folder relative to the configuration file."""
    return _located(model, base) if model is not None and "/" in model else model


def _located(text: str, base: Path) -> str:
    expanded = os.path.expandvars(text)
    if "$" in expanded:
        raise InputError(f"path {text!r} names an environment variable that is not set")
    return str(base / expanded)


_SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "optimiser": OptimiserConfig,
    "self_consistency": SelfConsistencyConfig,
}


def _build(cls: type, raw: Any, *, where: str) -> Any:
    """A dataclass from a mapping, with every key checked."""
    if not isinstance(raw, Mapping):
        raise InputError(f"{where} must be a mapping of keys to values, got {type(raw).__name__}")
    known = {f.name: f for f in fields(cls)}
    for key in raw:
        if key not in known:
            raise InputError(f"unknown key {key!r} in {where}.{did_you_mean(str(key), known)}")
    required = [
        n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING
    ]
    missing = [name for name in required if name not in raw]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}")
    return cls(**{key: _value(key, value, known[key], where) for key, value in raw.items()})


def _value(key: str, value: Any, spec: Any, where: str) -> Any:
    if key in _SECTIONS:
        return _build(_SECTIONS[key], value, where=f"{where}: {key}")
    if spec.type.startswith("Mapping"):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: {key} is {value!r}, not a mapping of keys to values")
        return {k: _number(v) if key.endswith("targets") else v for k, v in value.items()}
    if value is None and spec.default is None:
        return None
    if spec.type.startswith("float"):
        number = _number(value)
        if not (isinstance(number, float) and number >= 0):
            raise InputError(f"{where}: {key} is {value!r}, not a number of at least 0")
        return number
    least = 0 if key == "seed" else 1
    if spec.type.startswith("int") and not (type(value) is int and value >= least):
        raise InputError(f"{where}: {key} is {value!r}, not an integer of at least {least}")
    if spec.type.startswith("str") and not isinstance(value, str):
        raise InputError(f"{where}: {key} is {value!r}, not a text")
    return value


def _number(value: Any) -> Any:
    """A float where the value is one; YAML reads 1e-6 as a text."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value
