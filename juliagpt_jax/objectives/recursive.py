"""Deep supervision of a recursive model (Jolicoeur-Martineau 2025, arXiv 2510.04871, sections 2.4 and 4.6).

Each optimizer step is one supervision step: a call that goes on from the states of the call before. They are the memo,
by row, with the puzzle that the row is at. A row halts when the model takes its answer for right, or after
`train.recursive.steps`; then it takes the puzzle that the batch offers it. So that it learns to go on as well, it may
in some steps not halt before a number of them that is drawn with the batch (Wang et al. 2025, arXiv 2506.21734).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.stablemax import stablemax_losses
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.recursive import Carry, Recursive
from juliagpt_jax.objectives.objective import Apply, Memo, Objective, Terms


class Offer(NamedTuple):
    """`Batch.extra` of puzzles: the ids (B,) int32 of those that the batch offers, and the number of steps (B,) int32
    before which a row may not halt in this one."""

    ids: Any
    least: Any


class Row(NamedTuple):
    """The memo of a row: its states, the supervision steps that its puzzle has had, `halted`, which is true where it
    takes a new one, and the puzzle."""

    carry: Carry
    steps: jax.Array
    halted: jax.Array
    inputs: jax.Array
    targets: jax.Array
    ids: jax.Array


class DeepSupervision(Objective):
    """The mean loss of a puzzle's symbols, and `halt_weight` times that of the halting head, whose target is that the
    whole puzzle is right. `loss` in the metrics is the first of these alone.

    Metrics, as means over the rows: `symbols`, the share of right ones; `solved`; `halted` with this step; `steps` that
    a row has had.
    """

    sampled: Any = None

    def __init__(self, config: config.Config, model: Model, chosen: Any = None):
        super().__init__(config, model, chosen)
        if not isinstance(model, Recursive):
            raise UserError(f"config.train.objective: recursive is for model.kind=recursive, not {config.model.kind}")

    def memo(self) -> Memo:
        B, T = self.config.train.batch_size, self.config.model.context
        assert isinstance(self.model, Recursive)
        empty = jnp.zeros((B, T), jnp.int32)
        zeros = jnp.zeros(B, jnp.int32)
        return Memo(Row(self.model.begin(B), zeros, jnp.ones(B, bool), empty, empty, zeros))

    def count(self, batch: Batch) -> jax.Array:
        return jnp.float32(batch.rows)

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        own, row, offer = self.config.train.recursive, memo.rows, batch.extra
        fresh = row.halted
        take = lambda new, old: jnp.where(fresh.reshape(-1, *(1,) * (old.ndim - 1)), new, old)
        inputs, targets, ids = (
            take(batch.inputs, row.inputs),
            take(batch.targets, row.targets),
            take(offer.ids, row.ids),
        )
        logits, carry, aux = apply(trained, inputs, ids, row.carry, fresh)

        scored = targets != IGNORED
        labelled = jnp.maximum(jnp.sum(scored, axis=1), 1)
        right = scored & (jnp.argmax(logits, axis=-1) == targets)
        solved = jnp.sum(right, axis=1) == labelled
        if "each" in aux:
            losses, halt = self._of_the_best(aux["each"], aux["halts"], targets, labelled)
        else:
            losses = jnp.sum(stablemax_losses(logits, targets), axis=1) / labelled
            halt = optax.sigmoid_binary_cross_entropy(aux["halt"], solved.astype(jnp.float32))

        steps = jnp.where(fresh, 0, row.steps) + 1
        halted = ((aux["halt"] > 0) & (steps >= offer.least)) | (steps >= own.steps)
        said = {
            "loss": losses,
            "halt_loss": halt,
            "symbols": jnp.sum(right, axis=1) / labelled,
            "solved": solved,
            "halted": halted,
            "steps": steps,
        }
        total = jnp.sum(losses) + own.halt_weight * jnp.sum(halt)
        sums = {name: jnp.sum(values.astype(jnp.float32)) for name, values in said.items()}
        return Terms(total, sums, Row(carry, steps, halted, inputs, targets, ids))

    def _of_the_best(
        self, each: jax.Array, halts: jax.Array, targets: jax.Array, labelled: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the loss (B,) of the latent whose answer has the lowest, and the mean loss of the halting head, which
        is to know of all which are right: by it one is chosen where the solution is not known.

        Args:
            each: (B, K, T, V) logits; `halts` (B, K).
        """
        scored, wanted = (targets != IGNORED)[:, None], targets[:, None]
        losses = jnp.sum(jax.vmap(stablemax_losses, (1, None), 1)(each, targets), axis=2) / labelled[:, None]
        right = jnp.all((jnp.argmax(each, axis=-1) == wanted) | ~scored, axis=2)
        halt = optax.sigmoid_binary_cross_entropy(halts, right.astype(jnp.float32))
        return jnp.min(losses, axis=1), jnp.mean(halt, axis=1)
