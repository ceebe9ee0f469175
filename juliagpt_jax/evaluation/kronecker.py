"""The Fisher matrix of a model as Kronecker products in their own eigenbasis, with eigenvalues measured in it: EK-FAC.

For a Linear with input a and output gradient g at each position, the block of its kernel (in, out) is taken as
E[a a'] x E[g g'] for its eigenvectors only (K-FAC in its "expand" form: Eschenhagen et al. 2023, arXiv 2311.00636);
its eigenvalues are the second moments of the gradient in that basis (George et al. 2018, arXiv 1806.03884, eq. 9).
The eigenvalues are where the accuracy lies: they see what the product of two means loses. Every other parameter
(embedding, norm scales, whatever is not a dense Linear's kernel) has the diagonal of its Fisher matrix.
Labels are drawn from the model, so this is the Fisher matrix, which is the Gauss-Newton matrix of the cross entropy.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.evaluation.chunk_scores import OUTPUTS, Lines, sweep
from juliagpt_jax.inference.scoring import spread
from juliagpt_jax.models import capture, roles
from juliagpt_jax.models.parameters import by_path, paths

Factors = dict[str, tuple[Any, Any]]  # path of a kernel: (in, in) and (out, out)
ROWS = 16  # windows whose factors are taken together


@functools.partial(jax.jit, static_argnums=0)
def factors(model: Any, params: Any, tokens: jax.Array, key: jax.Array) -> Factors:
    """Sums over all positions of tokens (B, T) of a a' and g g' for each Linear, the labels drawn from the model."""

    def loss(params):
        logits, *_ = model.apply({"params": params}, tokens)
        return jnp.sum(OUTPUTS["sampled"](logits, jnp.zeros(tokens.shape, int), key))

    kernels = [path for path in paths(params) if roles.of(path).kind == "kernel" and roles.of(path).tapped]
    found = capture.moments(loss, params, kernels, len(tokens))
    return {path: (m.inputs, m.outputs) for path, m in found.items()}


def rotate(bases: Factors, grads: Any) -> Any:
    """Gradients, a tree of (g, ...), in the eigenbasis: Q_A' G Q_B for a Linear, themselves for the rest."""
    return by_path(grads, lambda path, g: jnp.einsum("gio,ia,ob->gab", g, *bases[path]) if path in bases else g)


def rotate_back(bases: Factors, grads: Any) -> Any:
    return by_path(grads, lambda path, g: jnp.einsum("gab,ia,ob->gio", g, *bases[path]) if path in bases else g)


def second_moments(bases: Factors, grads: Any, weights: jax.Array) -> tuple[dict, Any]:
    """A readout: the sum over passages of weight times the squared gradient in the eigenbasis."""
    return {}, jax.tree.map(lambda g: jnp.tensordot(weights[:, 0], g * g, axes=(0, 0)), rotate(bases, grads))


@dataclasses.dataclass(frozen=True)
class Curvature:
    """Eigenvectors (Q_A, Q_B) of each Linear, and the eigenvalues of every parameter, in that basis."""

    bases: Factors
    eigenvalues: Any

    def solve(self, directions: Any, damping: float) -> Any:
        """(F + lambda I)^-1 times each of K directions, a tree of (K, ...); lambda is `damping` times the mean
        eigenvalue of the parameter."""
        inverse = jax.tree.map(lambda e: 1 / (e + damping * jnp.mean(e) + 1e-30), self.eigenvalues)
        rotated = rotate(self.bases, directions)
        return rotate_back(self.bases, jax.tree.map(lambda d, i: d * i[None], rotated, inverse))


def fit(model: Any, params: Any, chunks: Lines, context: int, lead: int, windows: int, seed: int) -> Curvature:
    """Measure it: the eigenvectors on `windows` windows spread over the text of the passages, the eigenvalues on about
    as many tokens of whole passages. It is the curvature of the mean loss a token.

    A passage's gradient of its mean loss over n tokens, labels drawn, has the second moment of one token over n; so it
    is squared with weight n."""
    text, _ = spread(chunks.tokens, context, windows, lead)
    total: Factors | None = None
    keys = jax.random.split(jax.random.key(seed), len(text) // ROWS + 1)
    for i in range(0, len(text), ROWS):
        new = factors(model, params, text[i : i + ROWS], keys[i // ROWS])
        total = new if total is None else jax.tree.map(jnp.add, total, new)
    assert total is not None
    vectors = lambda m: jnp.asarray(np.linalg.eigh(np.asarray(m, np.float64))[1], m.dtype)
    bases: Factors = {path: (vectors(a), vectors(b)) for path, (a, b) in total.items()}
    count = max(1, min(len(chunks.starts), round(windows * context / max(1.0, chunks.lengths.mean()))))
    some = chunks.take(np.unique(np.linspace(0, len(chunks.starts) - 1, count).astype(int)))
    weights = some.lengths[:, None].astype(np.float32)
    how: dict[str, Any] = {"output": "sampled", "weights": weights, "seed": seed, "title": "curvature"}
    sums = sweep(model, params, some, context, lead, readout=second_moments, operand=bases, **how).sums
    return Curvature(bases, jax.tree.map(lambda s: s / len(some.starts), sums))
