"""The decoder's switches, each held to its formula. That decoding, causality and precision survive them is in
test_decoder.py; that they are off by default is in test_gpt.py, which holds the default decoder to the baseline."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import roles
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.depth import DEPTHS
from juliagpt_jax.models.layers import LINEARS, RMSNorm, WordDropout, rotary
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.models.parameters import by_path, paths

VOCAB, TOKENS = 11, jnp.arange(24).reshape(2, 12) % 11
SHAPE = ("model.width=24", "model.monarch.blocks=2", "model.layers=2", "model.tie=false")


def built(tiny, *overrides):
    model = Decoder(tiny(*SHAPE, *overrides).model, VOCAB)
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    params = init(jax.random.key(0), TOKENS)["params"]
    return model, params, jax.jit(lambda params: model.apply({"params": params}, TOKENS)[0])


def test_softcap(tiny):
    _, params, free = built(tiny)
    _, same, capped = built(tiny, "model.softcap=1.5")
    assert jax.tree.structure(same) == jax.tree.structure(params)
    logits = np.asarray(free(params))
    assert np.abs(logits).max() > 1.5
    np.testing.assert_allclose(capped(params), 1.5 * np.tanh(logits / 1.5), atol=1e-6)


def test_qk_norm_takes_the_size_of_queries_and_keys_away(tiny):
    """Kernels a hundred times as large give the same logits, and without the norm they do not."""

    def grown(params):
        path = lambda p: jax.tree_util.keystr(p, simple=True, separator="/")
        larger = lambda p, leaf: leaf * 100 if path(p).endswith(("query/kernel", "key/kernel")) else leaf
        return jax.tree_util.tree_map_with_path(larger, params)

    for switch, moved in [("true", False), ("false", True)]:
        _, params, run = built(tiny, f"model.qk_norm={switch}")
        assert (np.abs(run(grown(params)) - run(params)).max() > 1e-3) == moved


def test_qk_norm_stands_before_the_rotation(tiny):
    """With a scale of its own for each channel the order matters: norm, then rotary positions."""
    model, params, _ = built(tiny, "model.qk_norm=true", "model.layers=1")
    mixer, own = model.blocks()[0].mixer, params["block_0"]["mixer"]
    own["query_norm"]["scale"] = own["query_norm"]["scale"] * jnp.linspace(0.5, 2, own["query_norm"]["scale"].size)
    x = jax.random.normal(jax.random.key(1), (1, 5, 24))
    H, C = model.config.heads, 24 // model.config.heads
    heads = lambda name: np.asarray(x[0] @ own[name]["kernel"]).reshape(5, H, C)

    def turned(name):
        z = heads(name)
        z = z / np.sqrt((z * z).mean(-1, keepdims=True) + 1e-5) * np.asarray(own[f"{name}_norm"]["scale"])
        angles = np.arange(5)[:, None, None] * model.config.rope_base ** (-np.arange(C // 2) * 2 / C)
        waves = (z[..., : C // 2] + 1j * z[..., C // 2 :]) * np.exp(1j * angles)
        return np.concatenate([waves.real, waves.imag], axis=-1)

    scores = np.einsum("thc,shc->hts", turned("query"), turned("key")) / np.sqrt(C)
    scores = np.where(np.tri(5), scores, -np.inf)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = np.einsum("hts,shc->thc", weights, heads("value")).reshape(5, 24) @ np.asarray(own["out"]["kernel"])
    got, _ = mixer.apply({"params": own}, x, jnp.arange(5)[None])
    np.testing.assert_allclose(got[0], wanted, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, id="-".join(names))
        for names in itertools.zip_longest(MIXERS, CHANNELS, DEPTHS, LINEARS, fillvalue="")
    ],
)
def test_zero_init_starts_as_the_embedding_alone(names, tiny):
    """Every branch ends in a projection that is 0 and has a gradient, whatever it is made of."""
    keys = ("mixer", "channel", "depth", "linear")
    words = [f"model.{key}={word}" for key, word in zip(keys, names, strict=True) if word]
    model, params, run = built(tiny, "model.zero_init=true", "model.layers=1", *words)
    x = RMSNorm().apply({"params": params["norm"]}, params["embedding"][TOKENS])
    np.testing.assert_allclose(run(params), x @ params["head"], atol=1e-5)
    slopes = jax.jit(jax.grad(lambda p: jnp.mean(model.apply({"params": p}, TOKENS)[0] ** 2)))(params)
    for branch, last in [("mixer", "out"), ("channel", "down")]:
        parts = slopes["block_0"][branch]
        moved = jax.tree.map(lambda g: float(jnp.abs(g).max()), parts.get("experts", parts)[last])
        assert max(jax.tree.leaves(moved)) > 0


def test_x0_skip(tiny):
    """x <- a x + b x_0 before each layer; a, b start as 1, 0: the plain decoder."""
    _, params, plain = built(tiny)
    _, more, skipping = built(tiny, "model.x0_skip=true")
    assert set(more) - set(params) == {"skip_0", "skip_1"}
    start = params | {"skip_0": more["skip_0"], "skip_1": more["skip_1"]}
    np.testing.assert_array_equal(skipping(start), plain(params))

    model, _, _ = built(tiny)
    numbers = {"skip_0": jnp.array([0.5, 0.25]), "skip_1": jnp.array([-0.75, 2.0])}
    x = x0 = params["embedding"][TOKENS]
    for i, block in enumerate(model.blocks()):
        a, b = numbers[f"skip_{i}"]
        x, *_ = block.apply({"params": params[f"block_{i}"]}, a * x + b * x0, jnp.arange(12)[None])
    wanted = RMSNorm().apply({"params": params["norm"]}, x) @ params["head"]
    np.testing.assert_allclose(skipping(params | numbers), wanted, atol=1e-5)


def test_unet(tiny):
    """x <- x + w out[L - 1 - i] before each layer behind the middle; w starts as 1."""
    model, params, skipping = built(tiny, "model.layers=4", "model.unet=true")
    assert {name for name in params if "unet" in name} == {"unet_2", "unet_3"}
    assert params["unet_2"] == params["unet_3"] == 1

    weights = {2: 0.5, 3: -2.0}
    x, outputs = params["embedding"][TOKENS], []
    for i, block in enumerate(model.blocks()):
        x = x + weights[i] * outputs[3 - i] if i in weights else x
        x, *_ = block.apply({"params": params[f"block_{i}"]}, x, jnp.arange(12)[None])
        outputs.append(x)
    wanted = RMSNorm().apply({"params": params["norm"]}, x) @ params["head"]
    got = skipping(params | {f"unet_{i}": jnp.array([w]) for i, w in weights.items()})
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [0, 1])
def test_head_gate(tiny, kv_heads):
    """Each head times 2 sigmoid(w x), x being what the mixer is given; w starts at 0: the plain decoder."""
    flags = ("model.heads=4", "model.layers=1", f"model.kv_heads={kv_heads}")
    model, params, plain = built(tiny, *flags)
    gated, more, run = built(tiny, *flags, "model.head_gate=true")
    own = params["block_0"]["mixer"]
    assert set(more["block_0"]["mixer"]) - set(own) == {"gate"}
    start = params | {"block_0": params["block_0"] | {"mixer": own | {"gate": more["block_0"]["mixer"]["gate"]}}}
    np.testing.assert_array_equal(run(start), plain(params))

    gate = jax.random.normal(jax.random.key(2), (24, 4))
    x, eye = jax.random.normal(jax.random.key(1), (2, 5, 24)), own | {"out": {"kernel": jnp.eye(24)}}
    heads, _ = model.blocks()[0].mixer.apply({"params": eye}, x, jnp.arange(5)[None])
    got, _ = gated.blocks()[0].mixer.apply({"params": eye | {"gate": gate}}, x, jnp.arange(5)[None])
    wanted = np.asarray(heads).reshape(2, 5, 4, 6) * 2 / (1 + np.exp(-np.asarray(x @ gate)))[..., None]
    np.testing.assert_allclose(got, wanted.reshape(2, 5, 24), atol=1e-5)


def test_value_embedding(tiny):
    """The values of layers that are told so get W norm(x_0); W starts at 0: the plain decoder."""
    _, params, plain = built(tiny, "model.layers=3")
    model, more, run = built(tiny, "model.layers=3", "model.value_embedding=none x0")
    new = {
        f"{i}/{name}" for i in range(3) for name in {*more[f"block_{i}"]["mixer"]} - {"query", "key", "value", "out"}
    }
    assert new == {"1/start", "1/start_norm"}
    own = more["block_1"]["mixer"]
    assert not np.any(own["start"]["kernel"])
    added = {name: own[name] for name in ("start", "start_norm")}
    laid = lambda added: params | {"block_1": params["block_1"] | {"mixer": params["block_1"]["mixer"] | added}}
    np.testing.assert_array_equal(run(laid(added)), plain(params))
    grown = laid(added | {"start": {"kernel": jax.random.normal(jax.random.key(4), (24, 24))}})

    @jax.jit
    def by_blocks(own):
        x = x0 = own["embedding"][TOKENS]
        for i, block in enumerate(model.blocks()):
            x, *_ = block.apply({"params": own[f"block_{i}"]}, x, jnp.arange(12)[None], None, x0 if i == 1 else None)
        return RMSNorm().apply({"params": own["norm"]}, x) @ own["head"]

    np.testing.assert_allclose(run(grown), by_blocks(grown), atol=1e-5)

    # A layer whose own values are 0 gives what the projection alone makes: a value kernel in its place.
    kernel, scale = jax.random.normal(jax.random.key(5), (24, 24)), jnp.linspace(0.5, 2, 24)
    mixer, x0 = model.blocks()[1].mixer, jax.random.normal(jax.random.key(6), (2, 5, 24))
    x, at = jax.random.normal(jax.random.key(1), (2, 5, 24)), jnp.arange(5)[None]
    both = params["block_1"]["mixer"] | {"start": {"kernel": kernel}, "start_norm": {"scale": scale}}
    got, _ = mixer.apply({"params": both}, x, at, None, x0)
    q, k = (np.asarray(x @ both[name]["kernel"]).reshape(2, 5, 2, 12) for name in ("query", "key"))
    turn = lambda z: np.asarray(rotary(jnp.asarray(z).swapaxes(1, 2), at, 10_000.0))
    normed = np.asarray(x0 / np.sqrt(np.mean(x0**2, -1, keepdims=True) + 1e-5)) * np.asarray(scale)
    v = (np.asarray(x @ both["value"]["kernel"]) + normed @ np.asarray(kernel)).reshape(2, 5, 2, 12)
    scores = np.einsum("bhtc,bhsc->bhts", turn(q), turn(k)) / np.sqrt(12)
    weights = np.asarray(jax.nn.softmax(np.where(np.tri(5), scores, -np.inf)))
    wanted = np.einsum("bhts,bshc->bthc", weights, v).reshape(2, 5, 24) @ np.asarray(both["out"]["kernel"])
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_mixer_without_values_is_refused(tiny):
    for words in ("monarch", "attention monarch_heads"):
        model = Decoder(tiny(*SHAPE, f"model.mixer={words}", "model.value_embedding=x0").model, VOCAB)
        with pytest.raises(UserError, match=r"config.model.value_embedding: layer \d is monarch"):
            model.check()
    Decoder(tiny(*SHAPE, "model.mixer=attention monarch", "model.value_embedding=x0 none").model, VOCAB).check()


@pytest.mark.parametrize("linear, depth", [("dense", "stack"), ("monarch", "ode")])
def test_decoding_and_causality_with_all_of_them(linear, depth, tiny):
    """In chunks with a cache the logits are those of the forward pass, whatever the Linears and the depth; no later
    token moves one."""
    words = ("model.unet=true", "model.head_gate=true", "model.value_embedding=x0", "model.x0_skip=true")
    model, params, _ = built(tiny, *words, f"model.linear={linear}", f"model.depth={depth}", "model.ode.time=none")
    new = lambda path: any(word in path for word in ("start", "mixer/gate", "unet"))
    waves = lambda leaf: 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape)
    params = by_path(params, lambda path, leaf: leaf + waves(leaf) if new(path) else leaf)
    compiled = jax.jit(lambda params, tokens: model.apply({"params": params}, tokens)[0])
    logits_of = lambda tokens: compiled(params, tokens)
    whole = np.asarray(logits_of(TOKENS))
    for word in ("mixer/start/", "mixer/gate", "unet"):  # each is in what is compared
        without = compiled(by_path(params, lambda p, leaf, w=word: 0 * leaf if w in p else leaf), TOKENS)
        assert np.abs(without - whole).max() > 1e-3, word
    step = jax.jit(lambda tokens, at, cache: model.apply({"params": params}, tokens, at, cache)[:2])
    cache, parts = model.init_cache(2, 16), []
    for first in (0, 4, 8):
        at = jnp.broadcast_to(jnp.arange(first, first + 4), (2, 4))
        logits, cache = step(TOKENS[:, first : first + 4], at, cache)
        parts.append(logits)
    apart = np.abs(np.concatenate(parts, axis=1) - whole)
    assert apart.max() < 1e-4
    other = logits_of(TOKENS.at[:, 9:].set(3))
    np.testing.assert_array_equal(np.asarray(other)[:, :9], whole[:, :9])
    assert np.abs(np.asarray(other)[:, 9:] - whole[:, 9:]).max() > 1e-3


@pytest.mark.parametrize("linear", ["dense", "ternary", "monarch"])
def test_xavier(linear, tiny):
    """Matrices, embedding and head are uniform within gain * sqrt(6 / (in + out)), of a Monarch factor by block; the
    branches' last matrices have the gain that many branches need. All else begins as it did."""
    flags = (f"model.linear={linear}", "model.layers=1", "model.width=32", "model.ffn_mult=2")
    (_, plain, _), (_, params, _) = built(tiny, *flags), built(tiny, *flags, "model.init=xavier")
    for (path, leaf), was in zip(paths(params).items(), paths(plain).values(), strict=True):
        role = roles.of(path)
        if role.kind not in ("kernel", "factor", "embedding", "head"):
            np.testing.assert_array_equal(leaf, was, err_msg=path)
            continue
        last = path.endswith(("out/kernel", "out/left", "down/kernel", "down/left"))
        gain = 0.5**0.5 if last else 1.0
        bound = gain * np.sqrt(6 / sum(leaf.shape[-2:]))
        values = np.abs(np.asarray(leaf)).ravel()
        assert 0.9 * bound < values.max() <= bound, path
        assert values.mean() == pytest.approx(bound / 2, rel=0.15), path


def test_dropout_of_branches_alone(tiny):
    """What a block adds is thinned out; the embedding and attention's weights are whole."""
    model, params, _ = built(tiny, "model.dropout=0.5", "model.dropout_on=branches", "model.zero_init=true")
    keys = {"dropout": jax.random.key(0)}
    plain = model.apply({"params": params}, TOKENS)[0]
    np.testing.assert_array_equal(model.apply({"params": params}, TOKENS, rngs=keys)[0], plain)  # branches are 0
    model, params, _ = built(tiny, "model.dropout=0.5", "model.dropout_on=branches")
    mixer, own = model.blocks()[0].mixer, {"params": params["block_0"]["mixer"]}
    x, at = jax.random.normal(jax.random.key(1), (2, 5, 24)), jnp.arange(5)[None]
    np.testing.assert_array_equal(mixer.apply(own, x, at, rngs=keys)[0], mixer.apply(own, x, at)[0])
    block, own = model.blocks()[0], {"params": params["block_0"]}
    assert np.abs(block.apply(own, x, at, rngs=keys)[0] - block.apply(own, x, at)[0]).max() > 0.1
    every, params, _ = built(tiny, "model.dropout=0.5", "model.zero_init=true")
    assert np.abs(every.apply({"params": params}, TOKENS, rngs=keys)[0] - plain).max() > 0.1


def test_word_dropout():
    """Of each row some tokens are dropped wherever they stand, others in another row; the mean stays."""
    tokens = jnp.array([[3, 5, 3, 7, 5], [3, 5, 3, 7, 5]])
    x = jax.random.normal(jax.random.key(0), (2, 5, 4))
    drop = lambda key: WordDropout(0.25).apply({}, x, tokens, rngs={"dropout": key})
    many = np.asarray(jax.jit(jax.vmap(drop))(jax.random.split(jax.random.key(1), 4096)), np.float64)
    kept = (many != 0).all(-1)
    np.testing.assert_allclose(many, np.where(kept[..., None], np.asarray(x) / 0.75, 0), rtol=1e-6)
    np.testing.assert_array_equal(kept[..., [0, 1]], kept[..., [2, 4]])
    for a, b in [((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 1), (0, 3))]:  # words, and rows, have lots of their own
        both = (kept[:, *a] & kept[:, *b]).mean()
        assert abs(both - 0.75**2) < 5 * 0.5 / 64, (a, b)
    np.testing.assert_array_equal(WordDropout(0.25).apply({}, x, tokens), x)


def test_word_dropout_in_a_decoder(tiny):
    """Where no layer adds anything, a token that is not read has logits of 0; the head has all tokens."""
    switches = "model.word_dropout=0.5", "model.zero_init=true", "model.tie=true", "model.norm_eps=1e-9"
    model, params, run = built(tiny, *switches)
    logits = np.asarray(model.apply({"params": params}, TOKENS, rngs={"dropout": jax.random.key(0)})[0])
    unread, plain = (logits == 0).all(-1), np.asarray(run(params))
    np.testing.assert_allclose(logits, np.where(unread[..., None], 0, plain), atol=1e-6)
    assert 0 < unread.mean() < 1 and not (plain == 0).any()
    np.testing.assert_array_equal(unread[0, 0], unread[0, 11])  # the same token


def test_relu2(tiny):
    model, params, _ = built(tiny, "model.channel=relu2", "model.ffn_mult=6")
    own, x = params["block_0"]["channel"], jax.random.normal(jax.random.key(1), (2, 3, 24))
    assert {name: leaf["kernel"].shape for name, leaf in own.items()} == {"up": (24, 144), "down": (144, 24)}
    wanted = np.maximum(np.asarray(x @ own["up"]["kernel"]), 0) ** 2 @ np.asarray(own["down"]["kernel"])
    np.testing.assert_allclose(model.blocks()[0].channel.apply({"params": own}, x, True)[0], wanted, atol=1e-5)
