"""In which form does this device compute the gated delta rule in least time: token by token, or in chunks of how many?

python experiments/kda/forms.py --out=experiments/kda/results/forms [--rounds=7]

Forward, and forward and backward, of `models.delta.chunked` alone, float32, by the channels of a head; the least of the
rounds, in microseconds a token of all heads.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.models import delta
from juliagpt_jax.store import machine

SHAPES = ((16, 256, 4, 16), (16, 256, 4, 32), (64, 40, 3, 32), (4, 256, 4, 64), (1, 1024, 4, 64), (1, 1024, 2, 128))
CHUNKS = (1, 16, 64)


def drawn(rows: int, context: int, heads: int, width: int) -> tuple[jax.Array, ...]:
    """Return queries, keys of length 1, values, weak decays and betas of random texts."""
    keys = jax.random.split(jax.random.key(0), 5)
    q, k, v, decay = (jax.random.normal(key, (rows, context, heads, width)) for key in keys[:4])
    k = k / jnp.linalg.norm(k, axis=-1, keepdims=True)
    return q, k, v, -jnp.exp(decay - 2), jax.nn.sigmoid(jax.random.normal(keys[4], (rows, context, heads)))


def seconds(run: Any, given: tuple[jax.Array, ...], rounds: int) -> float:
    """Return the least time of a call, behind one that compiles."""
    run = jax.jit(run)
    jax.block_until_ready(run(*given))
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        jax.block_until_ready(run(*given))
        times.append(time.perf_counter() - begun)
    return min(times)


def measure(shape: tuple[int, int, int, int], chunk: int, rounds: int) -> dict[str, Any]:
    """Return a row: one shape in one form."""
    given, tokens = drawn(*shape), shape[0] * shape[1]
    forward = functools.partial(delta.chunked, chunk=chunk)
    both = jax.grad(lambda *given: jnp.sum(forward(*given)[0]), argnums=tuple(range(5)))
    row: dict[str, Any] = dict(zip(("texts", "context", "heads", "width"), shape, strict=True)) | {"chunk": chunk}
    row["forward_us"] = 1e6 * seconds(lambda *given: forward(*given)[0], given, rounds) / tokens
    row["both_us"] = 1e6 * seconds(both, given, rounds) / tokens
    return row | {"device": machine.device(), "jax": jax.__version__}


def table(rows: list[dict[str, Any]]) -> str:
    """Return forward / forward and backward of each shape, by form, as Markdown."""
    of = {1: "token by token", **{chunk: f"chunks of {chunk}" for chunk in CHUNKS[1:]}}
    lines = [f"| channels | heads | texts x context | {' | '.join(of.values())} |", "|---" * (3 + len(of)) + "|"]
    for shape in SHAPES:
        own = {row["chunk"]: row for row in rows if (row["texts"], row["context"], row["heads"], row["width"]) == shape}
        cells = [f"{row['forward_us']:.1f} / {row['both_us']:.1f}" for row in own.values()]
        lines.append(f"| {shape[3]} | {shape[2]} | {shape[0]} x {shape[1]} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Microseconds a token. {rows[0]['device']}, jax {rows[0]['jax']}.", ""])


def main() -> None:
    flags = argparse.ArgumentParser(description="In which form is the delta rule computed in least time?")
    flags.add_argument("--out", type=Path, required=True, metavar="DIR")
    flags.add_argument("--rounds", type=int, default=7, metavar="N")
    options = flags.parse_args()
    rows = [measure(shape, chunk, options.rounds) for shape in SHAPES for chunk in CHUNKS]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (options.out / "table.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
