"""DoReMi (Xie et al. 2023, arXiv 2305.10429): shares of domains from how much there is left to learn in each.

A reference model is trained on the corpus as it is drawn. A proxy of the same size is then trained by group DRO: where
its loss exceeds the reference's, a domain's weight grows, and its windows count for more. The mean of the weights over
all steps is what the main run draws by.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from juliagpt_jax.data import sampler
from juliagpt_jax.data.sampler import IGNORED
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import token_losses, window_losses
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.mesh import shardings
from juliagpt_jax.training.state import TrainState, initial_state
from juliagpt_jax.training.step import make_train_step

# The weights of the domains, the last excess loss of each, and the sum of the weights over the steps: (D,) float32.
Mixture = dict[str, jax.Array]


def first_mixture(weights: np.ndarray, excess: float) -> Mixture:
    """Before the first step; `excess` stands for that of a domain that no batch has held yet."""
    return {
        "weights": jnp.asarray(weights, jnp.float32),
        "excess": jnp.full(len(weights), excess, jnp.float32),
        "sum": jnp.zeros(len(weights), jnp.float32),
    }


def update(
    mixture: Mixture, excess: jax.Array, valid: jax.Array, domains: jax.Array, eta: float, smoothing: float
) -> Mixture:
    """One step of exponentiated gradient ascent on the weights (algorithm 1).

    Args:
        excess: (B, T) loss of the proxy less that of the reference, in nats. Each token's is clipped at 0 by itself:
            clipping the mean would be another method.
        valid: (B, T) bool.
        domains: (B,) the domain of each row. A domain that has no row keeps its last excess.
        eta: step size.
        smoothing: share of the result that is uniform.
    """
    count = len(mixture["weights"])
    of = lambda values: jax.ops.segment_sum(jnp.sum(values, axis=1), domains, count)
    total, tokens = of(jnp.where(valid, jnp.maximum(excess, 0), 0)), of(valid.astype(jnp.float32))
    scores = jnp.where(tokens > 0, total / jnp.maximum(tokens, 1), mixture["excess"])
    weights = jax.nn.softmax(jnp.log(mixture["weights"]) + eta * scores)
    weights = (1 - smoothing) * weights + smoothing / count
    return {"weights": weights, "excess": scores, "sum": mixture["sum"] + weights}


class Proxy(Trainer):
    """Trains the proxy. Its plan draws by the reference weights, one domain a ring; its state holds the mixture.

    Args:
        reference: parameters of the reference model.
        origin: a hash of them, so that no other reference can take over half-way.
        eta: see `update`.
        smoothing: see `update`.
    """

    HELD = Trainer.HELD | {"doremi": "the reference, --eta or --smoothing of doremi"}  # pyright: ignore[reportAssignmentType]

    def __init__(self, *run: Any, reference: Any, origin: str, eta: float, smoothing: float):
        if run[0].ternary_step:
            raise UserError("config.train.ternary_from: DoReMi's proxy is of one kind from the first step to the last")
        self._reference, self._eta, self._smoothing = reference, eta, smoothing
        self._origin = {"reference": origin, "eta": eta, "smoothing": smoothing}
        super().__init__(*run)
        self._reference = jax.device_put(reference, shardings(reference, self.mesh))

    @property
    def extra_meta(self) -> dict[str, Any]:
        return {"doremi": self._origin}

    def _first_state(self) -> TrainState:
        mixture = first_mixture(np.array(self.chosen.weights), float(np.log(self.model.vocab)))
        return initial_state(self.config, self.model)._replace(mixture=mixture)

    def batch(self, step: int) -> tuple[jax.Array, Any]:
        """Inputs, and (targets, the domain of each row, the reference's losses)."""
        inputs, targets = super().batch(step)
        begins = np.cumsum([0, *self.chosen.sizes[:-1]])
        domains = np.searchsorted(begins, sampler.windows(self.plan, step).begins).astype(np.int32)
        losses = window_losses(self.model, self._reference, inputs, targets)
        return inputs, (targets, jax.device_put(domains, self._batch_place), losses)

    def _make_step(self) -> Any:
        train_step = make_train_step(self.config, self.model, self.mesh, self.penalty(), weighted=True)
        drawn = jnp.asarray(self.chosen.weights, jnp.float32)

        def proxy_step(state: TrainState, batch: tuple[jax.Array, Any]) -> tuple[TrainState, dict[str, jax.Array]]:
            inputs, (targets, domains, reference) = batch
            # A forward pass of its own, over the whole batch: in the backward pass of micro-batches the weights would
            # lag behind, or differ from one to the next.
            logits, *_ = self.model.apply({"params": state.params}, inputs)
            excess = token_losses(logits, targets) - reference
            fresh = update(state.mixture, excess, targets != IGNORED, domains, self._eta, self._smoothing)
            rows = (fresh["weights"] / drawn)[domains][:, None]
            after, metrics = train_step(state._replace(mixture=()), (inputs, (targets, rows)))
            finite = after.bad_in_row == 0  # a step that is not applied does not move the weights either
            mixture = jax.tree.map(lambda new, old: jnp.where(finite, new, old), fresh, state.mixture)
            each = {f"weight_{name}": mixture["weights"][i] for i, name in enumerate(self.chosen.rings)}
            return after._replace(mixture=mixture), metrics | each

        placed = shardings(jax.eval_shape(self._first_state), self.mesh)
        whole = NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(proxy_step, donate_argnums=0, out_shardings=(placed, whole))

    def report(self) -> dict[str, Any]:
        """The trainer's report, with the weights: their mean over all steps, and the last."""
        mixture = jax.device_get(self.state.mixture)
        named = lambda values: dict(zip(self.chosen.rings, map(float, values), strict=True))
        applied = self.config.train.steps - int(self.state.skipped)
        return super().report() | {
            "by": self.config.data.weights_by,
            "weights": named(mixture["sum"] / max(applied, 1)),
            "last_weights": named(mixture["weights"]),
            "excess": named(mixture["excess"]),
            "drawn": named(self.chosen.weights),
        }


def proxy(reference: Any, origin: str, eta: float, smoothing: float) -> Any:
    """What makes a `Proxy`, with Trainer's arguments."""
    return functools.partial(Proxy, reference=reference, origin=origin, eta=eta, smoothing=smoothing)
