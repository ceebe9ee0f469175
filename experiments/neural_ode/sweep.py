"""One trained ODE model at several tolerances and numbers of steps: quality against speed against memory.

python experiments/neural_ode/sweep.py --out=experiments/neural_ode/results/sweep/NAME NAME=WORKDIR [NAME=WORKDIR ...]

Each row: loss on the whole validation text, evaluations of the block a token, characters scored a second, characters
generated a second (batch 1, greedy, with a cache), bytes of cache a row, bytes of activations of a scored batch. With a
tolerance the model runs on the schedule calibrated on training text; its adaptive twin is scored beside it, with its
leak. Writes sweep.jsonl, sweep.md and sweep.png.
"""

import argparse
import json
import math
import time
from pathlib import Path

from juliagpt_jax.ground import config, devices

MAX_STEPS = 512
ROWS = 16  # windows of a scored batch
GENERATED = 100


def measure(name: str, workdir: Path, options: argparse.Namespace) -> list[dict]:
    import jax
    import numpy as np

    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.ground.errors import NumericalError
    from juliagpt_jax.inference import schedule, scoring
    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.sampling import Rule
    from juliagpt_jax.models.depth import evaluations
    from juliagpt_jax.store.workdir import open_run

    run = open_run(workdir)
    model, context = run.config.model, run.config.model.context
    corpus = corpora.load(run.config.data, context)
    windows = schedule.training_windows(run)
    lead = run.tokenizer.lead
    text, solver = corpus.val[: options.characters or None], options.solver
    base = run.model.clone(energy=False, parent=None)
    rows = []
    for kind, value in [("steps", n) for n in options.steps] + [("rtol", r) for r in options.tolerances]:
        row = {
            "model": name,
            "solver": model.ode.solver if kind == "steps" else solver or model.ode.solver,
            kind: value,
        }
        if kind == "steps":
            decoder, twin = schedule.with_ode(base, steps=value, rtol=0.0, min_steps=0), None
        else:
            changes = {
                "solver": row["solver"],
                "rtol": value,
                "min_steps": 0,
                "max_steps": MAX_STEPS,
                "adjoint": "recursive",
            }
            twin = schedule.with_ode(base, **changes)
            try:
                times = schedule.calibrate(twin, run.params, windows)
            except NumericalError as error:
                rows.append(row | {"failed": str(error)})
                continue
            decoder = schedule.with_ode(twin, rtol=0.0).clone(schedule=times, parent=None)
            row["schedule"] = times
        score = lambda m: scoring.score_text(m, run.params, text, lead, batch=ROWS, tokenizer=run.tokenizer)
        row |= score(decoder).to_dict() | {"evaluations": sum(evaluations(decoder.config, decoder.schedule))}
        inputs = np.zeros((ROWS, context), np.int32)
        program = scoring.window_losses.lower(decoder, run.params, inputs, inputs).compile()
        times_s = []
        for _ in range(4):
            begun = time.perf_counter()
            scoring.window_losses(decoder, run.params, inputs, inputs).block_until_ready()
            times_s.append(time.perf_counter() - begun)
        row["scored_chars_per_s"] = inputs.size / min(times_s)
        row["activation_bytes"] = program.memory_analysis().temp_size_in_bytes
        row["cache_bytes"] = sum(leaf.nbytes for leaf in jax.tree.leaves(decoder.init_cache(1, context)))
        generator, prompts = Generator(decoder, run.params), [np.array([lead])]
        write = lambda generator=generator, prompts=prompts: generator.generate(prompts, GENERATED, Rule(greedy=True))
        write()
        begun = time.perf_counter()
        write()
        row["generated_chars_per_s"] = GENERATED / (time.perf_counter() - begun)
        row |= {k: v for k, v in schedule.leak(decoder, run.params, windows).items()}
        if twin is not None:
            seen = scoring.score_text(twin, run.params, text[: 32 * context], lead, batch=ROWS)
            same = scoring.score_text(decoder, run.params, text[: 32 * context], lead, batch=ROWS)
            row["adaptive"] = {"loss": seen.loss, "loss_on_schedule": same.loss, "characters": seen.scored_tokens}
            row["adaptive"] |= schedule.leak(twin, run.params, windows)
        rows.append(row)
        print(json.dumps({k: v for k, v in row.items() if k != "schedule"}), flush=True)
    return rows


def table(rows: list[dict]) -> str:
    lines = [
        "| model | solved with | evaluations | perplexity | bpc | scored chars/s | generated chars/s | cache KiB | "
        "activations MiB | adaptive: loss beside that on the schedule, leak |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        how = f"{row['steps']} steps" if "steps" in row else f"tolerance {row['rtol']:g}"
        how = f"{how}, {row['solver']}"
        if "failed" in row:
            lines.append(f"| {row['model']} | {how} | {row['failed']} |")
            continue
        twin = row.get("adaptive")
        beside = (
            f"{twin['loss']:.4f} / {twin['loss_on_schedule']:.4f}, {twin['leak_future']:.1e}, {twin['leak_rows']:.1e}"
            if twin
            else ""
        )
        lines.append(
            f"| {row['model']} | {how} | {row['evaluations']} | {row['perplexity']:.3f} | {row['bpc']:.3f} | "
            f"{row['scored_chars_per_s']:,.0f} | {row['generated_chars_per_s']:,.0f} | "
            f"{row['cache_bytes'] / 1024:,.0f} | {row['activation_bytes'] / 2**20:.1f} | {beside} |"
        )
    return "\n".join(lines) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    sound = [row for row in rows if "failed" not in row]
    for i, name in enumerate(dict.fromkeys(row["model"] for row in sound)):
        for kind, style in [("steps", "o-"), ("rtol", "x--")]:
            mine = [row for row in sound if row["model"] == name and kind in row]
            label = f"{name}, {'equal steps' if kind == 'steps' else 'tolerance'}"
            for axis, key in [(left, "evaluations"), (right, "generated_chars_per_s")]:
                axis.plot([r[key] for r in mine], [r["bpc"] for r in mine], style, color=f"C{i}", label=label)
    left.set(xscale="log", xlabel="evaluations of the block", ylabel="bits per character")
    right.set(xscale="log", xlabel="characters generated a second")
    left.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    flags = argparse.ArgumentParser(description="An ODE model at several tolerances and numbers of steps.")
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument("--characters", type=int, default=0, help="of validation text to score; 0: all")
    numbers = lambda kind: lambda text: [kind(word) for word in filter(None, text.split(","))]
    flags.add_argument("--steps", type=numbers(int), default=[1, 2, 4, 8, 16])
    flags.add_argument("--tolerances", type=numbers(float), default=[1e-1, 1e-2, 1e-3, 1e-4])
    flags.add_argument("--solver", default="", help="for the tolerances; default: the model's own")
    flags.add_argument("runs", nargs="+", metavar="NAME=WORKDIR")
    options = flags.parse_args()
    named = [text.split("=", 1) for text in options.runs]
    devices.prepare(config.read(Path(named[0][1]) / "config.json"))
    rows = [row for name, workdir in named for row in measure(name, Path(workdir), options)]
    options.out.mkdir(parents=True, exist_ok=True)
    clean = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]
    (options.out / "sweep.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clean))
    (options.out / "sweep.md").write_text(table(rows))
    plot(rows, options.out / "sweep.png")
    print(table(rows))


if __name__ == "__main__":
    main()
