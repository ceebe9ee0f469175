"""A few trained parameters beside many frozen ones: LoRA, and a tree taken apart, put together, and folded into one
model.

LoRA (Hu et al. 2021, arXiv 2106.09685, section 4.1) lays two thin matrices beside a Linear's kernel W, under the name
`lora`: x W + scale (x a) b, with scale = alpha / rank. What trains is a and b, and b begins at 0, so that the model
begins as the one below; `fold` makes W + scale a b of all three.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.adapter import Adapter
from juliagpt_jax.ground.words import near
from juliagpt_jax.models import roles
from juliagpt_jax.models.roles import Role

# The knobs of a model whose Linears take the adapters that they are given, of any rank and anywhere, and begin none.
GIVEN = Adapter(rank=0, alpha=1.0, dropout=0.0, targets="all", layers="all", base="float")
ROOMS = ("mixer", "channel")  # the parts of a block, which `adapter.targets` may name as a whole


class LoRA(nn.Module):
    """A Linear of any kind with an adapter beside it, where it has one of the rank or is given one: parameters without
    are those of the Linear alone."""

    features: int
    linear: Callable[..., nn.Module]
    rank: int  # of the adapter that it begins with; 0: none
    scale: float
    dropout: float
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (..., D) -> (..., features). a (D, rank) and b (rank, features), or with an axis B before them one adapter
        for each row of x (B, T, D)."""
        inner = self.linear(self.features, gain=self.gain)
        nn.share_scope(self, inner)
        y = inner(x)
        if self.has_variable("params", "lora"):  # and not `param`, which knows one shape of it
            own = self.get_variable("params", "lora")
        elif self.rank and self.is_initializing():
            own = self.param("lora", self._begin, x.shape[-1])
        else:
            return y
        x = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
        a, b = own["a"].astype(x.dtype), own["b"].astype(x.dtype)
        rows = x if a.ndim == 3 else x.reshape(-1, x.shape[-1])
        return y + ((rows @ a) @ b * self.scale).reshape(y.shape).astype(y.dtype)

    def _begin(self, key: jax.Array, width: int) -> dict[str, jax.Array]:
        """Uniform within 1 / sqrt(D), and zeros, as PEFT begins."""
        bound = width**-0.5
        a = jax.random.uniform(key, (width, self.rank), jnp.float32, -bound, bound)
        return {"a": a, "b": jnp.zeros((self.rank, self.features))}


def beside(linear: Callable[..., nn.Module], adapter: Adapter, room: str, layer: int, layers: int) -> Any:
    """Return the maker of a layer's Linears in a room of ROOMS, each with the adapter that the knobs give it.

    Args:
        layers: of the model.
    """
    reached = layer in numbers(adapter.layers, layers)
    words = adapter.targets.split()

    def make(features: int, gain: float = 1.0, name: str | None = None, **more: Any) -> LoRA:
        rank = adapter.rank if reached and {"all", room, name} & {*words} else 0
        return LoRA(features, linear, rank, adapter.scale or 1.0, adapter.dropout, gain, name=name, **more)

    return make


def numbers(text: str, layers: int) -> set[int]:
    """Return the layers that `adapter.layers` names: "all", or "0 2 4-7".

    Raises:
        UserError: it is neither, or names a layer that the model does not have.
    """
    found: set[int] = set()
    for word in text.split():
        first, _, last = word.partition("-")
        if word == "all":
            found |= {*range(layers)}
        elif first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first) < layers:
            found |= {*range(int(first), int(last or first) + 1)}
        else:
            raise UserError(
                f"config.adapter.layers: {word!r} is neither all nor layers of 0 .. {layers - 1} such as 0 2 4-7"
            )
    return found


def check_targets(targets: str, params: Iterable[str]) -> None:
    """Hold `adapter.targets` to the paths of a model's parameters.

    Raises:
        UserError: a word is no Linear of the model.
    """
    linears = {path.split("/")[-2] for path in params if roles.of(path).kind in ("kernel", "levels")}
    for word in targets.split():
        known = {"all", *ROOMS, *linears}
        if word not in known:
            raise UserError(
                f"config.adapter.targets: no Linear of this model is called {word!r}{near(word, known)}; there are "
                f"{', '.join(sorted(linears))}, and all, mixer, channel"
            )


def trained(role: Role) -> bool:
    """The rule of a model that trains as a whole: everything that gradients can move."""
    return role.trained


def adapters(role: Role) -> bool:
    """The rule of a frozen model with adapters: these alone."""
    return role.kind == "adapter"


def split(params: Any, rule: Callable[[Role], bool] = trained) -> tuple[Any, Any]:
    """Return the trained and the frozen parameters, each a tree of its own leaves alone.

    Raises:
        UserError: no role is known of a parameter.
    """
    leaves = flatten_dict(params, sep="/")
    chosen = {path for path in leaves if rule(roles.of(path))}
    pick = lambda inside: unflatten_dict({p: leaf for p, leaf in leaves.items() if (p in chosen) == inside}, sep="/")
    return pick(True), pick(False)


def merge(trained: Any, frozen: Any) -> Any:
    """Return the parameters that `split` took apart; () for `frozen` is nothing.

    Raises:
        ValueError: a parameter is in both.
    """
    if not frozen:
        return trained
    one, other = flatten_dict(trained, sep="/"), flatten_dict(frozen, sep="/")
    if both := sorted(one.keys() & other.keys()):
        raise ValueError(f"trained and frozen at once: {', '.join(both[:3])}")
    return unflatten_dict(one | other, sep="/")


def stack(several: Sequence[Mapping[str, Any]]) -> Any:
    """Return the tree of adapters, each by path, laid side by side: leaf [i + 1] is that of the i-th, and leaf [0] of
    none. Smaller ranks are filled up with zeros, and so are the Linears that not all have one for.

    Raises:
        UserError: one is of experts, which do not know whose tokens they are given.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path, leaf in (pair for own in several for pair in own.items()):
        if roles.of(path).each:
            raise UserError(f"{path}: adapters of experts are folded into a model, and not served side by side")
        seen = shapes.get(path) or leaf.shape
        shapes[path] = tuple(max(sizes) for sizes in zip(leaf.shape, seen, strict=True))

    def laid(path: str, shape: tuple[int, ...]) -> jax.Array:
        leaves = [own[path] if path in own else jnp.zeros(shape) for own in ({}, *several)]
        fill = lambda leaf: [(0, wide - size) for wide, size in zip(shape, leaf.shape, strict=True)]
        return jnp.stack([jnp.pad(jnp.asarray(leaf), fill(leaf)) for leaf in leaves])

    return unflatten_dict({path: laid(path, shape) for path, shape in shapes.items()}, sep="/")


def digest(frozen: Any) -> str:
    """Return the SHA-256 of a tree's paths, dtypes, shapes and numbers: a checkpoint of adapters holds that of the
    weights it was trained beside, so that it is never laid on others."""
    found = hashlib.sha256()
    for path, leaf in sorted(flatten_dict(frozen, sep="/").items()):
        array = np.asarray(leaf)
        found.update(f"{path} {array.dtype} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def fold(params: Any, scale: float, sign: float = 1.0) -> Any:
    """Return the parameters of the model without adapters that computes the same: each kernel plus scale a b.

    Args:
        sign: -1.0 takes it away again: of parameters that have been folded, with the adapters beside them, it makes
            those below, but for rounding.

    Raises:
        ValueError: an adapter has no kernel beside it.
    """
    leaves: dict[str, Any] = dict(flatten_dict(params, sep="/"))
    for path in [path for path in leaves if adapters(roles.of(path)) and path.endswith("/a")]:
        linear = path.removesuffix("/lora/a")
        a, b = leaves.pop(path), leaves.pop(f"{linear}/lora/b")
        if f"{linear}/kernel" not in leaves:
            raise ValueError(f"{linear}: an adapter, and no kernel that it can be folded into")
        leaves[f"{linear}/kernel"] = _folded(leaves.pop(f"{linear}/kernel"), a, b, sign * scale)
    return unflatten_dict(leaves, sep="/")


@jax.jit
def _folded(kernel: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
    change = jnp.matmul(a, b, preferred_element_type=jnp.float32) * scale
    return (kernel + change).astype(kernel.dtype)
