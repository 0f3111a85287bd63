"""What may change in a run that goes on, and what is refused."""

import pytest
import torch
import yaml
from teaching import run, write_run

from asesc.errors import IllPosedError, InputError


def changed(path, section, **entries):
    """The configuration with other entries in a section."""
    config = yaml.safe_load(path.read_text())
    config[section] = {**config.get(section, {}), **entries}
    path.write_text(yaml.safe_dump(config))


def test_a_changed_learning_rate_holds_in_a_resumed_run(tmp_path):
    """With a rate of almost nothing, and no decay, what was there after two epochs stays."""
    path = write_run(tmp_path, n_frames=2, optimiser={"epochs": 2, "ema_decay": 1e-9})
    _, before = run(path)
    changed(path, "optimiser", epochs=4, learning_rate=1e-12, weight_decay=0.0)
    _, after = run(path)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-9)


def test_another_method_cannot_go_on(tmp_path):
    path = write_run(tmp_path, n_frames=2, optimiser={"epochs": 1})
    run(path)
    changed(path, "optimiser", epochs=2, method="adamw")
    with pytest.raises(InputError, match=r"begun with optimiser\.method: soap"):
        run(path)


def test_a_longer_run_is_not_passed_off_as_a_shorter_one(tmp_path):
    path = write_run(tmp_path, n_frames=2, optimiser={"epochs": 2})
    _, before = run(path)
    changed(path, "optimiser", epochs=1)
    with pytest.raises(InputError, match=r"gone through 2 epochs, and optimiser\.epochs is 1"):
        run(path)
    changed(path, "optimiser", epochs=2)
    _, after = run(path)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_a_run_that_explodes_stops_and_keeps_its_last_checkpoint(tmp_path):
    path = write_run(tmp_path, "LocalCharges", n_frames=2, optimiser={"epochs": 1})
    _, good = run(path)
    changed(path, "optimiser", epochs=4, learning_rate=1e300)
    with pytest.raises(IllPosedError, match="The weights ran away"):
        run(path)
    checkpoint = torch.load(tmp_path / "out" / "last.ckpt", weights_only=True)
    assert all(torch.isfinite(w).all() for w in checkpoint["state_dict"].values())
    assert good.keys() <= {name.removeprefix("model.") for name in checkpoint["state_dict"]}


@pytest.mark.parametrize("size", [0, 1000])
def test_a_damaged_checkpoint_is_told(tmp_path, size):
    path = write_run(tmp_path, n_frames=2, optimiser={"epochs": 1})
    run(path)
    checkpoint = tmp_path / "out" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:size])
    with pytest.raises(InputError, match="is damaged"):
        run(path)
