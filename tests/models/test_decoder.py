"""The laws of every model that the tables build: each two words of MIXERS, DEPTHS and SWITCHES meet in a row, and each
of CHANNELS and LINEARS is in one."""

import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.decoder import DTYPES, Decoder
from juliagpt_jax.models.depth import DEPTHS
from juliagpt_jax.models.layers import LINEARS
from juliagpt_jax.models.mixers import MIXERS, read_less
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import one_device
from juliagpt_jax.training.state import Frozen, initial_state

VOCAB, SLOTS, B, T = 17, 16, 3, 14
SWITCHES = {
    "plain": (),
    "switches": (
        *("model.qk_norm=true", "model.x0_skip=true", "model.softcap=4", "model.head_gate=true"),
        *("model.norm=layer", "model.bias=true", "model.positions=learned"),
    ),
}
# A recursive layer evaluates its block as an ODE does, token by token: test_depth.py holds it to that.
PAIRED = {"mixer": MIXERS, "depth": [word for word in DEPTHS if word != "recursive"], "switches": SWITCHES}
# No pairs are sought with these, which see one token at a time: each has its rows.
SINGLE = {"channel": CHANNELS, "linear": LINEARS}
# Mixers that compute with a DFT: its rounding reaches back in time. In float64 so little that the law is seen to hold
# (test_causal_but_for_rounding).
THROUGH_DFT = {"monarch"}
# Mixers that say that their weights serve a shorter context; one of your own may leave it unsaid.
ANY_CONTEXT = {"attention", "kda", "gated_deltanet", "topk", "blocksparse"}


def meetings(row):
    """The pairs of words in a row, each with its table's place."""
    return set(itertools.combinations(enumerate(row), 2))


def pairwise(*tables):
    """Rows of one word a table such that any two words of two tables meet; always the row with most that are new, the
    first of equals, so the defaults come first."""
    rows, every = [], list(itertools.product(*tables))
    missing = set().union(*map(meetings, every))
    while missing:
        rows.append(max(every, key=lambda row: len(meetings(row) & missing)))
        missing -= meetings(rows[-1])
    return rows


ROWS = [dict(zip(PAIRED, row, strict=True)) for row in pairwise(*PAIRED.values())]
for key, table in SINGLE.items():
    ROWS = [row | {key: word} for row, word in zip(ROWS, itertools.cycle(table), strict=False)]
VARIANTS = [pytest.param(row, id="-".join(row.values())) for row in ROWS]


def drawn(model, tokens):
    """Initial parameters. Code for many random draws takes LLVM seconds to optimise, and runs once."""
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    return init(jax.random.key(3), tokens)["params"]


class Built:
    """A model, its parameters, tokens (B, T), and its forward pass and its continuation, compiled."""

    def __init__(self, config, **kinds):
        self.config = config
        self.model = build_model(config, VOCAB).clone(**kinds, parent=None)
        self.tokens = jax.random.randint(jax.random.key(7), (B, T), 0, VOCAB)
        # An untied head: logits of size 1, in which an error shows.
        self.params = drawn(self.model, self.tokens)
        self.params |= {name: jnp.array([0.6, 0.7]) for name in self.params if name.startswith("skip")}
        self._apply = jax.jit(self.model.apply)

    def forward(self, tokens):
        return self._apply({"params": self.params}, tokens)[0]

    def go_on(self, tokens, positions, cache):
        return self._apply({"params": self.params}, tokens, jnp.asarray(positions), cache)[:2]

    def fill(self, tokens):
        """Prefill a fresh cache with all of tokens (B, n)."""
        rows, count = tokens.shape
        positions = np.broadcast_to(np.arange(count), (rows, count))
        return self.go_on(tokens, positions, self.model.init_cache(rows, SLOTS))


def variant(tiny, names: dict[str, str], *overrides: str):
    """One block of it, which compiles in half the time of two; test_gpt.py has stacks."""
    words = [f"model.{key}={name}" for key, name in names.items() if key != "switches"]
    words += SWITCHES[names.get("switches", "plain")]
    few = ("model.sparse.top=5", "model.sparse.block=4", "model.sparse.blocks=1", "model.tt.ranks=2")
    shape = ("model.width=24", "model.layers=1", "model.monarch.blocks=2", "model.tie=false")
    return tiny(*shape, *few, *words, *overrides)


def assert_close(got, wanted, built, tolerance, jump=0.1):
    """Within the tolerance. Of a ternary model rounding may carry an activation over to its next level, so some numbers
    may jump, but not the most and not far."""
    if built.config.model.linear != "ternary":
        np.testing.assert_allclose(got, wanted, atol=tolerance)
        return
    apart = np.abs(np.asarray(got) - wanted)
    assert apart.max() < jump and np.median(apart) < tolerance


def chooses(model) -> bool:
    """The model picks experts or keys by scores: where rounding turns a choice round, what follows may be anything."""
    return model.has_experts or bool({"topk", "blocksparse"} & set(model.mixer.split()))


@pytest.fixture(scope="module", params=VARIANTS)
def built(request, tiny):
    return Built(variant(tiny, request.param))


@pytest.fixture(scope="module")
def plain(tiny):
    return Built(tiny("model.tie=false"))


# Decoding is the forward pass.


@pytest.mark.parametrize("chunks", [[1] * T, [5, 3, 1, 5], [T]], ids=["one by one", "chunks", "whole"])
def test_decode_is_forward(built, chunks):
    cache, parts, at = built.model.init_cache(B, SLOTS), [], 0
    for count in chunks:
        positions = np.broadcast_to(np.arange(at, at + count), (B, count))
        logits, cache = built.go_on(built.tokens[:, at : at + count], positions, cache)
        parts.append(logits)
        at += count
    assert_close(np.concatenate(parts, axis=1), built.forward(built.tokens), built, 1e-5)


def test_padded_batch_is_each_row_alone(built):
    """Rows of 3, 9 and 12 tokens share a prefill padded on the right, then each goes on from its own length."""
    lengths = np.array([3, 9, 12])
    slots = np.arange(12)[None, :]
    positions = np.where(slots < lengths[:, None], slots, SLOTS)
    garbage = jnp.where(jnp.asarray(slots < lengths[:, None]), built.tokens[:, :12], VOCAB - 1)
    logits, cache = built.go_on(garbage, positions, built.model.init_cache(B, SLOTS))
    wanted = np.asarray(built.forward(built.tokens))
    for row, length in enumerate(lengths):
        alone, _ = built.fill(built.tokens[row : row + 1, :length])
        assert_close(logits[row, :length], alone[0], built, 1e-5)
        assert_close(logits[row, :length], wanted[row, :length], built, 1e-5)
    for ahead in range(2):
        at = lengths + ahead
        logits, cache = built.go_on(built.tokens[np.arange(B), at][:, None], at[:, None], cache)
        assert_close(logits[:, 0], wanted[np.arange(B), at], built, 1e-5)


@pytest.mark.parametrize(
    "changes", [(), ("model.sink=token",), SWITCHES["switches"]], ids=["plain", "sink", "switches"]
)
def test_logits_of_one_token_of_each_row(changes, tiny):
    """Asked for alone they are those that stand among all, with a cache and without."""
    built = Built(tiny("model.tie=false", *changes))
    at, positions = jnp.array([0, 4, T - 1]), np.broadcast_to(np.arange(T), (B, T))
    wanted = np.asarray(built.forward(built.tokens))[np.arange(B), at][:, None]
    for cached in ((), (jnp.asarray(positions), built.model.init_cache(B, SLOTS))):
        logits = jax.jit(built.model.apply)({"params": built.params}, built.tokens, *cached, at=at)[0]
        np.testing.assert_allclose(logits, wanted, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_slots_not_yet_filled_do_not_matter(built, count):
    _, clean = built.fill(built.tokens[:, :5])
    width, heads = built.config.model.width, built.config.model.heads
    assert SLOTS not in (B, heads, width, width // heads)

    def spoil(leaf):
        """50 in the empty slots, along whichever axis the slots are; a state that has none stays."""
        where = [slice(5, None) if size == SLOTS else slice(None) for size in leaf.shape]
        return leaf.at[tuple(where)].set(50.0) if SLOTS in leaf.shape else leaf

    stale = jax.tree.map(spoil, clean)
    at = np.broadcast_to(np.arange(5, 5 + count), (B, count))
    wanted, _ = built.go_on(built.tokens[:, 5 : 5 + count], at, clean)
    got, _ = built.go_on(built.tokens[:, 5 : 5 + count], at, stale)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("count", [1, 4])
def test_nothing_is_written_past_the_last_slot(built, count):
    """A token at a position >= slots leaves its row of the cache bit for bit; the other rows go on."""
    _, cache = built.fill(built.tokens[:, :6])
    before = jax.tree.map(np.asarray, cache)
    positions = np.arange(SLOTS, SLOTS + count) + np.zeros((B, 1), int)
    _, same = built.go_on(built.tokens[:, :count], positions, cache)
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, same), before)
    positions[1] = np.arange(6, 6 + count)
    _, other = built.go_on(built.tokens[:, :count], positions, cache)
    rows = jax.tree.map(lambda a: np.asarray(a)[[0, 2]], other)
    chex.assert_trees_all_equal(rows, jax.tree.map(lambda a: a[[0, 2]], before))
    assert any((np.asarray(a)[1] != b[1]).any() for a, b in zip(*map(jax.tree.leaves, (other, before)), strict=True))


@pytest.mark.parametrize("mixer", MIXERS)
def test_which_weights_serve_a_shorter_context(mixer, tiny):
    """Those with which it says the same: of the mixers that say so, unless positions are learned."""
    tokens = jnp.arange(9)[None]
    for positions in ("rotary", "learned"):
        long, short = (
            Decoder(variant(tiny, {"mixer": mixer}, f"model.positions={positions}", f"model.context={n}").model, VOCAB)
            for n in (16, 9)
        )
        params = long.init(jax.random.key(0), tokens)
        same = jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, short.init(jax.random.key(0), tokens))
        if same:
            said = (np.asarray(model.apply(params, tokens)[0]) for model in (long, short))
            same = np.abs(np.subtract(*said)).max() < 1e-5
        says = read_less(long.config)
        assert same or not says
        assert says or mixer not in ANY_CONTEXT or positions == "learned"


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mixer", MIXERS)
def test_decoding_writes_its_cache_in_place(mixer, rows, tiny):
    """No step of the compiled loop copies as much as a cache: that would cost every token a pass over all slots."""
    slots = 256
    part = Decoder(variant(tiny, {"mixer": mixer}, f"model.context={slots}").model, VOCAB).blocks()[0].mixer
    x, cache = jnp.ones((rows, 1, 24)), jax.eval_shape(lambda: part.init_cache(rows, slots, jnp.float32))
    params = jax.eval_shape(part.init, jax.random.key(0), x, jnp.zeros((rows, 1), int))

    def steps(params, cache):
        def one(cache, at):
            y, cache = part.apply(params, x, jnp.full((rows, 1), at), cache)
            return cache, y

        return jax.lax.scan(one, cache, jnp.arange(4))

    program = jax.jit(steps, donate_argnums=1).lower(params, cache).compile().as_text()
    copies = re.findall(r"= f32\[([\d,]+)\]\S* copy\(", program)
    held = max(leaf.size for leaf in jax.tree.leaves(cache))
    assert copies and max(np.prod([int(n) for n in shape.split(",")]) for shape in copies) < held


# Causality: exactly 0, in the same program; behind a DFT, its rounding.


def leak(built):
    return 1e-5 if THROUGH_DFT & set(built.config.model.mixer.split()) else 0


def changed(tokens, row, start):
    """Every token of a row from `start` on is another."""
    return tokens.at[row, start:].set((tokens[row, start:] + 5) % VOCAB)


@pytest.mark.parametrize("cached", [False, True], ids=["forward", "prefill"])
@pytest.mark.parametrize("start", [1, 7, T - 1])
def test_no_later_token_and_no_other_row_moves_a_logit(built, cached, start):
    run = (lambda t: built.fill(t)[0]) if cached else built.forward
    before, after = np.asarray(run(built.tokens)), np.asarray(run(changed(built.tokens, 1, start)))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    np.testing.assert_allclose(after[1, :start], before[1, :start], rtol=0, atol=leak(built))
    assert (after[1, start:] != before[1, start:]).any(axis=-1).all()


@pytest.mark.parametrize("mixer", sorted(THROUGH_DFT))
def test_causal_but_for_rounding(mixer, tiny):
    """The same mixer in float64: the leak shrinks with the precision, so it is rounding and nothing else."""
    with jax.enable_x64(True):
        model = Decoder(variant(tiny, {"mixer": mixer}).model, VOCAB).blocks()[0].mixer
        x, positions = jax.random.normal(jax.random.key(0), (1, T, 24), jnp.float64), jnp.arange(T)[None]
        params = model.init(jax.random.key(1), x, positions)["params"]
        params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        run = jax.jit(lambda x: model.apply({"params": params}, x, positions)[0])
        before, after = run(x), run(x.at[0, 7:].add(3.0))
    assert before.dtype == jnp.float64
    assert np.abs(after - before)[0, 7:].max() > 0.1
    assert np.abs(after - before)[0, :7].max() < 1e-12


def test_no_other_row_moves_a_decode_step(built):
    at = np.full((B, 1), 6)
    steps = []
    for text in (built.tokens, changed(built.tokens, 1, 0)):
        _, cache = built.fill(text[:, :6])
        steps.append(np.asarray(built.go_on(text[:, 6:7], at, cache)[0]))
    np.testing.assert_array_equal(steps[0][[0, 2]], steps[1][[0, 2]])
    assert (steps[0][1] != steps[1][1]).any()


# What else every variant keeps.


@pytest.mark.long
def test_remat_changes_nothing(built):
    def run(model):
        loss = lambda p: jnp.mean(jnp.square(model.apply({"params": p}, built.tokens)[0]))
        return jax.jit(jax.value_and_grad(loss))(built.params)

    plain, again = built.model, built.model.clone(remat=True, parent=None)
    assert "remat" in str(jax.make_jaxpr(again.apply)({"params": built.params}, built.tokens))
    chex.assert_trees_all_close(run(again), run(plain), atol=2e-5, rtol=2e-5)  # gradients are sums of up to 10


@pytest.mark.long
@pytest.mark.parametrize("precision, tolerance", [("bf16", 0.2), ("f16", 0.02)])
def test_half_precision(built, precision, tolerance):
    half = Built(built.config, precision=precision)
    chex.assert_trees_all_equal(half.params, built.params)
    chex.assert_type(jax.tree.leaves(half.params), jnp.float32)
    loss = lambda p: jnp.mean(half.model.apply({"params": p}, built.tokens)[0] ** 2)
    chex.assert_type(jax.tree.leaves(jax.eval_shape(jax.grad(loss), half.params)), jnp.float32)
    wanted = np.asarray(built.forward(built.tokens))
    for logits in (half.forward(built.tokens), half.fill(built.tokens)[0]):
        chex.assert_type(logits, jnp.float32)
        chex.assert_tree_all_finite(logits)
        apart = np.abs(logits - wanted)
        assert apart.max() > 0, "the precision acts"
        if chooses(built.config.model):
            assert np.median(apart) < tolerance and np.mean(apart > 4 * tolerance) < 0.1
        else:
            assert_close(logits, wanted, built, tolerance, jump=4 * tolerance)


@pytest.mark.long
@pytest.mark.parametrize("names", VARIANTS)
def test_weight_gradients_are_two_dimensional_products(names, tiny):
    """Of every Linear and of the head: XLA's CPU backend takes four times as long over a (B, T, D) operand.

    Every matrix has its own shape here, so that a product is told by the shape of its result.
    """
    config = variant(tiny, names, "model.heads=4", "model.kv_heads=2", "model.ffn_mult=1.75")
    model, rows, length = build_model(config, VOCAB), 5, 11
    mesh = one_device()
    state = jax.eval_shape(lambda: initial_state(config, model))
    batch = Batch(*(jax.ShapeDtypeStruct((rows, length), jnp.int32),) * 2)
    lowered = step.make_train_step(config, model, mesh).lower(state, batch, Frozen())

    # tensor<AxBxf32> of both operands and of the result of each product, as it is handed to XLA
    product = re.compile(r"stablehlo\.dot_general.*?: \(tensor<(\S+?)>, tensor<(\S+?)>\) -> tensor<(\S+?)>")
    shape = lambda text: tuple(int(n) for n in text.split("x")[:-1])
    products = [tuple(map(shape, found)) for found in product.findall(lowered.as_text())]
    assert products
    kernels = {path: leaf.shape for path, leaf in paths(state.params).items() if path.endswith(("kernel", "head"))}
    kernels = {path: kernel for path, kernel in kernels.items() if "/experts/" not in path}  # by blocks of rows
    for path, kernel in kernels.items():
        of_weight = [p for p in products if p[2] in (kernel, kernel[::-1])]
        assert of_weight, f"no product has the shape {kernel} of {path}"
        for left, right, _ in of_weight:
            assert len(left) == len(right) == 2, f"{path}: gradient is a product of {left} and {right}"
            assert rows * length in left and rows * length in right

    # What XLA made of it: a product without batch dimensions contracts one dimension.
    for line in lowered.compile().as_text().splitlines():
        if re.search(r"= \S+ dot\(", line) and "lhs_batch_dims" not in line:
            assert re.search(r"lhs_contracting_dims=\{\d\}", line), line


# Initial weights and dropout.


def test_initial_weights(tiny):
    """Kernels have the deviation 1/sqrt(fan_in); the two that write into the residual stream 1/sqrt(2 L fan_in)."""
    layers = 3
    config = tiny("model.width=96", f"model.layers={layers}", "model.tie=false")
    params = jax.jit(Decoder(config.model, 101).init)(jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    for path, leaf in paths(params).items():
        module, name = ["", *path.split("/")][-2:]
        if name == "scale":
            np.testing.assert_array_equal(leaf, 1)
            continue
        wanted = leaf.shape[1 if name == "embedding" else 0] ** -0.5
        wanted *= (2 * layers) ** -0.5 if module in ("out", "down") else 1
        deviation = float(np.std(leaf))
        assert abs(deviation / wanted - 1) < 5 / np.sqrt(2 * leaf.size), f"{path}: {deviation} instead of {wanted}"
        assert abs(np.mean(leaf)) < 5 * wanted / np.sqrt(leaf.size)


def test_dropout_acts_with_a_key_and_only_then(plain, tiny):
    model = Decoder(tiny("model.tie=false", "model.dropout=0.1").model, VOCAB)
    variables, tokens = {"params": plain.params}, plain.tokens
    np.testing.assert_allclose(jax.jit(model.apply)(variables, tokens)[0], plain.forward(tokens), atol=1e-6)
    apply = jax.jit(lambda key: model.apply(variables, tokens, rngs={"dropout": key})[0])
    first, again, other = (np.asarray(apply(jax.random.key(n))) for n in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first - other).max(axis=-1) > 0.01).all(), "every token of every row meets another mask"


@pytest.mark.parametrize("silent", [("mixer", "out"), ("channel", "down")], ids=["channel", "mixer"])
def test_dropout_keeps_the_mean_of_a_branch(silent, tiny):
    """With the other branch at 0 a block is linear in what dropout does, so its mean over keys is the block without."""
    block = Decoder(tiny("model.dropout=0.4").model, VOCAB).blocks()[0]
    x, positions = jax.random.normal(jax.random.key(1), (1, 4, 32)), jnp.arange(4)[None]
    params = jax.jit(block.init)(jax.random.key(0), x, positions)["params"]
    kernel = params[silent[0]][silent[1]]
    kernel["kernel"] = kernel["kernel"] * 0
    wanted = np.asarray(block.apply({"params": params}, x, positions)[0])
    run = jax.jit(jax.vmap(lambda key: block.apply({"params": params}, x, positions, rngs={"dropout": key})[0]))
    many = np.asarray(run(jax.random.split(jax.random.key(2), 4096)), np.float64)
    error = np.abs(many.mean(0) - wanted)
    assert (many.std(0) > 0).any() and (error <= 5 * many.std(0) / np.sqrt(len(many)) + 1e-5).all()


def test_words_repeat_over_the_layers(tiny):
    """mixer = "a b" gives a b a b, and the channel's words count by themselves."""
    words = ("model.layers=5", "model.mixer=monarch monarch attention", "model.channel=swiglu monarch")
    blocks = Decoder(tiny(*words).model, VOCAB).blocks()
    assert [type(block.mixer) for block in blocks] == [
        MIXERS[word] for word in ("monarch", "monarch", "attention", "monarch", "monarch")
    ]
    kinds = [block.channel.linear for block in blocks]
    assert [kind is LINEARS["dense"](tiny().model) for kind in kinds] == [True, False, True, False, True]


@pytest.mark.parametrize("precision", DTYPES)
def test_every_precision_may_be_asked_for(precision, tiny):
    assert tiny(f"train.precision={precision}").train.precision == precision
