"""One table of roles: each parameter of every config and of every word of the tables has one, and the right one."""

import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground import config_file, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import precision, roles
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.fields import TIMES
from juliagpt_jax.models.frozen import FORMS
from juliagpt_jax.models.layers import LINEARS, NORMS
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.models.parameters import count, paths
from juliagpt_jax.training.mesh import shardings
from juliagpt_jax.training.state import initial_state

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
# What is true of every parameter there is, and how it is stored: with * for a number, L for a Linear of a block, X for
# one of each expert, N for a norm. `turned`: a matrix that maps its columns to its rows.
EXPECTED = {
    "matrix cast turned exact": """
        time/X.left/modes time/X.right/modes
        time/L.left/modes time/L.right/modes
    """,
    "matrix cast exact": """
        time/X.kernel/modes
        time/L.kernel/modes time/L.core_*/modes
    """,
    "exact": """
        X/bias X/kernel_scale X/norm/scale time/X.kernel/in_bias time/X.kernel/out_bias
        time/X.left/in_bias time/X.left/out_bias time/X.norm.scale/in_bias time/X.norm.scale/out_bias
        time/X.right/in_bias time/X.right/out_bias time/channel.router/in_bias time/channel.router/out_bias
        L/bias L/kernel_scale L/norm/scale N/bias N/scale mixer/A_log mixer/dt_bias mixer/filter/bias_*
        mixer/filter/frequency mixer/filter/weight_* mixer/filter/weight_out mixer/short/bias mixer/skip
        mixer/sink_logit sink_token
        skip_* unet_* time/L.kernel/in_bias time/L.kernel/out_bias time/L.left/in_bias time/L.left/out_bias
        time/L.norm.scale/in_bias time/L.norm.scale/out_bias time/L.right/in_bias time/L.right/out_bias
        time/N.scale/in_bias time/N.scale/out_bias time/mixer.filter.weight_*/in_bias
        time/mixer.filter.weight_*/out_bias time/mixer.filter.weight_out/in_bias
        time/mixer.filter.weight_out/out_bias time/mixer.left/in_bias time/mixer.left/out_bias
        time/mixer.beta/in_bias time/mixer.beta/out_bias time/mixer.decay/in_bias time/mixer.decay/out_bias
        time/mixer.right/in_bias time/mixer.right/out_bias time/mixer.short.taps/in_bias
        time/L/in_bias time/L/out_bias time/L.core_*/in_bias time/L.core_*/out_bias
        time/mixer.short.taps/out_bias
    """,
    "decay tapped cast table": """
        head
    """,
    "decay matrix tapped cast turned half": """
        L/left L/right
    """,
    "decay matrix tapped cast half": """
        L/core_*
    """,
    "decay matrix tapped cast exact": """
        L/kernel
    """,
    "decay matrix cast turned exact": """
        time/X.left/left time/X.left/right time/X.right/left time/X.right/right
        time/L.left/left time/L.left/right time/L.right/left time/L.right/right
    """,
    "decay matrix cast exact": """
        X/kernel time/X.kernel/left time/X.kernel/right
        time/L.kernel/left time/L.kernel/right time/L.core_*/left time/L.core_*/right
    """,
    "decay cast table": """
        embedding positions
    """,
    "decay cast exact": """
        time/channel.router/left time/channel.router/right
        mixer/beta mixer/decay time/mixer.beta/left time/mixer.beta/right time/mixer.decay/left
        time/mixer.decay/right
        time/L/left time/L/right mixer/left mixer/right time/mixer.filter.weight_*/left time/mixer.filter.weight_*/right
        time/mixer.filter.weight_out/left time/mixer.filter.weight_out/right time/mixer.left/left
        time/mixer.left/right time/mixer.right/left time/mixer.right/right time/mixer.short.taps/left
        time/mixer.short.taps/right
    """,
    "cast exact": """
        time/X.kernel/in time/X.kernel/out time/X.left/in time/X.left/out time/X.norm.scale time/X.norm.scale/in
        time/X.norm.scale/modes time/X.norm.scale/out time/X.right/in time/X.right/out time/channel.router/in
        time/channel.router/modes time/channel.router/out
        mixer/gate time/L/in time/L/modes time/L/out time/L.core_*/in time/L.core_*/out
        mixer/short/taps time/L.kernel/in time/L.kernel/out time/L.left/in time/L.left/out
        time/L.norm.scale time/L.norm.scale/in time/L.norm.scale/modes time/L.norm.scale/out
        time/L.right/in time/L.right/out time/N.scale time/N.scale/in time/N.scale/modes
        time/N.scale/out time/mixer.filter.weight_*/in time/mixer.filter.weight_*/modes
        time/mixer.filter.weight_*/out time/mixer.filter.weight_out/in
        time/mixer.beta/in time/mixer.beta/modes time/mixer.beta/out time/mixer.decay/in
        time/mixer.decay/modes time/mixer.decay/out
        time/mixer.filter.weight_out/modes time/mixer.filter.weight_out/out time/mixer.left/in
        time/mixer.left/modes time/mixer.left/out time/mixer.right/in time/mixer.right/modes
        time/mixer.right/out time/mixer.short.taps/in time/mixer.short.taps/modes
        time/mixer.short.taps/out time/shift
    """,
    "levels": """
        X/kernel_int8
        L/kernel_int8
    """,
}
EXPECTED["exact"] += " halt halt_bias ids start_high start_low"  # of recursive models
EXPECTED["exact"] += " bias/buckets"  # of a T5
EXPECTED |= {"decay exact": "channel/router", "decay matrix cast turned half": "X/left X/right"}
EXPECTED = {path: words for words, listed in EXPECTED.items() for path in listed.split()}
# Cores of experts are as those of one channel, but that nothing taps them.
CORES = {path.replace("L.", "X.").replace("L/", "X/"): words for path, words in EXPECTED.items() if "L.core" in path}
EXPECTED |= CORES | {"X/core_*": EXPECTED["L/core_*"].replace(" tapped", "")}
EXPECTED |= {"L/kernel_nf4": "exact", "L/kernel_q4_1": "exact", "L/kernel_absmax": "exact", "L/kernel_step": "exact"}
EXPECTED |= {"L/kernel_least": "exact", "L/lora/a": "decay matrix cast exact", "L/lora/b": "decay matrix cast exact"}

ALL_PARTS = [f"model.mixer={' '.join(MIXERS)}", f"model.channel={' '.join(CHANNELS)}", "model.tie=false"]
ALL_PARTS += ["model.moe.shared=1"]
ALL_PARTS += [f"model.layers={max(len(MIXERS), len(CHANNELS))}", "model.width=32", "model.heads=2"]
SWITCHES = ["model.qk_norm=true", "model.x0_skip=true", "model.bias=true", "model.positions=learned"]
SWITCHES += ["model.sink=logit", "model.head_gate=true", "model.unet=true", "model.init=xavier"]
STARTS = " ".join("x0" if getattr(mixer, "takes_start", False) else "none" for mixer in MIXERS.values())
SWITCHES += [f"model.value_embedding={STARTS}"]


def general(path: str) -> str:
    """The path as EXPECTED has it."""
    path = re.sub(r"^block_\d+/", "", path.removeprefix("encoder/")).replace("cross", "mixer")  # of a T5
    path = re.sub(r"(skip|unet|weight|bias|core)_\d+", r"\1_*", path)
    path = re.sub(r"^(attention|mlp_t|kda)/((ahead|back)/)?", "", path)  # cores of recursive models
    linears = "query|key|value|start|in|out|gate|up|down|decay_down|decay_up|gate_down|gate_up"
    path = re.sub(rf"\bchannel[/.]experts[/.]({linears})(?=[/.])", "X", path)
    path = re.sub(rf"\b(mixer|channel)[/.](shared[/.])?({linears})(?=[/.])", "L", path)
    path = re.sub(r"\bmixer([/.])norm\b", "N", path)
    return re.sub(r"^norm\b|\b(?:mixer[/.])?(?:mixer|channel|query|key|start)_norm\b", "N", path)


def described(path: str) -> str:
    role = roles.of(path)
    words = [word for word in ("decay", "matrix", "tapped", "cast") if getattr(role, word)]
    return " ".join([*words, *(["turned"] if role.matrix and role.turned else []), role.stored])


def models():
    """Each config's model; those of all mixers and channels with each kind of Linear, depth and time; and each norm."""
    for file in CONFIGS:
        settings = config_file.load(str(file))
        yield build_model(settings, 19), settings
    settings = config_file.load(str(CONFIGS[0].parent / "micro.py"), ["model.sink=token"])
    yield build_model(settings, 19), settings
    for base in FORMS:
        flags = ["adapter.rank=2", "train.init=base", f"adapter.base={base}"]
        settings = config_file.load(str(CONFIGS[0].parent / "micro.py"), flags)
        yield build_model(settings, 19), settings
    depths = [["model.depth=stack"]]  # a recursive one has the parameters of its block, too
    depths += [["model.depth=ode", f"model.ode.time={word}"] for word in TIMES]
    for i, (linear, depth) in enumerate(itertools.product(LINEARS, depths)):
        flags = [*ALL_PARTS, f"model.linear={linear}", *depth, f"model.norm={[*NORMS][i % len(NORMS)]}"]
        flags += SWITCHES if i % len(NORMS) else []
        settings = config_file.load(str(CONFIGS[0].parent / "base.py"), flags)
        model = build_model(settings, 19)
        yield model, settings
        if depth[-1].split("=")[-1] in ("none", "embedded"):  # of the others kernels change with time
            yield model.clone(int8=True, parent=None), settings


@pytest.mark.long
def test_each_parameter_has_the_one_role_that_it_had():
    seen, rows = set(), set()
    for model, _ in models():
        shapes = jax.eval_shape(lambda model=model: model.init(jax.random.key(0), jnp.zeros((1, 2), int)))["params"]
        for path, leaf in paths(shapes).items():
            inside = re.sub(r"/(experts|shared)/", "/", path)  # a channel's, of each expert or beside them
            (row,) = [row[0] for row in roles.ROLES if roles._pattern(row[0]).fullmatch(inside)]
            rows.add(row)
            seen.add(general(path))
            assert described(path) == EXPECTED[general(path)], path
            role = roles.of(path)
            assert role.trained == jnp.issubdtype(leaf.dtype, jnp.floating) or role.kind == "unit", path
            if "/experts/" in path or path.endswith("router"):
                assert "expert" in role.axes, path
            if "expert" in role.axes:  # what acts on them over time too
                assert re.search(r"\b(experts|router)\b", path), path
            assert len(role.axes) == leaf.ndim or role.kind == "unit", path
    assert seen == {*EXPECTED}, "the lists name what there is"
    assert {row[0] for row in roles.ROLES} == rows


def test_casting_follows_roles():
    """To bfloat16: exactly what the lists say, whatever its shape; matrices only."""
    flags = [*ALL_PARTS, "model.depth=ode", "model.ode.time=generated", "model.linear=ternary"]
    settings = config_file.load(str(CONFIGS[0].parent / "base.py"), flags)
    model = build_model(settings, 19)
    shapes = jax.eval_shape(lambda: initial_state(settings, model).params)
    half = jax.eval_shape(lambda params: precision.cast(params, "bf16"), shapes)
    for path, leaf in paths(half).items():
        assert (leaf.dtype == jnp.bfloat16) == ("cast" in EXPECTED[general(path)].split()), path
        assert leaf.ndim > 1 or leaf.dtype == jnp.float32, path


def test_what_no_row_knows_is_refused_by_its_path(tiny, monkeypatch):
    for path in ("block_0/mixer/rates", "head/kernel_2bit", "block_0/channel/gate/lora/c", ""):
        with pytest.raises(UserError, match=rf"{path}: no role is known .* declares its own in models/roles\.py"):
            roles.of(path)
    with pytest.raises(UserError, match="rates: no role"):
        count({"rates": np.ones(3)})
    monkeypatch.setattr(roles, "ROLES", (*roles.ROLES, ("**/query/kernel", "other", "in out", "")))
    roles.of.cache_clear()
    with pytest.raises(ValueError, match=r"\*\*/kernel and \*\*/query/kernel .* are both for it"):
        roles.of("block_0/mixer/query/kernel")
    roles.of.cache_clear()


def test_layers():
    assert [roles.layer(path) for path in ("block_12/mixer/skip", "block_3", "head", "blocks/a")] == [12, 3, None, None]


@pytest.mark.parametrize("optimizer", ["adamw", "soap", "kfac"])
def test_a_state_is_cut_along_longest_axes(optimizer, tiny):
    """Over two devices that share it, every matrix of it and every larger array: the longest axis that two divides, the
    first of equals."""
    settings = tiny(f"train.optimizer={optimizer}", "train.ema=0.9", "model.mixer=monarch attention")
    model = build_model(settings, 19)
    state = jax.eval_shape(lambda: initial_state(settings, model))
    mesh = jax.make_mesh((1, 2, 1), devices.AXES, devices=jax.devices()[:2])
    found = paths(jax.tree.map(lambda s: s.spec, shardings(state, mesh), is_leaf=lambda s: hasattr(s, "spec")))
    for path, leaf in paths(state).items():
        even = [size if size % 2 == 0 else 0 for size in leaf.shape]
        wanted = [None] * leaf.ndim
        if any(even) and leaf.ndim > 1:
            wanted[even.index(max(even))] = "fsdp"
        assert tuple(found[path]) == tuple(wanted), path
