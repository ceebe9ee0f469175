"""What a deep solve costs to train: memory, time and gradient error of each adjoint, beside a stack of as many blocks.

python experiments/neural_ode/adjoints.py --out=experiments/neural_ode/results/adjoints

A block of width 192 on 4 windows of 128 characters (configs/tiny.py), Euler, 4 to 64 evaluations. Memory is the
compiler's: temporary bytes of the gradient's program. Time is that of the gradient, best of several, in ratios to the
stack; compile time, tracing included, is the best of three without a cache. The gradient error is that of the block's
weights, relative to the gradient of the steps taken (`direct`, float32). Writes adjoints.jsonl,
adjoints.md and adjoints.png.
"""

import argparse
import json
import os
import time
from pathlib import Path

from juliagpt_jax.ground import config_file

EVALUATIONS = (4, 8, 16, 32, 64)
ADJOINTS = ("direct", "recursive", "backsolve", "reversible")
TIMED = 6  # evaluations of the model whose time and compile time are compared
VOCAB = 39


def gradients(overrides: list[str]):
    import jax
    import jax.numpy as jnp
    import numpy as np

    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.training import step

    settings = config_file.load("configs/tiny.py", overrides)
    model = build_model(settings, VOCAB)
    tokens = jnp.asarray(np.random.default_rng(0).integers(VOCAB, size=(4, 128)))
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    loss = lambda p: jnp.mean(step.token_losses(model.apply({"params": p}, tokens)[0], tokens))
    return jax.jit(jax.grad(loss)), params


def ode(adjoint: str, evaluations: int) -> list[str]:
    steps = evaluations // 2 if adjoint == "reversible" else evaluations
    words = ["model.depth=ode", "model.layers=1", f"model.ode.adjoint={adjoint}", f"model.ode.steps={steps}"]
    return [*words, f"model.ode.speed={evaluations}.0"]


def memory_rows() -> list[dict]:
    import jax
    import numpy as np

    rows = []
    for n in EVALUATIONS:
        exact = None
        for adjoint in ("stack", *ADJOINTS):
            run, params = gradients([f"model.layers={n}"] if adjoint == "stack" else ode(adjoint, n))
            compiled = run.lower(params).compile()
            row = {"evaluations": n, "adjoint": adjoint}
            row["temporary_bytes"] = compiled.memory_analysis().temp_size_in_bytes
            row["params_bytes"] = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
            if adjoint in ("direct", "backsolve", "recursive"):
                flat = np.concatenate([np.ravel(g) for g in jax.tree.leaves(compiled(params)["block_0"])])
                exact = flat if adjoint == "direct" else exact
                row["gradient_error"] = float(np.linalg.norm(flat - exact) / np.linalg.norm(exact))
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def time_rows(rounds: int) -> list[dict]:
    import jax

    programs, rows = {}, {}
    for name in ("stack", *ADJOINTS):
        run, params = gradients([f"model.layers={TIMED}"] if name == "stack" else ode(name, TIMED))
        compile_s = []
        for _ in range(3):
            jax.clear_caches()
            begun = time.perf_counter()
            compiled = run.lower(params).compile()
            compile_s.append(time.perf_counter() - begun)
        rows[name] = {"adjoint": name, "evaluations": TIMED, "compile_s": min(compile_s), "step_s": []}
        jax.block_until_ready(compiled(params))
        programs[name] = compiled, params
    for _ in range(rounds):
        for name, (compiled, params) in programs.items():
            begun = time.perf_counter()
            jax.block_until_ready(compiled(params))
            rows[name]["step_s"].append(time.perf_counter() - begun)
    for row in rows.values():
        row["step_s"] = min(row["step_s"])
        row["step_ratio"] = row["step_s"] / rows["stack"]["step_s"]
        row["compile_ratio"] = row["compile_s"] / rows["stack"]["compile_s"]
        print(json.dumps(row), flush=True)
    return list(rows.values())


def table(memory: list[dict], times: list[dict]) -> str:
    cell = {(row["adjoint"], row["evaluations"]): row for row in memory}
    depths = sorted({row["evaluations"] for row in memory})
    lines = ["Temporary memory of the gradient, MiB:", "", "| evaluations | " + " | ".join(("stack", *ADJOINTS)) + " |"]
    lines.append("|" + "---|" * (len(ADJOINTS) + 2))
    for n in depths:
        found = [cell.get((adjoint, n)) for adjoint in ("stack", *ADJOINTS)]
        values = [f"{row['temporary_bytes'] / 2**20:.1f}" if row else "" for row in found]
        lines.append(f"| {n} | " + " | ".join(values) + " |")
    lines += ["", "Error of the gradient, relative to that of the steps taken:", ""]
    lines += ["| evaluations | recursive | backsolve |", "|---|---|---|"]
    for n in depths:
        exact, wrong = (cell[adjoint, n]["gradient_error"] for adjoint in ("recursive", "backsolve"))
        lines.append(f"| {n} | {exact:.1e} | {wrong:.1%} |")
    if times:
        lines += ["", f"Time of the gradient at {TIMED} evaluations, beside a stack of {TIMED} blocks:", ""]
        lines += ["| | ms | ratio | compile s | ratio |", "|---|---|---|---|---|"]
    for row in times:
        lines.append(
            f"| {row['adjoint']} | {1e3 * row['step_s']:.0f} | {row['step_ratio']:.2f} | {row['compile_s']:.1f} | "
            f"{row['compile_ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 3.6))
    for name in ("stack", *ADJOINTS):
        mine = [row for row in rows if row["adjoint"] == name]
        axis.plot([r["evaluations"] for r in mine], [r["temporary_bytes"] / 2**20 for r in mine], "o-", label=name)
    axis.set(xscale="log", yscale="log", xlabel="evaluations of the block", ylabel="temporary memory, MiB")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    flags = argparse.ArgumentParser(description="Memory, time and gradient error against depth.")
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument("--rounds", type=int, default=9, help="of timing")
    options = flags.parse_args()
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # compile times are measured
    times, memory = time_rows(options.rounds), memory_rows()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "adjoints.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*times, *memory]))
    (options.out / "adjoints.md").write_text(table(memory, times))
    plot(memory, options.out / "adjoints.png")
    print(table(memory, times))


if __name__ == "__main__":
    main()
