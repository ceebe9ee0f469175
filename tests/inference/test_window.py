"""The window of a long text in words and numbers; and writing from a cache that evicts."""

import jax
import numpy as np
import pytest

from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.window import Window
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.evicting import PAD

VOCAB, SLOTS = 13, 16
RULE = Rule(temperature=1.5)


@pytest.mark.parametrize(
    ("window", "says", "read"),
    [
        (Window(16), "the last 8 to 16", [*range(12, 20)]),
        (Window(16, 2), "the first 2 and the last 6 to 14", [0, 1, *range(14, 20)]),
        (Window(16, 0, evict=True), "the last 16", [*range(4, 20)]),
        (Window(16, 3, evict=True), "the first 3 and the last 13", [0, 1, 2, *range(7, 20)]),
    ],
)
def test_what_is_in_sight(window, says, read):
    assert window.says == says
    assert list(window.begin(np.arange(20))) == read and list(window.begin(np.arange(16))) == [*range(16)]
    assert window.rolls(10, 7) != window.evict
    np.testing.assert_array_equal(window.rolls(np.array([3, 16]), 1), [False, not window.evict])


@pytest.mark.parametrize(
    ("window", "room"), [(Window(16, 8), 7), (Window(16, 16, True), 15), (Window(16, -1, True), 15)]
)
def test_sinks_leave_room(window, room):
    window._replace(sinks=room).check()
    with pytest.raises(UserError, match=rf"sinks={window.sinks} is outside 0 \.\. {room}: with the newest"):
        window.check()


@pytest.fixture(scope="module")
def model(tiny):
    config = tiny("model.width=16", "model.layers=1", f"model.context={SLOTS}", "model.tie=false")
    made = build_model(config, VOCAB)
    params = jax.jit(made.init)(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]
    return made, jax.tree.map(lambda p: p * 3 if p.ndim == 2 else p, params)


def prompt(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(VOCAB, size=length)


def test_writing_from_a_cache_that_evicts(model):
    """Three contexts of text: as plain decoding while nothing is evicted, then as each row, alone, says when it is read
    token by token; of a prompt that is too long its first and newest tokens; and all with one program."""
    generator, plain = Generator(*model, sinks=3, evict=True), Generator(*model)
    prompts, greedy = [prompt(2), prompt(9), prompt(40)], Rule(greedy=True)
    text = generator.generate(prompts, 3 * SLOTS, greedy)
    assert generator.compilations == {"prefill": 1, "decode": 1}
    rolled = plain.generate(prompts, 3 * SLOTS, greedy)
    np.testing.assert_array_equal(text[0, :8], rolled[0, :8])  # before the window rolls for the first time
    assert (text != rolled).any(axis=1).all()
    made, params = model
    apply = jax.jit(made.apply)
    for row, given in enumerate(prompts):
        own = np.concatenate([given[:3], given[-13:]]) if len(given) > SLOTS else given
        cache, whole = made.init_cache(1, SLOTS, 3), np.concatenate([own, text[row]])
        for at, token in enumerate(whole[:-1]):
            logits, cache, _ = apply({"params": params}, token[None, None], np.array([[at]]), cache)
            if at >= len(own) - 1:
                assert logits[0, 0, whole[at + 1]] >= logits.max() - 1e-4


def test_its_memory_is_that_of_a_plain_cache(model):
    """The kept state is as large as without eviction, whatever was written; a step needs a layer's turned keys more."""
    size = lambda of: sum(leaf.nbytes for leaf in jax.tree.leaves(of.empty(2)))
    evicts, plain = Generator(*model, sinks=3, evict=True), Generator(*model)
    assert size(evicts) == size(plain) and evicts.pad == PAD
    more = cost.memory_bytes(evicts.decode_program(2, RULE)) - cost.memory_bytes(plain.decode_program(2, RULE))
    assert more < 12 * 2 * 16 * SLOTS * 4


def test_what_cannot_evict_says_so_at_once(tiny):
    made = build_model(tiny("model.positions=learned"), VOCAB)
    with pytest.raises(UserError, match="a cache that evicts"):
        Generator(made, {}, evict=True)
