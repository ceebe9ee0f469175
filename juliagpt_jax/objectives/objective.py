"""The interface between an objective, which says what is minimised, and the training step.

An objective gives sums over the rows that it is handed. The step (training/step.py) does all the rest: it cuts the
batch into micro-batches, spreads it over devices, scales, differentiates, adds up, divides, clips, updates, and drops
what is not finite. So a sum must be the same however the rows are cut: what a row adds may not depend on the rows
beside it. What does depend on the whole batch belongs into `before`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.data.examples.build import Examples
from juliagpt_jax.data.selection import Selection
from juliagpt_jax.ground import config
from juliagpt_jax.models.interface import Model

# apply(trained, *inputs, key=None) -> what the model gives: logits, cache, aux. `trained` are the parameters that are
# trained; those that are not are added by the step. With a key there is dropout, and random steps of ODE layers.
Apply = Callable[..., Any]
Chosen = Selection | Examples  # what a run trains on


class Memo(NamedTuple):
    """State that a step changes beside parameters: where the trees lie says how they are treated.

    Attributes:
        rows: arrays whose first axis is the rows of a batch: cut into micro-batches and spread over devices with it.
            Row i is handed on to row i of the next step's batch.
        whole: arrays that all rows share; only `Objective.before` may change them.
    """

    rows: Any = ()
    whole: Any = ()


class Terms(NamedTuple):
    """Sums of an objective over some rows.

    Attributes:
        total: () sum over the rows of what is minimised; the step divides it by the count of the whole batch.
        sums: {"loss": (), ...} what is logged, divided alike; "loss" must be there.
        rows: the new `Memo.rows`.
    """

    total: jax.Array
    sums: dict[str, jax.Array]
    rows: Any = ()


class Objective:
    """The members that an objective may override; it must override `loss`.

    Args:
        config: the run's.
        model: the run's.
        chosen: what the run trains on; None where there is no corpus, such as in a benchmark.

    Attributes:
        before: `before(apply, trained, frozen, memo, batch) -> (batch, memo)`: what needs the whole batch. It may
            change the weights of rows, what is `extra`, and the memo. It is not differentiated, and runs before the
            batch is cut. None: there is nothing to do.
        sampled: `sampled(apply, trained, frozen, memo, batch, key, draws) -> ()`: the sum over the rows that `loss`
            would have for targets drawn from the model, by a random key for each row, `draws` (B, 2) uint32, as K-FAC
            needs it for the Fisher matrix. None: there is no such loss, and K-FAC has only kfac.fisher=empirical.
        paired: it learns from pairs of answers, a chosen and a rejected one.
        writes: its rows are written by the model before each step; then it has `length`, the inputs of a row, and
            `written(write, drawn) -> Batch`, which see `objectives/written.py`.
        answers: the model learns to answer, so that its answers are measured at the end.
        curved: its loss is a sum over the targets of a batch's rows, as K-FAC takes it.
    """

    before: Any = None
    sampled: Any = None
    paired: ClassVar[bool] = False
    curved: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    answers: ClassVar[bool] = True

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        self.config, self.model, self.chosen = config, model, chosen

    def frozen(self) -> Any:
        """Return arrays that a step reads and never changes, such as a reference model's parameters."""
        return ()

    def facts(self) -> dict[str, Any] | None:
        """Return what a run that goes on must find as it was, as JSON: say, a hash of `frozen`."""
        return None

    def memo(self) -> Memo:
        """Return the memo before the first step. Pure: may be jitted or only shaped."""
        return Memo()

    def extra(self, drawn: Any) -> Any:
        """Return `Batch.extra` of what is drawn for a step, as NumPy arrays: `sampler.Windows` of a text, or the
        numbers (B,) of rows of examples."""
        return ()

    def count(self, batch: Batch) -> jax.Array:
        """Return () float32, what sums over the whole batch are divided by. It is known before the gradient is taken,
        because the loss is scaled by it: float16 has no room for a sum over a batch. 1 where nothing is scored, so
        that such a batch has the gradient 0."""
        total = jnp.sum(batch.weighed(batch.scored)).astype(jnp.float32)
        return jnp.where(total > 0, total, 1.0)

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        """Return sums over the rows of a (micro-)batch. `key` is of these rows alone."""
        raise NotImplementedError

    def laid(self) -> Any:
        """Return the rows that a run on examples draws from: `data.examples.rows.Rows`."""
        assert isinstance(self.chosen, Examples)
        return self.chosen.rows

    def on_dev(self, model: Model, params: Any, which: Any, batch: int, place: Any) -> dict[str, Any]:
        """Return what is measured of it on the dev examples `which`, in batches of so many rows at a `place`, where it
        learns from examples; "loss" then takes the place of the loss of their answers."""
        return {}

    def metrics(self, memo: Memo) -> dict[str, jax.Array]:
        """Return scalars to log of the memo after a step."""
        return {}

    def report(self, memo: Memo, applied: int) -> dict[str, Any]:
        """Return what the run's report says beside the usual, from the last memo, on the host, after so many steps that
        were applied."""
        return {}
