"""One way from a config file and a command line to objects; everything else is one line that names the key."""

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import ml_collections
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax import benchmark, evaluate, export, generate, harness, import_model, main
from juliagpt_jax.ground import command, config, config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.names import KNOBS

CONFIGS = Path(__file__).parents[2] / "configs"
BASE = str(CONFIGS / "base.py")
COMMANDS = {
    module.__name__.split(".")[-1]: module
    for module in (main, generate, evaluate, benchmark, export, import_model, harness)
}


# The files.


def test_base_has_the_keys_of_the_dataclasses():
    values = config_file.load(BASE)
    assert list(config.flatten(config.to_dict(values))) == list(KNOBS)


def test_every_knob_of_base_has_a_comment():
    lines = (CONFIGS / "base.py").read_text().splitlines()
    knobs = [line for line in lines if re.match(r"    \w+\.\w+ = ", line) and "ConfigDict()" not in line]
    assert len(knobs) == len(KNOBS)
    bare = [line.strip() for line in knobs if not re.search(r"  # \S+", line)]
    assert not bare, f"knobs of base.py without a word of why: {bare}"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.py")), ids=lambda file: file.stem)
def test_every_config(file):
    """Builds, survives JSON, and says on its first page how it is run."""
    values = config_file.load(str(file))
    assert config.build(json.loads(json.dumps(config.to_dict(values)))) == values
    assert f"--config=configs/{file.name}" in ast.get_docstring(ast.parse(file.read_text()))


def test_a_config_is_frozen(tiny):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().train.lr = 1.0
    assert hash(tiny()) == hash(tiny()) and tiny() == tiny()


def test_overrides():
    wanted = {
        "seed=7": 7,
        "seed=4_294_967_295": 2**32 - 1,
        "train.lr=1": 1.0,
        "train.lr=1e-3": 1e-3,
        "train.remat=true": True,
        "model.tie=False": False,
        "data.path=a b=c": "a b=c",
        "model.mixer=attention attention": "attention attention",
        "model.ffn_mult=2.5": 2.5,
    }
    for override, value in wanted.items():
        got = config.flatten(config.to_dict(config_file.load(BASE, [override])))[override.partition("=")[0]]
        assert got == value and type(got) is type(value)
    assert config_file.load(BASE, ["seed=1", "seed=2"]).seed == 2, "the last one wins"
    assert config.differences(
        config.to_dict(config_file.load(BASE)), config.to_dict(config_file.load(BASE, ["seed=2"]))
    ) == ["seed: 42 -> 2"]


ANYTHING = st.one_of(
    st.text(max_size=12), st.integers().map(str), st.floats().map(repr), st.sampled_from(["true", "none", "", "1e999"])
)


@settings(max_examples=120)
@given(st.lists(st.tuples(st.sampled_from(list(KNOBS)), ANYTHING), min_size=1, max_size=3))
def test_any_value_of_any_knob_is_taken_or_refused_in_one_line(overrides):
    """What is taken survives JSON, and says of itself the values that it was given."""
    given_ = [f"{key}={value}" for key, value in overrides]
    try:
        made = config_file.load(BASE, given_)
    except UserError as error:
        assert "\n" not in str(error).strip() and len(str(error)) < 2_000
        return
    again = config.build(json.loads(json.dumps(config.to_dict(made))))
    assert again == made and not config.differences(config.to_dict(made), config.to_dict(again))
    flat = config.flatten(config.to_dict(made))
    for key, value in dict(overrides).items():
        wanted = type(flat[key])
        assert flat[key] == (
            value.lower() == "true"
            if wanted is bool
            else os.path.expanduser(value)
            if wanted is str and value.startswith("~/")
            else wanted(value.replace("_", "") if wanted is int else value)
        )


def test_hidden_width(tiny):
    assert tiny("model.ffn_mult=2.75").model.hidden == 88


def test_differences():
    old = {"a": 1, "g": {"x": 1.0, "y": "t", "gone": 0}}
    new = {"a": 1, "g": {"x": 2.0, "y": "t", "more": None}}
    assert config.differences(old, new) == ["g.x: 1.0 -> 2.0", "g.gone: 0 -> '(absent)'", "g.more: '(absent)' -> None"]
    assert config.differences(old, new, free={"g.x", "g.gone"}) == ["g.more: '(absent)' -> None"]
    assert config.differences(old, old) == []


def test_a_float_key_takes_a_whole_number():
    values = config.to_dict(config_file.load(BASE))
    values["train"]["lr"] = 1
    lr = config.build(values).train.lr
    assert lr == 1.0 and type(lr) is float


def test_saved_config(tmp_path, tiny):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict(tiny())))
    assert config.read(path) == tiny()


@pytest.mark.parametrize(
    "key, value",
    [("lr", 10**400), ("lr", "0.1"), ("lr", [0.1]), ("lr", True), ("lr", None), ("steps", 2.0), ("remat", 1)],
    ids=str,
)
def test_values_of_another_type_are_refused(key, value):
    """As they may stand in a file; no number is silently rounded, no 1 taken for true."""
    values = config.to_dict(config_file.load(BASE))
    values["train"][key] = value
    with pytest.raises(UserError, match=f"config.train.{key}: needs "):
        config.build(values)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "5", "null", '"text"', "{}", '{"seed": 1}', '{"seed": 1e999}', "\0"]
)
def test_bad_saved_config(tmp_path, content):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as error:
        config.read(path)
    assert "\n" not in str(error.value)


def test_a_workdir_that_was_moved_names_its_own_tokenizer(tmp_path, tiny):
    """One that is still where the config says is taken from there."""
    named, own = tmp_path / "old.json", tmp_path / "tokenizer.json"
    values = config.to_dict(tiny(f"data.tokenizer={named}"))
    (tmp_path / "config.json").write_text(json.dumps(values))
    read = lambda: config.read(tmp_path / "config.json").data.tokenizer
    assert read() == str(named), "there is no other"
    own.write_text("{}")
    assert read() == str(own)
    named.write_text("{}")
    assert read() == str(named)


def test_a_workdir_that_is_a_file_or_has_a_folder_for_a_config(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "config.json").mkdir()
    for path in (tmp_path / "file" / "config.json", tmp_path / "config.json"):
        with pytest.raises(UserError, match="not the workdir of a run"):
            config.read(path)


# Bad values of one key: what is wrong, and what the line must say beside the key.

BAD_VALUES = [
    # typos
    ("trian.steps=3", "trian.steps: no such key; did you mean train"),
    ("train.step=3", "train.step: no such key; did you mean steps"),
    ("model.head=2", "model.head: no such key; did you mean heads"),
    ("modle.width=32", "modle.width: no such key; did you mean model"),
    ("sed=1", "sed: no such key; did you mean seed"),
    ("train.xyzzy=1", "train.xyzzy: no such key; there are: accumulate, "),
    ("train.lr.more=1", "train.lr.more: no such key"),
    ("train=1", "train: is a group of keys: "),
    ("=1", ": no such key"),
    ("train.=1", "train.: no such key"),
    ("train.steps", "train.steps needs a value"),
    # types
    ("train.steps=3.5", "train.steps: needs a whole number, not '3.5'"),
    ("train.steps=1e3", "train.steps: needs a whole number"),
    ("train.steps=many", "train.steps: needs a whole number, not 'many'"),
    ("train.steps=", "train.steps: needs a whole number, not ''"),
    ("train.steps=True", "train.steps: needs a whole number, not 'True'"),
    ("train.steps=[1, 2]", "train.steps: needs a whole number"),
    ("train.steps=None", "train.steps: needs a whole number"),
    ("train.steps=" + "(" * 5000, "train.steps: needs a whole number"),
    ("train.steps=" + "9" * 5000, "train.steps"),
    ("train.lr=fast", "train.lr: needs a number, not 'fast'"),
    ("train.lr=", "train.lr: needs a number"),
    ("train.lr=(0.1,)", "train.lr: needs a number"),
    ("train.lr=True", "train.lr: needs a number"),
    ("train.remat=1", "train.remat: needs true or false, not '1'"),
    ("model.tie=yes", "model.tie: needs true or false"),
    # limits
    ("train.lr=nan", "train.lr: nan is not a finite number"),
    ("train.lr=inf", "train.lr: inf is not a finite number"),
    ("train.lr=1e999", "train.lr: inf is not a finite number"),
    ("train.lr=0", "train.lr: must be above 0"),
    ("train.lr=-1", "train.lr: must be above 0"),
    ("train.steps=0", "train.steps: must be at least 1"),
    ("train.steps=99999999999999999999", "train.steps: 99999999999999999999 is too large"),
    ("train.batch_size=-4", "train.batch_size: must be at least 1"),
    ("train.ema=1", "train.ema: must be in [0, 1)"),
    ("train.beta2=1.0", "train.beta2: must be in [0, 1)"),
    ("train.weight_decay=-0.1", "train.weight_decay: must be at least 0"),
    ("train.clip=0", "train.clip: must be above 0"),
    ("train.precision=fp16", "train.precision: must be one of f32, bf16, f16"),
    ("train.warmup=-1", "train.warmup: must be at least 0"),
    ("model.dropout=1", "model.dropout: must be in [0, 1)"),
    ("model.dropout=-0.5", "model.dropout: must be in [0, 1)"),
    ("model.context=1", "model.context: must be at least 2"),
    ("model.layers=0", "model.layers: must be at least 1"),
    ("model.rope_base=1", "model.rope_base: must be above 1"),
    ("model.monarch.blocks=0", "model.monarch.blocks: must be at least 1"),
    ("model.monarch.conv_width=0", "model.monarch.conv_width: must be at least 1"),
    ("model.monarch.filter_sine=0", "model.monarch.filter_sine: must be above 0"),
    ("model.monarch.filter_fast=2", "model.monarch.filter_fast: 2.0 is above monarch.filter_slow=1.5"),
    ("model.mixer=", "model.mixer: must not be empty"),
    ("model.mixer= ", "model.mixer: must not be empty"),
    ("data.path=", "data.path: must not be empty"),
    ("data.errors=ignore", "data.errors: must be one of strict, replace"),
    ("data.unknown=", "data.unknown: must be one of error, skip"),
    ("seed=-1", "seed: must be in [0, 2^32)"),
    ("seed=4294967296", "seed"),
    ("mesh.model=0", "mesh.model: must be at least 1"),
    # what does not go together
    ("model.ode.steps=0", "model.ode.steps: must be in 1 .. 1024"),
    ("model.ode.rtol=-0.1", "model.ode.rtol: must be above 0, or 0 for equal steps"),
    ("model.ode.rtol=0.1", "model.ode.rtol: euler has no error estimate"),
    ("model.ode.speed=0", "model.ode.speed: must be above 0"),
    ("model.ode.min_steps=7", "model.ode.min_steps: 7 is above ode.steps=6"),
    ("train.ode_energy=-1", "train.ode_energy: must be at least 0"),
    ("model.heads=5", "model.heads: 5 heads do not divide model.width=384"),
    ("model.heads=384", "model.heads: 384/384 channels a head is odd"),
    ("model.kv_heads=2", "model.kv_heads: 2 do not divide model.heads=3"),
    ("model.kv_heads=6", "model.kv_heads: 6 do not divide model.heads=3"),
    ("model.ffn_mult=0.0001", "model.ffn_mult: 0.0001 x width 384"),
    ("model.ffn_mult=1e308", "model.ffn_mult: 1e+308 x width 384"),
    ("train.accumulate=7", "train.accumulate: 7 does not divide batch_size=64"),
    ("train.adam_lr=-0.1", "train.adam_lr: must be at least 0"),
    ("train.min_lr=1.0", "train.min_lr: 1.0 is above train.lr=0.0006"),
    ("train.warmup_tokens=100000000", "train.warmup_tokens: 100,000,000 are 6,104 steps, not below train.steps=5000"),
    ("train.decay_share=1.1", "train.decay_share: must be in [0, 1]"),
    ("train.tail=-0.1", "train.tail: must be in [0, 1]"),
    ("train.muon.momentum=1", "train.muon.momentum: must be in [0, 1)"),
    ("train.soap.every=0", "train.soap.every: must be at least 1"),
    ("train.ternary_from=1", "train.ternary_from: must be in [0, 1)"),
    ("train.ternary_from=0.5", "train.ternary_from: says when model.linear=ternary begins, and model.linear=dense"),
    ("train.warmup=5000", "train.warmup: 5000 is not below train.steps=5000"),
]


@pytest.mark.parametrize("override, says", BAD_VALUES, ids=[override[:40] for override, _ in BAD_VALUES])
def test_fault_17_bad_values(override, says):
    with pytest.raises(UserError) as error:
        config_file.load(BASE, [override])
    message = str(error.value)
    assert message.startswith(("config.", "--config.")) and says in message
    assert "\n" not in message and len(message) < 8000


NAMES = [
    ("model.mixer=atention", "config.model.mixer: no mixer is called 'atention'; did you mean attention?"),
    ("model.mixer=attention foo", "config.model.mixer: no mixer is called 'foo'; there are: attention"),
    ("model.channel=swigloo", "config.model.channel: no channel is called 'swigloo'; did you mean swiglu?"),
    ("model.depth=stacks", "config.model.depth: no depth is called 'stacks'; did you mean stack?"),
    ("model.depth=stack od", "config.model.depth: no depth is called 'od'; did you mean ode?"),
    ("model.ode.solver=rk5", "config.model.ode.solver: no solver is called 'rk5'; did you mean rk4"),
    ("model.ode.time=late", "config.model.ode.time: no time is called 'late'; there are: embedded"),
    ("model.ode.adjoint=backsolved", "no adjoint is called 'backsolved'; did you mean backsolve?"),
    ("model.linear=sparse", "config.model.linear: no linear is called 'sparse'"),
    ("train.optimizer=adamv", "config.train.optimizer: no optimizer is called 'adamv'; did you mean adamw?"),
]

# Whole command lines: a module's arguments, and what the one line says.
LINES = [
    *[("main", [f"--config={BASE}", f"--config.{override}"], says) for override, says in [*BAD_VALUES[::9], *NAMES]],
    *[("benchmark", [f"--config={BASE}", "--what=train", f"--config.{override}"], says) for override, says in NAMES],
    *[
        (
            module,
            [f"--config={BASE}", *more, "--config.model.linear=monarch", "--config.model.monarch.blocks=5"],
            "config.model.monarch.blocks: 5 blocks do not divide a side of a 384 x 384 Linear",
        )
        for module, more in [("main", []), ("benchmark", ["--what=train"])]
    ],
    ("main", [f"--config={BASE}", "--config.model.ode_steps=3"], "it is --config.model.ode.steps now"),
    ("benchmark", [f"--config={BASE}", "--what=train", "--config.data.pacing=root"], "it is --config.data.curriculum."),
    ("main", [], "--config"),
    ("main", ["--config"], "--config"),
    ("main", ["--config=configs/bas.py"], "config file configs/bas.py does not exist; did you mean base.py"),
    ("main", ["--config="], "config file"),
    ("main", ["--config=configs"], "config file configs does not exist"),
    ("main", [f"--config={BASE}", "--workdirs=x"], "no flag is called --workdirs; did you mean --workdir?"),
    ("main", [f"--config={BASE}", "train.lr=1"], "train.lr"),
    ("main", [f"--config={BASE}", "--train.lr=1"], "--train.lr"),
    ("main", [f"--config={BASE}", "--config.train.steps", "3"], "--config.train.steps needs a value"),
    ("main", [f"--config={BASE}", "--json=1"], "--json"),
    ("generate", [], "--workdir"),
    ("generate", ["--workdir=/nowhere"], "/nowhere"),
    ("generate", ["--workdir=x", "--temprature=1"], "no flag is called --temprature; did you mean --temperature?"),
    ("generate", ["--workdir=x", "--temperature=hot"], "--temperature"),
    ("generate", ["--workdir=x", "--max_new_tokens=0"], "--max_new_tokens"),
    ("generate", ["--workdir=x", "--max_new_tokens=1.5"], "--max_new_tokens"),
    ("generate", ["--workdir=x", "--unknown=ignore"], "--unknown"),
    ("generate", ["--workdir=x", "--config.seed=1"], "--config.seed"),
    ("evaluate", ["--workdir=/nowhere"], "/nowhere"),
    ("evaluate", [f"--workdir={BASE}"], "not the workdir of a run"),
    ("evaluate", ["--workdir=x", "--stride=half"], "--stride"),
    ("evaluate", ["--workdir=x", "--ode_rtol=0"], "--ode_rtol=0 must be above 0"),
    ("generate", ["--workdir=x", "--ode_steps=0"], "--ode_steps=0 must be in 1 .. 1024"),
    ("generate", ["--workdir=x", "--ode_steps=2", "--ode_rtol=0.1"], "give one of them"),
    ("benchmark", [f"--config={BASE}"], "--what"),
    ("benchmark", [f"--config={BASE}", "--what=sleep"], "--what"),
    ("benchmark", [f"--config={BASE}", "--what=train", "--repeats=0"], "--repeats"),
    ("benchmark", [f"--config={BASE}", "--what=train", "--threads=100000"], "--threads=100000"),
    ("benchmark", [f"--config={BASE}", "--what=train", "--heads=5"], "model.heads"),
    ("benchmark", [f"--config={BASE}", "--what=train", "--batch=0"], "batch"),
]


@pytest.mark.parametrize("module, arguments, says", LINES, ids=[" ".join([m, *a[-1:]])[:50] for m, a, _ in LINES])
def test_fault_17_bad_command_lines(module, arguments, says, monkeypatch, tmp_path, capfd):
    """Exit code 2, nothing on stdout, one line on stderr; and nothing is left behind."""
    for name in ("XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")  # put back after a command has set it
    monkeypatch.chdir(CONFIGS.parent)
    workdir = [f"--workdir={tmp_path / 'run'}"] if module == "main" else []
    monkeypatch.setattr(sys, "argv", [module, *arguments, *workdir])
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, getattr(sys, stream))  # a command replaces them
    page = COMMANDS[module]
    for work in ("_train", "_generate"):  # a line that is not refused fails here, before hours of training
        monkeypatch.setattr(page, work, lambda *_: pytest.fail("the command line was accepted"), raising=False)
    with pytest.raises(SystemExit) as end:
        command.run(page.parser(), page.main, overrides=module in ("main", "benchmark"))
    assert end.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"{module}: ") and err.count("\n") == 1 and err.endswith("\n")
    assert says in err
    assert not (tmp_path / "run").exists()


FILES = {
    "syntax": ("def get_config(:", "SyntaxError"),
    "no function": ("config = 1", "it must define get_config()"),
    "not a function": ("get_config = 3", "TypeError"),
    "fails": ("def get_config():\n    return 1 / 0", "ZeroDivisionError"),
    "fails in many lines": ("def get_config():\n    raise ValueError('one\\n\\ntwo')", "ValueError: one two"),
    "lacks a module": ("import there_is_no_such_module", "ModuleNotFoundError"),
    "ends the program": ("import sys\nsys.exit(3)", "SystemExit"),
    "gives nothing": ("def get_config(): pass", "not a ConfigDict"),
    "gives a list": ("def get_config(): return [1]", "not a ConfigDict"),
    "gives an empty config": ("def get_config(): return {}", "config.data: missing"),
    "not UTF-8": (b"\xff\xfe", "c.py"),
    "NUL": (b"\0", "c.py"),
    "lacks a key": ("EDIT del c.train.lr", "config.train.lr: missing from the config file"),
    "lacks a group": ("EDIT del c.mesh", "config.mesh: missing from the config file"),
    "unknown key": ("EDIT c.train.nesterov = 0.9", "config.train.nesterov: no such key; there are: "),
    "misspelt key": ("EDIT c.train.warm_up = 5", "config.train.warm_up: no such key; did you mean warmup"),
    "a knob that has moved": (
        "EDIT c.model.ode_steps = 6",
        "config.model.ode_steps: has moved: it is config.model.ode.st",
    ),
    "no group": ("EDIT c.mesh = 3", "config.mesh: is a group of keys, not the value 3"),
    "no value": ("EDIT c.train.lr = None", "config.train.lr: needs a number, not None"),
    "a list": ("EDIT c.train.lr = [1.0]", "config.train.lr: needs a number, not "),
    "a bool": ("EDIT c.train.steps = True", "config.train.steps: needs a whole number, not True"),
    "a text": ("EDIT c.model.width = '384'", "config.model.width: needs a whole number, not '384'"),
    "an endless number": ("EDIT c.train.lr = float('nan')", "config.train.lr: nan is not a finite number"),
}


@pytest.mark.parametrize("content, says", FILES.values(), ids=FILES)
@pytest.mark.parametrize("override", [[], ["train.lr=0.001"]], ids=["as it is", "overridden"])
def test_fault_17_bad_config_files(tmp_path, content, says, override):
    if isinstance(content, str) and content.startswith("EDIT "):
        values = config.to_dict(config_file.load(BASE))
        content = (
            "from ml_collections import ConfigDict\n"
            "def get_config():\n"
            f"    c = ConfigDict({values!r}, type_safe=False)\n"  # where it is type-safe it says so in words of its own
            f"    {content[5:]}\n"
            "    return c\n"
        )
    path = tmp_path / "c.py"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as error:
        config_file.load(str(path), override)
        assert override and "train.lr" in says, "only an override of the very key may mend the file"
        raise UserError(says)
    message = " ".join(str(error.value).split())
    assert says in message or (override and "--config.train.lr: " in message)


def test_a_config_may_start_from_its_neighbour(tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    import yours\n    return yours.get_config()\n")
    with pytest.raises(UserError, match="No module named 'yours'"):
        config_file.load(str(tmp_path / "mine.py"))
    before = list(sys.path)
    (tmp_path / "yours.py").write_text(Path(BASE).read_text())
    assert config_file.load(str(tmp_path / "mine.py")) == config_file.load(BASE)
    assert sys.path == before
    del sys.modules["yours"]


def test_config_dict_is_what_build_takes():
    values = ml_collections.ConfigDict(config.to_dict(config_file.load(BASE)))
    assert config.build(values) == config_file.load(BASE)


# The real thing.


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([f"--config={BASE}", "--config.train.stepz=3"], "--config.train.stepz: no such key; did you mean steps"),
        (["--config=configs/tiny.py", "--config.model.mixer=atention"], "no mixer is called 'atention'"),
        (["--config=nowhere.py"], "config file nowhere.py does not exist"),
    ],
    ids=["key", "name", "file"],
)
def test_a_bad_command_line_in_a_process_of_its_own(arguments, says, run_command, tmp_path):
    done = run_command("main", *arguments, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("main: ") and says in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("module", COMMANDS)
def test_help_answers_without_jax(module):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"juliagpt_jax.{module}", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert f"python -m juliagpt_jax.{module}" in done.stdout and "--debug" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "juliagpt_jax.ground.config" in imported
    assert not imported & {
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "numpy",
        "orbax",
        "matplotlib",
        "tensorboardX",
        "ml_collections",
    }
