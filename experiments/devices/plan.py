"""Plan runs of 100M and 1B parameters on 1, 8, 64 and 512 devices, from what can be known without them.

    python experiments/devices/plan.py

FLOPs and memory are those of the traced program; the bytes that devices send each other are those of a small model's
program, compiled for eight, in parameters, and so in the large one's. What a device computes and sends in a second is
taken from data sheets (an H100: 989 TFLOP/s in bfloat16; 450 GB/s to the seven beside it, 50 GB/s to other hosts), of
which 40% and 80% are taken to be reached: that is assumed, and nothing of it is measured.
"""

import os
import re
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"


from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import config_file
from juliagpt_jax.models.parameters import count
from juliagpt_jax.training import footprint
from juliagpt_jax.training.mesh import one_device
from juliagpt_jax.training.state import Frozen

ROOT = Path(__file__).parents[2]
OUT = Path(__file__).parent / "results" / "plan"
BASE = ["train.precision=bf16", "train.remat=true", "model.scan_layers=true", "model.tie=true", "mesh.data=1"]
# Attention and SwiGLU, 20 tokens a parameter; a batch of 0.5M and of 2M tokens.
RUNS = {
    "100M": (["model.width=768", "model.layers=12", "model.heads=6", "model.context=1024"], 512),
    "1B": (["model.width=1792", "model.layers=24", "model.heads=14", "model.context=2048"], 1024),
}
VOCAB, FFN = 16_384, "model.ffn_mult=2.6666667"
PEAK, REACHED, NEAR, FAR, SENT = 989e12, 0.4, 450e9, 50e9, 0.8
ROOM = 80e9
SIZES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4}


def collectives(mesh: str) -> dict[str, float]:
    """Return the bytes that one device gives or gets in one micro-batch of a small model's step, by kind, over the
    bytes of its parameters."""
    small = ["model.width=128", "model.layers=4", "model.heads=4", "model.context=32", "train.batch_size=16"]
    settings = config_file.load(str(ROOT / "configs" / "base.py"), [*small, "train.accumulate=2", *mesh.split()])
    function, state, batch = footprint.stepped(settings, 256)
    text = function.lower(state, batch, Frozen()).compile().as_text()
    found = {"all-gather": 0.0, "reduce-scatter": 0.0, "all-reduce": 0.0}
    for shapes, kind in re.findall(r"= (.*?) (all-gather|reduce-scatter|all-reduce)\(", text):
        for kind_of, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            size = SIZES.get(kind_of, 1)
            for side in filter(None, sides.split(",")):
                size *= int(side)
            found[kind] += size * (8 if kind == "reduce-scatter" else 1)  # which gives an eighth of what it takes
    whole = footprint.nbytes(state.params)
    return {kind: size / whole for kind, size in found.items()}


def seconds(sent: float, number: int, link: float) -> float:
    """Return the time in which a device sends, and gets, so many bytes, in a ring over `number` devices."""
    return sent * (number - 1) / number / (link * SENT)


def main() -> None:
    per = {mesh: collectives(mesh) for mesh in ("mesh.data=8", "mesh.data=1 mesh.fsdp=8")}
    rows = []
    for name, (knobs, batch) in RUNS.items():
        load = lambda rows, knobs=knobs: config_file.load(
            str(ROOT / "configs" / "base.py"), [*BASE, FFN, *knobs, f"train.batch_size={rows}", "train.accumulate=1"]
        )
        for number in (1, 8, 64, 512):
            own = min(batch // number, 8)  # rows of a micro-batch on a device
            micro = batch // number // own
            settings = load(own)
            function, state, rows_of = footprint.stepped(settings, VOCAB)
            traced = function.trace(state, rows_of, Frozen())
            needs = footprint.of(traced.jaxpr.jaxpr, state, rows_of, Frozen(), one_device())
            params, model = count(state.params), settings.model
            tokens = 20 * params
            flops = cost.train_flops_per_token(model, cost.multiplied(model, state.params), VOCAB)
            computes = flops * batch * model.context / number / (PEAK * REACHED)
            size = footprint.nbytes(state.params)
            for fsdp in (False, True):
                if fsdp and number == 1:
                    continue
                ratio = per["mesh.data=1 mesh.fsdp=8" if fsdp else "mesh.data=8"]
                group = min(number, 8) if fsdp else 1  # a host's devices share the state
                near = (ratio["all-gather"] + ratio["reduce-scatter"]) * size * micro if fsdp else 0.0
                # Once a step gradients are added up over all copies of the state; an all-reduce sends all twice.
                far = 2 * size / group
                sends = seconds(near, group, NEAR) + seconds(far, number // group, NEAR if number <= 8 else FAR)
                state_bytes = (needs.params + needs.optimizer) / group
                memory = state_bytes + needs.working - size * (1 - 1 / group)  # of gradients each has its part, too
                steps = tokens / (batch * model.context)
                rows.append(
                    {
                        "run": f"{name} ({params / 1e6:.0f}M)",
                        "devices": number,
                        "state": f"cut over {group}" if fsdp else "whole on each",
                        "micro-batches": f"{micro} of {own}",
                        "hours": f"{steps * (computes + sends) / 3600:.2f}",
                        "GB a device": f"{memory / 1e9:.1f}",
                        "sent in a step": f"{(near + far * (number > group)) / 1e9:.2f} GB",
                        "communication": f"{sends / (computes + sends):.0%}",
                    }
                )
    OUT.mkdir(parents=True, exist_ok=True)
    heads = list(rows[0])
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(str(row[head]) for head in heads)} |" for row in rows]
    said = [f"{mesh}: {', '.join(f'{k} {v:.2f}' for k, v in found.items())}" for mesh, found in per.items()]
    counted = f"\nIn a micro-batch of the small model's compiled program, times its parameters: {'; '.join(said)}.\n"
    (OUT / "table.md").write_text("\n".join(lines) + "\n" + counted, encoding="utf-8")
    print("\n".join(lines), counted, sep="\n")


if __name__ == "__main__":
    main()
