"""Find the training passages that lower the loss on a query text, and those that raise it: TracIn, its cosine form,
TRAK, EK-FAC.

Every method ends in one number a training passage and query group, with one sign: positive means that training on the
passage lowers the group's mean loss. A passage counts with all its tokens, as it does in training, except for the
cosine. All but TRAK are a gradient of the query, preconditioned or not, times each passage's own gradient.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.evaluation import kronecker
from juliagpt_jax.evaluation.chunk_scores import Lines, sweep


class Checkpoint(NamedTuple):
    """A model on its way: its parameters, and the learning rate it was trained with there."""

    params: Any
    lr: float


@dataclasses.dataclass(frozen=True)
class Question:
    """The question asked: the influence of each of the `train` passages on the mean loss of each group of `query`
    passages.

    Attributes:
        groups: (queries, K) weights of the query passages in each of K groups; a column that adds up to 1 is a mean.
        features: k, the length of TRAK's features.
        damping: what is added to the eigenvalues of a curvature before it is inverted, in units of their mean.
        fit_windows: windows of the training text that EK-FAC's factors are measured on.
        seed: of the random projection and of sampled labels.
    """

    model: Any
    context: int
    lead: int
    train: Lines
    query: Lines
    groups: np.ndarray
    features: int = 2048
    damping: float = 0.1
    fit_windows: int = 1024
    seed: int = 0

    def sweep(self, params: Any, chunks: Lines, title: str, **more: Any) -> Any:
        return sweep(self.model, params, chunks, self.context, self.lead, title=title, **more)


# Readouts (see chunk_scores): what is taken of each passage's gradient.


def _flat(grads: Any) -> jax.Array:
    """(g, P), the parameters in the tree's order."""
    return jnp.concatenate([g.reshape(g.shape[0], -1) for g in jax.tree.leaves(grads)], axis=1)


def _norm(grads: Any) -> jax.Array:
    return jnp.sqrt(sum((jnp.sum(g.reshape(g.shape[0], -1) ** 2, axis=1) for g in jax.tree.leaves(grads)), 0.0))


def weighted_sum(operand: Any, grads: Any, weights: jax.Array) -> tuple[dict, Any]:
    """The gradients of K groups: sums over the passages of weight times gradient, a tree of (K, ...)."""
    return {}, jax.tree.map(lambda g: jnp.tensordot(weights, g, axes=(0, 0)), grads)


def weighted_unit_sum(operand: Any, grads: Any, weights: jax.Array) -> tuple[dict, Any]:
    """Weighted sum of gradients that are scaled to length 1."""
    norm = _norm(grads)[:, None]
    return weighted_sum(operand, grads, weights / jnp.where(norm > 0, norm, 1))


def dots(directions: Any, grads: Any, weights: jax.Array) -> tuple[dict, Any]:
    """Each gradient's inner products with K directions, a tree of (K, ...), and its norm."""
    return {"dots": _flat(grads) @ _flat(directions).T, "grad_norm": _norm(grads)}, ()


class Sketch(NamedTuple):
    """A random projection from P to k numbers of which only P signs and P indices are ever held, not P x k numbers.

    Every coordinate gets a random sign and one of k sums, each of which takes the same number of coordinates (a count
    sketch: Weinberger et al. 2009, arXiv 0902.2206). Inner products are kept without bias, with variance
    (<x, y>^2 + |x|^2 |y|^2) / k at the most, as with a dense matrix of random signs.
    """

    indices: jax.Array  # (k * ceil(P / k),) int32: row-major in (k, ceil(P / k)); P stands for nothing
    signs: jax.Array  # (k * ceil(P / k),)

    @classmethod
    def draw(cls, size: int, k: int, seed: int) -> "Sketch":
        rng = np.random.default_rng(seed)
        padded = k * -(-size // k)
        indices = np.minimum(rng.permutation(padded), size).astype(np.int32)
        return cls(jnp.asarray(indices.reshape(k, -1)), jnp.asarray(rng.choice([-1, 1], (k, padded // k)), jnp.float32))

    def apply(self, flat: jax.Array) -> jax.Array:
        """(g, P) -> (g, k)."""
        padded = jnp.pad(flat, ((0, 0), (0, 1)))
        return jnp.sum(padded[:, self.indices] * self.signs[None].astype(flat.dtype), axis=2)


def sketched(sketch: Sketch, grads: Any, weights: jax.Array) -> tuple[dict, Any]:
    """Each gradient's projection."""
    return {"features": sketch.apply(_flat(grads))}, ()


# Methods: (question, checkpoints) -> (train passages, K) scores.


def tracin(question: Question, checkpoints: Sequence[Checkpoint]) -> np.ndarray:
    """Sum over checkpoints of lr <gradient of the passage, gradient of the query> (Pruthi et al. 2020, arXiv
    2002.08484, section 3.2: TracInCP)."""
    total = 0.0
    for params, lr in checkpoints:
        query = question.sweep(params, question.query, "queries", readout=weighted_sum, weights=question.groups).sums
        found = question.sweep(params, question.train, "tracin", readout=dots, operand=query).values
        total = total + lr * found["dots"] * found["tokens"][:, None]
    return np.asarray(total)


def cosine(question: Question, checkpoints: Sequence[Checkpoint]) -> np.ndarray:
    """The mean over checkpoints and queries of the cosine between the gradients: TracIn without their lengths, by which
    a few rare or noisy passages would else rule (Barshan et al. 2020, arXiv 2003.11630)."""
    total = 0.0
    for params, _ in checkpoints:
        query = question.sweep(
            params, question.query, "queries", readout=weighted_unit_sum, weights=question.groups
        ).sums
        found = question.sweep(params, question.train, "cosine", readout=dots, operand=query).values
        total = total + found["dots"] / np.maximum(found["grad_norm"], 1e-30)[:, None]
    return np.asarray(total / len(checkpoints))


def trak(question: Question, checkpoints: Sequence[Checkpoint]) -> np.ndarray:
    """phi(query)' (Phi' Phi + lambda I)^-1 phi(passage) Q (Park et al. 2023, arXiv 2303.14186, eq. 15): phi is the
    randomly projected gradient of the margin log(p / (1 - p)), Q the doubt 1 - p, both means over a passage's tokens.
    Scores and Q are averaged over the checkpoints before they are multiplied. The margin of a query becomes its loss
    with the factor 1 - p, the derivative of one by the other."""
    size = sum(leaf.size for leaf in jax.tree.leaves(checkpoints[0].params))
    sketch = Sketch.draw(size, question.features, question.seed)
    total, doubt, tokens = 0.0, 0.0, np.zeros(())
    for params, _ in checkpoints:
        how = {"readout": sketched, "operand": sketch, "output": "margin"}
        query = question.sweep(params, question.query, "queries", **how).values
        found = question.sweep(params, question.train, "trak", **how).values
        asked = question.groups.T @ (query["features"] * query["doubt"][:, None])  # (K, k)
        total = total + found["features"] @ damped_solve(found["features"], asked.T, question.damping)
        doubt, tokens = doubt + found["doubt"], found["tokens"]
    return total * (doubt * tokens)[:, None] / len(checkpoints) ** 2


def damped_solve(features: np.ndarray, right: np.ndarray, damping: float) -> np.ndarray:
    """(Phi' Phi / N + lambda I)^-1 right in float64, lambda being `damping` times the mean eigenvalue."""
    gram = np.zeros((features.shape[1],) * 2)
    for part in np.array_split(features, max(1, len(features) // 4096)):  # float64 copies of a few rows at a time
        wide = part.astype(np.float64)
        gram += wide.T @ wide
    gram /= len(features)
    gram[np.diag_indices_from(gram)] += damping * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, right.astype(np.float64))


def ekfac(question: Question, checkpoints: Sequence[Checkpoint]) -> np.ndarray:
    """<gradient of the passage, (F + lambda I)^-1 gradient of the query>, F in the eigenvalue-corrected Kronecker form
    of `kronecker.py` (Grosse et al. 2023, arXiv 2308.03296, eq. 20), averaged over the checkpoints."""
    total = 0.0
    for params, _ in checkpoints:
        query = question.sweep(params, question.query, "queries", readout=weighted_sum, weights=question.groups).sums
        curvature = kronecker.fit(
            question.model, params, question.train, question.context, question.lead, question.fit_windows, question.seed
        )
        direction = curvature.solve(query, question.damping)
        found = question.sweep(params, question.train, "ekfac", readout=dots, operand=direction).values
        total = total + found["dots"] * found["tokens"][:, None]
    return np.asarray(total / len(checkpoints))


def groups_of(labels: Sequence[str], lengths: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names of all groups among `labels`, sorted, and (queries, groups) weights by which each group's gradient is
    that of its mean loss a token."""
    names = sorted(set(labels))
    member = np.array([[label == name for name in names] for label in labels], np.float64) * lengths[:, None]
    return names, (member / member.sum(axis=0)).astype(np.float32)


def report(
    title: str,
    facts: Sequence[tuple[str, str]],
    scores: np.ndarray,
    train: Sequence[str],
    query: Sequence[str],
    labels: Sequence[str] | None,
    top: int,
) -> str:
    """A page of Markdown: how it was measured, the `top` passages that lower the query's loss most and those that raise
    it most (or lower it least), and what was asked.

    Args:
        facts: names and values for the head of the page.
        scores: (train passages,).
        train: texts of the training passages.
        query: texts of those that the scores are about.
        labels: a word on each training passage, such as its author; None: there are none.
    """
    order = np.argsort(-scores, kind="stable")
    top = min(top, len(order))
    page = [f"# {title}", "", *(f"- {name}: {value}" for name, value in facts), ""]
    if labels is not None:
        means = {word: scores[[i for i, w in enumerate(labels) if w == word]] for word in sorted(set(labels))}
        page += ["| | passages | mean | share above 0 |", "|---|---|---|---|"]
        rows = sorted(means.items(), key=lambda item: -item[1].mean())
        page += [f"| {_cell(w)} | {len(v):,} | {v.mean():.4g} | {(v > 0).mean():.0%} |" for w, v in rows] + [""]
    for head, chosen in [("lower", order[:top]), ("raise", order[::-1][:top])]:
        page += [
            f"## The {top} passages that {head} the loss most",
            "",
            "| score | passage | | text |",
            "|---|---|---|---|",
        ]
        for chunk in map(int, chosen):
            word = _cell(labels[chunk]) if labels is not None else ""
            page.append(f"| {scores[chunk]:.4g} | {chunk} | {word} | {_cell(train[chunk])} |")
        page.append("")
    shown = query[:: max(1, len(query) // 20)][:20]
    page += [f"## {len(shown)} of the {len(query)} passages asked about", "", *(f"- {_cell(text)}" for text in shown)]
    return "\n".join(page) + "\n"


def _cell(text: str) -> str:
    """Text that Markdown shows as it is, in a table too."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


Method = Callable[[Question, Sequence[Checkpoint]], np.ndarray]
METHODS: dict[str, Method] = {"tracin": tracin, "cosine": cosine, "trak": trak, "ekfac": ekfac}
