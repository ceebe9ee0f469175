"""Measure the memory of a training step: all weights trained, LoRA, and LoRA beside kernels in few bits (QLoRA).

python experiments/adapters/memory.py --workdir=runs/smollm2 [--context=128] [--batch=4] [--rank=8] [--scan]

Each arm is a process of its own on random tokens: steps of AdamW in float32, on one device. The compiler's figure is
what the step needs beside the program, the state it is given among it; the others are of the whole process: at its
highest before the step is compiled, which for adapters is while the float32 weights are read, at its highest at all,
and after the last step. Rows are added to OUT/results.jsonl, and OUT/table.md is written of all of them.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ARMS = {
    "full": [],
    "lora": ["adapter.base=float"],
    "int8": ["adapter.base=int8"],
    "nf4": ["adapter.base=nf4"],
    "q4_1": ["adapter.base=q4_1"],
}


def measure(arm: str, options: argparse.Namespace) -> dict[str, float]:
    """Train and return what the steps took, sizes in bytes."""
    import jax
    import numpy as np

    from juliagpt_jax.data.batch import Batch
    from juliagpt_jax.evaluation import cost
    from juliagpt_jax.ground import config_file
    from juliagpt_jax.models import adapters
    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.models.parameters import count
    from juliagpt_jax.objectives.build import build_objective
    from juliagpt_jax.store import init
    from juliagpt_jax.store.workdir import find
    from juliagpt_jax.training import start
    from juliagpt_jax.training.mesh import make_mesh
    from juliagpt_jax.training.state import Frozen, initial_state
    from juliagpt_jax.training.step import make_train_step

    flags = [f"train.init={options.workdir}", f"model.context={options.context}", f"train.batch_size={options.batch}"]
    flags += ["train.accumulate=1", "mesh.data=1", f"model.scan_layers={str(options.scan).lower()}"]
    flags += [f"adapter.rank={options.rank}", *ARMS[arm]] if arm != "full" else []
    settings = config_file.load(str(options.workdir / "config.json"), flags)
    vocab = find(options.workdir).tokenizer.vocab_size
    model = build_model(settings, vocab)
    of_weights = lambda params: initial_state(settings, model, params)
    if arm == "full":
        base, params = (), init.weights(settings)[0]
    else:
        base, _ = start.below(settings)
        params = adapters.begin(jax.eval_shape(lambda: initial_state(settings, model)).params, settings.seed)
    state = jax.jit(of_weights, donate_argnums=0)(params)
    del params
    frozen = Frozen(base)
    shape = options.batch, options.context + 1
    text = np.random.default_rng(0).integers(vocab, size=shape, dtype=np.int32)
    given = jax.device_put(Batch(text[:, :-1], text[:, 1:]))
    step = make_train_step(settings, model, make_mesh(settings), build_objective(settings, model), state, frozen)
    read_peak = peak()
    begun = time.perf_counter()
    step = step.lower(state, given, frozen).compile()
    compile_s = time.perf_counter() - begun
    bytes_of = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    found = {"trained": count(state.params), "state_bytes": bytes_of(state), "frozen_bytes": bytes_of(base)}
    for _ in range(options.steps):
        begun, used = time.perf_counter(), time.process_time()
        state, metrics = step(state, given, frozen)
        loss = metrics["loss"].item()
        times = {"step_s": time.perf_counter() - begun, "step_processor_s": time.process_time() - used}
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    found |= {"compiler_bytes": cost.memory_bytes(step), "resident_bytes": resident}
    return found | times | {"read_peak_bytes": read_peak, "peak_bytes": peak(), "compile_s": compile_s, "loss": loss}


def peak() -> int:
    """Return the most memory that this process had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--workdir", type=Path, required=True, help="of the model, as import_model or main leaves it")
    flags.add_argument("--context", type=int, default=128)
    flags.add_argument("--batch", type=int, default=4)
    flags.add_argument("--rank", type=int, default=8)
    flags.add_argument("--steps", type=int, default=2)
    flags.add_argument("--scan", action="store_true", help="layers in a loop (model.scan_layers)")
    flags.add_argument("--arms", default=",".join(ARMS))
    flags.add_argument("--out", type=Path, default=Path("experiments/adapters/results/memory"), metavar="DIR")
    flags.add_argument("--one", choices=ARMS, help="an arm in this process, its row on stdout")
    options = flags.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    rows = options.out / "results.jsonl"
    for arm in options.arms.split(","):
        own = [f"--{name}={getattr(options, name)}" for name in ("workdir", "context", "batch", "rank", "steps")]
        command = [sys.executable, __file__, *own, *["--scan"] * options.scan, f"--one={arm}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        asked = {"arm": arm, "model": options.workdir.name, "scan": options.scan}
        asked |= {name: getattr(options, name) for name in ("context", "batch", "rank")}
        with open(rows, "a", encoding="utf-8") as file:
            file.write(json.dumps(asked | json.loads(done.stdout.splitlines()[-1])) + "\n")
    (options.out / "table.md").write_text(table([json.loads(line) for line in rows.read_text().splitlines()]))


def table(rows: list[dict]) -> str:
    """Return a line for each row of results."""
    head = "model", "arm", "layers in a loop", "trained", "trained state MB", "frozen MB", "the compiler's MB"
    head += "peak before the step MB", "peak MB", "after MB", "processor s a step", "compiled in s"
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        sizes = ("state", "frozen", "compiler", "read_peak", "peak", "resident")
        cells = [row["model"], row["arm"], "yes" if row["scan"] else "no", f"{row['trained']:,}"]
        cells += [f"{row[f'{name}_bytes'] / 1e6:,.1f}" for name in sizes]
        cells += [f"{row['step_processor_s']:.2f}", f"{row['compile_s']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
