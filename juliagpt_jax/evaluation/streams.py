"""Loss by position in texts far longer than the context, by what stays in sight of them.

All ways read the same streams, so their differences are paired. The position of a prediction is the number of tokens
before it. A sink token (`model.sink`) comes before whatever is in sight, as the model has learnt.
"""

import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.scoring import losses_of, token_losses
from juliagpt_jax.inference.window import Window
from juliagpt_jax.models.evicting import PAD
from juliagpt_jax.models.interface import Model

SINKS = 4  # StreamingLLM's number
CHUNK = 32  # tokens of each stream that are read at a time
BATCH = 16  # windows that are scored at a time


@dataclasses.dataclass(frozen=True)
class Way:
    """A name, and what stays in sight; `window` None: everything, at positions beyond those of training."""

    name: str
    window: Window | None


def ways(model: Model) -> list[Way]:
    """Return the ways in which a model can read on: a window that is filled again first, with which others are
    compared; caches that evict, and everything, for a model whose layers allow it."""
    context = model.config.context
    made = [Way("window, filled again", Window(context))]
    try:
        for sinks in (0, *([SINKS] if context > SINKS else [])):
            Generator(model, {}, sinks, evict=True)
            made.append(Way(f"evicts, {sinks} + {context - sinks}", Window(context, sinks, evict=True)))
    except UserError:
        return made
    return [*made, Way("everything", None)]


def cut(tokens: np.ndarray, newline: int, length: int, count: int) -> np.ndarray:
    """Return at most `count` streams (n, length), evenly spread and apart, each begun behind a line's end where there
    is one.

    Raises:
        UserError: the text is too short for two.
    """
    most = min(count, len(tokens) // (2 * length))
    if most < 2:
        raise UserError(
            f"two streams of {length} tokens, each with room to begin, need {4 * length} tokens of text, and there are "
            f"{len(tokens)}"
        )
    found = []
    for start in np.linspace(0, len(tokens) - 2 * length, most).astype(int):
        ends = np.flatnonzero(tokens[start : start + length] == newline)
        begin = start + (ends[0] + 1 if len(ends) else 0)
        found.append(tokens[begin : begin + length])
    return np.array(found, np.int32)


def losses(model: Model, params: Any, streams: np.ndarray, way: Way) -> np.ndarray:
    """Return the loss of each token of streams (n, L) behind the first, (n, L - 1)."""
    if way.window is None:
        batch = max(1, min(BATCH, 2**24 // streams.shape[1] ** 2))  # scores are quadratic in the length
        return losses_of(model, params, streams[:, :-1], streams[:, 1:], batch)
    return (_evicting if way.window.evict else _rolling)(model, params, streams, way.window)


def _rolling(model: Model, params: Any, streams: np.ndarray, window: Window) -> np.ndarray:
    """Read as `Generator` writes: a full window is filled again with half a context, behind which as much is read."""
    slots, half, (n, length) = window.slots, window.half, streams.shape
    first = np.full((n, slots), IGNORED, np.int32)
    first[:, : slots - 1] = streams[:, 1:slots]
    inputs, targets = [streams[:, :slots]], [first]
    for end in range(slots, length, slots - half):
        after = streams[:, end : end + slots - half]
        read, target = np.zeros((n, slots), np.int32), np.full((n, slots), IGNORED, np.int32)
        read[:, :half] = streams[:, end - half : end]
        read[:, half : half + after.shape[1]] = after
        target[:, half - 1 : half - 1 + after.shape[1]] = after
        inputs.append(read)
        targets.append(target)
    x, y = np.stack(inputs, axis=1), np.stack(targets, axis=1)  # (n, windows, slots)
    found = losses_of(model, params, x.reshape(-1, slots), y.reshape(-1, slots), BATCH).reshape(y.shape)
    return np.stack([found[row][y[row] != IGNORED] for row in range(n)])


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _read(model: Model, params: Any, cache: Any, tokens: jax.Array, targets: jax.Array, start: Any) -> tuple:
    at = jnp.arange(tokens.shape[1])[None]
    positions = jnp.where(targets == IGNORED, PAD, start + at)
    logits, cache, _ = model.apply({"params": params}, tokens, positions, cache)
    return cache, token_losses(logits, targets)


def _evicting(model: Model, params: Any, streams: np.ndarray, window: Window) -> np.ndarray:
    """From one cache, each token with what was kept when it was read."""
    n, length = streams.shape
    padded = np.pad(streams, ((0, 0), (0, -(length - 1) % CHUNK)))
    targets = np.pad(streams[:, 1:], ((0, 0), (0, -(length - 1) % CHUNK)), constant_values=IGNORED)
    cache, found = model.init_cache(n, window.slots, window.sinks), []
    for start in range(0, length - 1, CHUNK):
        part = slice(start, start + CHUNK)
        cache, own = _read(model, params, cache, padded[:, part], targets[:, part], start)
        found.append(np.asarray(own))
    return np.concatenate(found, axis=1)[:, : length - 1]


def curves(
    model: Model, params: Any, tokens: np.ndarray, newline: int, contexts: int, count: int = 50
) -> dict[str, Any]:
    """Measure every way on the same streams of so many contexts.

    Returns:
        `streams`, `length`, and `rows`: for each way and stretch of positions `loss`, `perplexity`, and `difference`,
        what it loses more than the first way, with its `standard_error` over streams.
    """
    context = model.config.context
    streams = cut(tokens, newline, contexts * context, count)
    found = {way.name: losses(model, params, streams, way).astype(np.float64) for way in ways(model)}
    plain = next(iter(found.values()))
    edges = [1, context // 2, *(context * 2**k for k in range(math.ceil(math.log2(contexts)))), contexts * context]
    rows = []
    for name, own in found.items():
        for low, high in itertools.pairwise(edges):
            part = slice(low - 1, high - 1)
            more = (own[:, part] - plain[:, part]).mean(axis=1)
            loss = float(own[:, part].mean())
            rows.append(
                {"way": name, "from": low, "to": high - 1, "loss": loss, "perplexity": math.exp(loss)}
                | {"difference": float(more.mean())}
                | {"standard_error": float(more.std(ddof=1)) / math.sqrt(len(more))}
            )
    return {"streams": len(streams), "length": contexts * context, "rows": rows}


def page(found: dict[str, Any]) -> list[str]:
    """Return the lines of Markdown that show `curves`."""
    read = f"{found['streams']} streams of {found['length']:,} tokens of the validation text"
    says = "Nats by the number of tokens before one; below the first line against it, ± standard error over streams."
    return ["### Loss by position in long texts", "", f"{read}. {says}", "", table(found), ""]


def table(found: dict[str, Any]) -> str:
    """Return the Markdown table of `curves`: a line a way, a column a stretch of positions."""
    rows = found["rows"]
    names = list(dict.fromkeys(row["way"] for row in rows))
    stretches = [(row["from"], row["to"]) for row in rows if row["way"] == names[0]]
    lines = [
        f"| in sight | {' | '.join(f'{low} to {high}' for low, high in stretches)} |",
        "|---" * (len(stretches) + 1) + "|",
    ]
    for name in names:
        own = [row for row in rows if row["way"] == name]
        if name == names[0]:
            cells = [f"{row['loss']:.4f}" for row in own]
        else:
            cells = [f"{row['difference']:+.4f} ± {row['standard_error']:.4f}" for row in own]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
