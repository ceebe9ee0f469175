"""Hold what a run says it needs, before it is compiled, to what the compiler then says: all configs, on one device.

    python experiments/devices/memory.py [CONFIG ...]

A row for each config, added to those that are there; the compiler is that of this machine. Configs whose step is made
of files, of another run's weights or of examples in pairs, are named and left out.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"

from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.training import footprint
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).parent / "results" / "memory"


def row(path: Path) -> dict[str, float | str]:
    """Compile a config's train step, of 64 tokens, and compare."""
    settings = config_file.load(str(path), ["mesh.data=1"])
    if settings.adapter.rank:
        raise UserError("its frozen weights are another run's")
    function, state, batch = footprint.stepped(settings, 64)
    traced = function.trace(state, batch, Frozen())
    mesh = make_mesh(footprint.with_micro_batches(settings))
    needs = footprint.of(traced.jaxpr.jaxpr, state, batch, Frozen(), mesh)
    begun = time.perf_counter()
    compiled = cost.memory_bytes(traced.lower().compile())
    took = time.perf_counter() - begun
    return {"config": path.stem, **needs._asdict(), "total": needs.total, "compiler": compiled, "compile_s": took}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    wanted = [ROOT / "configs" / f"{name}.py" for name in sys.argv[1:]] or sorted((ROOT / "configs").glob("*.py"))
    kept = OUT / "rows.jsonl"
    rows = {one["config"]: one for one in map(json.loads, kept.open(encoding="utf-8"))} if kept.exists() else {}
    for path in wanted:
        try:
            rows[path.stem] = row(path)
        except UserError as error:
            print(f"{path.stem}: left out: {error}", flush=True)
            continue
        print(rows[path.stem], flush=True)
        kept.write_text("".join(json.dumps(one) + "\n" for one in rows.values()), encoding="utf-8")
    lines = [
        "| config | parameters, MB | optimizer | working | in all | by the compiler | ratio |",
        "|---|" + "---|" * 6,
    ]
    for _, one in sorted(rows.items()):
        sizes = [f"{one[name] / 1e6:.1f}" for name in ("params", "optimizer", "working", "total", "compiler")]
        lines.append(f"| {one['config']} | {' | '.join(sizes)} | {one['total'] / one['compiler']:.2f} |")
    (OUT / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
