"""Growth of a mixer's time and memory with the context: one layer, forward and backward, and decoding.

Several are measured one after the other in every round, so that a noisy machine meets all alike; read their ratios.
"""

import argparse
import functools
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import config_file, devices, sealed
from juliagpt_jax.store.machine import device

BASELINE = "attention"
DECODED = 32  # tokens a timing of decoding, the last of a full context: the block in which the generator writes
COLUMNS = (
    ("train_s_per_token", 1e6, "forward and backward, us a token"),
    ("memory_bytes_per_token", 2**-10, "temporary memory, KiB a token"),
    ("decode_s_per_token", 1e6, "decoding, us a token"),
    ("cache_bytes", 2**-10, "cache, KiB a row"),
)


def flags(description: str | None, contexts: str, width: int) -> argparse.ArgumentParser:
    """Return the flags of a script that measures so, with these defaults."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", required=True, type=Path)
    made.add_argument("--contexts", default=contexts)
    made.add_argument("--width", type=int, default=width)
    made.add_argument("--head_width", type=int, default=32)
    made.add_argument("--tokens", type=int, default=8192, help="of a batch, whatever the context")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--knobs", default="", help="of the model, as in model.window=256, with blanks between them")
    made.add_argument("--threads", type=int, default=1)
    return made


def programs(word: str, context: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is timed of a mixer, compiled, as functions without arguments, and what is known without a clock.
    `word` is a mixer, or one and its mask."""
    import jax
    import jax.numpy as jnp

    from juliagpt_jax.models.layers import Linear
    from juliagpt_jax.models.mixers import MIXERS

    heads = options.width // options.head_width
    overrides = [f"model.width={options.width}", f"model.heads={heads}", f"model.context={context}"]
    mixer, *mask = word.split()
    model = config_file.load("configs/micro.py", [*overrides, *options.knobs.split()]).model
    mixer = MIXERS[mixer](model, 1.0, Linear, *mask)
    rows = max(1, options.tokens // context)
    x = jax.random.normal(jax.random.key(0), (rows, context, options.width))
    params = jax.jit(mixer.init)(jax.random.key(1), x[:1, :2], jnp.arange(2)[None])

    def loss(params, x):
        return jnp.sum(jnp.sin(mixer.apply(params, x, jnp.arange(context)[None])[0]))

    train = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).compile()

    @functools.partial(jax.jit, donate_argnums=1)
    def write(params, cache):
        def one(cache, position):
            y, cache = mixer.apply(params, x[:1, :1], position.reshape(1, 1), cache)
            return cache, y

        return jax.lax.scan(one, cache, jnp.arange(context - DECODED, context))

    cache = mixer.init_cache(1, context, jnp.float32)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(cache))
    state = [write(params, cache)[0]]

    def decode():
        state[0], y = write(params, state[0])
        return y

    memory = train.memory_analysis()
    return {
        "train": lambda: jax.block_until_ready(train(params, x)),
        "decode": lambda: jax.block_until_ready(decode()),
        "rows": rows,
        "memory_bytes": memory.temp_size_in_bytes if memory else math.nan,
        "cache_bytes": held,
    }


def clock(functions: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Return the median seconds of each, warm, one after the other in every round."""
    for function in functions.values():
        function()
    times: dict[Any, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begun = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(
    words: Sequence[str],
    context: int,
    options: argparse.Namespace,
    more: Mapping[str, Callable[[], Any]] | None = None,
) -> tuple[list[dict[str, Any]], dict[Any, float]]:
    """Return a row for each mixer at one context, and the seconds of everything, that of `more` by its names."""
    import jax

    made = {word: programs(word, context, options) for word in words}
    took = clock(
        {(word, what): made[word][what] for word in words for what in ("train", "decode")} | dict(more or {}),
        options.rounds,
    )
    about = {key: getattr(options, key) for key in ("threads", "width", "head_width", "tokens", "rounds", "knobs")}
    about |= {"device": device(), "jax": jax.__version__}
    rows = [
        {
            "mixer": word,
            "context": context,
            "rows": facts["rows"],
            "train_s_per_token": took[word, "train"] / (facts["rows"] * context),
            "decode_s_per_token": took[word, "decode"] / DECODED,
            "memory_bytes_per_token": facts["memory_bytes"] / (facts["rows"] * context),
            "cache_bytes": facts["cache_bytes"],
            **about,
        }
        for word, facts in made.items()
    ]
    return rows, took


def go_on(words: Sequence[str], options: argparse.Namespace, most: Mapping[str, int] | None = None) -> None:
    """Measure each context that OUT/speed.jsonl has not yet, and write what is there after each: the longest may not
    fit into memory.

    Args:
        words: of mixers, as for `measure`.
        most: the longest context that a word is measured at, for those that have one.
    """
    contexts, most = begin(options), most or {}
    rows = sealed.read_rows(options.out / "speed.jsonl")
    for context in contexts:
        if any(row["context"] == context for row in rows):
            continue
        more, _ = measure([word for word in words if context <= most.get(word, context)], context, options)
        for row in more:
            print(json.dumps(row), flush=True)
        rows += more
        write(rows, options.out, "speed")


def crossing(rows: Sequence[Mapping[str, Any]], word: str, key: str) -> str:
    """Return the context from which on a mixer is below attention, between the measured ones by a straight line in
    logs."""
    pick = lambda w: {row["context"]: row[key] for row in rows if row["mixer"] == w}
    ours, theirs = pick(word), pick(BASELINE)
    contexts = sorted(ours)
    gaps = [math.log(ours[c] / theirs[c]) for c in contexts]
    if gaps[-1] > 0:
        return f"above {contexts[-1]}"
    last = max((i for i, gap in enumerate(gaps) if gap > 0), default=-1)
    if last < 0:
        return f"at most {contexts[0]}"
    share = gaps[last] / (gaps[last] - gaps[last + 1])
    return f"about {contexts[last] * (contexts[last + 1] / contexts[last]) ** share:.0f}"


def write(rows: Sequence[Mapping[str, Any]], out: Path, name: str, lines: Sequence[str] = ()) -> None:
    """Write NAME.jsonl, NAME.md, with `lines` behind its table, and NAME.png to a folder."""
    words = list(dict.fromkeys(row["mixer"] for row in rows))
    rows = sorted(rows, key=lambda row: row["context"])  # those of an earlier call come first, in any order
    (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    contexts = sorted({row["context"] for row in rows})
    table = [
        "| | | " + " | ".join(map(str, contexts)) + " | below attention from |",
        "|---" * (len(contexts) + 3) + "|",
    ]
    for key, scale, title in COLUMNS:
        for word in words:
            values = {row["context"]: row[key] * scale for row in rows if row["mixer"] == word}
            cross = "" if word == BASELINE else crossing(rows, word, key)
            numbers = " | ".join(_four_digits(values[c]) if c in values else "" for c in contexts)
            table.append(f"| {title} | {word} | {numbers} | {cross} |")
    # Of the rows themselves: an earlier call may have made some on another machine.
    fact = lambda key: " or ".join(dict.fromkeys(str(row[key]) for row in rows))
    facts = (
        f"One layer, width {fact('width')}, heads of {fact('head_width')} channels, float32, batches of "
        f"{fact('tokens')} tokens; decoding: one row at the end of a full context. Median of {fact('rounds')} rounds, "
        f"{fact('threads')} thread(s), {fact('device')}, jax {fact('jax')}."
    )
    (out / f"{name}.md").write_text("\n".join([*table, *lines, "", facts]) + "\n", encoding="utf-8")
    _plot(rows, words, contexts, out / f"{name}.png")


def _four_digits(value: float) -> str:
    """Return 13,485 for a number that the general format would write as 1.348e+04."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


def _plot(rows: Sequence[Mapping[str, Any]], words: Sequence[str], contexts: Sequence[int], path: Path) -> None:
    """Over attention in the same rounds: the shares stand still where the seconds of a busy machine do not."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    attention = {row["context"]: row for row in rows if row["mixer"] == BASELINE}
    for (key, _, title), axis in zip(COLUMNS, axes, strict=False):
        for word in words:
            points = [(r["context"], r[key] / attention[r["context"]][key]) for r in rows if r["mixer"] == word]
            if word != BASELINE:
                axis.loglog(*zip(*points, strict=True), marker="o", label=word)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(xlabel="context", title=f"{title.rpartition(',')[0]}\nover attention's")
        axis.set_xticks(contexts, list(map(str, contexts)), rotation=45)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def begin(options: argparse.Namespace) -> list[int]:
    """Make the folder, hold the process to its threads, and return the contexts."""
    options.out.mkdir(parents=True, exist_ok=True)
    devices.limit_threads(options.threads)
    return [int(context) for context in options.contexts.split(",")]
