"""ODE depth: our loop is diffrax's, every solver has its order, gradients are those of the steps taken, and a schedule
keeps every law that an adaptive solve breaks."""

import functools

import chex
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import devices
from juliagpt_jax.ground.errors import NumericalError, UserError
from juliagpt_jax.inference import schedule
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models import fields, ode, roles
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import count, paths
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.state import Frozen, initial_state

ORDER = {"euler": 1, "midpoint": 2, "heun": 2, "ralston": 2, "rk4": 4, "bosh3": 3, "tsit5": 5, "dopri5": 5}
VOCAB, B, T, SLOTS = 17, 3, 10, 12
UNEVEN = (0.0, 0.1, 0.35, 0.4, 1.0)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


# A field that is small, depends on time and is nowhere linear.


def swirl(args, y, t):
    return jnp.tanh(args["w"] @ y + t * args["b"]) + 0.3 * jnp.sin(3.0 * t) * y


def problem(dtype=jnp.float64):
    rng = np.random.default_rng(0)
    args = {"w": jnp.asarray(rng.normal(size=(4, 4)), dtype), "b": jnp.asarray(rng.normal(size=4), dtype)}
    return args, jnp.asarray(rng.normal(size=4), dtype)


def times(n):
    return jnp.linspace(0.0, 1.0, n + 1)


@functools.cache
def end(name, steps, way="direct"):
    args, y = problem()
    return np.asarray(ode.ADJOINTS[way](swirl, name, args, y, times(steps)))


# The loop.


def test_every_solver_is_tested():
    assert set(ORDER) == set(ode.SOLVERS)


@pytest.mark.parametrize("name", ode.SOLVERS)
def test_the_loop_is_diffrax(name, double):
    """On uneven steps, to rounding: also where diffrax takes the last stage of a step for the first of the next."""
    args, y = problem()
    got = ode.direct(swirl, name, args, y, jnp.asarray(UNEVEN))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: swirl(args, y, t)),
        ode.solver(name),
        0.0,
        1.0,
        None,
        y,
        args,
        stepsize_controller=diffrax.StepTo(ts=jnp.asarray(UNEVEN)),
    )
    np.testing.assert_allclose(got, solution.ys[0], rtol=1e-13)
    assert solution.stats["num_steps"] == len(UNEVEN) - 1


@pytest.mark.parametrize("name, way", [*((name, "direct") for name in ORDER), ("midpoint", "reversible")])
def test_order_of_convergence(name, way, double):
    """The slope of log error against log step."""
    exact = end("dopri5", 4096)
    steps = np.array([32, 48, 64])
    errors = [np.abs(end(name, int(n), way) - exact).max() for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - ORDER[name]) < 0.2, f"{slope:.2f}"


def test_stages_that_only_an_error_estimate_reads_are_left_out():
    assert {name: ode.tableau(name).stages for name in ode.SOLVERS} == {
        "euler": 1, "midpoint": 2, "heun": 2, "ralston": 2, "rk4": 4, "bosh3": 3, "tsit5": 6, "dopri5": 6,
    }  # fmt: skip


@pytest.mark.parametrize("way", ode.ADJOINTS)
def test_every_way_takes_the_same_steps(way, double):
    """70 steps: two levels of recomputation and a rest."""
    args, y = problem()
    got = ode.ADJOINTS[way](swirl, "heun", args, y, times(70))
    pairs = way == "reversible"
    unrolled = jax.jit(lambda y: ode.unrolled(swirl, "heun", args, y, [i / 70 for i in range(71)], pairs))(y)
    np.testing.assert_allclose(got, unrolled, rtol=1e-12)
    assert np.abs(got - end("heun", 70)).max() < (1e-3 if pairs else 1e-12)


# Gradients.


def gradient(way, name, steps, dtype=jnp.float64):
    args, y = problem(dtype)
    loss = lambda args, y: jnp.sum(ode.ADJOINTS[way](swirl, name, args, y, times(steps).astype(dtype)) ** 2)
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(args, y)


def apart(ours, theirs):
    """Largest difference, relative to the largest entry."""
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    return np.abs(flat(ours) - flat(theirs)).max() / np.abs(flat(theirs)).max()


@pytest.mark.parametrize("way", ["direct", "recursive", "reversible"])
def test_gradients_are_finite_differences(way, double):
    args, y = problem()
    grads = gradient(way, "bosh3", 9)
    loss = jax.jit(lambda args, y: jnp.sum(ode.ADJOINTS[way](swirl, "bosh3", args, y, times(9)) ** 2))
    rng = np.random.default_rng(1)
    for _ in range(3):
        move = jax.tree.map(lambda a: rng.normal(size=a.shape), (args, y))
        ahead, behind = (jax.tree.map(lambda a, m, e=e: a + e * m, (args, y), move) for e in (1e-6, -1e-6))
        wanted = (loss(*ahead) - loss(*behind)) / 2e-6
        got = sum(jnp.vdot(g, m) for g, m in zip(*map(jax.tree.leaves, (grads, move)), strict=True))
        np.testing.assert_allclose(got, wanted, rtol=1e-7)


def test_recursive_and_direct_agree(double):
    assert apart(gradient("recursive", "heun", 70), gradient("direct", "heun", 70)) < 1e-12


@pytest.mark.long
def test_backsolve_is_right_in_the_limit_and_wrong_for_few_steps(double):
    assert apart(gradient("backsolve", "rk4", 64), gradient("direct", "rk4", 64)) < 1e-5
    assert apart(gradient("backsolve", "euler", 4), gradient("direct", "euler", 4)) > 0.1


def forward_differentiated(name, steps, dtype):
    """The gradient of the reversible stepping, by plain differentiation of its forward pass."""
    args, y = problem(dtype)
    loss = lambda args, y: jnp.sum(ode._reversible_forward(swirl, name, args, y, times(steps).astype(dtype))[0] ** 2)
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(args, y)


@pytest.mark.parametrize("steps", [4, 64])
def test_reversible_gradient_is_exact(steps):
    """To 1e-5 in float32, over 64 steps too."""
    exact = forward_differentiated("midpoint", steps, jnp.float32)
    assert apart(gradient("reversible", "midpoint", steps, jnp.float32), exact) < 1e-5


def memory(way, steps):
    """Bytes that the gradient of a solve over a state of 64 KiB, of 4 activations a step, needs beside its inputs."""
    field = lambda args, y, t: functools.reduce(lambda y, _: jnp.tanh(args["w"] * y), range(4), y)
    args, y = {"w": jnp.ones(128)[None]}, jnp.ones((128, 128))
    loss = lambda args, y: jnp.sum(ode.ADJOINTS[way](field, "euler", args, y, times(steps)))
    return jax.jit(jax.grad(loss)).lower(args, y).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.long
def test_memory_against_depth():
    """From 8 to 64 evaluations: as they grow, as their logarithm, not at all."""
    growth = {way: memory(way, 64) - memory(way, 8) for way in ode.ADJOINTS}
    state = 128 * 128 * 4
    assert growth["direct"] > 56 * 3 * state
    assert growth["recursive"] < 16 * state
    assert growth["reversible"] < state and growth["backsolve"] < state


# Time in the field.


def test_generated_weights_are_qkvflow(golden, double):
    """Time embedding, generated matrix and the gain and shift of a norm (tests/golden/e_diffeqformer)."""
    theirs = np.load(golden / "e_diffeqformer" / "temporal_linear_layernorm.npz")
    for i, t in enumerate(theirs["t"]):
        np.testing.assert_allclose(fields.wave_embedding(jnp.asarray(t), 8), theirs["time_embed"][i], atol=1e-10)
        names = {"in": "lin1_W", "in_bias": "lin1_b", "out": "lin2_W", "out_bias": "lin2_b"}
        linear = {ours: jnp.asarray(theirs[name]) for ours, name in names.items()}
        time = {"kernel": linear | {"modes": jnp.asarray(theirs["fW_W"])}}
        changed, _ = fields.Generated.at({"kernel": jnp.asarray(theirs["fW_b"])}, time, jnp.asarray(t))
        np.testing.assert_allclose(changed["kernel"], theirs["W_t"][i], atol=1e-10)
        norm = {ours: jnp.asarray(theirs[f"ln_{name}"]) for ours, name in names.items()}
        time = {"scale": norm | {"modes": jnp.asarray(theirs["ln_f_weight"]).T}}
        changed, _ = fields.Generated.at({"scale": jnp.ones(theirs["ln_f_weight"].shape[0])}, time, jnp.asarray(t))
        shift = theirs["ln_f_bias"] @ fields.generator(norm, jnp.asarray(t))
        x = np.asarray(theirs["x"])
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(x * np.asarray(changed["scale"]) + np.asarray(shift), theirs["ln_y"][i], atol=1e-6)


# In a model.


@pytest.fixture(scope="module")
def make(tiny):
    """A model of one ODE layer, or as overridden, random parameters (also where they start at 0) and tokens."""

    @functools.cache
    def build(*overrides):
        words = ["model.depth=ode", "model.layers=1", "model.width=16", "model.tie=false", "model.ode.speed=2.0"]
        settings = tiny(*words, *overrides)
        model = build_model(settings, VOCAB)
        tokens = jax.random.randint(jax.random.key(7), (B, T), 0, VOCAB)
        shapes = jax.eval_shape(model.init, jax.random.key(3), tokens)["params"]
        rng = np.random.default_rng(4)

        def fill(path, leaf):
            norm = str(path[-1].key) == "scale"
            size = leaf.shape[-2] ** -0.5 if leaf.ndim > 1 else 0.3
            return jnp.asarray(norm + size * rng.normal(size=leaf.shape), jnp.float32)

        return settings, model, jax.tree_util.tree_map_with_path(fill, shapes), tokens

    return build


def forward(model, params, tokens):
    return jax.jit(model.apply)({"params": params}, tokens)


def test_euler_is_a_stack_that_shares_weights(make, tiny):
    """With as many steps as blocks' worth of speed, and a field without time."""
    words = ("model.ode.time=none", "model.ode.steps=3", "model.ode.speed=3.0")
    _, model, params, tokens = make(*words)
    stack = build_model(tiny("model.layers=3", "model.width=16", "model.tie=false"), VOCAB)
    shared = {name: leaf for name, leaf in params.items() if name != "block_0"}
    shared |= {f"block_{i}": params["block_0"] for i in range(3)}
    np.testing.assert_allclose(forward(model, params, tokens)[0], forward(stack, shared, tokens)[0], atol=1e-5)


HYBRID = ("model.layers=3", "model.depth=stack ode stack")
LAWS = {
    "no time": ("model.ode.time=none", "model.ode.solver=rk4", "model.ode.steps=1"),
    "lowrank": ("model.ode.time=lowrank",),
    "generated": ("model.ode.time=generated", "model.ode.modes=2"),
    "reversible": ("model.ode.adjoint=reversible", "model.ode.solver=heun"),
    "uneven bosh3 hybrid": (*HYBRID, "model.ode.solver=bosh3"),
}


@pytest.mark.parametrize("name", LAWS)
def test_laws(name, make):
    """What `test_decoder.py` holds for the default, for what it doesn't walk over: decode is the forward pass, and no
    later token and no other row moves a logit."""
    _, model, params, tokens = make(*LAWS[name])
    if "uneven" in name:
        model = model.clone(schedule=((), UNEVEN, ()), parent=None)
        assert len(model.init_cache(1, 4)) == 1 + 3 * 4 + 1
    apply = jax.jit(model.apply)
    logits = np.asarray(apply({"params": params}, tokens)[0])
    cache, parts = model.init_cache(B, SLOTS), []
    for at in range(0, T, 5):
        positions = jnp.broadcast_to(jnp.arange(at, at + 5), (B, 5))
        part, cache, _ = apply({"params": params}, tokens[:, at : at + 5], positions, cache)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), logits, atol=2e-5)
    changed = tokens.at[1, 6:].set((tokens[1, 6:] + 1) % VOCAB)
    after = np.asarray(apply({"params": params}, changed)[0])
    np.testing.assert_array_equal(after[[0, 2]], logits[[0, 2]])
    np.testing.assert_array_equal(after[1, :6], logits[1, :6])
    assert (after[1, 6:] != logits[1, 6:]).any()
    for i, block in enumerate(params[f"block_{i}"] for i in range(model.config.layers)):
        if "time" in block:
            still = params | {f"block_{i}": block | {"time": jax.tree.map(jnp.zeros_like, block["time"])}}
            assert np.abs(apply({"params": still}, tokens)[0] - logits).max() > 1e-3, "time acts"
    timed = any("/time/" in path for path in paths(params))
    assert timed == ("model.ode.time=none" not in LAWS[name])


def test_adjoints_agree_in_a_model(make):
    """Float32, nine steps: direct, recursive and with remat the same gradient."""
    grads = {}
    for way, extra in [("direct", ()), ("recursive", ()), ("recursive", ("train.remat=true",))]:
        _, model, params, tokens = make(f"model.ode.adjoint={way}", "model.ode.steps=9", *extra)
        loss = lambda p, m=model, t=tokens: jnp.mean(m.apply({"params": p}, t)[0] ** 2)
        grads[way, extra] = jax.jit(jax.grad(loss))(params)
    first, *others = grads.values()
    for other in others:
        chex.assert_trees_all_close(other, first, rtol=1e-4, atol=1e-5)


def test_random_steps(make):
    """Each key draws one of 1 .. 3 steps, and the result is that of so many equal steps."""
    _, model, params, tokens = make("model.ode.steps=3", "model.ode.min_steps=1")
    wanted = [make(f"model.ode.steps={n}")[1] for n in (1, 2, 3)]
    wanted = [forward(m, params, tokens)[0] for m in wanted]
    run = jax.jit(lambda key: model.apply({"params": params}, tokens, rngs={"steps": key})[0])
    met = set()
    for seed in range(12):
        distances = [float(np.abs(run(jax.random.key(seed)) - w).max()) for w in wanted]
        assert min(distances) < 1e-5
        met.add(int(np.argmin(distances)))
    assert met == {0, 1, 2}
    np.testing.assert_allclose(forward(model, params, tokens)[0], wanted[2], atol=1e-6)


def test_energy(make):
    """The integral of the mean of f^2: for Euler the mean over the steps, from the states themselves."""
    _, model, params, tokens = make("model.ode.steps=2", "model.ode.time=none", "train.ode_energy=0.1")
    (solve,) = forward(model, params, tokens)[2]["ode"]
    block, keys = model.blocks()[0], jnp.arange(T)[None]
    x, total = params["embedding"][tokens], 0.0
    for _ in range(2):
        change = 2.0 * block.apply({"params": params["block_0"]}, x, keys)[0]
        x, total = x + change / 2, total + float(jnp.mean(change**2)) / 2
    np.testing.assert_allclose(solve.energy, total, rtol=1e-5)


def test_energy_is_in_the_loss(make):
    """A train step's gradient is that of the loss and of 3 times the energy."""
    settings, model, _, _ = make("model.ode.time=none", "train.ode_energy=3.0")
    inputs = jax.random.randint(jax.random.key(0), (4, 16), 0, VOCAB)
    mesh = devices.make_mesh(settings.mesh, 4)
    state = jax.jit(lambda: initial_state(settings, model))()

    def gradient_norm(p, weight):
        def loss(p):
            logits, _, aux = model.apply({"params": p}, inputs)
            return jnp.mean(token_losses(logits, inputs)) + weight * aux["ode"][0].energy

        return optax.tree.norm(jax.grad(loss)(p))

    wanted, without = (float(jax.jit(gradient_norm)(state.params, weight)) for weight in (3.0, 0.0))
    places = shardings(state, mesh), batch_sharding(mesh)
    given = jax.device_put((state, Batch(inputs, inputs)), places)
    _, metrics = step.make_train_step(settings, model, mesh)(*given, Frozen())
    np.testing.assert_allclose(metrics["grad_norm"], wanted, rtol=1e-4)
    assert abs(wanted / without - 1) > 0.01


@pytest.mark.long
def test_spread_over_devices_and_micro_batches(make):
    """A step on 2 x 2 devices in 2 micro-batches is the step on one."""
    inputs = np.asarray(jax.random.randint(jax.random.key(0), (8, 16), 0, VOCAB))
    results = []
    for data, parts in [(1, 1), (2, 2)]:
        words = (f"mesh.data={data}", f"mesh.model={data}", "train.batch_size=8", f"train.accumulate={parts}")
        settings, model, _, _ = make(*words)
        results.append(one_step(settings, model, inputs))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)


def one_step(settings, model, inputs):
    """Loss and gradient norm of the first train step."""
    mesh = make_mesh(settings)
    first = lambda: initial_state(settings, model)
    state = jax.jit(first, out_shardings=shardings(jax.eval_shape(first), mesh))()
    batch = jax.device_put(Batch(inputs, inputs), batch_sharding(mesh))
    _, metrics = step.make_train_step(settings, model, mesh)(state, batch, Frozen())
    return float(metrics["loss"]), float(metrics["grad_norm"])


@pytest.mark.long
def test_steps_that_adapt_train_on_one_device(make):
    """In micro-batches too; more devices than one are refused."""
    inputs = np.asarray(jax.random.randint(jax.random.key(0), (4, 16), 0, VOCAB))
    settings, model, _, _ = make(
        "model.ode.rtol=0.01", "model.ode.solver=midpoint", "mesh.data=0", "train.accumulate=2"
    )
    assert make_mesh(settings).size == 1 and len(jax.devices()) == 4
    assert np.isfinite(one_step(settings, model, inputs)).all()
    for word in ("mesh.data=2", "mesh.model=2"):
        with pytest.raises(UserError, match="trains on one device"):
            make_mesh(make("model.ode.adjoint=backsolve", word)[0])
    assert make_mesh(make("mesh.data=2")[0]).size == 2


# Tolerances, schedules and the leak.

ADAPTIVE = ("model.ode.solver=bosh3", "model.ode.rtol=0.001")


def test_a_schedule_is_the_adaptive_solve_without_the_leak(make):
    """On the windows it was calibrated on the two agree; elsewhere one leaks, the other doesn't, exactly."""
    _, model, params, tokens = make(*ADAPTIVE)
    windows = np.asarray(tokens)
    times = schedule.calibrate(model, params, windows)
    assert len(times) == 1 and times[0][0] == 0 and times[0][-1] == 1 and len(times[0]) > 3
    fixed = schedule.with_ode(model, rtol=0.0).clone(schedule=times, parent=None)
    np.testing.assert_allclose(forward(fixed, params, tokens)[0], forward(model, params, tokens)[0], atol=1e-5)
    assert schedule.leak(fixed, params, windows) == {"leak_future": 0.0, "leak_rows": 0.0}
    leaks = schedule.leak(model, params, windows)
    assert 1e-6 < leaks["leak_future"] < 1 and 1e-6 < leaks["leak_rows"] < 1
    with pytest.raises(UserError, match="an adaptive ODE has no cache"):
        model.init_cache(1, 4)


@pytest.mark.long
def test_a_smaller_tolerance_takes_more_steps_and_is_nearer(make):
    _, model, params, tokens = make(*ADAPTIVE)
    exact = forward(schedule.with_ode(model, rtol=0.0, steps=64), params, tokens)[0]
    rows = []
    for rtol in (1e-1, 1e-2, 1e-4):
        found = schedule.with_ode(model, rtol=rtol)
        times = schedule.calibrate(found, params, np.asarray(tokens))
        fixed = schedule.with_ode(model, rtol=0.0).clone(schedule=times, parent=None)
        rows.append((len(times[0]), float(np.abs(forward(fixed, params, tokens)[0] - exact).max())))
    assert rows[0][0] < rows[1][0] < rows[2][0] and rows[0][1] > rows[1][1] > rows[2][1]


def test_a_solve_that_does_not_arrive(make):
    _, model, params, tokens = make(*ADAPTIVE)
    short = schedule.with_ode(model, rtol=1e-6, max_steps=3)
    logits, _, aux = forward(short, params, tokens)
    assert not aux["ode"][0].ok and np.isnan(logits).all()
    with pytest.raises(NumericalError, match=r"layer 0: bosh3 did not arrive at t = 1 in ode.max_steps=3 steps"):
        schedule.calibrate(short, params, np.asarray(tokens))
    ill = jax.tree.map(jnp.copy, params)
    ill["block_0"]["mixer"]["query"]["kernel"] *= jnp.nan
    with pytest.raises(NumericalError, match="layer 0: the field of the ODE is not finite"):
        schedule.calibrate(model, ill, np.asarray(tokens))


@pytest.mark.parametrize(
    "values", [[[0.0, 0.5]], [[0.0, 0.7, 0.7, 1.0]], [[0.1, 1.0]], [[0.0, 1.0], []], [[0.0, float("nan"), 1.0]]]
)
def test_a_damaged_schedule_is_refused(values):
    with pytest.raises(ValueError):
        schedule._checked(values, 1)
    assert schedule._checked([[0.0, 0.4, 1.0], []], 2) == ((0.0, 0.4, 1.0), ())


# Names and costs.


def test_cost_counts_evaluations(make):
    """6 (what multiplies a token, the block once an evaluation) + 12 evaluations D T: by hand, width 16, hidden 24."""
    settings, _, params, _ = make(*HYBRID, "model.ode.solver=midpoint", "model.ode.steps=5")
    block = 4 * 16 * 16 + 3 * 16 * 24 + 2 * 16
    used = cost.multiplied(settings.model, params)
    assert used == (1 + 10 + 1) * block + 16 + 2 * 16 * VOCAB
    wanted = 6 * (used - 16 * VOCAB) + 12 * 12 * 16 * 16
    assert cost.train_flops_per_token(settings.model, used, VOCAB) == wanted
    assert count(params) < used
    assert np.isnan(cost.multiplied(make(*ADAPTIVE)[0].model, make(*ADAPTIVE)[2]))
    uneven = ((), UNEVEN, ())
    assert cost.multiplied(settings.model, params, uneven) == used - 2 * block


@pytest.mark.parametrize("kind, decays", [("embedded", False), ("lowrank", True)])
def test_decay_of_what_time_adds(kind, decays, make):
    """The factors of a matrix decay as matrices do, shifts and changes of a scale don't."""
    _, _, params, _ = make(f"model.ode.time={kind}")
    names = [path for path in paths(params) if "/time/" in path]
    assert names and all(roles.of(path).decay == decays for path in names)
