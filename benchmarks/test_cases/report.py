"""Tables and figures of one system from the results of its families."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLUMNS = {
    "energy": ("E, meV/atom", 1e3),
    "forces": ("F, meV/Å", 1e3),
    "change_energy": ("ΔE, meV/atom", 1e3),
    "change_forces": ("ΔF, meV/Å", 1e3),
    "charges": ("charges, me", 1e3),
    "dipoles": ("atomic dipoles, me Å", 1e3),
    "dipole": ("dipole, me Å", 1e3),
    "fermi_level": ("Fermi level, meV", 1e3),
}


def write_report(system: str, results: Mapping[str, Any], folder: Path) -> None:
    """Write ``<system>_families.md`` and ``.png`` of what is finished."""
    physics = {
        name: result["physics"]
        for name, result in results.items()
        if result["physics"] and "failed" not in result["physics"]
    }
    parts = [heading(system, folder), error_table(results), *state_tables(system, results)]
    if physics:
        parts.append(_TABLES[system](physics))
        figure = Figure(figsize=(14.0, 4.2), layout="constrained")
        errors, *others = figure.subplots(1, 3)
        draw_errors(results, errors)
        _FIGURES[system](physics, *others)
        figure.savefig(folder / f"{system}_families.png", dpi=150)
    for name, result in results.items():
        for what in ("errors", "physics"):
            if "failed" in result[what]:
                parts.append(f"{name}, {what}: {result[what]['failed']}")
    (folder / f"{system}_families.md").write_text("\n\n".join(parts) + "\n")


def heading(system: str, folder: Path) -> str:
    """What was trained, and on what."""
    train, test = ((folder / f).read_text().count("Lattice=") for f in ("train.xyz", "test.xyz"))
    budget = json.loads((folder / "budget.json").read_text())
    return (
        f"# Families on the test case {system}\n\n"
        f"Written by `benchmarks/test_cases/run.py {system} --epochs {budget['epochs']} …`: "
        f"{train} frames to train on, {test} held out, {budget['epochs']} epochs in batches of "
        f"{budget['batch_size']} from one backbone; `FixedCharges` takes only frames of its own "
        "charge, and a row named after a model (`--also`) was trained elsewhere. F are forces, Δ "
        "what charge or field change; errors are root mean squares on the held-out frames. "
        "Relaxations end after 60 steps."
    )


def table(header: list[str], rows: list[list[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *[[_cell(entry) for entry in row] for row in rows]]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _cell(entry: Any) -> str:
    if entry is None:
        return "–"
    return f"{entry:.3g}" if isinstance(entry, float) else str(entry)


def error_table(results: Mapping[str, Any]) -> str:
    """Root mean square errors on the held-out frames; Δ is the change with charge or field."""
    measured = {n: r["errors"] for n, r in results.items() if "failed" not in r["errors"]}
    used = [c for c in _COLUMNS if any(c in e["errors"] for e in measured.values())]
    rows = []
    for name, result in measured.items():
        found = result["errors"]
        cells = [found[c] * _COLUMNS[c][1] if c in found else None for c in used]
        counts = f"{result['frames']} ({result['refused']}, {len(result['unconverged'])})"
        rows.append([name, *cells, counts])
    header = ["family", *[_COLUMNS[c][0] for c in used], "frames (refused, unconverged)"]
    return table(header, rows)


def state_tables(system: str, results: Mapping[str, Any]) -> list[str]:
    """Errors of energy and forces at every charge."""
    if system != "sio2":
        return []
    rows = [
        [name, charge, 1e3 * errors["energy"], 1e3 * errors["forces"]]
        for name, result in results.items()
        for charge, errors in result["errors"].get("by_charge", {}).items()
    ]
    return [table(["family", "charge", "E, meV/atom", "F, meV/Å"], rows)]


def sio2_table(physics: Mapping[str, Any]) -> str:
    """Kinks, localisation, relaxation and levels."""
    reference = next(iter(physics.values()))
    energies = np.array(reference["reference_energies"])
    steps = np.diff(energies)
    rows = [["DFT", *steps, None, None, *reference["reference_share"], None]]
    rows[0] += [None, *reference["reference_pull"]]
    for name, result in physics.items():
        scan = result["energy_of_charge"]
        at = dict(zip(scan["charge"], scan["energy"], strict=True))
        outside = result.get("outside_gap", {}).get("mean")
        rows.append(
            [
                name,
                at[1.0] - at[0.0],
                at[2.0] - at[1.0],
                scan["bend"]["1.0"],
                scan["bend"]["0.5"],
                *result["share"],
                outside,
                " ".join(f"{d:.2f}" for d in result["distances"]),
                *result["pull"],
            ]
        )
    header = [
        "family",
        "E(1) − E(0), eV",
        "E(2) − E(1), eV",
        "bend at +1, V",
        "bend at +½, V",
        "share of Si pair at +1",
        "at +2",
        "level outside gap, eV",
        "relaxed Si–Si at 0, +1, +2, Å",
        "pull at 0, eV/Å",
        "at +1",
        "at +2",
    ]
    return "\n\n".join(filter(None, [table(header, rows), _sizes(physics)]))


def _sizes(physics: Mapping[str, Any]) -> str | None:
    """E(q) − E(0) of an unrelaxed vacancy in growing supercells."""
    rows = []
    for name, result in physics.items():
        sizes = list(result.get("sizes", {}).values())
        if len(sizes) < 2:
            continue
        small, large = sizes[0], sizes[-1]
        for q in (1, 2):
            drift = [
                large[kind][q] - small[kind][q] if large[kind] else None
                for kind in ("raw", "corrected")
            ]
            rows.append([name, f"+{q}", *drift])
    return table(["family", "charge", "raw, eV", "corrected, eV"], rows) if rows else None


def al_water_table(physics: Mapping[str, Any]) -> str:
    """Screening, induced dipoles, leaking charge and thickness."""
    rows = []
    for name, result in physics.items():
        found = result["response"]
        dipoles = np.array([[r["induced_dipole"], r["reference_induced_dipole"]] for r in found])
        error = np.sqrt(np.mean((dipoles[:, 0] - dipoles[:, 1]) ** 2))
        relative = float(100 * error / np.sqrt(np.mean(dipoles[:, 1] ** 2)))
        inside = [1e3 * abs(r["inside"]) for r in found if "inside" in r]
        reference = [1e3 * abs(r["reference_inside"]) for r in found if "inside" in r]
        leaked = result.get("leak", {}).get("charge", {}).get("0.2", [None])[-1]
        slope = result["thickness"]["slope_over_conductor"]
        moved = result.get("dynamics", {})
        rows.append(
            [
                name,
                1e3 * float(np.mean([r["rms"] for r in found])),
                float(np.mean(inside)),
                float(np.mean(reference)),
                relative,
                leaked,
                slope[0],
                slope[-1],
                moved.get("drift"),
            ]
        )
    header = [
        "family",
        "ΔV, mV",
        "field in metal, mV/Å",
        "DFT",
        "induced dipole, %",
        "charge of lifted water, e",
        "layers 3–4, of a conductor",
        "8–10",
        "drift, meV/(atom ps)",
    ]
    return table(header, rows)


def draw_errors(results: Mapping[str, Any], axes: Axes) -> None:
    """Errors of the forces and of what charge or field change in them, by family."""
    measured = {n: r["errors"]["errors"] for n, r in results.items() if "failed" not in r["errors"]}
    rows = np.arange(len(measured))
    for n, (key, label) in enumerate((("forces", "F"), ("change_forces", "ΔF"))):
        values = [1e3 * found.get(key, np.nan) for found in measured.values()]
        axes.barh(rows + 0.2 * (2 * n - 1), values, 0.38, label=label)
    sizes = [1e3 * e["change_forces_label"] for e in measured.values() if "change_forces" in e]
    if sizes:
        axes.axvline(sizes[0], color="k", ls=":", lw=1.2, label="size of ΔF")
    axes.set_yticks(rows, measured, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="error on held-out frames (meV/Å)")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)


def draw_sio2(physics: Mapping[str, Any], left: Axes, right: Axes) -> None:
    """E(Q) without its chord from 0 to +2, and where the added charge sits."""
    reference = next(iter(physics.values()))
    energies = np.array(reference["reference_energies"])
    chord = 0.5 * (energies[2] - energies[0])
    left.plot(range(3), energies - energies[0] - chord * np.arange(3), "ko", label="DFT", zorder=5)
    for name, result in physics.items():
        scan = result["energy_of_charge"]
        charge, energy = np.array(scan["charge"]), np.array(scan["energy"])
        slope = 0.5 * (energy[charge == 2] - energy[charge == 0])
        left.plot(charge, energy - slope * charge, lw=1.2, label=name)
    left.set(xlabel="charge (e)", ylabel="E(Q) − E(0) − Q (E(2) − E(0))/2 (eV)")
    left.legend(fontsize=7)
    names = ["DFT", *physics]
    shares = [reference["reference_share"], *[r["share"] for r in physics.values()]]
    for n, label in enumerate(("+1", "+2")):
        right.barh(np.arange(len(names)) + 0.2 * (2 * n - 1), [s[n] for s in shares], 0.38)
        right.containers[n].set_label(label)
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="share of the added charge on the two Si next to the vacancy")
    right.legend(title="charge", fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.25)


def draw_al_water(physics: Mapping[str, Any], left: Axes, right: Axes) -> None:
    """What a field changes in the potential, and polarisability against thickness."""
    reference = next(iter(physics.values()))["response"]
    chosen = next((n for n, r in enumerate(reference) if "water0+0" not in r["config_type"]), 0)
    shown = reference[chosen]
    left.plot(shown["heights"], shown["reference_potential"], "k", lw=2, label="DFT")
    for name, result in physics.items():
        row = result["response"][chosen]
        left.plot(row["heights"], row["potential"], lw=1.1, label=name)
        thick = result["thickness"]
        right.plot(thick["layers"], thick["polarisability"], "o-", ms=3, lw=1.1, label=name)
    left.set(xlabel="z (Å)", ylabel=f"change of the potential in {shown['field']:g} V/Å (V)")
    left.set_title(shown["config_type"], fontsize=10)
    left.legend(fontsize=7)
    right.set(xlabel="layers of Al(111)", ylabel="polarisability per surface atom (e Å²/V)")
    for axes in (left, right):
        axes.grid(alpha=0.25)


_TABLES: dict[str, Callable] = {"sio2": sio2_table, "al_water": al_water_table}
_FIGURES: dict[str, Callable] = {"sio2": draw_sio2, "al_water": draw_al_water}
