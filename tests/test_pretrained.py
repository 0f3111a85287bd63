"""Registry, card and weights: what was saved comes back, and nothing else is accepted."""

import json
from dataclasses import replace

import pytest
import torch
from ase.build import molecule
from builders import tiny_card
from safetensors.torch import load, save
from torch import nn

from asesc.errors import InputError, ModelFormatError, ModelNotFoundError
from asesc.models import FAMILIES, FixedCharges, Model, Problem, State
from asesc.pretrained import (
    Measure,
    ModelCard,
    find_model,
    list_models,
    load_model,
    model_card,
    registry,
    save_model,
)
from asesc.system import System


class Tiny(Model):
    """The least that the registry needs of a family; without a backbone, which takes a second."""

    family = "Tiny"
    elements = (1, 8)

    def __init__(self, *, width: int = 3, extra: str = "") -> None:
        nn.Module.__init__(self)
        if width < 1:
            raise InputError(f"width is {width}, but must be positive")
        self.hyperparameters = {"width": width, "extra": extra}
        self.linear = nn.Linear(width, width)
        if extra:
            self.register_parameter(extra, nn.Parameter(torch.zeros(1)))
        self.register_buffer("third", torch.tensor(1 / 3, dtype=torch.float64))

    def solve(self, problem: Problem) -> State:
        raise AssertionError("never evaluated")


@pytest.fixture(autouse=True)
def tiny_family(monkeypatch):
    monkeypatch.setitem(FAMILIES, "Tiny", Tiny)


@pytest.fixture
def card() -> ModelCard:
    return tiny_card()


@pytest.fixture
def folder(tmp_path, card, monkeypatch):
    """A saved model in a registry of its own."""
    monkeypatch.setenv("ASESC_MODELS", str(tmp_path / "registry"))
    save_model(Tiny().double(), tmp_path / "registry" / "tiny", card)
    return tmp_path / "registry" / "tiny"


def rewrite(folder, *, tensors=None, raw=None, **entries):
    """Change a saved model and keep its checksum right, as a faulty or hostile writer would."""
    path = folder / "weights.safetensors"
    if tensors is not None:
        raw = save(tensors)
    if raw is not None:
        path.write_bytes(raw)
    stored = json.loads((folder / "card.json").read_text()) | entries
    card = ModelCard.from_json(json.dumps(stored), source="rewrite")
    card = replace(card, sha256=card.checksum(path.read_bytes()))
    (folder / "card.json").write_text(card.to_json())


def stored_tensors(folder):
    return load((folder / "weights.safetensors").read_bytes())


def test_round_trip_by_name_and_by_path(folder):
    written = stored_tensors(folder)
    for name in ("tiny", folder, str(folder)):
        model = load_model(name)
        assert not model.training
        assert model.weights().keys() == written.keys()
        assert all(torch.equal(written[key], value) for key, value in model.weights().items())


def test_card_is_completed_from_the_model(folder, card):
    read = model_card("tiny")
    assert (read.family, read.elements) == ("Tiny", ("H", "O"))
    assert read.hyperparameters == {"width": 3, "extra": ""}
    assert read.errors["forces"] == Measure(0.5, "eV/Å")
    blank = {"family": "", "elements": (), "hyperparameters": {}, "asesc_version": "", "sha256": ""}
    assert replace(read, **blank) == card


@pytest.mark.parametrize("dtype", ["float32", "float64", torch.float32, torch.float64])
def test_precision_is_the_requested_one(folder, dtype):
    model = load_model("tiny", dtype=dtype)
    expected = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert model.linear.weight.dtype == expected
    assert model.third == torch.tensor(1 / 3, dtype=torch.float64)


def test_weights_stored_in_single_precision_are_cast(tmp_path, card):
    trained = Tiny().set_dtype(torch.float32)
    save_model(trained, tmp_path / "single", card)
    assert stored_tensors(tmp_path / "single")["linear.weight"].dtype == torch.float32
    model = load_model(tmp_path / "single")
    assert torch.equal(model.linear.weight, trained.linear.weight.double())


def test_unknown_precision_is_explained(folder):
    with pytest.raises(InputError, match=r"float16.*'float64'.*'float32'"):
        load_model("tiny", dtype="float16")


def test_loading_leaves_global_state(folder):
    before, default = torch.random.get_rng_state(), torch.get_default_dtype()
    load_model("tiny", dtype="float64")
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_default_dtype() == default


def test_saving_is_reproducible_and_leaves_two_files(tmp_path, card):
    torch.manual_seed(3)
    model = Tiny()
    for name in ("a", "b", "b"):
        save_model(model, tmp_path / name, card)
    files = ("card.json", "weights.safetensors")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == list(files)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_every_changed_byte_is_noticed(folder):
    path = folder / "weights.safetensors"
    good = path.read_bytes()
    load_model("tiny")
    for position in range(0, len(good), 7):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(ModelFormatError, match="sha256"):
            load_model("tiny")
    path.write_bytes(good[:-1])
    with pytest.raises(ModelFormatError, match="sha256"):
        load_model("tiny")


@pytest.mark.parametrize("path", [["family"], ["hyperparameters", "width"], ["sha256"]])
def test_a_changed_architecture_is_noticed(folder, path):
    """Also where the weights would still fit: another cutoff is another model."""
    stored = json.loads((folder / "card.json").read_text())
    entry = stored
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = {"family": "tiny", "width": 3.0, "sha256": "0" * 64}[path[-1]]
    (folder / "card.json").write_text(json.dumps(stored))
    with pytest.raises(ModelFormatError, match=r"sha256 .* or the card was edited"):
        load_model("tiny")


def test_the_checksum_is_over_content_not_over_form(folder, card):
    """Order of keys, white space, numbers as keys and texts for the reader do not count."""
    stored = json.loads((folder / "card.json").read_text())
    stored["hyperparameters"] = dict(reversed(stored["hyperparameters"].items()))
    stored["limits"] = "Others."
    (folder / "card.json").write_text(json.dumps(stored))
    load_model("tiny")
    one, two = ({"energies": {8: 1.0, 14: 2.0}}, {"energies": {"14": 2.0, "8": 1.0}})
    digests = {replace(card, hyperparameters=h).checksum(b"weights") for h in (one, two)}
    assert len(digests) == 1
    assert replace(card, family="x").checksum(b"weights") not in digests
    assert replace(card, hyperparameters=one).checksum(b"other") not in digests


def test_missing_weights(folder):
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelFormatError, match="incomplete"):
        load_model("tiny")


@pytest.mark.parametrize("name", ["m.pt", "M.PTH", "a/b.model", "./x.pkl", "x.pickle", "last.ckpt"])
def test_pickles_are_refused_by_name(folder, name):
    with pytest.raises(ModelFormatError, match=r"pickle.*save_model"):
        load_model(name)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_by_content(folder, tmp_path, zipped):
    torch.save({"a": torch.ones(2)}, tmp_path / "p", _use_new_zipfile_serialization=zipped)
    rewrite(folder, raw=(tmp_path / "p").read_bytes())
    with pytest.raises(ModelFormatError, match="is a pickle"):
        load_model("tiny")


def test_folder_of_a_pickle_is_refused(tmp_path):
    (tmp_path / "mace.model").write_bytes(b"\x80\x02.")
    with pytest.raises(ModelFormatError, match=r"mace\.model is a pickle"):
        load_model(tmp_path)


def test_header_that_starts_like_a_pickle_is_read(tmp_path, card):
    starts = set()
    for length in range(1, 300, 8):
        save_model(Tiny(extra="x" * length), tmp_path / "m", card)
        starts.add((tmp_path / "m" / "weights.safetensors").read_bytes()[0])
        load_model(tmp_path / "m")
    assert 0x80 in starts


def test_garbage_with_a_right_checksum(folder):
    rewrite(folder, raw=b"not a tensor in sight")
    with pytest.raises(ModelFormatError, match="not a safetensors file"):
        load_model("tiny")


def test_tensors_must_match_the_family(folder):
    tensors = stored_tensors(folder)
    for faulty, message in [
        ({k: v for k, v in tensors.items() if k != "linear.bias"}, r"missing.*'linear\.bias'"),
        (tensors | {"extra": torch.ones(1)}, "unexpected.*'extra'"),
        (tensors | {"linear.bias": torch.ones(4)}, r"wrong shape.*'linear\.bias'"),
    ]:
        rewrite(folder, tensors=faulty)
        with pytest.raises(ModelFormatError, match=f"'tiny'.*{message}.*Written by asesc"):
            load_model("tiny")
    rewrite(folder, tensors=tensors)
    load_model("tiny")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_must_be_finite(folder, card, value):
    tensors = stored_tensors(folder)
    tensors["linear.bias"][1] = value
    rewrite(folder, tensors=tensors)
    with pytest.raises(ModelFormatError, match=r"'linear\.bias' has 1 of 3"):
        load_model("tiny")
    model = Tiny()
    model.linear.bias.data[0] = value
    with pytest.raises(ModelFormatError, match="diverged"):
        save_model(model, folder, card)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"family": "tinny"}, "Did you mean 'Tiny'"),
        ({"hyperparameters": {"widht": 3}}, "unexpected keyword argument 'widht'"),
        ({"hyperparameters": {"width": 0}}, "width is 0"),
        ({"elements": ["H", "C"]}, "lists the elements H, C, but .* H, O"),
    ],
)
def test_card_must_describe_the_model(folder, entries, message):
    rewrite(folder, **entries)
    with pytest.raises(ModelFormatError, match=message):
        load_model("tiny")


def test_unknown_name_suggests_and_says_where(folder):
    with pytest.raises(ModelNotFoundError, match=r"Did you mean 'tiny'\?.*registry") as error:
        load_model("tinny")
    assert "ASESC_MODELS" in str(error.value)
    with pytest.raises(ModelNotFoundError, match="No model"):
        load_model(folder / "nowhere")


def test_first_folder_of_the_search_path_wins(folder, tmp_path, monkeypatch, card):
    save_model(Tiny(width=5), tmp_path / "second" / "tiny", card)
    save_model(Tiny(width=7), tmp_path / "second" / "large", replace(card, name="large"))
    monkeypatch.setenv("ASESC_MODELS", f"{tmp_path / 'registry'}:{tmp_path / 'second'}:/nowhere")
    assert {"tiny", "large"} <= set(list_models())
    assert list_models() == sorted(set(list_models()))
    assert model_card("tiny").hyperparameters["width"] == 3
    assert model_card("large").hyperparameters["width"] == 7


def test_models_beside_a_package_installed_into_a_folder(folder, tmp_path, monkeypatch):
    """As pip install --target lays it out."""
    models = tmp_path / "target/share/asesc/models"
    models.mkdir(parents=True)
    folder.rename(models / "tiny")
    monkeypatch.delenv("ASESC_MODELS")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "target/asesc/pretrained/registry.py"))
    assert find_model("tiny") == models / "tiny"


def test_a_name_is_the_registry_and_a_path_is_a_path(folder, tmp_path, monkeypatch, card):
    monkeypatch.chdir(tmp_path)
    save_model(Tiny(width=5), "tiny", card)
    save_model(Tiny(width=6), "mine", card)
    assert model_card("tiny").hyperparameters["width"] == 3
    assert model_card("./tiny").hyperparameters["width"] == 5
    assert model_card("mine").hyperparameters["width"] == 6


def test_what_is_not_a_model_folder_is_explained(folder, tmp_path):
    with pytest.raises(ModelFormatError, match=r"is a file.*give its folder"):
        load_model(folder / "weights.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFormatError, match=r"has no card\.json"):
        load_model(tmp_path / "empty")


BAD_VALUES = {
    "name": ["", "Tiny", "a/b", 3],
    "level_of_theory": ["", "  ", None],
    "licence": [7],
    "charge_range": [(1.0, -1.0), (0.0,), (0.0, float("nan")), [0, 1], ("0", "1"), (False, True)],
    "field_range": [-0.1, float("inf"), "0.1", None],
    "boundaries": [(), "open", ("open", "")],
    "errors": [{"forces": 0.1}, {"forces": Measure(-1.0, "eV")}, []],
    "units": [{"energy": "Hartree"}, {"energies": "eV"}, None],
    "elements": [("H", "H"), ("Hh",), "H"],
    "hyperparameters": [[]],
    "sha256": ["abc", "G" * 64],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in BAD_VALUES.items() for v in vs])
def test_card_refuses_bad_values(card, key, value):
    with pytest.raises(ModelFormatError, match=f"'{key}' is .* must be"):
        replace(card, **{key: value})


def test_the_range_of_charges_as_text(card):
    ranges = {(0.0, 0.0): "0", (1.0, 1.0): "+1", (-1.0, 1.0): "-1 … +1", (-0.0, 2.0): "0 … +2"}
    for charge_range, text in ranges.items():
        assert replace(card, charge_range=charge_range).charges == text


def test_card_as_json(folder, card):
    text = (folder / "card.json").read_text(encoding="utf-8")
    assert ModelCard.from_json(text, source="x").to_json() == text
    entries = json.loads(text)
    for broken, message in [
        (text[:-3], "not valid JSON"),
        ("[]", "one JSON object"),
        (text.replace("0.5", "NaN"), "NaN is not a finite number"),
        (json.dumps(entries | {"charge_rnge": [0, 0]}), "Did you mean 'charge_range'"),
        (json.dumps({k: v for k, v in entries.items() if k != "limits"}), "lacks limits"),
        (json.dumps(entries | {"sha256": ""}), "nothing under sha256"),
    ]:
        with pytest.raises(ModelFormatError, match=message):
            ModelCard.from_json(broken, source="x")
    with pytest.raises(ModelFormatError, match="cannot be written as JSON"):
        replace(card, hyperparameters={"x": torch.ones(1)}).to_json()


def test_a_real_family_comes_back(tmp_path, card):
    backbone = {"elements": [1, 8], "cutoff": 3.0, "channels": 2, "layers": 1, "correlation": 1}
    model = FixedCharges(formal_charges={1: 0.4, 8: -0.8}, backbone=backbone)
    save_model(model, tmp_path / "fixed", card)
    again = load_model(tmp_path / "fixed")
    assert again.hyperparameters == model.hyperparameters
    water = System.from_atoms(molecule("H2O"))
    assert torch.equal(again(water).energy, model(water).energy)
    single = load_model(tmp_path / "fixed", dtype="float32")
    assert torch.allclose(single(water).energy, model(water).energy, rtol=1e-5)
