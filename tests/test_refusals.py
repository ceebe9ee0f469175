"""A mistake is answered at once: in one line, before JAX is imported, which takes seconds."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from juliagpt_jax import benchmark, doremi, influence, score
from juliagpt_jax.evaluation import chunk_scores
from juliagpt_jax.evaluation import influence as influences
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import UserError

ROOT = Path(__file__).parents[1]
# Every command that reads a model, with what it needs beside --workdir.
READING = {
    "generate": [],
    "evaluate": [],
    "analyse": ["--out={out}"],
    "score": ["--out={out}/scores.npz"],
    "influence": ["--out={out}"],
    "serve": [],
    "harness": ["--tasks=none"],
    "answer": ["--task=addition"],
    "export": ["--format=hf", "--out={out}"],
}
PACKED = f"--workdir={ROOT}/tests/golden/before/int8.safetensors"
CASES = [
    *[(command, ["--workdir=/nowhere"], "is not the workdir of a run") for command in READING],
    *[(command, ["--workdir={begun}"], "has no checkpoint yet") for command in READING],
    *[(command, ["--workdir={lost}"], "tokenizer.json does not exist") for command in READING],
    *[
        (
            command,
            ["--workdir={clean}", f"--checkpoint{'s' if command == 'influence' else ''}=7"],
            "--checkpoint=7: it is",
        )
        for command in READING
    ],
    *[
        (command, ["--workdir={clean}", "--averaged"], "has no averaged weights")
        for command in READING
        if command != "influence"
    ],
    *[
        (command, ["--workdir={clean}", "--ode_steps=3"], "--ode_steps: no layer of this model is an ODE")
        for command in ("generate", "evaluate", "serve", "harness")
    ],
    *[
        (command, ["--workdir={moved}"], "text.txt does not exist")
        for command in ("evaluate", "analyse", "score", "influence")
    ],
    *[(command, [PACKED], "has no gradients") for command in ("score", "influence")],
    ("generate", ["--workdir={clean}", "--temperature=0"], "temperature must be above 0"),
    ("generate", ["--workdir={clean}", "--sinks=8"], "sinks=8 is outside"),
    ("generate", ["--workdir={clean}", "--chat"], "--chat: this model has no chat template"),
    ("generate", ["--workdir={clean}", "--system=x"], "--system is of a conversation: --chat"),
    ("generate", ["--workdir={clean}", "--draft=/nowhere"], "/nowhere is not the workdir of a run"),
    ("generate", ["--workdir={clean}", "--grammar=numbr"], "no form is called 'numbr'; did you mean number"),
    ("generate", ["--workdir={clean}", "--grammar=number", "--calculator"], "give one of them"),
    ("generate", ["--workdir={clean}", "--draft={clean}", "--calculator"], "--draft guesses freely"),
    ("answer", ["--workdir={clean}", "--task=additon"], "no task is called 'additon'; did you mean addition"),
    ("answer", ["--workdir={clean}", "--by=verifier"], "--verifier=DIR"),
    ("evaluate", ["--workdir={clean}", "--data=/nowhere.txt"], "/nowhere.txt"),
    ("evaluate", ["--workdir={clean}", "--stride=17"], "--stride=17 is outside"),
    ("evaluate", ["--workdir={clean}", "--ode_adaptive"], "--ode_adaptive needs a tolerance"),
    ("evaluate", [PACKED, "--averaged"], "holds one model"),
    ("score", ["--workdir={clean}", "--what=los"], "no score is called 'los'; did you mean loss"),
    ("score", ["--workdir={clean}", "--data=/nowhere"], "/nowhere does not exist"),
    ("influence", ["--workdir={clean}", "--method=trac"], "no method is called 'trac'"),
    ("export", ["--workdir={clean}", "--out={clean}"], "is there already"),
]
TRAINING = [
    (["--config.data.path=/nowhere"], "config.data.path: /nowhere does not exist"),
    (["--config.data.tokenizer=/nowhere"], "/nowhere does not exist"),
    (["--workdir={held}"], "is in use by process 1 on elsewhere"),
    (["--workdir={clean}"], "holds a run with another config (model.width"),
    (["--workdir={clean}/config.json"], "cannot write there"),
    (["--config.train.kfac_kl=1"], "it is --config.train.kfac.kl now"),
    (["--config.train.stepz=1"], "did you mean steps"),
    (["--workdir={out}/{{seed}}", "--seeds=1,2", "--config.data.path=/nowhere"], "/nowhere does not exist"),
]


def refused_before_jax(module: str, arguments: list[str], cwd: Path) -> str:
    """The one line that a command answers with."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"juliagpt_jax.{module}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    lines = process.stderr.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    says = [line for line in lines if not line.startswith("import time:")]
    assert process.returncode == 2 and process.stdout == "" and len(says) == 1, (process.stdout, says)
    assert says[0].startswith(f"{module}: ")
    assert "juliagpt_jax.ground.config" in imported and not imported & {"jax", "jaxlib", "flax", "optax", "orbax"}
    return says[0]


@pytest.fixture(scope="module")
def folders(clean, tmp_path_factory):
    """Workdirs by what is wrong with them."""
    made = {"clean": clean}
    for name in ("begun", "lost", "moved", "held"):
        made[name] = tmp_path_factory.mktemp("refusals") / name
        shutil.copytree(clean, made[name], symlinks=True)
    shutil.rmtree(made["begun"] / "checkpoints")
    (made["lost"] / "tokenizer.json").unlink()
    config = made["moved"] / "config.json"
    values = sealed.read_json(config)
    values["data"]["path"] = values["data"]["path"].replace("/text.txt", "/elsewhere/text.txt")
    sealed.write_json(config, values)
    (made["held"] / ".lock").write_text("process 1 on elsewhere, started then\n")
    return made


@pytest.mark.parametrize("module, arguments, says", CASES, ids=[f"{m} {' '.join(a[-1:])}" for m, a, _ in CASES])
def test_a_reading_command_refuses_at_once(module, arguments, says, folders, tmp_path):
    given = {argument.partition("=")[0] for argument in arguments}
    needed = [argument for argument in READING[module] if argument.partition("=")[0] not in given]
    values = {name: str(path) for name, path in folders.items()} | {"out": str(tmp_path / "out")}
    assert says in refused_before_jax(module, [a.format(**values) for a in [*arguments, *needed]], tmp_path)
    assert not (tmp_path / "out").exists(), "nothing is left behind"


@pytest.mark.parametrize("arguments, says", TRAINING, ids=[" ".join(a) for a, _ in TRAINING])
def test_main_refuses_at_once(arguments, says, folders, tmp_path):
    values = {name: str(path) for name, path in folders.items()} | {"out": str(tmp_path / "out")}
    arguments = ["--config=configs/micro.py", f"--workdir={tmp_path / 'out'}", *(a.format(**values) for a in arguments)]
    with open(folders["held"] / ".lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert says in refused_before_jax("main", arguments, tmp_path)
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_tokenize_refuses_at_once(tmp_path):
    arguments = ["--source=/nowhere", "--vocab=300", f"--out={tmp_path / 'out'}"]
    assert "--source=/nowhere does not exist" in refused_before_jax("tokenize", arguments, tmp_path)
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_the_words_that_are_written_out_are_those_of_the_rooms():
    assert score.SCORES == chunk_scores.SCORES
    assert tuple(influences.METHODS) == influence.METHODS


@pytest.mark.parametrize("command, more", [(benchmark, ["--what=train"]), (doremi, ["--workdir=/nowhere"])])
def test_a_config_of_puzzles_is_refused_where_texts_are_meant(command, more):
    options = command.parser().parse([f"--config={ROOT}/configs/trm_sudoku6.py", *more], overrides=True)
    with pytest.raises(UserError, match="solves puzzles"):
        command.main(options)
