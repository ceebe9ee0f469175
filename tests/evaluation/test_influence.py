"""Influence: each method equals its formula written out with dense matrices in float64, and what retraining shows."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

from juliagpt_jax.evaluation import kronecker
from juliagpt_jax.evaluation.chunk_scores import OUTPUTS, Lines, lines
from juliagpt_jax.evaluation.influence import METHODS, Checkpoint, Question, Sketch, groups_of
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.layers import Linear
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.training.state import initial_state

VOCAB, CONTEXT, LEAD = 5, 8, 0


class Toy(nn.Module):
    """Logits from each token alone: an embedding, two Linears with a bend between them."""

    @nn.compact
    def __call__(self, tokens):
        table = self.param("embedding", nn.initializers.normal(1.0), (VOCAB, 3))
        x = jnp.tanh(Linear(4, name="in")(table[tokens]))
        return Linear(VOCAB, name="out")(x), None


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def text(count, seed, length=(6, 8)) -> Lines:
    rng = np.random.default_rng(seed)
    walk = rng.dirichlet(np.full(VOCAB - 1, 0.4), size=VOCAB)
    rows = []
    for _ in range(count):
        row = [LEAD]
        for _ in range(rng.integers(*length)):
            row.append(1 + int(rng.choice(VOCAB - 1, p=walk[row[-1]])))
        rows += [*row[1:], LEAD]
    return lines(np.array(rows, np.uint8), LEAD)


TRAIN, QUERY = text(9, 1), text(4, 2)
GROUPS = groups_of(["a", "b", "a", "b"], QUERY.lengths)[1].astype(np.float64)


def parameters(seed):
    params = Toy().init(jax.random.key(seed), jnp.zeros((1, 2), int))["params"]
    return jax.tree.map(lambda p: 2 * p.astype(jnp.float64), params)


@functools.cache
def checkpoints():
    return [Checkpoint(parameters(seed), lr) for seed, lr in enumerate((0.5, 0.1))]


def question(**more):
    fixed = {"model": Toy(), "context": CONTEXT, "lead": LEAD, "train": TRAIN, "query": QUERY, "groups": GROUPS}
    return Question(**(fixed | {"features": 7, "fit_windows": 4} | more))


def pairs(chunks):
    """(inputs, targets) of each chunk; Toy looks at one token, so windows do not matter to it."""
    for start, n in zip(chunks.starts, chunks.lengths, strict=True):
        own = np.concatenate([[LEAD], chunks.tokens[start : start + n]]).astype(int)
        yield own[:-1], own[1:]


def flat(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def by_hand(params, chunks, margin=False):
    """Rows of gradients (chunks, P) of each chunk's mean loss or margin, and its mean of 1 - p: one chunk at a time."""

    def mean(params, inputs, targets):
        p = jax.nn.softmax(Toy().apply({"params": params}, inputs[None])[0][0])[np.arange(len(targets)), targets]
        return jnp.mean(jnp.log(p / (1 - p)) if margin else -jnp.log(p)), jnp.mean(1 - p)

    found = [jax.grad(mean, has_aux=True)(params, *pair) for pair in pairs(chunks)]
    return np.stack([flat(g) for g, _ in found]), np.array([float(doubt) for _, doubt in found])


def test_tracin_is_its_formula():
    wanted = 0
    for params, lr in checkpoints():
        train, query = by_hand(params, TRAIN)[0], by_hand(params, QUERY)[0]
        wanted = wanted + lr * TRAIN.lengths[:, None] * (train @ (GROUPS.T @ query).T)
    np.testing.assert_allclose(METHODS["tracin"](question(), checkpoints()), wanted, rtol=1e-10, atol=1e-12)


def test_cosine_is_its_formula():
    wanted = 0
    for params, _ in checkpoints():
        unit = [g / np.linalg.norm(g, axis=1, keepdims=True) for g in (by_hand(params, c)[0] for c in (TRAIN, QUERY))]
        wanted = wanted + unit[0] @ (GROUPS.T @ unit[1]).T / 2
    np.testing.assert_allclose(METHODS["cosine"](question(), checkpoints()), wanted, rtol=1e-10, atol=1e-12)
    one = question(query=TRAIN.take(np.array([3])), groups=np.ones((1, 1)))
    assert METHODS["cosine"](one, checkpoints())[3, 0] == pytest.approx(1, abs=1e-12)


def test_trak_is_its_formula_with_a_dense_matrix():
    size = len(flat(parameters(0)))
    matrix = np.asarray(Sketch.draw(size, 7, 0).apply(jnp.eye(size)))  # P x k
    total, doubts = 0, 0
    for params, _ in checkpoints():
        train, doubt = by_hand(params, TRAIN, margin=True)
        query, query_doubt = by_hand(params, QUERY, margin=True)
        phi, asked = train @ matrix, GROUPS.T @ (query_doubt[:, None] * (query @ matrix))
        gram = phi.T @ phi / len(phi)
        inverse = np.linalg.inv(gram + 0.1 * np.linalg.eigvalsh(gram).mean() * np.eye(7))
        total, doubts = total + phi @ inverse @ asked.T / 2, doubts + doubt / 2
    wanted = total * (doubts * TRAIN.lengths)[:, None]
    np.testing.assert_allclose(METHODS["trak"](question(), checkpoints()), wanted, rtol=1e-9, atol=1e-12)


def test_a_sketch_keeps_inner_products():
    """Without bias, with the variance of a dense random projection, and with P numbers instead of P x k."""
    size, k, draws = 203, 32, 400
    x, y = (jnp.asarray(np.random.default_rng(s).normal(0.5, 1, size=(1, size))) for s in (0, 1))
    true, bound = float((x @ y.T)[0, 0]), float(jnp.sum(x * y) ** 2 + jnp.sum(x**2) * jnp.sum(y**2)) / k
    found = []
    for seed in range(draws):
        sketch = Sketch.draw(size, k, seed)
        assert sketch.indices.shape == sketch.signs.shape == (k, 7)
        assert sorted(p for p in np.asarray(sketch.indices).ravel() if p < size) == list(range(size))
        found.append(float((sketch.apply(x) @ sketch.apply(y).T)[0, 0]))
    assert abs(np.mean(found) - true) < 3 * np.sqrt(bound / draws)
    assert np.var(found) < 1.3 * bound


# EK-FAC


class Plus(nn.Module):
    """x + bias."""

    @nn.compact
    def __call__(self, x):
        return x + self.param("bias", nn.initializers.zeros, (x.shape[-1],))[None, None]


class Golden(nn.Module):
    """Rows of a table through Linear, GELU, Linear, with biases."""

    @nn.compact
    def __call__(self, tokens):
        x = self.param("embedding", nn.initializers.zeros, (20, 6))[tokens]
        x = Plus(name="b1")(Linear(7, name="l1")(x))
        return Plus(name="b2")(Linear(3, name="l2")(nn.gelu(x, approximate=False))), None


def test_factors_are_the_golden_ones(golden):
    """The input factors exactly; the output factors, whose labels are drawn, within 4 sigma of as many draws."""
    z = np.load(golden / "kfac_expand_ce" / "arrays.npz")
    params = {f"l{i}": {"kernel": jnp.asarray(z[f"W/l{i}.weight"].T)} for i in (1, 2)}
    params |= {f"b{i}": {"bias": jnp.asarray(z[f"W/l{i}.bias"])} for i in (1, 2)}
    params["embedding"] = jnp.asarray(z["x"].reshape(20, 6))
    draws = 2_000
    tokens = np.tile(np.arange(20), (draws, 1))
    found = kronecker.factors(Golden(), params, tokens, jax.random.key(0))
    assert sorted(found) == ["l1/kernel", "l2/kernel"]
    for name in ("l1", "l2"):
        a, b = (np.asarray(m) / tokens.size for m in found[f"{name}/kernel"])
        np.testing.assert_allclose(a, z[f"A/{name}"], rtol=1e-10, atol=1e-12)
        scale = np.abs(z[f"B/{name}"]).max()  # a product of two gradients has about this deviation, and a mean of one
        np.testing.assert_allclose(b, z[f"B/{name}"], atol=4 * 3 * scale / np.sqrt(tokens.size))


def test_every_linear_of_a_decoder_is_seen_and_its_gradients_are_true(tiny):
    """sum_t a g' over the positions is the kernel's gradient: the a and the g of the same Linear of the same block."""
    with jax.enable_x64(False):
        config = tiny("model.width=16", "model.layers=2")
        model = build_model(config, 11)
        params = jax.jit(lambda: initial_state(config, model).params)()
        tokens = jax.random.randint(jax.random.key(1), (1, 1), 0, 11)  # one position: its outer product is the gradient
        found = kronecker.factors(model, params, tokens, jax.random.key(2))
        kernels = [path for path in paths(params) if path.endswith("/kernel")]
        assert len(kernels) == 14 and sorted(found) == sorted(kernels)

        def loss(params):
            logits, *_ = model.apply({"params": params}, tokens)
            return jnp.sum(OUTPUTS["sampled"](logits, jnp.zeros((1, 1), int), jax.random.key(2)))

        grads = paths(jax.jit(jax.grad(loss))(params))
        for path, (a, b) in found.items():
            norm = float(jnp.sum(grads[path] ** 2))
            np.testing.assert_allclose(jnp.trace(a) * jnp.trace(b), norm, rtol=1e-4, atol=1e-9, err_msg=path)
            np.testing.assert_allclose(grads[path] @ grads[path].T, a * jnp.trace(b), rtol=1e-3, atol=1e-5 * norm)


class Looped(nn.Module):
    """A Linear inside a loop, between two outside it."""

    @nn.compact
    def __call__(self, tokens):
        inner = Linear(3, name="inner", parent=None)
        x = Linear(3, name="before")(jax.nn.one_hot(tokens, VOCAB, dtype=jnp.float64))
        kernel = self.param("inner", lambda key: inner.init(key, x)["params"])
        x, _ = jax.lax.scan(lambda x, _: (jnp.tanh(inner.apply({"params": kernel}, x)), None), x, None, length=2)
        return Linear(VOCAB, name="after")(x), None


@pytest.mark.long
def test_a_linear_inside_a_loop_has_factors_too():
    params = jax.tree.map(jnp.asarray, Looped().init(jax.random.key(0), jnp.zeros((1, 2), int))["params"])
    curvature = kronecker.fit(Looped(), params, TRAIN, CONTEXT, LEAD, 4, 0)
    assert sorted(curvature.bases) == ["after/kernel", "before/kernel", "inner/kernel"]
    found = kronecker.factors(Looped(), params, jnp.zeros((1, 1), int), jax.random.key(0))
    assert jnp.linalg.matrix_rank(found["inner/kernel"][0]) == 2, "one position, two uses"
    assert (curvature.eigenvalues["inner"]["kernel"] > 0).all()


def sampled_gradients(params, chunks, draws):
    """Gradients (draws, tokens, P), labels drawn from the model: one token at a time."""
    inputs = np.concatenate([pair[0] for pair in pairs(chunks)])
    logits = Toy().apply({"params": params}, inputs[None])[0][0]
    labels = jax.random.categorical(jax.random.key(5), logits[None], shape=(draws, len(inputs)))
    one = lambda x, y: jax.grad(lambda p: -jax.nn.log_softmax(Toy().apply({"params": p}, x[None, None])[0][0, 0])[y])(
        params
    )
    return jax.vmap(lambda row: jax.vmap(one)(inputs, row))(labels)


@pytest.mark.long
def test_eigenvalues_are_the_best_in_their_basis():
    """They are the diagonal of the Fisher matrix in the Kronecker basis, so nearer to it than the product of the
    factors' own eigenvalues is (George et al. 2018, theorem 2); and `solve` inverts just that matrix."""
    params = checkpoints()[0].params
    many = TRAIN.take(np.tile(np.arange(9), 150))
    curvature = kronecker.fit(Toy(), params, many, CONTEXT, LEAD, 150 * 9 * 2, 0)
    grads = sampled_gradients(params, TRAIN, 600)
    for name, path in [("in", "in/kernel"), ("out", "out/kernel")]:
        g = np.asarray(grads[name]["kernel"]).reshape(-1, *params[name]["kernel"].shape)
        fisher = np.einsum("nij,nkl->ijkl", g, g).reshape(2 * (g[0].size,)) / len(g)
        qa, qb = (np.asarray(q) for q in curvature.bases[path])
        basis = np.kron(qa, qb)
        wanted = np.diag(basis.T @ fisher @ basis)
        got = np.asarray(curvature.eigenvalues[name]["kernel"]).ravel()
        # Lines weigh alike here and tokens there; both are samples of labels.
        np.testing.assert_allclose(got, wanted, atol=0.15 * wanted.max())
        a, b = np.einsum("nij,nkj->ik", g, g), np.einsum("nij,nik->jk", g, g)
        product = np.outer(np.diag(qa.T @ a @ qa), np.diag(qb.T @ b @ qb)).ravel()
        product *= wanted.sum() / product.sum()
        error = lambda values, f=fisher, q=basis: np.linalg.norm(f - q @ np.diag(values) @ q.T)
        assert error(got) < error(product)
        direction = np.random.default_rng(3).normal(size=(2, *g[0].shape))
        tree = jax.tree.map(lambda p: jnp.zeros((2, *p.shape)), params)
        tree = tree | {name: {"kernel": jnp.asarray(direction)}}
        solved = curvature.solve(tree, 0.3)[name]["kernel"]
        dense = basis @ np.diag(got + 0.3 * got.mean()) @ basis.T
        np.testing.assert_allclose(
            solved.reshape(2, -1), np.linalg.solve(dense, direction.reshape(2, -1).T).T, rtol=1e-8
        )


def test_ekfac_is_the_query_gradient_preconditioned():
    params, ask = checkpoints()[0].params, question()
    curvature = kronecker.fit(Toy(), params, TRAIN, CONTEXT, LEAD, ask.fit_windows, ask.seed)
    train, query = by_hand(params, TRAIN)[0], GROUPS.T @ by_hand(params, QUERY)[0]
    structure, shapes = jax.tree.structure(params), [leaf.shape for leaf in jax.tree.leaves(params)]
    cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    tree = [jnp.asarray(p.reshape(2, *s)) for p, s in zip(np.split(query, cuts, axis=1), shapes, strict=True)]
    solved = curvature.solve(jax.tree.unflatten(structure, tree), ask.damping)
    direction = np.concatenate([np.asarray(leaf).reshape(2, -1) for leaf in jax.tree.leaves(solved)], axis=1)
    wanted = TRAIN.lengths[:, None] * (train @ direction.T)
    np.testing.assert_allclose(METHODS["ekfac"](ask, checkpoints()[:1]), wanted, rtol=1e-9, atol=1e-12)


# Against retraining


class Bigram(nn.Module):
    """Softmax regression on the last token: with a ridge its loss has one minimum."""

    @nn.compact
    def __call__(self, tokens):
        return Linear(VOCAB, name="out")(jax.nn.one_hot(tokens, VOCAB, dtype=jnp.float64)), None


RIDGE = 0.02


def fit_bigram(pairs):
    inputs, targets = (np.concatenate(column) for column in zip(*pairs, strict=True))
    counts = np.zeros((VOCAB, VOCAB))
    np.add.at(counts, (inputs, targets), 1 / len(inputs))

    def loss(w):
        logits = w.reshape(VOCAB, VOCAB)
        value = counts.sum(1) @ scipy.special.logsumexp(logits, axis=1) - (counts * logits).sum() + RIDGE / 2 * w @ w
        slope = counts.sum(1, keepdims=True) * scipy.special.softmax(logits, axis=1) - counts
        return value, slope.ravel() + RIDGE * w

    done = scipy.optimize.minimize(loss, np.zeros(VOCAB**2), jac=True, method="L-BFGS-B", tol=1e-14)
    return done.x.reshape(VOCAB, VOCAB)


def test_leaving_a_chunk_out_of_a_convex_problem():
    """Trained again without each chunk in turn, the query's loss rises as the influence of the chunk said."""
    train, query = text(30, 1), text(30, 1).take(np.arange(0, 30, 3))
    rows, asked = list(pairs(train)), list(pairs(query))
    inputs, targets = (np.concatenate(column) for column in zip(*asked, strict=True))
    loss = lambda w: -np.mean(scipy.special.log_softmax(w[inputs], axis=1)[np.arange(len(targets)), targets])
    weights = fit_bigram(rows)
    rise = [loss(fit_bigram([*rows[:i], *rows[i + 1 :]])) - loss(weights) for i in range(len(rows))]
    point = [Checkpoint({"out": {"kernel": jnp.asarray(weights)}}, 1.0)]
    groups = groups_of(["all"] * 10, query.lengths)[1].astype(np.float64)
    how = {"model": Bigram(), "train": train, "query": query, "groups": groups, "features": VOCAB**2}
    curvature = kronecker.fit(Bigram(), point[0].params, train, CONTEXT, LEAD, 2_000, 0)
    ridge = RIDGE / float(jnp.mean(curvature.eigenvalues["out"]["kernel"]))
    ask = question(**how, fit_windows=2_000, damping=ridge)
    found = {name: METHODS[name](ask, point)[:, 0] for name in METHODS}
    correlation = {name: float(scipy.stats.spearmanr(scores, rise).statistic) for name, scores in found.items()}
    slope = np.polyfit(found["ekfac"] / train.lengths.sum(), rise, 1)[0]
    assert 0.8 < slope < 1.25  # in nats, not only in rank
    assert correlation["trak"] > 0.85 and correlation["ekfac"] > 0.75, correlation
    assert min(correlation["tracin"], correlation["cosine"]) > 0.5, correlation
    assert min(correlation["trak"], correlation["ekfac"]) > max(correlation["tracin"], correlation["cosine"])


def test_groups_are_means_over_tokens():
    names, weights = groups_of(["b", "a", "b"], np.array([10, 7, 30]))
    assert names == ["a", "b"]
    np.testing.assert_allclose(weights, [[0, 0.25], [1, 0], [0, 0.75]])
