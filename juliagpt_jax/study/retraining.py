"""Is an attribution true? Train on random parts of the corpus and see whether the scores foretell the losses.

The linear datamodeling score (Park et al. 2023, arXiv 2303.14186, definition 2.2): for each query, the rank
correlation, over the parts, between the sum of the scores of the passages in a part and minus the query's loss of the
model trained on that part.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from scipy import stats

from juliagpt_jax.data import sampler
from juliagpt_jax.evaluation.chunk_scores import Lines, sweep
from juliagpt_jax.ground import devices
from juliagpt_jax.ground.config import Config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training.mesh import one_device, shardings
from juliagpt_jax.training.state import Frozen, TrainState, initial_state
from juliagpt_jax.training.step import make_train_step


def parts(chunks: int, count: int, share: float, seed: int) -> np.ndarray:
    """(count, passages) bool: random parts of `share` of the passages each."""
    rng = np.random.default_rng(seed)
    size = round(chunks * share)
    chosen = np.zeros((count, chunks), bool)
    for row in chosen:
        row[rng.permutation(chunks)[:size]] = True
    return chosen


class Retrainer:
    """Trains one recipe many times in this process, on one device, without a workdir; compiled once."""

    def __init__(self, config: Config, vocab: int, lead: int):
        micro = devices.micro_batches(config.train.accumulate, config.train.batch_size, config.model.context)
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, accumulate=micro))
        if config.ternary_step:
            raise UserError("config.train.ternary_from: runs that are trained again have one kind of Linear throughout")
        if config.train.decay_tau or config.train.ema_half_life:
            raise UserError(
                "config.train.decay_tau, .ema_half_life: these are epochs of one text, and runs that are trained again "
                "have each a text of their own; give train.weight_decay and train.ema"
            )
        if config.train.init != "none":
            raise UserError("config.train.init: runs that are trained again begin with random weights")
        self.config, self.lead = config, lead
        self.model = build_model(config, vocab)
        mesh = one_device()
        self._step = make_train_step(config, self.model, mesh)
        sharding = shardings(jax.eval_shape(self._start, jax.random.key(0)), mesh)
        self._fresh = jax.jit(self._start, out_shardings=sharding)

    def _start(self, key: jax.Array) -> TrainState:
        """A state whose weights are of this key, so that another seed is no other program."""
        params = self.model.init(key, jax.numpy.zeros((1, 2), int))["params"]
        state = initial_state(self.config, self.model)
        average = jax.tree.map(jax.numpy.copy, params) if state.averaged != () else ()
        return state._replace(params=params, averaged=average)

    def train(self, chunks: Lines, seed: int, keep_every: int = 0) -> list[tuple[int, Any]]:
        """[(step, parameters), ...] of a run on these passages, one after the other: the last step, and before it every
        `keep_every` steps. `seed` is that of the initial weights and of the order of the data."""
        text = np.concatenate([chunks.tokens[s : s + n] for s, n in zip(chunks.starts, chunks.lengths, strict=True)])
        steps, context = self.config.train.steps, self.config.model.context
        cut = sampler.cut(self.config.data.windows, chunks.lengths)
        plan = sampler.Plan(len(text), context, self.config.train.batch_size, seed, **cut)
        state, kept = self._fresh(jax.random.key(seed)), []
        for step in range(1, steps + 1):
            state, _ = self._step(state, sampler.batch(text, plan, step - 1), Frozen())
            if step == steps or (keep_every and step % keep_every == 0):
                kept.append((step, jax.tree.map(np.asarray, state.params)))
        return kept

    def losses(self, params: Any, queries: Lines) -> np.ndarray:
        """(queries,) mean loss of each, in nats a token."""
        return sweep(self.model, params, queries, self.config.model.context, self.lead).values["loss"]


def lds(scores: np.ndarray, chosen: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """(queries,) rank correlations.

    Args:
        scores: (passages, queries), positive where a passage lowers a query's loss.
        chosen: (parts, passages) bool.
        losses: (parts, queries) of the model trained on each part.
    """
    foretold = chosen.astype(np.float64) @ np.asarray(scores, np.float64)
    ranks = [stats.rankdata(values, axis=0) for values in (foretold, -losses)]
    a, b = (r - r.mean(axis=0) for r in ranks)
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return np.where(scale > 0, (a * b).sum(axis=0) / np.where(scale > 0, scale, 1), 0.0)


def interval(scores: np.ndarray, chosen: np.ndarray, losses: np.ndarray, draws: int, seed: int) -> tuple[float, float]:
    """95% interval of the mean of `lds` over queries, by drawing parts and queries again with replacement."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        rows = rng.integers(len(chosen), size=len(chosen))
        columns = rng.integers(losses.shape[1], size=losses.shape[1])
        found.append(lds(scores[:, columns], chosen[rows], losses[rows][:, columns]).mean())
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
