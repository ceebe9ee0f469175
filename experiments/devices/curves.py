"""Train one model on 1, 2, 4 and 8 devices of a processor: how far do its losses part, what must a device hold?

    python experiments/devices/curves.py

Whole runs of configs/micro.py, 200 steps without micro-batches, by their own metrics and by the compiler's figure in
their reports. Two cores play all eight devices, so nothing is said of time.
"""

import json
import tempfile
from pathlib import Path

from calls import trained

OUT = Path(__file__).parent / "results" / "curves"
MESHES = {  # devices: data, fsdp, model
    "1": (1, 1, 1),
    "2 by rows": (2, 1, 1),
    "4 by rows": (4, 1, 1),
    "8 by rows": (8, 1, 1),
    "4 by rows, state cut": (1, 4, 1),
    "8 by rows, state cut": (1, 8, 1),
    "2 by rows x 2 state cut x 2 matrices cut": (2, 2, 2),
}
STEPS = 200


def train(mesh: tuple[int, int, int], folder: Path) -> tuple[list[float], float]:
    """Return the losses of a run, and the megabytes that its step needs on a device, by the compiler."""
    knobs = dict(zip(("mesh.data", "mesh.fsdp", "mesh.model"), mesh, strict=True))
    knobs |= {"train.steps": STEPS, "train.accumulate": 1, "train.log_every": 1, "train.warmup": 20}
    knobs |= {"train.eval_every": STEPS, "train.checkpoint_every": STEPS, "train.sample_every": 0}
    knobs |= {"train.report_share": 0.01}
    rows = trained("micro", knobs, folder)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return [row["loss"] for row in rows if "loss" in row], report["step_memory_bytes"] / 1e6


def main() -> None:
    lines = [
        "| devices | loss of the first and the last step | furthest from one device | MB a device |",
        "|---|---|---|---|",
    ]
    alone: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, mesh in MESHES.items():
            losses, held = train(mesh, Path(folder) / name.replace(" ", "_"))
            alone = alone or losses
            apart = max(abs(a - b) for a, b in zip(losses, alone, strict=True))
            lines.append(f"| {name} | {losses[0]:.4f}, {losses[-1]:.4f} | {apart:.1e} | {held:.1f} |")
            print(lines[-1], flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
