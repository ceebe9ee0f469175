"""MonarchAttention (Yaras et al. 2025, arXiv 2505.18698) in place of trained softmax attention, without training again.

It looks both ways and cannot be made causal, so it is no mixer of this package: its factors are fitted to all queries
and keys of the window, those of later tokens too. Here it stands in an encoder: a bidirectional model learns to say
which characters of a window were replaced; then the attention is exchanged.

python experiments/monarch/encoder.py [--steps=600] [--seeds=1,2,3]
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from juliagpt_jax.data import corpus
from juliagpt_jax.ground import config_file
from juliagpt_jax.models.layers import Linear, RMSNorm, rotary, split_heads

N, WIDTH, HEADS, LAYERS, REPLACED = 64, 64, 4, 2, 0.15


def softmax_attention(q, k, v):
    """q, k, v (B, H, N, C); q is scaled."""
    return jax.nn.softmax(q @ k.swapaxes(-1, -2), axis=-1) @ v


def uniform_attention(q, k, v):
    """What no look at the keys gives: the floor."""
    return jnp.broadcast_to(v.mean(-2, keepdims=True), v.shape)


def monarch_attention(rounds: int, block: int):
    """Softmax attention is the matrix with rows of sum 1 that maximises <M, q k'> + entropy(M). This looks for the best
    of the form M[(l, j), (i, p)] = left[j, l, i] right[i, j, p], positions read as (N / block, block): it maximises
    over one factor at a time, which is a softmax each.
    """

    def attend(q, k, v):
        *front, n, _ = q.shape
        grid = (*front, n // block, block, -1)
        q, k, v = q.reshape(grid), k.reshape(grid), v.reshape(grid)
        left = jnp.broadcast_to(jnp.eye(n // block), (*front, block, n // block, n // block))  # j, l, i
        for _ in range(rounds):
            weight = left.sum(-2)  # of query block l: j, i
            mean = jnp.einsum("...jli,...ljc->...ijc", left, q) / (weight.swapaxes(-1, -2)[..., None] + 1e-9)
            right = jax.nn.softmax(jnp.einsum("...ijc,...ipc->...ijp", mean, k), axis=-1)
            entropy = -jnp.sum(right * jnp.log(right + 1e-9), axis=-1)  # i, j
            keys = jnp.einsum("...ijp,...ipc->...ijc", right, k)
            scores = jnp.einsum("...ljc,...ijc->...jli", q, keys) + entropy.swapaxes(-1, -2)[..., :, None, :]
            left = jax.nn.softmax(scores, axis=-1)
        values = jnp.einsum("...ijp,...ipc->...ijc", right, v)
        return jnp.einsum("...jli,...ijc->...ljc", left, values).reshape(*front, n, -1)

    return attend


class Encoder(nn.Module):
    """Tokens (B, N) -> a logit for each of having been replaced."""

    vocab: int

    @nn.compact
    def __call__(self, tokens, attend):
        embedding = self.param("embedding", nn.initializers.normal(1.0), (self.vocab, WIDTH))
        x, positions = embedding[tokens], jnp.arange(N)[None]
        for i in range(LAYERS):
            h = RMSNorm(name=f"norm_{i}")(x)
            q, k, v = (split_heads(Linear(WIDTH, name=f"{name}_{i}")(h), HEADS) for name in ("query", "key", "value"))
            q, k = (rotary(z, positions, 1e4) for z in (q, k))
            y = attend(q * (WIDTH // HEADS) ** -0.5, k, v)
            x = x + Linear(WIDTH, name=f"out_{i}")(y.swapaxes(1, 2).reshape(x.shape))
            h = RMSNorm(name=f"channel_norm_{i}")(x)
            x = x + Linear(WIDTH, name=f"down_{i}")(jax.nn.gelu(Linear(4 * WIDTH, name=f"up_{i}")(h)))
        return Linear(1, name="head")(RMSNorm(name="norm")(x))[..., 0]


def spoiled(text: np.ndarray, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Windows in which a share REPLACED of the characters is drawn anew from the text; and which were changed."""
    windows = text[rng.integers(len(text) - N, size=rows)[:, None] + np.arange(N)]
    other = text[rng.integers(len(text), size=windows.shape)]
    chosen = (rng.random(windows.shape) < REPLACED) & (other != windows)
    return np.where(chosen, other, windows).astype(np.int32), chosen


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """The mean, over the replaced characters, of the precision among those with at least their score."""
    hit = truth.ravel()[np.argsort(-scores.ravel(), kind="stable")]
    return float(np.mean((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit]))


def run(seed: int, steps: int, data: corpus.Corpus) -> dict[str, float]:
    model, rng = Encoder(data.tokenizer.vocab_size), np.random.default_rng(seed)
    params = model.init(jax.random.key(seed), jnp.zeros((1, N), int), softmax_attention)
    optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, steps))

    def loss(params, tokens, truth):
        return optax.sigmoid_binary_cross_entropy(model.apply(params, tokens, softmax_attention), truth).mean()

    @jax.jit
    def step(params, state, tokens, truth):
        updates, state = optimizer.update(jax.grad(loss)(params, tokens, truth), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state, *spoiled(np.asarray(data.train), 32, rng))
    tokens, truth = spoiled(np.asarray(data.val), 512, np.random.default_rng(1000 + seed))
    kinds = {"softmax": softmax_attention, "uniform": uniform_attention}
    kinds |= {f"monarch, {r} round(s), block {b}": monarch_attention(r, b) for b in (4, 8, 16) for r in (1, 2, 3)}
    score = jax.jit(model.apply, static_argnums=2)
    return {name: average_precision(np.asarray(score(params, tokens, kind)), truth) for name, kind in kinds.items()}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--steps", type=int, default=600)
    flags.add_argument("--seeds", default="1,2,3")
    options = flags.parse_args()
    data = corpus.load(config_file.load("configs/base.py").data, N)
    found = [run(int(seed), options.steps, data) for seed in options.seeds.split(",")]
    print("| attention | average precision, mean | by seed |\n|---|---|---|")
    for name in found[0]:
        values = [row[name] for row in found]
        print(f"| {name} | {np.mean(values):.3f} | {', '.join(f'{v:.3f}' for v in values)} |")


if __name__ == "__main__":
    main()
