"""A configuration says what is wrong with it."""

import pytest
import yaml
from teaching import write_run

from asesc.errors import InputError
from asesc.training import read_config

MINIMAL = {
    "name": "tiny",
    "family": "QEq",
    "data": {"train": "a.xyz", "valid": "b.xyz"},
    "targets": {"energy": 0.001},
    "output": "out",
}


def read(tmp_path, **changes):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return read_config(path)


def test_defaults_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMEWHERE", str(tmp_path / "elsewhere"))
    data = {"train": "$SOMEWHERE/a.xyz", "valid": "sub/b.xyz"}
    config = read(tmp_path, data=data)
    assert config.data.train == str(tmp_path / "elsewhere" / "a.xyz")
    assert config.data.valid == str(tmp_path / "sub" / "b.xyz")
    assert config.output == str(tmp_path / "out")
    assert read(tmp_path, start_from="quartz").start_from == "quartz"
    assert read(tmp_path, start_from="out/first").start_from == str(tmp_path / "out" / "first")
    assert read(tmp_path, backbone_from="a/b").backbone_from == str(tmp_path / "a" / "b")
    assert (config.dtype, config.seed, config.data.prefix) == ("float32", 0, "REF_")


def test_numbers_as_a_user_writes_them(tmp_path):
    path = tmp_path / "tiny.yaml"
    text = yaml.safe_dump({**MINIMAL, "targets": {}})
    path.write_text(
        text.replace("targets: {}", "targets: {energy: 1e-3, forces: 1}")
        + "final_targets: {energy: 1e-4}\n"
        + "seed: 0\noptimiser: {weight_decay: 1e-6, warmup: 0}\n"
    )
    config = read_config(path)
    assert config.final_targets == {"energy": 1e-4}
    assert config.targets == {"energy": 1e-3, "forces": 1.0}
    assert config.optimiser.weight_decay == 1e-6
    assert config.seed == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tragets": {}}, "unknown key 'tragets' in tiny.yaml. Did you mean 'targets'"),
        ({"optimiser": {"epoch": 3}}, "unknown key 'epoch' .*optimiser. Did you mean 'epochs'"),
        ({"data": {"train": "a.xyz"}}, "data lacks valid"),
        ({"data": ["a.xyz"]}, "data must be a mapping"),
        ({"targets": {"force": 1}}, "unknown label 'force'.*Did you mean 'forces'"),
        ({"targets": {1: 0.1}}, "unknown label 1 in targets"),
        ({"card": {"license": "MIT"}}, "unknown key 'license' in card.*Did you mean 'licence'"),
        ({"start_from": "quartz", "backbone_from": "nma"}, "are both given"),
        ({"targets": {"energy": 0}}, "'energy' is 0.0, not a positive number"),
        ({"targets": {"energy": "small"}}, "'energy' is 'small', not a positive number"),
        ({"targets": {}}, "no targets"),
        ({"linear_beyond": 0}, "linear_beyond=0; it is a positive number"),
        ({"targets": "energy"}, "targets is 'energy', not a mapping"),
        ({"targets": {"born_charges": 0.01}}, "name a target for forces too"),
        ({"final_targets": {"force": 1}}, "unknown label 'force'.*Did you mean 'forces'"),
        ({"final_targets": {"forces": 0.1}}, r"final_targets names \['forces'\], which targets"),
        ({"final_targets": {"energy": 0}}, "'energy' is 0.0, not a positive number"),
        ({"optimiser": {"decay": 1.5}}, "decay is 1.5, not a fraction"),
        ({"optimiser": {"ema_decay": 99}}, "ema_decay is 99, not a fraction"),
        ({"dtype": "float16"}, "dtype='float16'; choose"),
        ({"optimiser": {"epochs": 2.5}}, "epochs is 2.5, not an integer of at least 1"),
        ({"optimiser": {"epochs": 0}}, "epochs is 0, not an integer of at least 1"),
        ({"optimiser": {"learning_rate": 0}}, "learning_rate is 0, not positive"),
        ({"optimiser": {"learning_rate": "fast"}}, "learning_rate is 'fast', not a number"),
        ({"optimiser": {"clip": -1}}, "clip is -1, not a number of at least 0"),
        ({"seed": True}, "seed is True, not an integer"),
        ({"name": 7}, "name is 7, not a text"),
        ({"output": "$NOWHERE_SET/out"}, "names an environment variable that is not set"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, **change)


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(InputError, match="no configuration file"):
        read_config(tmp_path / "none.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("name: [")
    with pytest.raises(InputError, match=r"broken\.yaml is not valid YAML"):
        read_config(path)
    path.write_text("seed: 1\ntargets: {energy: 1, energy: 2}")
    with pytest.raises(InputError, match="the key 'energy' is there twice"):
        read_config(path)
    path.write_text("just words")
    with pytest.raises(InputError, match="must be a mapping"):
        read_config(path)


def test_the_tests_own_configuration_is_valid(tmp_path):
    assert read_config(write_run(tmp_path, n_frames=2)).family == "SplitChargeEquilibration"
