"""DoReMi (Xie et al. 2023, arXiv 2305.10429): shares of domains from how much there is left to learn in each.

A reference model is trained on the corpus as it is drawn. A proxy of the same size is then trained by group DRO: where
its loss exceeds the reference's, a domain's weight grows, and its windows count for more. The mean of the weights over
all steps is what the main run draws by. The command `juliagpt_jax.doremi` trains both; this is the proxy's objective.
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.data.sampler import Windows
from juliagpt_jax.data.selection import Selection
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives.next_token import NextToken
from juliagpt_jax.objectives.objective import Apply, Chosen, Memo
from juliagpt_jax.store.claim import FREE
from juliagpt_jax.store.workdir import Run, open_run

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


def _open_reference(settings: config.Config) -> Run:
    """Open the run that `train.doremi.reference` names.

    Raises:
        UserError: it is none, or its losses are no measure for those of a run with these settings.
        StorageError: it has no sound checkpoint.
    """
    key = f"config.train.doremi.reference={settings.train.doremi.reference}"
    if settings.train.doremi.reference == "none":
        raise UserError(f"{key}: doremi compares with a run's losses; give its workdir")
    run = open_run(Path(settings.train.doremi.reference))
    if run.folder.is_file():
        raise UserError(f"{key}: a packed model; give the workdir that it was made of")
    parts = lambda whole: {name: config.to_dict(whole)[name] for name in ("data", "model")}
    changed = config.differences(parts(run.config), parts(settings), FREE)
    if changed:
        raise UserError(f"{key}: another model than this run's, or of another text ({'; '.join(changed)})")
    return run


class DoReMi(NextToken):
    """Next tokens, each row by the weight of its domain over the share that the domain is drawn by.

    The plan draws by the shares in `data.phase_weights`, one domain a ring; `train.doremi` says the rest.
    """

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        super().__init__(config, model, chosen)
        if config.ternary_step:
            raise UserError("config.train.ternary_from: DoReMi's proxy is of one kind from the first step to the last")
        if not isinstance(chosen, Selection) or len(chosen.rings) < 2:
            raise UserError(
                "config.train.objective: doremi weighs the domains that config.data.phase_weights gives shares to, and "
                "here are not two; python -m juliagpt_jax.doremi sets all that it needs"
            )
        self.names, self.drawn = chosen.rings, np.array(chosen.weights)
        self.begins = np.cumsum([0, *chosen.sizes[:-1]])
        self.reference = _open_reference(config)

    def frozen(self) -> Any:
        return self.reference.params

    def facts(self) -> dict[str, Any]:
        return {"reference": hashlib.sha256((self.reference.folder / "manifest.json").read_bytes()).hexdigest()}

    def memo(self) -> Memo:
        return Memo(whole=first_mixture(self.drawn, float(np.log(self.model.vocab))))

    def extra(self, drawn: Windows) -> np.ndarray:
        """(B,) int32 the domain of each row."""
        return np.searchsorted(self.begins, drawn.begins).astype(np.int32)

    def before(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch) -> tuple[Batch, Memo]:
        """Move the weights of domains, and give each row its own: a forward pass over the whole batch, since in the
        backward pass of micro-batches the weights would lag behind, or differ from one to the next."""
        losses = lambda params: token_losses(apply(params, *batch.given)[0], batch.targets)
        own = self.config.train.doremi
        excess = losses(trained) - losses(frozen)
        fresh = update(memo.whole, excess, batch.scored, batch.extra, own.eta, own.smoothing)
        rows = (fresh["weights"] / jnp.asarray(self.drawn, jnp.float32))[batch.extra]
        return batch._replace(weights=rows[:, None]), memo._replace(whole=fresh)

    def metrics(self, memo: Memo) -> dict[str, jax.Array]:
        return {f"weight_{name}": memo.whole["weights"][i] for i, name in enumerate(self.names)}

    def report(self, memo: Memo, applied: int) -> dict[str, Any]:
        """Return the weights: their mean over all steps, and the last."""
        named = lambda values: dict(zip(self.names, map(float, values), strict=True))
        return {
            "by": self.config.data.weights_by,
            "weights": named(memo.whole["sum"] / max(applied, 1)),
            "last_weights": named(memo.whole["weights"]),
            "excess": named(memo.whole["excess"]),
            "drawn": named(self.drawn),
        }
