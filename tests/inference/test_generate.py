"""Generation equals running the model again for every token, whatever shares the batch, and compiles little."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import generate
from juliagpt_jax.inference.beginning import Begun
from juliagpt_jax.inference.generate import SMALLEST_BUCKET, Generator, bucket_for, compiled_programs
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training.state import initial_state

ROOT = Path(__file__).parents[2]
VOCAB, SLOTS = 13, 32
GREEDY, SAMPLED = Rule(greedy=True), Rule(temperature=1.5, top_p=0.95)


@pytest.fixture(scope="module")
def generator(tiny):
    config = tiny("model.width=16", f"model.context={SLOTS}", "model.tie=false", "seed=0")
    model = build_model(config, VOCAB)
    params = jax.jit(lambda: initial_state(config, model).params)()
    # Larger matrices, so that what comes next depends on all of the window and does not settle on one token.
    params = jax.tree.map(lambda p: p * 3 if p.ndim == 2 else p, params)
    params["embedding"] *= 0.8
    return Generator(model, params)


def prompt(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(VOCAB, size=length)


@pytest.fixture(scope="module")
def naive(generator):
    """Greedy text by one forward pass a token over the window that the generator says it sees."""
    forward = jax.jit(lambda tokens: generator.model.apply({"params": generator.params}, tokens)[0])

    def run(prompt, count, sinks=0):
        half = SLOTS // 2
        block = min(generate.BLOCK, SLOTS - half)
        in_sight = lambda text: text[:sinks] + text[len(text) - (half - sinks) :]
        text = [int(token) for token in prompt]
        window = text if len(text) <= SLOTS else in_sight(text)
        for at in range(count):
            # A block of tokens that does not fit behind the window makes it start again with half a context.
            if at % block == 0 and len(window) + min(block, count - at) > SLOTS:
                window = in_sight(text)
                assert len(window) == half
            padded = np.zeros((1, SLOTS), np.int32)
            padded[0, : len(window)] = window
            token = int(jnp.argmax(forward(padded)[0, len(window) - 1]))
            text, window = [*text, token], [*window, token]
            assert len(window) <= SLOTS
        return text[len(prompt) :]

    return run


@pytest.mark.parametrize("length", [1, 5, SLOTS // 2, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS])
def test_greedy_text_past_the_context(length, generator, naive):
    """Five contexts of text after prompts short, exactly full and longer than the context."""
    text = generator.generate([prompt(length)], 5 * SLOTS, GREEDY)
    assert text.shape == (1, 5 * SLOTS)
    np.testing.assert_array_equal(text[0], naive(prompt(length), 5 * SLOTS))
    assert len(set(text[0].tolist())) > 5, "a text that says something"


def test_sinks_stay_in_sight(generator, naive):
    """Past the context a row is what a forward pass over its first tokens and its newest says, also where some of the
    first were written, not given; and that is another text than without them."""
    prompts = [prompt(length) for length in (2, SLOTS, 3 * SLOTS)]
    text = Generator(generator.model, generator.params, sinks=5).generate(prompts, 3 * SLOTS, GREEDY)
    for row, given in zip(text, prompts, strict=True):
        np.testing.assert_array_equal(row, naive(given, 3 * SLOTS, sinks=5))
        assert (row != generator.generate([given], 3 * SLOTS, GREEDY)[0]).any()


@pytest.mark.parametrize("sinks", [-1, SLOTS // 2])
def test_sinks_leave_room_for_new_tokens(sinks, generator):
    with pytest.raises(UserError, match=f"sinks={sinks} is outside 0 .. {SLOTS // 2 - 1}"):
        Generator(generator.model, generator.params, sinks=sinks)


@pytest.mark.parametrize("rule", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_each_row_is_what_it_would_be_alone(rule, generator):
    """Rows of different lengths, so they roll at different times, each for three contexts."""
    prompts = [prompt(n, seed=n) for n in (2, 9, SLOTS, 2 * SLOTS)]
    together = generator.generate(prompts, 3 * SLOTS, rule, seed=4)
    for row, text in enumerate(together):
        np.testing.assert_array_equal(text, generator.generate([prompts[row]], 3 * SLOTS, rule, seed=4)[0])


def test_order_of_the_rows_does_not_matter(generator):
    prompts = [prompt(n, seed=n) for n in (2, 9, SLOTS, 2 * SLOTS)]
    forward, backward = (generator.generate(p, 20, SAMPLED, seed=1) for p in (prompts, prompts[::-1]))
    np.testing.assert_array_equal(forward, backward[::-1])


def test_the_seed_makes_the_text(generator):
    texts = [generator.generate([prompt(4)], 40, SAMPLED, seed)[0] for seed in (0, 0, 1, 2**32 - 1)]
    np.testing.assert_array_equal(texts[0], texts[1])
    assert (texts[0] != texts[2]).any() and (texts[0] != texts[3]).any() and (texts[2] != texts[3]).any()


def test_equal_prompts_get_different_samples_and_one_greedy_text(generator):
    prompts = [prompt(4)] * 4
    sampled = generator.generate(prompts, 40, SAMPLED)
    assert len({row.tobytes() for row in sampled}) == 4
    np.testing.assert_array_equal(sampled[0], generator.generate(prompts[:1], 40, SAMPLED)[0])
    assert len({row.tobytes() for row in generator.generate(prompts, 40, GREEDY)}) == 1


def test_stream_is_generate_in_pieces(generator):
    pieces = list(generator.stream([prompt(4), prompt(6)], 3 * SLOTS + 1, SAMPLED, 3))
    assert len(pieces) > 5 and {piece.shape[0] for piece in pieces} == {2}
    np.testing.assert_array_equal(
        np.concatenate(pieces, axis=1), generator.generate([prompt(4), prompt(6)], 3 * SLOTS + 1, SAMPLED, 3)
    )


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17])
def test_as_many_tokens_as_asked_for(count, generator):
    text = generator.generate([prompt(3)], count, GREEDY)
    assert text.shape == (1, count) and text.dtype == np.int32


@pytest.mark.parametrize("prompts", [[], [np.array([], int)], [np.array([1]), np.array([], int)]], ids=len)
def test_no_prompt_is_refused(prompts, generator):
    with pytest.raises(UserError, match="prompt"):
        generator.generate(prompts, 3, GREEDY)


@pytest.mark.long
def test_samples_follow_the_model(generator):
    """The first token of 1,000 equal prompts: frequencies within 4.5 deviations of the softmax of the last logits."""
    start = prompt(4)
    logits = generator.model.apply({"params": generator.params}, start[None])[0][0, -1]
    probabilities = np.asarray(jax.nn.softmax(logits), np.float64)
    n = 1000
    counts = np.bincount(next(generator.stream([start] * n, 1, Rule()))[:, 0], minlength=VOCAB)
    assert (np.abs(counts - n * probabilities) <= 4.5 * np.sqrt(n * probabilities * (1 - probabilities)) + 1e-9).all()


def test_other_parameters_without_another_compilation(generator):
    """`load` changes what is written, not what is compiled."""
    here = Generator(generator.model, generator.params)
    first = here.generate([prompt(4)], 20, GREEDY)
    counted = here.compilations
    here.load(jax.tree.map(lambda p: -p, generator.params))
    assert (here.generate([prompt(4)], 20, GREEDY) != first).any()
    here.load(generator.params)
    np.testing.assert_array_equal(here.generate([prompt(4)], 20, GREEDY), first)
    assert here.compilations == counted


def test_buckets():
    """Powers of two from 16, cut off at the context; a prompt fits into its bucket, never into half of it."""
    assert [bucket_for(n, 1000) for n in (1, 16, 17, 32, 33, 512, 513, 1000)] == [16, 16, 32, 32, 64, 512, 1000, 1000]
    assert [bucket_for(n, 10) for n in (1, 10)] == [10, 10]
    for slots in (16, 48, 256):
        for length in range(1, slots + 1):
            bucket = bucket_for(length, slots)
            assert length <= bucket <= slots
            assert bucket <= max(SMALLEST_BUCKET, 2 * length - 1)


def test_compilations(generator):
    """Fault 24: one decode program for a (batch, rule), one prefill for a (batch, bucket), however many calls."""
    here = Generator(generator.model, generator.params)
    assert here.compilations == {"prefill": 0, "decode": 0}
    for seed, (length, new) in enumerate([(1, 3), (16, 70), (9, 20), (2, 100)]):
        here.generate([prompt(length)], new, SAMPLED, seed)
    assert here.compilations == {"prefill": 1, "decode": 1}, "prompts of one bucket, and rolling into the same one"
    for length in (17, 25, 32, 100, 500):
        here.generate([prompt(length)], 50, SAMPLED)
    assert here.compilations == {"prefill": 2, "decode": 1}, "the second bucket"
    here.generate([prompt(4)], 50, GREEDY)
    assert here.compilations == {"prefill": 2, "decode": 2}, "another rule"
    here.generate([prompt(4), prompt(9)], 50, GREEDY)
    assert here.compilations == {"prefill": 3, "decode": 3}, "another batch size"


def test_a_long_prompt_does_not_hold_the_logits_of_all_its_tokens(tiny):
    """With 49,152 tokens, sixteen prompts of 1,024 would want 3 GB for them, of which a row is read."""
    rows, length, vocab = 2, 128, 4096
    model = build_model(tiny("model.width=16", f"model.context={length}"), vocab)
    here = Generator(model, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), int))["params"])
    args = (
        jnp.zeros((rows, length), int),
        jnp.ones(rows, int),
        jax.eval_shape(lambda: here.empty(rows)),
        jnp.ones(rows),
        Begun(),
    )
    held = here._prefill.lower(here.params, *args).compile().memory_analysis().temp_size_in_bytes
    assert held < rows * length * vocab * 4 / 4


def test_what_prompts_begin_with_is_read_once(generator):
    """The text is the same, from fewer tokens read: of prompts that all begin so and go on, whatever stands behind."""
    here = Generator(generator.model, generator.params)
    read, filled = [], here._fill
    here._fill = lambda state, tokens, *more: read.append(tokens.shape[1]) or filled(state, tokens, *more)
    shown = prompt(17, seed=9)
    prompts = [np.concatenate([shown, prompt(length, seed=length)]) for length in (1, 5, 12)]
    wanted = [here.generate(prompts, count, GREEDY) for count in (3, 2 * SLOTS)]
    here.begin(shown)
    for new in wanted:
        np.testing.assert_array_equal(here.generate(prompts, new.shape[1], GREEDY), new)
    rolls = read.count(SLOTS // 2)
    assert read[0] == SLOTS and SLOTS - len(shown) in read and rolls
    for others in ([*prompts, shown], [*prompts, prompt(20)]):  # one stops there, one begins otherwise
        assert here._begun_by(others).length == 0
    here.load(generator.params)
    assert here._begun_by(prompts).length == 0, "other parameters have not read it"


def test_programs_are_counted():
    """One for each shape and dtype that a function was called with; by the one place that asks JAX for it."""
    function = jax.jit(lambda x: x + 1)
    counts = []
    for x in (1.0, 2.0, np.zeros(3), np.ones(3), np.zeros(4), np.zeros(4, np.int32)):
        function(np.asarray(x))
        counts.append(compiled_programs(function))
    assert counts == [1, 1, 2, 2, 3, 4]
    files = [*ROOT.glob("juliagpt_jax/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("experiments/**/*.py")]
    word = "_cache" + "_size"
    assert [path.name for path in files if word in path.read_text("utf-8")] == ["generate.py"]
