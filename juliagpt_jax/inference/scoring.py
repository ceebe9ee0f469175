"""Cross entropy of a text under a model: each token scored exactly once, with the protocol beside the number."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.counts import TextCounts, of_tokens
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.inference.generate import compiled_programs
from juliagpt_jax.models.interface import Model

BATCHES = 16  # of windows cut from the text at a time
NUMBERS = 2**28  # that windows of one length may have at a time as logits, or as scores of attention: 1 GiB in float32


def token_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross entropy in nats of each target (B, T), float32; 0 where the target is IGNORED."""
    valid = targets != IGNORED
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(valid, targets, 0))
    return jnp.where(valid, losses, 0.0)


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean cross entropy in nats a token, and how it was measured; the same for parts of the text, by name.

    Attributes:
        counts: characters, bytes and words of the tokens that were scored; None where they were not counted.
    """

    loss: float
    scored_tokens: int
    context: int
    stride: int
    counts: TextCounts | None = None
    parts: dict[str, "Score"] = dataclasses.field(default_factory=dict)

    @property
    def perplexity(self) -> float:
        """Perplexity of a token."""
        return math.exp(self.loss)

    @property
    def word_perplexity(self) -> float:
        """Perplexity of a word: exp(all nats / words), comparable between tokenizers."""
        nats = self._each("words")
        return math.exp(nats) if not nats > 700 else math.inf

    @property
    def bpc(self) -> float:
        """Bits per character; where a token is one, log2 of the perplexity."""
        return self._each("characters") / math.log(2)

    @property
    def bpb(self) -> float:
        """Bits per byte of UTF-8."""
        return self._each("bytes") / math.log(2)

    def _each(self, unit: str) -> float:
        """Nats for each character, byte or word; nan where there are none."""
        number = getattr(self.counts, unit, 0)
        return self.loss * self.scored_tokens / number if number else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the parts, if there are any, under "phases"."""
        phases = {name: part._measured() for name, part in self.parts.items()}
        protocol = {"context": self.context, "stride": self.stride}
        return self._measured() | protocol | ({"phases": phases} if phases else {})

    def _measured(self) -> dict[str, Any]:
        measured = {"loss": self.loss, "perplexity": self.perplexity, "scored_tokens": self.scored_tokens}
        if self.counts is None:
            return measured
        measured |= {"word_perplexity": self.word_perplexity, "bpc": self.bpc, "bpb": self.bpb}
        size = self.counts
        return measured | {"characters": size.characters, "scored_bytes": size.bytes, "scored_words": size.words}


def strided(
    tokens: np.ndarray, context: int, stride: int, lead: int, which: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Windows (n, context) of inputs and targets in which each token of the text is a target exactly once.

    The text is read behind one `lead` token. Windows begin every `stride` tokens; each scores what the ones before it
    have not scored: all its targets for the first, the last `stride` for the others, whose scored tokens so see
    between context - stride + 1 and context tokens.

    Args:
        which: the windows to return, by their number; None: all.
    """
    if not 1 <= stride <= context:
        raise ValueError(f"stride {stride} is outside 1 .. context {context}")
    n = len(tokens)
    which = np.arange(window_count(n, context, stride)) if which is None else which
    places = which[:, None].astype(np.int64) * stride + np.arange(context)  # of targets in the text
    targets = np.asarray(tokens)[np.minimum(places, n - 1)].astype(np.int32)
    inputs = np.where(places == 0, lead, np.asarray(tokens)[np.clip(places - 1, 0, n - 1)]).astype(np.int32)
    inputs[places > n] = 0
    scored = places < n
    scored[which > 0, : context - stride] = False
    return inputs, np.where(scored, targets, IGNORED).astype(np.int32)


def window_count(tokens: int, context: int, stride: int) -> int:
    """Return how many windows `strided` makes of so many tokens."""
    return 1 + max(0, -(-(tokens - context) // stride))


def spread(tokens: np.ndarray, context: int, count: int, lead: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `count` windows (n, context) spread evenly over the text, every target scored: a fixed, cheap
    sample of it. Of a shorter text there is one, as long as the text."""
    places, text = spread_places(len(tokens), context, count), np.asarray(tokens)
    inputs = np.where(places == 0, lead, text[np.maximum(places - 1, 0)])
    return inputs.astype(np.int32), text[places].astype(np.int32)


def spread_places(tokens: int, context: int, count: int) -> np.ndarray:
    """Return which tokens (n, context) of a text of so many are the targets of `spread`."""
    if tokens <= context:
        return np.arange(tokens)[None]
    starts = np.unique(np.linspace(0, tokens - context - 1, count).astype(np.int64))
    return starts[:, None] + 1 + np.arange(context)


@functools.partial(jax.jit, static_argnums=0)
def window_losses(model: Model, params: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Losses (B, T) of a batch of windows; compiled once for a model and a batch size."""
    logits, *_ = model.apply({"params": params}, inputs)
    return token_losses(logits, targets)


def compilations() -> int:
    """Count the programs of `window_losses` that this process has compiled."""
    return compiled_programs(window_losses)


def losses_of(model: Model, params: Any, inputs: Any, targets: np.ndarray, batch: int, place: Any = None) -> np.ndarray:
    """Losses (n, T), 0 where IGNORED, in batches of one size; the last is filled up with ignored rows. Rows that are
    too long for so many at a time share a pass with fewer.

    Args:
        inputs: (n, T), or a tree of arrays with as many rows, as the model takes it.
        place: a sharding of the rows over devices; None leaves them where the parameters are.
    """
    parts, batch = [], batch if place is not None else fitting(model, batch, targets.shape[1], NUMBERS)
    for i in range(0, len(targets), batch):
        x, y = jax.tree.map(lambda array, i=i: array[i : i + batch], (inputs, targets))
        missing = batch - len(y)
        if missing:
            x = jax.tree.map(lambda array, n=missing: np.concatenate([array, np.zeros_like(array[:1]).repeat(n, 0)]), x)
            y = np.concatenate([y, np.full((missing, y.shape[1]), IGNORED, y.dtype)])
        x, y = jax.device_put((x, y), place)
        parts.append(window_losses(model, params, x, y)[: batch - missing])
    return np.concatenate([np.asarray(part) for part in parts])


def fitting(model: Model, rows: int, length: int, most: int) -> int:
    """Return how many of so many rows may share a forward pass: all, or a half, a quarter, ... of them where their
    logits, or the scores of a layer's attention, would be more numbers than `most`; at least one."""
    each = length * max(model.vocab, model.config.heads * length)
    while rows > 1 and rows * each > most:
        rows = -(-rows // 2)
    return rows


def mean_loss(losses: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the scored targets, summed in float64."""
    return float(losses.astype(np.float64).sum() / (targets != IGNORED).sum())


def in_order(
    model: Model,
    params: Any,
    tokens: np.ndarray,
    lead: int,
    stride: int | None = None,
    batch: int = 32,
    place: Any = None,
    windows: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses (m,), float64, in nats, of the tokens of a text in their order, each scored exactly once, and
    which tokens these are (m,). For the arguments see `score_text`."""
    context = model.config.context
    stride = stride or context // 2
    chosen = np.arange(window_count(len(tokens), context, stride))
    if 0 < windows < len(chosen):
        chosen = np.linspace(0, len(chosen) - 1, windows).astype(np.int64)
    losses, places = [], []
    for i in range(0, len(chosen), BATCHES * batch):  # so that windows that overlap never lie in memory all at once
        own = chosen[i : i + BATCHES * batch]
        inputs, targets = strided(tokens, context, stride, lead, own)
        valid = targets != IGNORED
        losses.append(losses_of(model, params, inputs, targets, batch, place)[valid].astype(np.float64))
        places.append((own[:, None] * stride + np.arange(context))[valid])
    return np.concatenate(losses), np.concatenate(places)


def summed(
    losses: np.ndarray,
    places: np.ndarray,
    tokens: np.ndarray,
    context: int,
    stride: int,
    tokenizer: Tokenizer | None = None,
    parts: dict[str, np.ndarray] | None = None,
) -> Score:
    """Return the score of a text whose tokens at `places` have these losses, both as of `in_order`."""

    def score(own: np.ndarray, where: np.ndarray, parts: dict[str, Score]) -> Score:
        chosen = np.zeros(len(tokens), bool)
        chosen[where] = True
        counted = None if tokenizer is None else of_tokens(tokenizer, tokens, chosen)
        return Score(float(own.mean()), len(own), context, stride, counted, parts)

    masks = {name: mask[places] for name, mask in (parts or {}).items()}
    return score(
        losses, places, {name: score(losses[own], places[own], {}) for name, own in masks.items() if own.any()}
    )


def score_text(
    model: Model,
    params: Any,
    tokens: np.ndarray,
    lead: int,
    stride: int | None = None,
    batch: int = 32,
    place: Any = None,
    parts: dict[str, np.ndarray] | None = None,
    windows: int = 0,
    tokenizer: Tokenizer | None = None,
) -> Score:
    """Score a whole text, each token exactly once; the stride is half the context unless given.

    Args:
        parts: (len(tokens),) bool by name: the tokens of parts of the text that get a score of their own.
        windows: score only that many windows, evenly spread over the text; 0: all.
        tokenizer: says what the scored tokens stand for, in characters, bytes and words; None: nobody asks.
    """
    losses, places = in_order(model, params, tokens, lead, stride, batch, place, windows)
    context = model.config.context
    return summed(losses, places, tokens, context, stride or context // 2, tokenizer, parts)
