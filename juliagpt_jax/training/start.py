"""A run that begins with weights from outside, its workdir with a checkpoint of step 0; and the weights that lie below
a run's adapters."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import new_folder
from juliagpt_jax.ground.sealed import write_json
from juliagpt_jax.models import adapters
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.frozen import freeze
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.store import init
from juliagpt_jax.store.checkpoint import Checkpoints
from juliagpt_jax.store.claim import write_config
from juliagpt_jax.store.machine import describe_run
from juliagpt_jax.training.state import initial_state, items


def begin(
    workdir: Path,
    settings: config.Config,
    params: dict[str, np.ndarray],
    tokenizer: Any,
    meta: dict[str, Any],
    source: str,
    hashes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Make a workdir that holds these weights (by path) as if it had trained 0 steps; `main` goes on from there.

    Args:
        meta: what its checkpoint says beside what every checkpoint says.
        source: where they came from.
        hashes: SHA-256 of the files that they were read from, by name.

    Raises:
        UserError: something is at the workdir, or the weights are not those of the model that the config describes.
        StorageError: it cannot be written.
    """
    model = build_model(settings, tokenizer.vocab_size)
    check(model, params)
    with new_folder(workdir, "--workdir") as folder:
        weights = unflatten_dict({path: jnp.asarray(array) for path, array in params.items()}, sep="/")
        state = initial_state(settings, model, weights)
        facts = describe_run(settings.seed, jax.devices()) | {"imported": source, "imported_sha256": dict(hashes)}
        facts["tokenizer_sha256"] = tokenizers.digest(tokenizer)
        write_config(folder, settings)
        write_json(folder / "run.json", facts)
        tokenizers.save(tokenizer, folder / "tokenizer.json")
        held = {"config": config.to_dict(settings), "data": None, "selection": None, "tokenizer": tokenizer.to_dict()}
        checkpoints = Checkpoints(folder / "checkpoints", settings.train.keep)
        checkpoints.save(0, items(state), meta | facts | held | {"val_loss": None})
        saved = checkpoints.wait()
        checkpoints.close()
        if not saved:
            raise StorageError(f"{workdir}: the weights could not be written: {checkpoints.failed}")


def below(settings: config.Config) -> tuple[Any, str]:
    """Return the frozen parameters below a run's adapters, kernels as `adapter.base` keeps them, and their hash as
    they were before that. Raises as `init.weights`."""
    held = [init.weights(settings)[0]]
    digest = adapters.digest(held[0])
    return freeze(held.pop(), settings.adapter.base), digest


def check(model: Model, params: Mapping[str, np.ndarray]) -> None:
    """Hold weights (by path) to the names and shapes of a model's parameters; nothing of the model is computed.

    Raises:
        UserError: naming what differs.
    """
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), int))["params"])
    wanted = {path: tuple(leaf.shape) for path, leaf in paths(shapes).items()}
    given = {path: array.shape for path, array in params.items()}
    rows = [
        f"{path}: {given.get(path, 'absent')}, and the config has {wanted.get(path, 'none')}"
        for path in sorted({*wanted, *given})
        if wanted.get(path) != given.get(path)
    ]
    if rows:
        more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
        raise UserError(f"the weights do not fit the config: {'; '.join(rows[:4])}{more}"[:500])
