"""The ways in which time enters the field of an ODE.

A kind makes the parameters that a layer has beside its block's (`init`, under "time"), and from both and t the block's
parameters at t and what is added to its input (`at`). It acts on the tree of parameters, so on any mixer and channel.
"""

from typing import Any

import jax
import jax.numpy as jnp

from juliagpt_jax.ground.knobs import model as knobs
from juliagpt_jax.models import roles
from juliagpt_jax.models.parameters import by_path, paths

DOT = "."  # in the paths of a block's parameters, which are names in a tree here


class Autonomous:
    """f(x): the same weights at all times."""

    @staticmethod
    def init(key: jax.Array, params: Any, model: knobs.Model) -> dict[str, Any]:
        return {}

    @staticmethod
    def at(params: dict[str, Any], time: dict[str, Any], t: jax.Array) -> tuple[dict[str, Any], jax.Array | float]:
        return params, 0.0


def _waves(count: int, t: jax.Array) -> jax.Array:
    """cos(pi e t), e = 1 .. count: smooth in t, so that large steps stay accurate."""
    return jnp.cos(jnp.pi * t * jnp.arange(1, count + 1, dtype=jnp.result_type(t)))


class Embedded:
    """A vector b(t) is added to the block's input and each norm's scale is multiplied by 1 + s(t): sums of
    `ode.modes` cosines, 0 at the start."""

    @staticmethod
    def init(key: jax.Array, params: Any, model: knobs.Model) -> dict[str, Any]:
        zeros = lambda leaf: jnp.zeros((model.ode.modes, *leaf.shape))
        norms = {path: zeros(leaf) for path, leaf in paths(params, DOT).items() if _is_scale(path)}
        return norms | {"shift": jnp.zeros((model.ode.modes, model.width))}

    @staticmethod
    def at(params: dict[str, Any], time: dict[str, Any], t: jax.Array) -> tuple[dict[str, Any], jax.Array | float]:
        h = _waves(len(time["shift"]), t)
        sum_ = lambda modes: jnp.tensordot(h, modes, 1)
        change = lambda path, leaf: leaf * (1 + sum_(time[path])) if path in time else leaf
        return by_path(params, change, DOT), sum_(time["shift"])


class LowRank:
    """W(t) = W + sum_e cos(pi e t) U_e V_e for every matrix W, U_e V_e of rank `ode.rank` and 0 at the start."""

    @staticmethod
    def init(key: jax.Array, params: Any, model: knobs.Model) -> dict[str, Any]:
        time = {}
        for i, (path, leaf) in enumerate(_matrices(params).items()):
            *blocks, rows, columns = leaf.shape
            left = jax.random.normal(jax.random.fold_in(key, i), (model.ode.modes, *blocks, rows, model.ode.rank))
            time[path] = {
                "left": left * rows**-0.5,
                "right": jnp.zeros((model.ode.modes, *blocks, model.ode.rank, columns)),
            }
        return time

    @staticmethod
    def at(params: dict[str, Any], time: dict[str, Any], t: jax.Array) -> tuple[dict[str, Any], jax.Array | float]:
        def change(path, leaf):
            if path not in time:
                return leaf
            left, right = time[path]["left"], time[path]["right"]
            return leaf + jnp.einsum("e,e...ir,e...ro->...io", _waves(len(left), t), left, right)

        return by_path(params, change, DOT), 0.0


class Generated:
    """W(t) = W + sum_e h_e(t) P_e for every matrix and scale(t) = scale (1 + sum_e h_e(t) s_e) for every norm, each
    with an h = MLP(`wave_embedding`(t)) of its own of width `ode.modes` (Neural ODE Transformer, arXiv 2503.01329,
    section 3.1)."""

    @staticmethod
    def init(key: jax.Array, params: Any, model: knobs.Model) -> dict[str, Any]:
        time, E = {}, model.ode.modes
        for i, (path, leaf) in enumerate(paths(params, DOT).items()):
            if not _is_matrix(path, leaf) and not _is_scale(path):
                continue
            one, two, three = jax.random.split(jax.random.fold_in(key, i), 3)
            width = 2 * WAVES + 1
            time[path] = {
                "in": jax.random.normal(one, (width, E)) * width**-0.5,
                "in_bias": jnp.zeros(E),
                "out": jax.random.normal(two, (E, E)) * E**-0.5,
                "out_bias": jnp.zeros(E),
                # as large together as W, so that time acts from the start; a norm's scale starts at 1 for all times
                "modes": jax.random.normal(three, (E, *leaf.shape)) * jnp.std(leaf) * E**-0.5,
            }
        return time

    @staticmethod
    def at(params: dict[str, Any], time: dict[str, Any], t: jax.Array) -> tuple[dict[str, Any], jax.Array | float]:
        def change(path, leaf):
            if path not in time:
                return leaf
            grown = jnp.tensordot(generator(time[path], t), time[path]["modes"], 1)
            return leaf * (1 + grown) if _is_scale(path) else leaf + grown

        return by_path(params, change, DOT), 0.0


WAVES = 64  # sines and as many cosines in the embedding of t


def wave_embedding(t: jax.Array, waves: int = WAVES) -> jax.Array:
    """[t, sin(1000 t f_i), cos(1000 t f_i)], f_i = 10000^(-i / waves): (2 * waves + 1,)."""
    angles = 1000.0 * t * 10_000.0 ** (-jnp.arange(waves, dtype=jnp.result_type(t)) / waves)
    return jnp.concatenate([jnp.reshape(t, 1), jnp.sin(angles), jnp.cos(angles)])


def generator(weights: dict[str, jax.Array], t: jax.Array) -> jax.Array:
    """h(t) (E,): an MLP of one hidden layer on the embedding of t."""
    embedding = wave_embedding(t, (len(weights["in"]) - 1) // 2)
    return jax.nn.silu(embedding @ weights["in"] + weights["in_bias"]) @ weights["out"] + weights["out_bias"]


def _is_scale(path: str) -> bool:
    return roles.of(path.replace(DOT, "/")).kind == "scale"


def _matrices(params: Any) -> dict[str, jax.Array]:
    return {path: leaf for path, leaf in paths(params, DOT).items() if _is_matrix(path, leaf)}


def _is_matrix(path: str, leaf: jax.Array) -> bool:
    """True of matrices, of each expert too: the biases of several lie together as one array of two axes."""
    return leaf.ndim - roles.of(path.replace(DOT, "/")).each >= 2


TIMES = {"none": Autonomous, "embedded": Embedded, "lowrank": LowRank, "generated": Generated}
