"""Cross entropy of each token after those before it: what a language model is trained on."""

from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.ground import config
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import experts, penalties
from juliagpt_jax.objectives.objective import Apply, Chosen, Memo, Objective, Terms


class NextToken(Objective):
    """The mean loss of the scored targets, by their weights, in nats; and the penalties that the config asks for, which
    are minimised with it and not logged as loss."""

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        super().__init__(config, model, chosen)
        self.penalties = penalties.make(config, model, chosen)

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        logits, _, aux = apply(trained, *batch.given, key=key)
        total = loss = jnp.sum(batch.weighed(token_losses(logits, batch.targets)))
        for penalty in self.penalties:
            total += penalty(logits, aux, batch)
        return Terms(total, {"loss": loss} | experts.told(self.config.model, aux, batch))

    def sampled(
        self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array, draws: jax.Array
    ) -> jax.Array:
        """The loss of drawn targets; a target of weight w has a gradient sqrt(w) times as large, and its square w."""
        logits, *_ = apply(trained, *batch.given, key=key)
        one = lambda key, logits: jax.random.categorical(jax.random.wrap_key_data(key), logits)
        drawn = jax.vmap(one)(draws, jax.lax.stop_gradient(logits))
        losses = token_losses(logits, jnp.where(batch.scored, drawn, IGNORED))
        roots = batch if isinstance(batch.weights, tuple) else batch._replace(weights=jnp.sqrt(batch.weights))
        return jnp.sum(roots.weighed(losses))
