"""The one program of asesc that opens a pickle: run in a process of its own, imported by nothing.

``python -m asesc.pretrained.unpickle_polar FOLDER`` reads a checkpoint of ``PolarMACE`` from
standard input and leaves its parameters and its configuration in FOLDER, as tensors and JSON.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path


def main() -> None:
    """Unpickle, rebuild from the configuration, write what is data."""
    import torch
    from safetensors.torch import save_file

    from asesc.models import MACEPolar
    from asesc.models.backbone import mace_environment

    folder, data = Path(sys.argv[1]), io.BytesIO(sys.stdin.buffer.read())
    with mace_environment():
        module = torch.load(data, map_location="cpu", weights_only=False)
    model = MACEPolar.from_mace(module)
    # As precise as the checkpoint, not as the module that was built for it.
    model.set_dtype(next(module.parameters()).dtype)
    weights = {name: tensor.contiguous().clone() for name, tensor in model.weights().items()}
    save_file(weights, folder / "weights.safetensors")
    (folder / "hyperparameters.json").write_text(json.dumps(model.hyperparameters))


if __name__ == "__main__":
    main()
