"""The shares of experts: how a model's routers spread a text over them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.inference.scoring import spread
from juliagpt_jax.models.interface import Model

WINDOWS = 16  # of the text


def measure(model: Model, params: Any, tokens: np.ndarray, lead: int) -> dict[str, Any]:
    """Return {"experts": {"LAYER": [the share of the layer's choices that each expert has]}} over windows of a text,
    evenly spread; {} where no layer has experts. `lead` is the token before the text."""
    config = model.config
    if not config.has_experts:
        return {}
    windows, _ = spread(tokens, config.context, WINDOWS, lead)
    said = jax.jit(lambda params, tokens: model.apply({"params": params}, tokens)[2]["share"])
    layers = [i for i, word in enumerate(config.by_layer(config.channel)) if word == "moe"]
    shares = [np.mean(np.asarray(share, np.float64), axis=0) for share in said(params, jnp.asarray(windows))]
    return {
        "experts": {str(i): (share / share.sum()).tolist() for i, share in zip(layers, shares, strict=True)},
    }


def describe(experts: dict[str, list[float]]) -> list[str]:
    """Return a line for each layer."""
    return [
        f"layer {layer}: {' '.join(f'{share:.1%}' for share in shares)}   "
        f"(the largest {max(shares) * len(shares):.2f} times an equal share)"
        for layer, shares in experts.items()
    ]
