"""A request gets what it would get alone, whoever shares the batch, joins or leaves; and what it asked for."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule, draw
from juliagpt_jax.inference.stops import stream_texts
from juliagpt_jax.models import adapters
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.search import forms
from juliagpt_jax.search.held import Form
from juliagpt_jax.search.vocabulary import Vocabulary
from juliagpt_jax.serving import batch
from juliagpt_jax.serving.engine import MOST_FAILURES, Busy, Closed, Engine
from juliagpt_jax.serving.job import Request
from juliagpt_jax.serving.transcript import Transcript
from juliagpt_jax.training.state import initial_state

LETTERS, SLOTS, ROWS = "\n abcdefghijk", 32, 8
GREEDY, SAMPLED = Rule(greedy=True), Rule(temperature=1.5, top_p=0.95)


def make(config):
    """A generator whose greedy text does not settle on one token."""
    model = build_model(config, len(LETTERS))
    params = jax.jit(lambda: initial_state(config, model).params)()
    return Generator(model, jax.tree.map(lambda p: p * 3 if p.ndim == 2 else p, params))


@pytest.fixture(scope="module")
def generator(tiny):
    return make(tiny("model.width=16", f"model.context={SLOTS}", "model.tie=false", "seed=0"))


@pytest.fixture(scope="module")
def shared(generator):
    return Engine(generator, CharTokenizer(LETTERS), ROWS, 16, block=4)


@pytest.fixture
def engine(shared):
    """Without a thread: a test takes the steps."""
    assert not shared.busy and not shared.queued, "a test left something behind"
    return shared


def prompt(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(len(LETTERS), size=length)


class Reader:
    """What requests were delivered."""

    def __init__(self, count: int):
        self.pieces = [[] for _ in range(count)]

    def __call__(self, number, piece):
        self.pieces[number].append(piece)

    def texts(self):
        return ["".join(piece.text for piece in pieces) for pieces in self.pieces]

    def tokens(self, number=0):
        return [token for piece in self.pieces[number] for token in piece.tokens]


def serve(engine, *requests: Request) -> Reader:
    reader = Reader(len(requests))
    engine.submit(requests, reader)
    while engine.busy or engine.queued:
        engine.step()
    return reader


def generated(generator, request: Request) -> str:
    prompts = [request.prompt] * (request.nth + 1)
    ids = generator.generate(prompts, request.max_tokens, request.rule, request.seed)[request.nth]
    return CharTokenizer(LETTERS).decode(ids)


REQUESTS = [
    Request(prompt(1), 5, GREEDY, 0),
    Request(prompt(9), 3 * SLOTS, GREEDY, 0),
    Request(prompt(SLOTS), 2 * SLOTS + 3, GREEDY, 0),
    Request(prompt(SLOTS // 2), SLOTS // 2, GREEDY, 0),
    Request(prompt(4), 3 * SLOTS, SAMPLED, 7),
    Request(prompt(3 * SLOTS), 40, SAMPLED, 2**32 - 1),
    Request(prompt(17), 21, SAMPLED, 7),
    Request(prompt(6), 30, SAMPLED, 1),
    Request(prompt(6), 30, SAMPLED, 1, nth=1),
]


@pytest.fixture(scope="module")
def together(shared):
    """All of them, which join one after the other and leave when they are done; one must wait for a row."""
    reader = Reader(len(REQUESTS))
    for number, request in enumerate(REQUESTS):
        shared.submit([request], lambda _, piece, number=number: reader(number, piece))
        shared.step()
    while shared.busy or shared.queued:
        shared.step()
    return reader


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_the_text_is_that_of_generator(number, together, generator):
    """Greedy and sampled, past the context, for seeds at both ends, and the second of two equal prompts."""
    request = REQUESTS[number]
    assert together.texts()[number] == generated(generator, request)
    assert together.pieces[number][-1].finish == "length"
    assert together.pieces[number][-1].completion == request.max_tokens


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_the_same_request_alone_and_among_others(number, together, engine):
    assert serve(engine, REQUESTS[number]).texts() == [together.texts()[number]]


def test_equal_prompts_get_different_samples(together):
    assert together.texts()[7] != together.texts()[8]


def test_a_row_with_a_guide_is_what_it_is_alone(engine, generator):
    """And the rows beside it are what they are without it, token for token."""
    tokenizer = CharTokenizer(LETTERS)
    form = Form(forms.form("labels:abba,abbadac,bed,a deed"), Vocabulary(tokenizer))
    held = [Request(prompt(n), 20, SAMPLED, 3, guided=form, logprobs=2) for n in (1, 5, 9)]
    free = [Request(prompt(n), 40, SAMPLED, 3) for n in (4, 30)]
    reader = serve(engine, *held, *free)
    for request, text in zip(held, reader.texts(), strict=False):
        stream = stream_texts(generator, tokenizer, [request.prompt], 20, SAMPLED, 3, guided=form)
        assert text == "".join(piece for ((piece, _),) in stream)
        assert text.strip() in ("abba", "abbadac", "bed", "a deed")
    assert all(pieces[-1].finish == "stop" for pieces in reader.pieces[:3])
    assert [len(reader.tokens(n)) for n in range(3)] == [len(text) for text in reader.texts()[:3]]
    assert reader.texts()[3:] == [generated(generator, request) for request in free]


def test_nothing_is_compiled_for_a_request(shared, together, generator):
    """One program for each bucket of prompts, 16 and 32, and one for the block, whatever the rules and who asks."""
    assert shared.batch.compilations == {"prefill": 2, "decode": 1, "guided": 1}


def test_all_is_compiled_beforehand(tiny):
    config = tiny("model.width=16", "model.layers=1", f"model.context={SLOTS}")
    here = Engine(make(config), CharTokenizer(LETTERS), 2, 4, block=3)
    assert here.batch.block == 2, "of a stride of 16"
    here.batch.compile()
    counted = here.batch.compilations
    serve(here, Request(prompt(1), 40, SAMPLED, 0), Request(prompt(20), 5, GREEDY, 0, logprobs=3, echo=True))
    assert here.batch.compilations == counted == {"prefill": 2, "decode": 1, "guided": 1}


@pytest.mark.long
def test_other_architectures(tiny):
    """Two Monarch mixers, attention and an ODE in one model: joining, rolling and leaving in one batch."""
    layers = ["model.layers=3", "model.mixer=monarch monarch_heads attention", "model.depth=stack stack ode"]
    generator = make(tiny("model.width=16", f"model.context={SLOTS}", *layers))
    here = Engine(generator, CharTokenizer(LETTERS), 3, 4, block=8)
    requests = [Request(prompt(n), 2 * SLOTS, GREEDY, 0) for n in (3, SLOTS, 9, 16)]
    assert serve(here, *requests).texts() == [generated(generator, request) for request in requests]


def test_a_cache_that_evicts(generator):
    """Rows that join at different times, one of a prompt that is too long, write what Generator writes."""
    evicts = Generator(generator.model, generator.params, sinks=3, evict=True)
    here = Engine(evicts, CharTokenizer(LETTERS), 2, 4, block=8)
    requests = [Request(prompt(n), 2 * SLOTS, GREEDY, 0) for n in (3, 2 * SLOTS, 9)]
    texts = serve(here, *requests).texts()
    assert texts == [generated(evicts, request) for request in requests]
    assert texts[0] != generated(generator, requests[0])


def test_rows_have_rules_of_their_own():
    """Each row draws what `sampling.draw` draws with its rule, whatever the others' are."""
    rules = [
        Rule(),
        Rule(temperature=0.3),
        Rule(top_k=1),
        Rule(top_k=3),
        Rule(top_k=1000),
        Rule(top_p=0.5),
        Rule(top_p=1e-6),
        Rule(1.7, 4, 0.8),
        Rule(1e-30),
        Rule(0.5, 2**40),
        GREEDY,
        Rule(greedy=True, top_k=2),
    ]
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(len(rules), 13)) * 3, jnp.float32).at[:, 5].set(0.25).at[:, 7].set(0.25)
    rows = jax.tree.map(lambda *leaves: np.stack(leaves), *[batch.Row.of(rule, np.zeros(1), 0, 0) for rule in rules])
    drawn = jax.jit(batch.draw_rows)
    for uniform in [0.0, *rng.random(30).tolist(), 1 - 2**-24]:
        uniforms = jnp.full(len(rules), uniform, jnp.float32)
        expected = [int(draw(rule, logits[n : n + 1], uniforms[:1])[0]) for n, rule in enumerate(rules)]
        assert drawn(rows, logits, uniforms, np.bool_(True)).tolist() == expected
        plain = [n for n, rule in enumerate(rules) if rule.greedy or (not rule.top_k and rule.top_p == 1)]
        without = drawn(rows, logits, uniforms, np.bool_(False))
        assert [int(without[n]) for n in plain] == [expected[n] for n in plain]


def test_scores_are_the_models_own(engine, generator):
    """Of the prompt and of what is drawn behind it, whatever the temperature: against one forward pass."""
    request = Request(prompt(9), 12, Rule(0.5, 3), 0, logprobs=4, echo=True)
    beside = Request(prompt(5), 20, SAMPLED, 0)
    reader = serve(engine, request, beside)
    text, tokens = reader.texts()[0], reader.tokens()
    ids = CharTokenizer(LETTERS).encode(text).astype(int)
    assert (ids[:9] == request.prompt).all() and len(ids) == 9 + 12
    logits = generator.model.apply({"params": generator.params}, ids[None])[0][0]
    expected = np.asarray(jax.nn.log_softmax(logits))
    assert [(token.text, token.offset) for token in tokens] == [(c, n) for n, c in enumerate(text)]
    assert tokens[0].logprob is None and tokens[0].top is None
    for n, token in enumerate(tokens[1:]):
        best = np.argsort(-expected[n])[:4]
        wanted = {LETTERS[i]: expected[n, i] for i in [*best, ids[n + 1]]}
        assert token.logprob == pytest.approx(expected[n, ids[n + 1]], abs=1e-4)
        assert token.top == pytest.approx(wanted, abs=1e-4)
    assert not reader.tokens(1), "nobody asked"
    alone = serve(engine, request)
    assert alone.tokens() == tokens


def test_a_prompt_is_scored_without_writing(engine):
    reader = serve(engine, Request(prompt(5), 0, GREEDY, 0, logprobs=0, echo=True))
    assert len(reader.pieces[0]) == 1 and reader.pieces[0][0].finish == "length"
    assert [len(token.top or {}) for token in reader.tokens()] == [0, 1, 1, 1, 1]
    hidden = serve(engine, Request(prompt(5), 0, GREEDY, 0, hidden=2, logprobs=0, echo=True))
    assert hidden.tokens()[0].logprob == reader.tokens()[2].logprob, "the hidden ids are read"
    assert hidden.texts() == [reader.texts()[0][2:]], "and not shown"
    assert serve(engine, Request(prompt(5), 0, GREEDY, 0)).texts() == [""]


def test_a_stop_string_ends_a_text_and_gives_its_row_away(engine):
    whole = serve(engine, Request(prompt(9), 60, SAMPLED, 0)).texts()[0]
    stop = whole[21:24]
    at = whole.find(stop)
    reader = serve(engine, Request(prompt(9), 60, SAMPLED, 0, stops=("zz", stop)))
    assert reader.texts() == [whole[:at]]
    assert (reader.pieces[0][-1].finish, reader.pieces[0][-1].completion) == ("stop", at + 3)
    scored = serve(engine, Request(prompt(9), 60, SAMPLED, 0, stops=(stop,), logprobs=1, echo=True))
    assert "".join(token.text for token in scored.tokens()) == scored.texts()[0], "tokens of the stop are not shown"


def test_an_id_ends_a_text_and_gives_its_row_away(engine):
    """It counts as written, as it was drawn, and is not shown; a prompt may have it."""
    whole = serve(engine, Request(prompt(9), 60, SAMPLED, 0)).texts()[0]
    end = LETTERS.index(whole[21])
    at = whole.find(whole[21])
    reader = serve(engine, Request(prompt(9), 60, SAMPLED, 0, ends=(end,), logprobs=1))
    assert reader.texts() == [whole[:at]] and len(reader.tokens()) == at
    assert (reader.pieces[0][-1].finish, reader.pieces[0][-1].completion) == ("stop", at + 1)
    none = serve(engine, Request(prompt(9), 60, SAMPLED, 0, ends=(len(LETTERS),)))
    assert none.texts() == [whole] and none.pieces[0][-1].finish == "length"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    "text, stops, shown, tokens",
    [
        ("abcdef", ["cd"], "ab", 4),
        ("abcdef", ["abcdef", "cd"], "ab", 4),  # complete first, though it begins later
        ("abcdef", ["d", "bcd"], "a", 4),  # complete together: the longest
        ("ababac", ["abac"], "ab", 6),
        ("aaab", ["aab"], "a", 4),
        ("abc", ["cd"], "abc", 3),  # begun at the very end
        ("abc", [], "abc", 3),
        ("é€a", ["€"], "é", 5),  # in bytes
    ],
)
def test_a_transcript_does_not_depend_on_the_size_of_pieces(text, stops, shown, tokens, size):
    ids = list(text.encode())
    transcript = Transcript(Bytes(), [33], [], stops)
    seen = ""
    for at in range(0, len(ids), size):
        transcript.add(ids[at : at + size], last=at + size >= len(ids))
        assert transcript.text.startswith(seen), "what was shown is taken back"
        assert "\ufffd" not in transcript.text
        seen = transcript.text
        if transcript.stopped:
            break
    assert (transcript.text, transcript.tokens) == (shown, tokens)


class Bytes:
    """A tokenizer of bytes: a token may be part of a character."""

    @staticmethod
    def decode(ids):
        return bytes(np.asarray(ids).tolist()).decode("utf-8", "replace")


def test_what_is_begun_is_held_back():
    transcript = Transcript(Bytes(), [], list(b"sto"), ["stop"])
    assert transcript.text == "sto", "an echo is not searched"
    shown = []
    for byte in b"p st s":
        transcript.add([byte], last=False)
        shown.append(transcript.text)
    assert shown == ["stop", "stop ", "stop ", "stop ", "stop st ", "stop st "]
    assert transcript.ends() == list(range(1, 10)) and transcript.tokens == 6
    cut = Transcript(Bytes(), [], [], [])
    cut.add(list("é".encode())[:1], last=False)
    assert cut.text == ""
    cut.add([], last=True)
    assert cut.text == "\ufffd", "no more comes"


def test_the_queue_is_bounded_and_all_or_none_get_in(engine):
    small = Request(prompt(3), 4, GREEDY, 0)
    jobs = engine.submit([small] * (ROWS + 15), Reader(40))
    with pytest.raises(Busy) as refused:
        engine.submit([small] * 2, Reader(2))
    assert refused.value.retry_after >= 1 and engine.queued == ROWS + 15
    jobs += engine.submit([small], Reader(1))
    with pytest.raises(Busy):
        engine.submit([small], Reader(1))
    engine.cancel(jobs)
    engine.step()
    assert engine.queued == engine.busy == 0
    assert len(serve(engine, small).texts()[0]) == 4


def test_who_leaves_makes_room_and_changes_nobody(engine, together):
    reader, gone = Reader(1), Reader(ROWS)
    engine.submit([REQUESTS[4]], reader)
    left = engine.submit([Request(prompt(3), 500, SAMPLED, 3)] * ROWS, gone)
    engine.step()
    assert (engine.busy, engine.queued) == (ROWS, 1)
    engine.cancel(left)
    delivered = sum(map(len, gone.pieces))
    assert engine.queued == 0
    engine.step()
    assert engine.busy == 1 and sum(map(len, gone.pieces)) == delivered
    while engine.busy:
        engine.step()
    assert reader.texts()[0] == together.texts()[4]


def test_a_failed_block_ends_its_requests_and_not_the_engine(generator, monkeypatch, capsys):
    broken = []
    here = Engine(generator, CharTokenizer(LETTERS), 2, 8, block=4, broken=broken.append)
    advance, fail = here.batch.advance, threading.Event()

    def sometimes(*flags):
        if fail.is_set():
            raise RuntimeError("the card fell out\nwith a long story")
        return advance(*flags)

    monkeypatch.setattr(here.batch, "advance", sometimes)
    done = threading.Event()
    last = lambda _, piece: seen.append(piece) or ((piece.finish or piece.error) and done.set())
    here.start()
    for failing in [True, True, False] + [True] * MOST_FAILURES:
        seen = []
        done.clear()
        fail.set() if failing else fail.clear()
        here.submit([Request(prompt(3), 8, GREEDY, 0)], last)
        assert done.wait(60)
        assert bool(seen[-1].error) == failing and ("the card fell out" in seen[-1].error or not failing)
    assert here.wait_idle(60) and len(broken) == 1, "too often in a row"
    with pytest.raises(Closed):
        here.submit([Request(prompt(3), 8, GREEDY, 0)], last)
    here.stop()
    assert "with a long story" not in capsys.readouterr().err


def test_a_closed_engine_finishes_what_it_has(generator):
    here = Engine(generator, CharTokenizer(LETTERS), 2, 8, block=4)
    reader = Reader(6)
    here.submit([Request(prompt(3), 50, SAMPLED, n) for n in range(6)], reader)
    here.close()
    with pytest.raises(Closed):
        here.submit([Request(prompt(3), 8, GREEDY, 0)], reader)
    here.start()
    assert here.wait_idle(60)
    here.stop()
    assert [pieces[-1].finish for pieces in reader.pieces] == ["length"] * 6


def test_a_stopped_engine_tells_who_waits(generator):
    here = Engine(generator, CharTokenizer(LETTERS), 2, 8, block=4)
    reader = Reader(4)
    jobs = here.submit([Request(prompt(3), 50, SAMPLED, n) for n in range(4)], reader)
    here.step()
    here.cancel(jobs[1:2])
    here.stop()
    assert [bool(pieces[-1].error) for pieces in reader.pieces if pieces] == [True, False, True, True]
    assert here.wait_idle(0)


def test_rows_with_adapters_share_a_batch(generator):
    """Each request gets the text of its own adapter, as of a model that it is folded into; and none that of none."""
    plain, base = generator.model, generator.params
    shapes = {path: leaf.shape for path, leaf in paths(base).items() if path.endswith("/kernel")}
    key = jax.random.key(7)

    def made(rank, kernels):
        leaves = {}
        for n, path in enumerate(kernels):
            rows, columns = shapes[path]
            root = path.removesuffix("kernel") + "lora"
            leaves[f"{root}/a"] = jax.random.normal(jax.random.fold_in(key, n), (rows, rank))
            leaves[f"{root}/b"] = jax.random.normal(jax.random.fold_in(key, 100 * rank + n), (rank, columns)) * 0.3
        return leaves

    several = [made(1, list(shapes)[:3]), made(2, list(shapes)[2:])]
    alone = [base, *(adapters.fold(adapters.merge(unflatten_dict(own, sep="/"), base), 1.0) for own in several)]
    texts = []
    for params in alone:
        one = Generator(plain, params)
        texts.append("".join(LETTERS[i] for i in one.generate([prompt(5)], 12, GREEDY)[0]))
    assert len({*texts}) == 3
    lent = Generator(plain.clone(adapter=adapters.GIVEN, parent=None), base)
    engine = Engine(lent, CharTokenizer(LETTERS), ROWS, 16, block=4, adapters=adapters.stack(several))
    order = [2, 0, 1, 1, 2]
    reader = serve(engine, *(Request(prompt(5), 12, GREEDY, 0, adapter=which) for which in order))
    assert reader.texts() == [texts[which] for which in order]
