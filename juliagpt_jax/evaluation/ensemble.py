"""Several models as one: the loss of the mean of their predictions, beside the loss of each.

The mean of probabilities, or the softmax of the mean of logits, which is their geometric mean made to add up to 1.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.opened import Opened
from juliagpt_jax.inference.scoring import Score, mean_loss, strided, token_losses
from juliagpt_jax.models.interface import Model

LOGITS = 2**26  # numbers that the logits of a batch of all members may have: 256 MiB
WAYS = ("probabilities", "logits")  # what is averaged


@functools.partial(jax.jit, static_argnums=0)
def losses(models: tuple[Model, ...], params: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return losses (members + 2, B, T), 0 where IGNORED: of each member, and of the two means in the order of WAYS.

    Args:
        models: one for all members, whose parameters are stacked in `params`; or as many as there are parameters.
    """
    if len(models) == 1:
        logits = jax.vmap(lambda own: models[0].apply({"params": own}, inputs)[0])(params)
    else:
        logits = jnp.stack([model.apply({"params": own}, inputs)[0] for model, own in zip(models, params, strict=True)])
    each = jax.vmap(token_losses, in_axes=(0, None))(logits, targets)
    mixed = jnp.log(float(len(each))) - jax.nn.logsumexp(-each, axis=0)
    mixed = jnp.where(targets != IGNORED, mixed, 0.0)
    pooled = token_losses(jnp.mean(logits, axis=0), targets)
    return jnp.concatenate([each, mixed[None], pooled[None]])


def check(members: Sequence[Opened], context: int) -> None:
    """Raise a UserError where models cannot predict the same text: by their tokens, or in windows of this context."""
    for member in members:
        if member.tokenizer.to_dict() != members[0].tokenizer.to_dict():
            raise UserError(f"--ensemble: {member.run.workdir} has another tokenizer than {members[0].run.workdir}")
        if member.model.config.context < context:
            short = f"reads {member.model.config.context} tokens at most"
            raise UserError(f"--ensemble: {member.run.workdir} {short}, and windows have {context}")


def measure(members: Sequence[Opened], tokens: np.ndarray, score: Score, lead: int) -> dict[str, Any]:
    """Return what each member and both means have on a text, under the protocol of a score of it.

    Members of one form are computed as one by vmap over their stacked parameters.

    Raises:
        UserError: as `check`.
    """
    check(members, score.context)
    models = tuple(member.model for member in members)
    params: Any = tuple(member.params for member in members)
    if len(set(models)) == 1:
        models, params = models[:1], jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    inputs, targets = strided(tokens, score.context, score.stride, lead)
    rows = max(1, min(32, LOGITS // (len(members) * score.context * members[0].model.vocab)))
    missing = -len(inputs) % rows
    inputs = np.pad(inputs, ((0, missing), (0, 0)))
    targets = np.pad(targets, ((0, missing), (0, 0)), constant_values=IGNORED)
    parts = [losses(models, params, inputs[i : i + rows], targets[i : i + rows]) for i in range(0, len(inputs), rows)]
    found = np.concatenate([np.asarray(part) for part in parts], axis=1)
    as_dict = lambda own: _plain(score, mean_loss(own, targets))
    each = [{"workdir": str(m.run.workdir)} | as_dict(own) for m, own in zip(members, found, strict=False)]
    means = {way: as_dict(own) for way, own in zip(WAYS, found[len(members) :], strict=True)}
    return {"members": each, "stacked": len(models) == 1} | means


def _plain(score: Score, loss: float) -> dict[str, Any]:
    return dataclasses.replace(score, loss=loss, parts={}).to_dict()


def describe(values: dict[str, Any]) -> str:
    """Return what `measure` gives as a table: the members, then the means."""
    named = [(one["workdir"], one) for one in values["members"]]
    named += [(f"mean of {way}, {len(values['members'])} models", values[way]) for way in WAYS]
    width = max(len(name) for name, _ in named)
    head = f"{'ensemble':<{width}}  perplexity  bits per character"
    bits = lambda one: f"{one['bpc']:.4f}" if "bpc" in one else "-"  # characters were not counted
    rows = [f"{name:<{width}}  {one['perplexity']:10.4f}  {bits(one)}" for name, one in named]
    return "\n".join([head, *rows])
