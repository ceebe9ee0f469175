"""What a step costs under each optimizer: time, memory of its state, and compilation, beside AdamW.

python experiments/optimizers/cost.py --out=experiments/optimizers/results/cost [--configs=micro,tiny] [--rounds=20]

All steps run in one process, the optimizers in turn, so that a machine that is busy is busy for all of them. A K-FAC
step is the mean over whole intervals between two measurements and inversions.
"""

import argparse
import dataclasses
import math
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config, config_file, devices
from juliagpt_jax.models.build import build_model
from juliagpt_jax.store.machine import device
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import batch_sharding, make_mesh
from juliagpt_jax.training.optimizers import OPTIMIZERS
from juliagpt_jax.training.state import Frozen, initial_state

VOCAB = 65
ROOT = Path(__file__).parents[2]


def interval(train: config.Train) -> int:
    """Steps after which the work repeats."""
    every = {"kfac": math.lcm(train.kfac.factors_every, train.kfac.inverse_every), "soap": train.soap.every}
    return every.get(train.optimizer, 1)


def machine(name: str, optimizer: str, overrides: list[str]):
    """The compiled step of a config, its first state and a batch; seconds to compile; MiB of the optimizer's state."""
    changes = [f"train.optimizer={optimizer}", "mesh.data=1", *overrides]
    settings = config_file.load(str(ROOT / "configs" / f"{name}.py"), changes)
    train = settings.train
    micro = devices.micro_batches(train.accumulate, train.batch_size, settings.model.context)  # as a run has them
    settings = dataclasses.replace(settings, train=dataclasses.replace(train, accumulate=micro))
    model, mesh = build_model(settings, VOCAB), make_mesh(settings)
    state = jax.jit(lambda: initial_state(settings, model))()
    shape = (settings.train.batch_size, settings.model.context + 1)
    text = np.random.default_rng(0).integers(VOCAB, size=shape, dtype=np.int32)
    batch = jax.device_put(Batch(text[:, :-1], text[:, 1:]), batch_sharding(mesh))
    begun = time.perf_counter()
    run = step.make_train_step(settings, model, mesh).lower(state, batch, Frozen()).compile()
    compile_s = time.perf_counter() - begun
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state.opt_state)) / 2**20
    return run, state, batch, compile_s, size, interval(settings.train)


def measure(name: str, kinds: dict[str, tuple[str, list[str]]], rounds: int) -> list[str]:
    """Rows of the table for one config. `kinds`: {label: (optimizer, overrides)}, the first one is the measure."""
    made = {label: machine(name, *kind) for label, kind in kinds.items()}
    states = {label: m[1] for label, m in made.items()}
    times: dict[str, list[float]] = {label: [] for label in made}
    for turn in range(rounds + 1):  # the first warms up
        for label, (run, _, batch, _, _, every) in made.items():
            begun = time.perf_counter()
            for _ in range(every):
                states[label], metrics = run(states[label], batch, Frozen())
            metrics["loss"].item()
            if turn:
                times[label].append((time.perf_counter() - begun) / every)
    first = next(iter(made))
    rows = []
    for label, (_, _, _, compile_s, size, _) in made.items():
        ratio = sorted(t / f for t, f in zip(times[label], times[first], strict=True))
        middle = statistics.median(ratio)
        spread = f"{ratio[len(ratio) // 4]:.2f} .. {ratio[-1 - len(ratio) // 4]:.2f}"
        own = 1e3 * statistics.median(times[label])
        rows.append(f"| {name} | {label} | {own:.1f} | {middle:.2f} | {spread} | {size:.1f} | {compile_s:.1f} |")
    return rows


def main() -> None:
    flags = argparse.ArgumentParser(description="The cost of a step under each optimizer.")
    flags.add_argument("--out", type=Path, required=True, metavar="DIR", help="where cost.md goes")
    flags.add_argument("--configs", default="micro,tiny", metavar="NAMES")
    flags.add_argument("--rounds", type=int, default=20, metavar="N")
    options = flags.parse_args()
    kinds: dict[str, tuple[str, list[str]]] = {name: (name, []) for name in OPTIMIZERS}
    every = lambda k: [f"train.kfac.factors_every={k}", f"train.kfac.inverse_every={k}"]
    kinds |= {f"kfac, every {k} steps": ("kfac", every(k)) for k in (1, 20)}
    page = [
        "# What a step costs",
        "",
        f"{device()}, jax {jax.__version__}, one device; {options.rounds} rounds, the optimizers in turn. Time of a",
        "step: median; ratio to AdamW's in the same round: median and quartiles.",
        "",
        "| config | optimizer | ms a step | of AdamW's | quartiles | state, MiB | compile, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in options.configs.split(","):
        rows = measure(name, kinds, options.rounds)
        print("\n".join(rows), flush=True)
        page += rows
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cost.md").write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
