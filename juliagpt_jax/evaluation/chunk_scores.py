"""Score each passage of a text by a trained model: its loss, EL2N, the norm of its gradient, and whatever else can be
read off its gradient.

A passage is one line; its number is its id. Its tokens, the end of the line included, are each predicted once, behind
the end of the line before and what the context still holds of the passage. `sweep` walks over all passages, takes each
one's own gradient and hands it to a readout; the gradients themselves are never all in memory.
"""

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from tqdm import tqdm

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.metadata import line_lengths
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import token_losses

MAX_WINDOWS = 64  # contexts that one passage may span: its windows run, and are differentiated, together
FORWARD_ROWS = 32  # passages a device scores at once without their gradients


class Lines(NamedTuple):
    """Lines as they lie in a text: passage i is tokens[starts[i] : starts[i] + lengths[i]]."""

    tokens: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def take(self, ids: np.ndarray) -> "Lines":
        """Some of the passages, in the order of `ids`."""
        return Lines(self.tokens, self.starts[ids], self.lengths[ids])


def lines(tokens: np.ndarray, newline: int) -> Lines:
    """All lines of a token array, each with the `newline` that ends it; the last may lack its own."""
    lengths = line_lengths(tokens, newline)
    return passages(tokens, lengths)


def passages(tokens: np.ndarray, lengths: np.ndarray) -> Lines:
    """The passages of a token array, lines or documents, that have these lengths."""
    return Lines(tokens, np.cumsum(lengths) - lengths, lengths)


class Batch(NamedTuple):
    """Lines of one shape: (B, W, T) int32 inputs and targets in W windows of T tokens. The last B - len(ids) rows are
    fillers without a target."""

    ids: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray


def batches(chunks: Lines, context: int, lead: int, rows: int) -> Iterator[Batch]:
    """All passages, sorted into batches of `rows` by shape, so that little is padded and few programs are compiled.

    A passage within the context is one window, padded to a multiple of a quarter of the context; a longer one has as
    many windows as it needs, of which the last reaches back over targets that are scored before it.

    Raises:
        UserError: a passage longer than MAX_WINDOWS contexts.
    """
    quarter = max(1, context // 4)
    windows = -(-chunks.lengths // context)
    if len(windows) and windows.max() > MAX_WINDOWS:
        row = int(np.argmax(windows))
        raise UserError(
            f"passage {row} has {chunks.lengths[row]} tokens, {MAX_WINDOWS * context} is the most for a context of "
            f"{context}: passages are lines, or documents; break the text into some"
        )
    padded = np.where(windows > 1, context, np.minimum(-(-chunks.lengths // quarter) * quarter, context))
    shapes = windows * (context + 1) + padded
    for shape in np.unique(shapes):
        members = np.flatnonzero(shapes == shape)
        count, width = int(windows[members[0]]), int(padded[members[0]])
        for i in range(0, len(members), rows):
            ids = members[i : i + rows]
            inputs = np.zeros((rows, count, width), np.int32)
            targets = np.full((rows, count, width), IGNORED, np.int32)
            for row, chunk in enumerate(ids):
                start, length = int(chunks.starts[chunk]), int(chunks.lengths[chunk])
                text = np.concatenate([[lead], chunks.tokens[start : start + length]]).astype(np.int32)
                for w in range(count):
                    begin = w * context if count == 1 else min(w * context, length - context)
                    piece = text[begin : begin + width + 1]
                    inputs[row, w, : len(piece) - 1] = piece[:-1]
                    targets[row, w, : len(piece) - 1] = piece[1:]
                    targets[row, w, : w * context - begin] = IGNORED
            yield Batch(ids, inputs, targets)


# Outputs: numbers (..., T) whose mean over a passage's targets is differentiated. Padding is masked by the caller.


def _margin(logits: jax.Array, targets: jax.Array, key: jax.Array) -> jax.Array:
    """log(p / (1 - p)) of each target (Park et al. 2023, arXiv 2303.14186, section 3.1)."""
    own = jax.nn.one_hot(targets, logits.shape[-1], dtype=bool)
    others = jax.scipy.special.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
    return jnp.sum(jnp.where(own, logits, 0), axis=-1) - others


def _loss(logits: jax.Array, targets: jax.Array, key: jax.Array) -> jax.Array:
    return token_losses(logits, targets)


def _sampled(logits: jax.Array, targets: jax.Array, key: jax.Array) -> jax.Array:
    """The loss of targets drawn from the model itself: the second moment of its gradient is the Fisher matrix."""
    return token_losses(logits, jax.random.categorical(key, jax.lax.stop_gradient(logits)))


OUTPUTS = {"loss": _loss, "margin": _margin, "sampled": _sampled}


def _statistics(logits: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
    """Means over the targets of each passage, logits (B, W, T, V): the loss in nats, EL2N = |softmax - onehot|_2 (Paul
    et al. 2021, arXiv 2107.07075, definition 3.2) and the doubt 1 - p; and their number."""
    valid = targets != IGNORED
    p = jax.nn.softmax(logits)
    onehot = jax.nn.one_hot(targets, logits.shape[-1], dtype=p.dtype)
    tokens = jnp.sum(valid, axis=(1, 2))
    mean = lambda values: jnp.sum(jnp.where(valid, values, 0), axis=(1, 2)) / jnp.maximum(tokens, 1)
    return {
        "loss": mean(token_losses(logits, targets)),
        "el2n": mean(jnp.sqrt(jnp.sum((p - onehot) ** 2, axis=-1))),
        "doubt": mean(1 - jnp.sum(p * onehot, axis=-1)),
        "tokens": tokens,
    }


# A readout turns gradients, a tree of (g, ...) arrays, into numbers: readout(operand, grads, weights (g, K)) gives what
# belongs to each passage, a dict of (g, ...) arrays, and what is summed over all passages, any tree. Fillers weigh 0.
Readout = Callable[[Any, Any, jax.Array], tuple[dict[str, jax.Array], Any]]


def norms(operand: Any, grads: Any, weights: jax.Array) -> tuple[dict[str, jax.Array], Any]:
    """The norm of each passage's gradient over all parameters (GraNd: Paul et al. 2021, definition 3.1)."""
    squares = [jnp.sum(g * g, axis=tuple(range(1, g.ndim))) for g in jax.tree.leaves(grads)]
    return {"grad_norm": jnp.sqrt(sum(squares, jnp.zeros(())[None]))}, ()


def _batched() -> bool:
    """True where gradients of several passages are taken together. One after the other, a passage's matrix products are
    as large as those of a training micro-batch, and a CPU runs them faster than the batched ones that vmap makes; an
    accelerator wants them batched."""
    return jax.default_backend() != "cpu"


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _run(model, output, readout, mesh, batched, params, operand, key, ids, inputs, targets, weights):
    """(what belongs to each passage of a batch, sums over the batch); the passages are spread over the mesh."""
    axes = tuple(mesh.axis_names)

    def mean_output(params, inputs, targets, row_key):
        logits, *_ = model.apply({"params": params}, inputs)
        valid = targets != IGNORED
        values = OUTPUTS[output](logits, jnp.where(valid, targets, 0), row_key)
        mean = jnp.sum(jnp.where(valid, values, 0)) / jnp.maximum(jnp.sum(valid), 1)
        return mean, _statistics(logits[None], targets[None])

    def on_device(params, operand, key, ids, inputs, targets, weights):
        params, operand, key = jax.lax.pcast((params, operand, key), axes, to="varying")
        if readout is None:
            logits, *_ = model.apply({"params": params}, inputs.reshape(-1, inputs.shape[-1]))
            return _statistics(logits.reshape(*inputs.shape, -1), targets), ()
        grad = jax.grad(mean_output, has_aux=True)
        one = lambda row: grad(params, row[1], row[2], jax.random.fold_in(key, row[0]))
        together = jax.vmap(one) if batched else functools.partial(jax.lax.map, one)
        grads, statistics = together((ids, inputs, targets))
        own, sums = readout(operand, grads, weights)
        return {k: v[:, 0] for k, v in statistics.items()} | own, jax.lax.psum(sums, axes)

    rows, whole = PartitionSpec(axes), PartitionSpec()
    split = jax.shard_map(
        on_device, mesh=mesh, in_specs=(whole, whole, whole, rows, rows, rows, rows), out_specs=(rows, whole)
    )
    return split(params, operand, key, ids, inputs, targets, weights)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The result of a sweep, and the time it took.

    Attributes:
        values: arrays with one row a passage: loss, el2n, doubt, tokens, and what the readout adds.
        sums: what the readout sums over all passages.
        seconds, compile_s: in all, and of it in the first batch of each shape, most of which is compilation.
        tokens_per_s: targets a second in the other batches; nan without any.
    """

    values: dict[str, np.ndarray]
    sums: Any
    seconds: float
    compile_s: float
    tokens_per_s: float


def sweep(
    model: Any,
    params: Any,
    chunks: Lines,
    context: int,
    lead: int,
    readout: Readout | None = None,
    operand: Any = (),
    output: str = "loss",
    weights: np.ndarray | None = None,
    seed: int = 0,
    title: str = "",
) -> Sweep:
    """Walk over all passages.

    Args:
        model: anything with `apply({"params": params}, tokens) -> (logits, _)`; hashable, as Flax modules are.
        lead: the token before the first of each passage.
        readout: a function of each passage's gradient, the same object at each call; None computes no gradients.
        operand: arrays that the readout needs.
        output: what is differentiated, a name of OUTPUTS.
        weights: (passages, K), handed to the readout; None: a column of ones.
        seed: of the labels drawn for the output "sampled".
        title: of the progress bar.

    Raises:
        UserError: a passage is too long.
    """
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    sharding = jax.sharding.NamedSharding(mesh, PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, PartitionSpec())
    params, operand, key = jax.device_put((params, operand, jax.random.key(seed)), whole)
    rows = len(devices) * (_rows(params) if readout else FORWARD_ROWS)
    weights = np.ones((len(chunks.starts), 1), np.float32) if weights is None else weights
    values: dict[str, np.ndarray] = {}
    sums, shapes, compile_s, counted, begun = None, set(), 0.0, 0, time.perf_counter()
    unseen = not sys.stderr.isatty()
    bar = tqdm(total=len(chunks.starts), unit="passage", desc=title, disable=unseen, dynamic_ncols=True)
    for batch in batches(chunks, context, lead, rows):
        then, count = time.perf_counter(), len(batch.ids)
        fill = lambda a, n=rows - count: np.concatenate([a, np.zeros((n, *a.shape[1:]), a.dtype)])
        row_data = fill(batch.ids.astype(np.int32)), batch.inputs, batch.targets, fill(weights[batch.ids])
        own, new = _run(
            model, output, readout, mesh, _batched(), params, operand, key, *jax.device_put(row_data, sharding)
        )
        sums = new if sums is None else jax.tree.map(jnp.add, sums, new)
        for name, column in own.items():
            column = np.asarray(column)[:count]
            if name not in values:
                values[name] = np.zeros((len(chunks.starts), *column.shape[1:]), column.dtype)
            values[name][batch.ids] = column
        if batch.inputs.shape in shapes:
            counted += int(chunks.lengths[batch.ids].sum())
        else:
            shapes.add(batch.inputs.shape)
            compile_s += time.perf_counter() - then
        bar.update(count)
    bar.close()
    jax.block_until_ready(sums)
    seconds = time.perf_counter() - begun
    rate = counted / (seconds - compile_s) if counted else float("nan")
    return Sweep(values, jax.device_get(sums), seconds, compile_s, rate)


def _rows(params: Any) -> int:
    """Lines whose gradients a device holds at once: 64 MiB of them on a CPU, 1 GiB on an accelerator."""
    numbers = 2**24 if jax.default_backend() == "cpu" else 2**28
    return max(1, min(64, numbers // sum(leaf.size for leaf in jax.tree.leaves(params))))


SCORES = ("loss", "perplexity", "el2n", "grad_norm")


def score(model: Any, params: Any, chunks: Lines, context: int, lead: int, names: tuple[str, ...]) -> Sweep:
    """The scores `names` (of SCORES) of every passage; gradients are taken only for grad_norm."""
    done = sweep(model, params, chunks, context, lead, norms if "grad_norm" in names else None, title="scoring")
    scores = done.values | {"perplexity": np.exp(np.minimum(done.values["loss"], 80.0))}
    return dataclasses.replace(done, values={name: scores[name] for name in (*names, "tokens")})


def write(path: Path, values: dict[str, np.ndarray], fingerprint: str) -> None:
    """Write a scores file in one step: `chunk` (ids), an array for each name, the fingerprint of the text."""
    count = len(next(iter(values.values())))
    arrays: dict[str, Any] = {"chunk": np.arange(count), "fingerprint": np.array(fingerprint), **values}
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
    os.replace(temporary, path)


def text_of(chunks: Lines, chunk: int, tokenizer: Any) -> str:
    """A passage as a reader sees it, without the end of the line."""
    start = int(chunks.starts[chunk])
    return tokenizer.decode(np.asarray(chunks.tokens[start : start + int(chunks.lengths[chunk])])).rstrip("\n")


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Mean, spread and quantiles of a score, for a report."""
    at = {"min": 0, "5%": 5, "median": 50, "95%": 95, "max": 100}
    wide = np.asarray(values, np.float64)
    spread = {"mean": float(wide.mean()), "std": float(wide.std())}
    return spread | {name: float(q) for name, q in zip(at, np.percentile(wide, list(at.values())), strict=True)}
