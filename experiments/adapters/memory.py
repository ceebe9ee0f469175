"""Measure the memory of a training step: all weights trained, LoRA, and LoRA beside kernels in few bits (QLoRA).

python experiments/adapters/memory.py --workdir=runs/smollm2 [--context=128] [--batch=4] [--rank=8]

Each arm is a process of its own on random tokens: two steps of AdamW in float32, on one device. The compiler's figure
is what the step needs beside the program, the state it is given among it; RSS is of the whole process, after the second
step and at its highest, which for adapters is while the float32 weights are read.
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


def measure(workdir: Path, arm: str, context: int, batch: int, rank: int) -> dict[str, float]:
    """Train two steps and return what they took, sizes in bytes."""
    import jax
    import numpy as np

    from juliagpt_jax.data.batch import Batch
    from juliagpt_jax.evaluation import cost
    from juliagpt_jax.ground import config_file
    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.models.parameters import count
    from juliagpt_jax.objectives.build import build_objective
    from juliagpt_jax.store.workdir import find
    from juliagpt_jax.training import start
    from juliagpt_jax.training.mesh import make_mesh
    from juliagpt_jax.training.state import Frozen, initial_state
    from juliagpt_jax.training.step import make_train_step

    flags = [f"train.init={workdir}", f"model.context={context}", f"train.batch_size={batch}", "train.accumulate=1"]
    flags += ["mesh.data=1", *([f"adapter.rank={rank}", *ARMS[arm]] if arm != "full" else [])]
    settings = config_file.load(str(workdir / "config.json"), flags)
    tokenizer = find(workdir).tokenizer
    model = build_model(settings, tokenizer.vocab_size)
    base = start.below(settings, tokenizer)[0] if settings.adapter.rank else ()
    begin = lambda weights: initial_state(settings, model, weights)
    if base:
        state = jax.jit(lambda: initial_state(settings, model))()
    else:
        state = jax.jit(begin, donate_argnums=0)(start.weights(settings, tokenizer))
    frozen = Frozen(base)
    text = np.random.default_rng(0).integers(tokenizer.vocab_size, size=(batch, context + 1), dtype=np.int32)
    given = jax.device_put(Batch(text[:, :-1], text[:, 1:]))
    step = make_train_step(settings, model, make_mesh(settings), build_objective(settings, model), state, frozen)
    begun = time.perf_counter()
    step = step.lower(state, given, frozen).compile()
    compile_s = time.perf_counter() - begun
    bytes_of = lambda tree: sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    trained, state_bytes = count(state.params), bytes_of(state)
    for _ in range(2):
        begun = time.perf_counter()
        state, metrics = step(state, given, frozen)
        loss = metrics["loss"].item()
        step_s = time.perf_counter() - begun
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return {
        "trained": trained,
        "state_bytes": state_bytes,
        "frozen_bytes": bytes_of(base),
        "compiler_bytes": cost.memory_bytes(step),
        "resident_bytes": resident,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "compile_s": compile_s,
        "step_s": step_s,
        "loss": loss,
    }


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--workdir", type=Path, required=True, help="of the model, as import_model or main leaves it")
    flags.add_argument("--context", type=int, default=128)
    flags.add_argument("--batch", type=int, default=4)
    flags.add_argument("--rank", type=int, default=8)
    flags.add_argument("--arms", default=",".join(ARMS))
    flags.add_argument("--out", type=Path, help="a file for the rows, as JSON lines")
    flags.add_argument("--one", choices=ARMS, help="an arm in this process")
    options = flags.parse_args()
    if options.one:
        print(json.dumps(measure(options.workdir, options.one, options.context, options.batch, options.rank)))
        return
    print("| | trained | state MB | frozen MB | compiler MB | RSS after, peak MB | step s |\n" + "|---" * 7 + "|")
    for arm in options.arms.split(","):
        own = [f"--{name}={getattr(options, name)}" for name in ("workdir", "context", "batch", "rank")]
        done = subprocess.run([sys.executable, __file__, *own, f"--one={arm}"], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"| {arm} | failed ({done.returncode}) |")
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        mb = {key.removesuffix("_bytes"): f"{row[key] / 1e6:,.0f}" for key in row if key.endswith("_bytes")}
        print(
            f"| {arm} | {row['trained']:,} | {mb['state']} | {mb['frozen']} | {mb['compiler']} | {mb['resident']}, "
            f"{mb['peak']} | {row['step_s']:.2f} |",
            flush=True,
        )
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(json.dumps({"arm": arm, "context": options.context, "batch": options.batch} | row) + "\n")


if __name__ == "__main__":
    main()
