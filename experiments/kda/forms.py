"""In which form does this device compute the gated delta rule in least time: token by token, or in chunks of how many?

python experiments/kda/forms.py --out=experiments/kda/results/forms [--rounds=7]

Forward, and forward and backward, of `models.delta.chunked` alone, float32, by the channels of a head; the median of
rounds in which all forms have their turn, in microseconds a token of all heads.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.models import delta
from juliagpt_jax.store import machine
from juliagpt_jax.study import growth

SHAPES = ((16, 256, 4, 16), (16, 256, 4, 32), (64, 40, 3, 32), (4, 256, 4, 64), (1, 1024, 4, 64), (1, 1024, 2, 128))
CHUNKS = (1, 16, 64)


def drawn(rows: int, context: int, heads: int, width: int) -> tuple[jax.Array, ...]:
    """Return queries, keys of length 1, values, weak decays and betas of random texts."""
    keys = jax.random.split(jax.random.key(0), 5)
    q, k, v, decay = (jax.random.normal(key, (rows, context, heads, width)) for key in keys[:4])
    k = k / jnp.linalg.norm(k, axis=-1, keepdims=True)
    return q, k, v, -jnp.exp(decay - 2), jax.nn.sigmoid(jax.random.normal(keys[4], (rows, context, heads)))


def measure(shape: tuple[int, int, int, int], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each form at one shape, all of them measured in turn."""
    given, tokens, programs = drawn(*shape), shape[0] * shape[1], {}
    for chunk in CHUNKS:
        forward = lambda *given, chunk=chunk: delta.chunked(*given, chunk=chunk)[0]
        both = jax.grad(lambda *given, forward=forward: jnp.sum(forward(*given)), argnums=tuple(range(5)))
        for what, run in (("forward_us", jax.jit(forward)), ("both_us", jax.jit(both))):
            programs[chunk, what] = lambda run=run: jax.block_until_ready(run(*given))
    took = growth.clock(programs, rounds)
    facts: dict[str, Any] = dict(zip(("texts", "context", "heads", "width"), shape, strict=True))
    facts |= {"device": machine.device(), "jax": jax.__version__}
    us = lambda chunk: {what: 1e6 * took[chunk, what] / tokens for what in ("forward_us", "both_us")}
    return [{"chunk": chunk} | us(chunk) | facts for chunk in CHUNKS]


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
    rows = [row for shape in SHAPES for row in measure(shape, options.rounds)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (options.out / "table.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
