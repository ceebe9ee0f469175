"""One run on any number of devices: the same numbers, and less memory on each."""

import json
import re
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.evaluation import cost
from juliagpt_jax.ground import config_file, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import roles
from juliagpt_jax.models.build import MODELS, build_model
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.depth import DEPTHS
from juliagpt_jax.models.layers import LINEARS
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.objectives.build import OBJECTIVES
from juliagpt_jax.store.checkpoint import Checkpoints
from juliagpt_jax.training import footprint, run, step
from juliagpt_jax.training.footprint import nbytes
from juliagpt_jax.training.mesh import batch_sharding, make_mesh
from juliagpt_jax.training.optimizers import OPTIMIZERS
from juliagpt_jax.training.state import Frozen, initial_state, items, places

VOCAB, T = 16, 16
RECURSIVE = ["model.kind=recursive", "train.objective=recursive", "data.puzzle.kind=sudoku", "model.context=16"]


def batch(seed: int) -> Batch:
    """Rows that count upwards, in ones or in twos."""
    starts, strides = np.random.default_rng(seed).integers([[0], [1]], [[VOCAB], [3]], size=(2, 8), dtype=np.int32)
    text = (starts[:, None] + strides[:, None] * np.arange(T + 1, dtype=np.int32)) % VOCAB
    return Batch(text[:, :-1], text[:, 1:])


class Machine:
    """A config's train step, compiled for its devices."""

    def __init__(self, settings):
        self.model, self.mesh = build_model(settings, VOCAB), make_mesh(settings)
        make = lambda: initial_state(settings, self.model)
        self.shapes = jax.eval_shape(make)
        self.places = places(self.shapes, self.mesh)
        self.first = jax.jit(make, out_shardings=self.places)
        rows = jax.device_put(batch(0), batch_sharding(self.mesh))
        traced = step.make_train_step(settings, self.model, self.mesh).trace(self.first(), rows, Frozen())
        self.needs = footprint.of(traced.jaxpr.jaxpr, self.shapes, rows, Frozen(), self.mesh)
        self.step = traced.lower().compile()
        self.text = self.step.as_text()

    def train(self, steps: int):
        state, losses = self.first(), []
        for n in range(steps):
            state, metrics = self.step(state, jax.device_put(batch(n), batch_sharding(self.mesh)), Frozen())
            losses.append(float(metrics["loss"]))
        return state, losses


@pytest.fixture(scope="module")
def settings(tiny):
    more = "model.layers=4", "train.batch_size=8", "model.scan_layers=true", "model.tie=false"
    return lambda *overrides: tiny(*more, *overrides)


@pytest.fixture(scope="module")
def alone(settings):
    return Machine(settings())


@pytest.fixture(scope="module")
def cut(settings):
    """Two micro-batches on two groups of two devices: each group has the state once, and each matrix is cut again."""
    return Machine(settings("mesh.fsdp=2", "mesh.model=2", "train.accumulate=2"))


def test_the_numbers_of_one_device(alone, cut):
    (state, losses), (wanted, one) = cut.train(6), alone.train(6)
    np.testing.assert_allclose(losses, one, atol=1e-5)
    assert one[0] - one[-1] > 1e-3, "it learns"
    chex.assert_trees_all_close(jax.device_get(state.params), jax.device_get(wanted.params), atol=1e-4)


def test_each_device_has_its_part(alone, cut):
    """A quarter of every matrix and of its moments, and the compiler says so."""
    for path, leaf in paths(cut.first()).items():
        if leaf.ndim == 2:
            assert leaf.addressable_shards[0].data.size * 4 == leaf.size, path
    given = [machine.step.memory_analysis().argument_size_in_bytes for machine in (alone, cut)]
    assert given[1] < 0.27 * given[0]
    assert given[0] == pytest.approx(nbytes((alone.shapes, batch(0))), rel=0.01)
    assert cost.memory_bytes(cut.step) < 0.5 * cost.memory_bytes(alone.step)


def test_what_a_run_needs_is_said_before_it_is_compiled(alone, cut, settings):
    """Within 15% of what the compiler then says, or too much where it cuts matrices; and what helps where there is less
    room."""
    assert alone.needs.total == pytest.approx(cost.memory_bytes(alone.step), rel=0.15)
    assert 0.85 < cut.needs.total / cost.memory_bytes(cut.step) < 2
    says = lambda room: footprint.says(alone.needs, settings("train.accumulate=2"), alone.mesh, room)
    assert says(0) == says(alone.needs.total + 1) and says(0).startswith("this run needs about 0.0")
    short = says(alone.needs.total - 1)
    for way in ("train.accumulate=4", "train.remat=true", "mesh.fsdp=4", "adapters"):
        assert way in short


@pytest.mark.parametrize(
    "name, knobs",
    [
        ("tinystories", []),  # random bits, and numbers that they begin with
        ("micro", ["model.dropout=0.2", "train.precision=bf16", "train.remat=true", "model.scan_layers=true"]),
        ("trm_sudoku6", ["train.remat=true"]),  # a loop whose gradient nobody wants, and one that is computed again
    ],
)
@pytest.mark.long
def test_what_random_bits_halves_and_loops_need(name, knobs):
    settings = footprint.with_micro_batches(config_file.load(f"configs/{name}.py", ["mesh.data=1", *knobs]))
    function, state, rows = footprint.stepped(settings, 64)
    traced = function.trace(state, rows, Frozen())
    needs = footprint.of(traced.jaxpr.jaxpr, state, rows, Frozen(), make_mesh(settings))
    assert needs.total == pytest.approx(cost.memory_bytes(traced.lower().compile()), rel=0.15)


def test_a_loop_of_one_round_keeps_what_it_would_compute_again():
    """As the compiler says; a loop of four rounds keeps what each begins with."""
    w = np.ones((64, 64), np.float32)

    def piece(carry, x):
        for _ in range(8):
            x = jnp.tanh(x @ w)
        return carry, x

    def loss(x):
        for _ in range(3):
            x = jax.lax.scan(jax.checkpoint(piece), 0.0, x)[1]
        return jnp.sum(x * x)

    traced = lambda rounds: jax.jit(jax.grad(loss)).trace(np.ones((rounds, 4096 // rounds, 64), np.float32))
    one, four = (footprint.working(traced(rounds).jaxpr.jaxpr, 0) for rounds in (1, 4))
    assert one == pytest.approx(cost.memory_bytes(traced(1).lower().compile()) - 4096 * 64 * 4, rel=0.15)
    assert four < one / 3


def test_parameters_come_together_a_layer_at_a_time(cut):
    """Inside the loop over layers, in the forward and again in the backward pass, which adds up gradients there; no
    layer's matrix comes together outside of it."""
    programs = re.split(r"\n(?=%|ENTRY)", cut.text)
    loops = {name for name in re.findall(r"body=%?([\w.-]+)", cut.text)}
    inside = [one for one in programs if one.lstrip("%").split(" ")[0] in loops]
    gathers = [one.count(" all-gather(") for one in inside]
    assert sum(count >= 7 for count in gathers) == 2, "forward, backward"
    assert any(one.count(" reduce-scatter(") >= 7 for one in inside)
    shapes = re.findall(r"= f32\[([\d,]*)\]\S* all-gather\(", "".join(set(programs) - set(inside)))
    assert all(len(shape.split(",")) < 3 for shape in shapes), "four layers side by side"
    assert "f32[4,1,24,16]" in cut.text, "the parts of down's kernel, of four layers"
    assert "f32[4,1,24,32]" not in cut.text, "none is kept for the backward pass as it came together"


def test_matrices_are_cut_by_their_role():
    """The first of a branch by outputs, the last by inputs, experts one by one, tables by tokens."""
    for path, shape, wanted in [
        ("block_0/mixer/query/kernel", (8, 8), 1),
        ("block_0/mixer/out/kernel", (8, 8), 0),
        ("opt_state/1/mu/block_0/channel/down/kernel", (16, 8), 0),
        ("block_0/channel/experts/gate/kernel", (4, 8, 32), 0),
        ("block_0/channel/experts/gate/kernel", (3, 8, 32), 2),
        ("embedding", (10, 8), 0),
        ("embedding", (41, 8), 1),
        ("head", (8, 10), 1),
        ("block_0/mixer/query/left", (4, 8, 8), 0),
        ("norm/scale", (8,), None),
        ("opt_state/1/covariances/block_0/mixer/out/kernel/0", (8, 8), 0),
    ]:
        assert roles.tensor_cut(path, shape, 2) == wanted, path
    assert roles.cut("block_0/mixer/query/kernel", (8, 8), 2, taken=1) == 0
    assert roles.cut("block_0/mixer/query/kernel", (8, 16), 2) == 1 and roles.cut("norm/scale", (8,), 2) is None


def test_a_checkpoint_opens_on_other_devices(alone, cut, settings, tmp_path):
    """Written on four, read on one and on two: the same bits."""
    state, _ = cut.train(2)
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(2, items(state), {})
    assert checkpoints.wait()
    for count in (1, 2):
        placed = places(alone.shapes, devices.grid((1, count, 1), jax.devices()))
        target = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), alone.shapes, placed)
        restored = checkpoints.restore(items(target))
        assert restored is not None
        chex.assert_trees_all_equal(jax.device_get(restored[0]), jax.device_get(items(state)))
        sharding = restored[0]["params"]["head"].sharding
        assert len(sharding.device_set) == count
    checkpoints.close()


def test_several_steps_in_one_call(settings, alone):
    """Three steps at once are three steps: the same losses, and the same parameters to the bit or nearly so."""
    given = settings()
    run = step.make_train_step(given, alone.model, alone.mesh, steps=3)
    batches = jax.tree.map(lambda *leaves: np.stack(leaves), *map(batch, range(3)))
    state, metrics = run(alone.first(), batches, Frozen())
    wanted, losses = alone.train(3)
    assert metrics["loss"].shape == (3,)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-6)
    chex.assert_trees_all_close(jax.device_get(state.params), jax.device_get(wanted.params), atol=1e-6)


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["model.depth=ode", "model.ode.rtol=0.1", "model.ode.solver=midpoint", "mesh.fsdp=2"], "trains on one device"),
        ([*RECURSIVE, "mesh.data=2"], "a recursive model, a loop of cycles, trains on one device of a CPU"),
        ([*RECURSIVE, "mesh.fsdp=2"], "would fetch them each time"),
        (["mesh.fsdp=8"], "1 x 8 x 1 devices asked for, 4 cpu there"),
        (["mesh.fsdp=3"], "3 devices do not divide a"),
    ],
)
def test_what_has_no_such_mesh_is_refused(overrides, said, tiny):
    with pytest.raises(UserError, match=said):
        make_mesh(tiny("train.batch_size=8", *overrides))


# Every word of every table on four devices; the first part has the others' defaults.
PARTS = [
    "model.kind=decoder model.mixer=attention model.channel=swiglu model.linear=dense model.depth=stack "
    "train.optimizer=adamw train.precision=f32 train.objective=next_token",
    "model.channel=moe",
    "model.channel=moe model.moe.top=1 model.moe.gate=all model.moe.experts=4",
    "model.mixer=monarch model.linear=monarch model.monarch.blocks=2",
    "model.mixer=monarch_heads model.channel=monarch model.monarch.blocks=2",
    "model.linear=tt model.channel=tt",
    "model.linear=ternary train.ternary_from=0.5",
    "model.linear=subln model.channel=relu2",
    "model.depth=ode train.remat=true",
    "model.depth=recursive",
    "model.mixer=blocksparse",
    "model.mixer=topk model.sparse.top=5",
    "model.mixer=kda",
    "model.mixer=gated_deltanet",
    "model.norm=layer model.bias=true model.positions=learned model.channel=gelu",
    "model.unet=true model.x0_skip=true model.value_embedding=x0 model.head_gate=true model.sink=token",
    "train.optimizer=muon",
    "train.optimizer=soap",
    "train.optimizer=kfac",
    "train.optimizer=adam_atan2 train.ema=0.9",
    "train.precision=bf16",
    "train.precision=f16 train.remat=true",
]
# And some together, each architecture with another optimizer and another precision.
PARTS += [
    "model.channel=moe train.optimizer=muon train.precision=bf16",
    "model.mixer=monarch model.channel=monarch model.monarch.blocks=2 train.optimizer=soap",
    "model.linear=tt train.optimizer=adam_atan2 train.precision=f16",
    "model.linear=ternary train.optimizer=muon",  # bf16 would take more of them there
    "model.depth=ode train.optimizer=kfac",
    "model.depth=recursive train.optimizer=muon train.precision=f16",
    "model.mixer=monarch_heads train.optimizer=kfac train.precision=bf16",
    "model.mixer=kda train.optimizer=muon",
    "model.mixer=gated_deltanet train.optimizer=soap train.precision=f16",
    "model.mixer=blocksparse train.optimizer=soap train.precision=f16",
]
ROUNDS = {"train.optimizer=soap": 1e-3, "train.precision=bf16": 3e-3, "train.precision=f16": 5e-4}
ROUNDS |= {"model.linear=ternary": 2e-4}  # a last bit may take a weight to another third
# Objectives that learn from examples, and what they need of a finished run.
OF_EXAMPLES = {
    "distil": "train.distil.teacher={base}",
    "on_policy": "train.init={base} train.distil.teacher={base} train.written.group=4",
    "dpo": "train.init={base}",
    "ipo": "train.init={base}",
    "orpo": "train.init={base}",
    "grpo": "train.init={able} train.written.group=4",
    "expert_iteration": "train.init={able} train.written.group=4",
    "value": "train.init={base} train.value.samples=1",
}
# Words that are held elsewhere to what one device gives, or refused.
ELSEWHERE = {
    "model.kind=t5": "test_t5.py",
    "model.kind=recursive": "refused above, on a processor",
    "train.objective=recursive": "refused above, on a processor",
    "train.objective=doremi": "objectives/test_doremi.py",
}


def test_no_word_is_forgotten():
    """A new word of a table has to be tried on many devices, or refused by name."""
    tables = {"model.kind": MODELS, "model.mixer": MIXERS, "model.channel": CHANNELS, "model.linear": LINEARS}
    tables |= {"model.depth": DEPTHS, "train.optimizer": OPTIMIZERS, "train.objective": OBJECTIVES}
    words = {f"{knob}={word}" for knob, table in tables.items() for word in table}
    tried = {word for part in PARTS for word in part.split()} | {f"train.objective={name}" for name in OF_EXAMPLES}
    assert words - tried == set(ELSEWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("mesh", ["mesh.fsdp=2 mesh.model=2", "mesh.data=2 mesh.fsdp=2 train.accumulate=2"])
def test_every_part_on_four_devices(part, mesh, tiny):
    overrides = ["train.batch_size=8", *part.split()]
    (_, losses), (_, wanted) = (Machine(tiny(*overrides, *more.split())).train(3) for more in (mesh, ""))
    np.testing.assert_allclose(losses, wanted, atol=max(ROUNDS.get(word, 1e-5) for word in part.split()))


@pytest.fixture(scope="module")
def sums(tiny, tmp_path_factory):
    """sums(*flags, to=NAME): the losses of a run on sums of small numbers; and the folder of two finished ones that
    others begin with: base, and one that is able to be right, so that there are rewards."""
    folder = tmp_path_factory.mktemp("sums")
    every = [(f"{i}+{j}=", str(i + j), str(i + j + 1)) for i in range(9) for j in range(9)]
    rows = {"answers": [{"prompt": p, "answer": a} for p, a, _ in every]}
    rows["pairs"] = [{"prompt": p, "chosen": a, "rejected": b} for p, a, b in every]
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shape = ["data.task=jsonl", "model.width=16", "model.layers=1", "model.heads=2", "model.context=24"]
    shape += ["train.steps=3", "train.batch_size=16", "train.warmup=0", "train.checkpoint_every=3"]
    shape += ["train.eval_every=3", "train.sample_every=0", "train.log_every=1", "train.eval_windows=8"]
    shape += ["data.examples.written=0"]

    def losses(*flags, to, pairs=False):
        own = tiny(*shape, f"data.path={folder / ('pairs' if pairs else 'answers')}.jsonl", *flags)
        run.run(own, folder / to, 0.0)
        logged = map(json.loads, (folder / to / "metrics.jsonl").read_text().splitlines())
        return [row["loss"] for row in logged if "loss" in row]

    losses("mesh.data=1", to="base")
    longer = [f"train.{name}=150" for name in ("steps", "checkpoint_every", "eval_every")]
    losses("mesh.data=1", *longer, "train.lr=0.02", "train.min_lr=0.02", to="able")
    return losses, folder


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_every_objective_of_examples_on_four_devices(name, sums):
    losses, folder = sums
    flags = [f"train.objective={name}", f"data.tokenizer={folder / 'base' / 'tokenizer.json'}"]
    flags += OF_EXAMPLES[name].format(base=folder / "base", able=folder / "able").split()
    meshes = "mesh.data=1", "mesh.data=2 mesh.fsdp=2", "mesh.data=1 mesh.fsdp=2 mesh.model=2"
    pairs = name in ("dpo", "ipo", "orpo")
    one, *others = (losses(*flags, *m.split(), to=f"{name}{i}", pairs=pairs) for i, m in enumerate(meshes))
    assert len(one) == 3 and one[0] != one[-1]
    for other in others:
        np.testing.assert_allclose(other, one, atol=1e-4)


COURSE = """
import json, sys
sys.path.insert(0, "tests")
import conftest, os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
from training import test_mesh
found = {}
for mesh in sys.argv[1:]:
    machine = test_mesh.Machine(conftest.tiny_config("train.batch_size=8", "train.steps=200", *mesh.split()))
    found[mesh] = machine.train(200)[1]
print(json.dumps(found))
"""


@pytest.mark.long
def test_200_steps_on_one_to_eight_devices():
    """The loss curves agree within 1e-4."""
    meshes = ["mesh.data=1", "mesh.data=2", "mesh.fsdp=4", "mesh.data=8", "mesh.data=2 mesh.fsdp=2 mesh.model=2"]
    done = subprocess.run([sys.executable, "-c", COURSE, *meshes], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    curves = json.loads(done.stdout.splitlines()[-1])
    one = curves.pop("mesh.data=1")
    assert one[0] - one[-1] > 0.05 and len(curves) == 4
    for mesh, curve in curves.items():
        np.testing.assert_allclose(curve, one, atol=1e-4, err_msg=mesh)
