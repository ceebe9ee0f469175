"""Cross entropy of a text under a model: each character scored exactly once, with the protocol beside the number."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.inference.generate import compiled_programs
from juliagpt_jax.models.interface import Model


def token_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross entropy in nats of each target (B, T), float32; 0 where the target is IGNORED."""
    valid = targets != IGNORED
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(valid, targets, 0))
    return jnp.where(valid, losses, 0.0)


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean cross entropy in nats a token over `scored_tokens` that make up so many characters, and how it was measured;
    the same for parts of the text, by name. With the character tokenizer a token is a character."""

    loss: float
    scored_tokens: int
    characters: int
    context: int
    stride: int
    parts: dict[str, "Score"] = dataclasses.field(default_factory=dict)

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)

    @property
    def bpc(self) -> float:
        """Bits per character; where a token is one, log2 of the perplexity."""
        return self.loss / math.log(2) * self.scored_tokens / self.characters

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the parts, if there are any, under "phases"."""
        keys = (
            "loss",
            "perplexity",
            "bpc",
            "characters",
            *(["scored_tokens"] if self.scored_tokens != self.characters else []),
        )
        measured = {key: getattr(self, key) for key in keys}
        phases = {name: {key: getattr(part, key) for key in keys} for name, part in self.parts.items()}
        protocol = {"context": self.context, "stride": self.stride}
        return measured | protocol | ({"phases": phases} if phases else {})


def strided(tokens: np.ndarray, context: int, stride: int, lead: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows (n, context) of inputs and targets in which each token of the text is a target exactly once.

    The text is read behind one `lead` token. Windows begin every `stride` tokens; each scores what the ones before it
    have not scored: all its targets for the first, the last `stride` for the others, whose scored characters so see
    between context - stride + 1 and context characters.
    """
    if not 1 <= stride <= context:
        raise ValueError(f"stride {stride} is outside 1 .. context {context}")
    n = len(tokens)
    count = window_count(n, context, stride)
    length = (count - 1) * stride + context
    padded = np.zeros(length + 1, np.int32)
    padded[0], padded[1 : n + 1] = lead, tokens
    offsets = np.arange(count)[:, None] * stride + np.arange(context)
    inputs, targets = padded[offsets], padded[offsets + 1]
    scored = offsets < n
    scored[1:, : context - stride] = False
    return inputs, np.where(scored, targets, IGNORED).astype(np.int32)


def window_count(tokens: int, context: int, stride: int) -> int:
    """Return how many windows `strided` makes of so many tokens."""
    return 1 + max(0, -(-(tokens - context) // stride))


def spread(tokens: np.ndarray, context: int, count: int, lead: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `count` windows (n, context) spread evenly over the text, every target scored: a fixed, cheap
    sample of it. Of a shorter text there is one, as long as the text."""
    text = np.concatenate([[lead], tokens]).astype(np.int32) if len(tokens) < context + 1 else tokens
    length = min(context, len(text) - 1)
    starts = np.unique(np.linspace(0, len(text) - length - 1, count).astype(np.int64))
    window = np.asarray(text)[starts[:, None] + np.arange(length + 1)].astype(np.int32)
    return window[:, :-1], window[:, 1:]


@functools.partial(jax.jit, static_argnums=0)
def window_losses(model: Model, params: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Losses (B, T) of a batch of windows; compiled once for a model and a batch size."""
    logits, *_ = model.apply({"params": params}, inputs)
    return token_losses(logits, targets)


def compilations() -> int:
    """Count the programs of `window_losses` that this process has compiled."""
    return compiled_programs(window_losses)


def losses_of(
    model: Model, params: Any, inputs: np.ndarray, targets: np.ndarray, batch: int, place: Any = None
) -> np.ndarray:
    """Losses (n, T), 0 where IGNORED, in batches of one size; the last is filled up with ignored rows.

    Args:
        place: a sharding of the rows over devices; None leaves them where the parameters are.
    """
    parts = []
    for i in range(0, len(inputs), batch):
        x, y = inputs[i : i + batch], targets[i : i + batch]
        missing = batch - len(x)
        if missing:
            x = np.concatenate([x, np.zeros((missing, x.shape[1]), x.dtype)])
            y = np.concatenate([y, np.full((missing, y.shape[1]), IGNORED, y.dtype)])
        x, y = jax.device_put((x, y), place)
        parts.append(window_losses(model, params, x, y)[: batch - missing])
    return np.concatenate([np.asarray(part) for part in parts])


def mean_loss(losses: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the scored targets, summed in float64."""
    return float(losses.astype(np.float64).sum() / (targets != IGNORED).sum())


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
    characters_per_token: float = 1.0,
) -> Score:
    """Score a whole text, each token exactly once; the stride is half the context unless given.

    Args:
        parts: (len(tokens),) bool by name: the tokens of parts of the text that get a score of their own.
        windows: score only that many windows, evenly spread over the text; 0: all.
        characters_per_token: of the whole text; what a part of it has is taken to be in proportion.
    """
    context = model.config.context
    stride = stride or context // 2
    inputs, targets = strided(tokens, context, stride, lead)
    valid = targets != IGNORED
    places = np.cumsum(valid).reshape(valid.shape) - 1  # which token of the text each scored target is
    if 0 < windows < len(inputs):
        chosen = np.linspace(0, len(inputs) - 1, windows).astype(np.int64)
        inputs, targets, valid, places = inputs[chosen], targets[chosen], valid[chosen], places[chosen]
    losses = losses_of(model, params, inputs, targets, batch, place)
    own, places = losses[valid].astype(np.float64), places[valid]
    length = lambda tokens: round(tokens * characters_per_token)
    scores = {}
    for name, mask in (parts or {}).items():
        part = own[mask[places]]
        if len(part):
            scores[name] = Score(float(part.mean()), len(part), length(len(part)), context, stride)
    return Score(mean_loss(losses, targets), len(own), length(len(own)), context, stride, scores)
