"""How the mixers' time and memory grow with the context: one layer of each, forward and backward, and decoding.

python experiments/monarch/benchmark.py \
    --out=experiments/monarch/results/benchmark [--contexts=128,256,512] [--width=96] [--threads=1]
"""

import argparse
import functools
import json
import math
import statistics
import time
from pathlib import Path

from juliagpt_jax.ground import config_file, devices

WORDS = ("attention", "monarch", "monarch_heads")
DECODED = 32  # tokens a timing of decoding, the last of a full context: the block in which the generator writes


def layer(word: str, context: int, width: int):
    from juliagpt_jax.models.layers import Linear
    from juliagpt_jax.models.mixers import MIXERS

    overrides = [f"model.width={width}", f"model.heads={width // 32}", f"model.context={context}"]
    return MIXERS[word](config_file.load("configs/micro.py", overrides).model, 1.0, Linear)


def programs(word: str, context: int, width: int, tokens: int) -> dict:
    """What is timed, compiled, as functions without arguments, and what the compiler says of the first."""
    import jax
    import jax.numpy as jnp

    mixer, rows = layer(word, context, width), max(1, tokens // context)
    x = jax.random.normal(jax.random.key(0), (rows, context, width))
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

    return {
        "train": lambda: jax.block_until_ready(train(params, x)),
        "decode": lambda: jax.block_until_ready(decode()),
        "rows": rows,
        "memory_bytes": train.memory_analysis().temp_size_in_bytes,
        "cache_bytes": held,
    }


def convolutions(context: int, width: int, tokens: int) -> dict:
    """The convolution alone, forward and backward: our DFT and the library's."""
    import jax
    import jax.numpy as jnp

    from juliagpt_jax.models.monarch import causal_convolution

    def by_fft(x, taps):
        wave = jnp.fft.rfft(x, 2 * context, axis=1) * jnp.fft.rfft(taps, 2 * context, axis=0)[None]
        return jnp.fft.irfft(wave, 2 * context, axis=1)[:, :context]

    x = jax.random.normal(jax.random.key(0), (max(1, tokens // context), context, width))
    taps = jax.random.normal(jax.random.key(1), (context, width)) * context**-0.5
    made = {}
    for name, function in {"conv_dft": causal_convolution, "conv_fft": by_fft}.items():
        run = jax.jit(jax.grad(lambda x, taps, f=function: jnp.sum(jnp.sin(f(x, taps))), argnums=(0, 1)))
        run(x, taps)
        made[name] = lambda run=run: jax.block_until_ready(run(x, taps))
    return made


def clock(functions: dict, rounds: int) -> dict:
    """Median seconds of each, one after the other in every round, so that a noisy machine meets all alike."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            begun = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(context: int, options: argparse.Namespace) -> list[dict]:
    made = {word: programs(word, context, options.width, options.tokens) for word in WORDS}
    functions = {(word, what): made[word][what] for word in WORDS for what in ("train", "decode")}
    functions |= convolutions(context, options.width, options.tokens)
    for function in functions.values():
        function()
    took = clock(functions, options.rounds)
    rows = []
    for word in WORDS:
        facts = made[word]
        rows.append(
            {
                "mixer": word,
                "context": context,
                "rows": facts["rows"],
                "train_s_per_token": took[word, "train"] / (facts["rows"] * context),
                "decode_s_per_token": took[word, "decode"] / DECODED,
                "memory_bytes_per_token": facts["memory_bytes"] / (facts["rows"] * context),
                "cache_bytes": facts["cache_bytes"],
            }
        )
    rows[WORDS.index("monarch")]["dft_over_fft"] = took["conv_dft"] / took["conv_fft"]
    return rows


def crossing(rows: list[dict], word: str, key: str) -> str:
    """The context from which on a mixer is below attention, between the measured ones by a straight line in logs."""
    pick = lambda w: {row["context"]: row[key] for row in rows if row["mixer"] == w}
    ours, theirs = pick(word), pick("attention")
    contexts = sorted(ours)
    gaps = [math.log(ours[c] / theirs[c]) for c in contexts]
    if gaps[-1] > 0:
        return f"above {contexts[-1]}"
    last = max((i for i, gap in enumerate(gaps) if gap > 0), default=-1)
    if last < 0:
        return f"at most {contexts[0]}"
    share = gaps[last] / (gaps[last] - gaps[last + 1])
    return f"about {contexts[last] * (contexts[last + 1] / contexts[last]) ** share:.0f}"


def write(rows: list[dict], out: Path, facts: str) -> None:
    (out / "benchmark.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = [
        ("train_s_per_token", 1e6, "forward and backward, us a token"),
        ("memory_bytes_per_token", 2**-10, "temporary memory, KiB a token"),
        ("decode_s_per_token", 1e6, "decoding, us a token"),
        ("cache_bytes", 2**-10, "cache, KiB a row"),
    ]
    contexts = sorted({row["context"] for row in rows})
    lines = [
        "| | | " + " | ".join(map(str, contexts)) + " | below attention from |",
        "|---" * (len(contexts) + 3) + "|",
    ]
    for key, scale, title in columns:
        for word in WORDS:
            values = {row["context"]: row[key] * scale for row in rows if row["mixer"] == word}
            cross = "" if word == "attention" else crossing(rows, word, key)
            numbers = " | ".join(f"{values[c]:,.4g}" for c in contexts)
            lines.append(f"| {title} | {word} | {numbers} | {cross} |")
    ratios = {row["context"]: row["dft_over_fft"] for row in rows if "dft_over_fft" in row}
    numbers = " | ".join(f"{ratios[c]:.2f}" for c in contexts)
    lines.append(f"| the convolution, time with our DFT / with jnp.fft | monarch | {numbers} | |")
    (out / "benchmark.md").write_text("\n".join([*lines, "", facts]) + "\n", encoding="utf-8")

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Over attention in the same rounds: the shares stand still where the seconds of a busy machine do not.
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    attention = {row["context"]: row for row in rows if row["mixer"] == "attention"}
    for (key, _, title), axis in zip(columns, axes, strict=False):
        for word in WORDS[1:]:
            points = [(r["context"], r[key] / attention[r["context"]][key]) for r in rows if r["mixer"] == word]
            axis.loglog(*zip(*points, strict=True), marker="o", label=word)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(xlabel="context", title=f"{title.rpartition(',')[0]}\nover attention's")
        axis.set_xticks(contexts, contexts)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(out / "benchmark.png", dpi=90)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument("--contexts", default="128,256,512,1024,2048,4096,8192")
    flags.add_argument("--width", type=int, default=96)
    flags.add_argument("--tokens", type=int, default=8192, help="of a batch, whatever the context")
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--threads", type=int, default=1)
    options = flags.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    devices.limit_threads(options.threads)

    import jax

    from juliagpt_jax.store.machine import processor

    device = jax.devices()[0].device_kind if jax.default_backend() != "cpu" else processor()
    facts = (
        f"One layer, width {options.width}, heads of 32 channels, float32, batches of {options.tokens} tokens; "
        f"decoding: one row at the end of a full context. Median of {options.rounds} rounds, "
        f"{options.threads} thread(s), {device}, jax {jax.__version__}."
    )
    rows = []
    for context in map(int, options.contexts.split(",")):
        rows += measure(context, options)
        for row in rows[-len(WORDS) :]:
            print(json.dumps(row), flush=True)
    write(rows, options.out, facts)


if __name__ == "__main__":
    main()
