"""How many hard inputs converge, and in how many maps, for every self-consistent family.

    python benchmarks/scf_torture.py --inputs 10000

Small random models (those of the tests) on random structures that are rattled, compressed to 0.7,
stretched, broken or slabs, with charges −2 … 2 and fields up to 1 V/Å. A map is one evaluation of
energy or fixed-point map, products with Jacobians included. An answer counts as flawed if it is not
finite, not converged, off in charge, or if a restart from it moves the energy.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from builders import NUMBERS, random_model

from asesc.testing.torture import TortureReport, hard_inputs

MODELS = (
    ("QEq", {}),
    ("SplitChargeEquilibration", {}),
    ("FixedPoint", {}),
    ("FixedPoint", {"update": "mlp"}),
    ("EnergyFunctional", {}),
    ("EnergyFunctional", {"functional": "localised"}),
)


def main() -> None:
    """Run every model over its share of the inputs and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="shared out over the models")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = []
    for k, (family, own) in enumerate(MODELS):
        model = random_model(family, seed=options.seed, **own)
        inputs = islice(
            hard_inputs(NUMBERS, options.inputs, seed=options.seed), k, None, len(MODELS)
        )
        start = time.process_time()
        name = " ".join([family, *(str(value) for value in own.values())])
        report = TortureReport.of(name, model, inputs)
        outcomes += report.outcomes
        print(f"{report}\n  {time.process_time() - start:.0f} s of CPU", flush=True)
    print(TortureReport("all", tuple(outcomes)))


if __name__ == "__main__":
    main()
