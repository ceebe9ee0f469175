"""The batch of a step is the same wherever the text lies."""

from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data import sampler
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.mesh import batch_sharding, make_mesh


@pytest.mark.parametrize("windows", ["ring", "documents", "fixed"])
def test_batches_on_the_device_and_from_the_host(tiny, windows):
    lengths = np.random.default_rng(0).integers(1, 40, size=30)
    tokens = np.random.default_rng(1).integers(200, size=lengths.sum()).astype(np.uint16)
    plan = sampler.Plan(len(tokens), 16, 4, 3, **sampler.cut(windows, lengths))
    made = []
    for own in (None, jnp.asarray(tokens)):
        trainer = SimpleNamespace(
            plan=plan,
            chosen=SimpleNamespace(tokens=tokens),
            objective=SimpleNamespace(extra=lambda drawn: np.asarray(drawn.lengths)),
            _batch_place=batch_sharding(make_mesh(tiny())),
            _tokens=own,
            _ahead=partial(sampler.batch, tokens, plan),
        )
        made.append([Trainer.batch(trainer, step) for step in (0, 9, 40)])
    for host, device in zip(*made, strict=True):
        for one, other in [(host.inputs, device.inputs), (host.targets, device.targets), (host.extra, device.extra)]:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    orders = {tuple(np.asarray(batch.inputs).ravel()) for batch in made[0]}
    assert len(orders) == 3
