"""A few trained parameters beside many frozen ones: a tree taken apart, put together, and folded into one model.

LoRA (Hu et al. 2021, arXiv 2106.09685, section 4.1) lays two thin matrices beside a Linear's kernel W, under the name
`lora`: x W + scale (x a) b. What trains is a and b; `fold` makes W + scale a b of all three.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.models import roles
from juliagpt_jax.models.roles import Role


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
    """Return the parameters that `split` took apart.

    Raises:
        ValueError: a parameter is in both.
    """
    one, other = flatten_dict(trained, sep="/"), flatten_dict(frozen, sep="/")
    if both := sorted(one.keys() & other.keys()):
        raise ValueError(f"trained and frozen at once: {', '.join(both[:3])}")
    return unflatten_dict(one | other, sep="/")


def digest(frozen: Any) -> str:
    """Return the SHA-256 of a tree's paths, dtypes, shapes and numbers: a checkpoint of adapters holds that of the
    weights it was trained beside, so that it is never laid on others."""
    found = hashlib.sha256()
    for path, leaf in sorted(flatten_dict(frozen, sep="/").items()):
        array = np.asarray(leaf)
        found.update(f"{path} {array.dtype} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def fold(params: Any, scale: float) -> Any:
    """Return the parameters of the model without adapters that computes the same: each kernel plus scale a b.

    Raises:
        ValueError: an adapter has no kernel beside it.
    """
    leaves: dict[str, Any] = dict(flatten_dict(params, sep="/"))
    for path in [path for path in leaves if adapters(roles.of(path)) and path.endswith("/a")]:
        linear = path.removesuffix("/lora/a")
        a, b = leaves.pop(path), leaves.pop(f"{linear}/lora/b")
        if f"{linear}/kernel" not in leaves:
            raise ValueError(f"{linear}: an adapter, and no kernel that it can be folded into")
        kernel = leaves[f"{linear}/kernel"]
        change = jnp.matmul(a, b, preferred_element_type=jnp.float32) * scale
        leaves[f"{linear}/kernel"] = (kernel + change).astype(kernel.dtype)
    return unflatten_dict(leaves, sep="/")
