"""Every test runs with four host devices, without implicit rank promotion, and with its own cache folder."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from juliagpt_jax.ground import config, config_file

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"

# Nearly all of the time is compilation of programs that run for milliseconds: LLVM's optimisation does not pay here.
# The real runs of `Micro` compile as those of a user do.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path.home() / ".cache" / "juliagpt_jax" / "compiled-by-tests")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

hypothesis.settings.register_profile("project", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("project")

# A run of seconds; each knob may be overridden again.
TINY = [
    "model.width=32",
    "model.layers=2",
    "model.heads=2",
    "model.context=16",
    "model.ffn_mult=1.5",
    "model.ode.steps=2",
    "train.steps=20",
    "train.batch_size=4",
    "train.accumulate=1",
    "train.warmup=2",
    "mesh.data=1",
]


def tiny_config(*overrides: str) -> config.Config:
    return config_file.load(str(ROOT / "configs" / "base.py"), [*TINY, *overrides])


@pytest.fixture(scope="session")
def tiny():
    """`tiny("model.layers=1", ...)`: the smallest config, with overrides."""
    return tiny_config


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Derived corpora of one test are not seen by another."""
    monkeypatch.setenv("JULIAGPT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def golden():
    return GOLDEN


def command(module: str, *arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    """Run a command of the package as a user does, from the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", f"juliagpt_jax.{module}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
    )


@pytest.fixture
def run_command():
    return command


class Micro:
    """Real runs of a model so small that a process takes seconds; they share a corpus and the folder of compiled
    programs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.text = folder / "text.txt"
        rng = random.Random(0)
        words = "the nature of truth is a line and number that goes on in time with all of us".split()
        self.text.write_text("\n".join(" ".join(rng.choices(words, k=9)) + "." for _ in range(300)) + "\n")
        self.flags = [
            f"--config.{key}"
            for key in [
                f"data.path={self.text}",
                *["model.width=16", "model.layers=1", "model.heads=1", "model.context=16"],
                *[
                    "train.batch_size=4",
                    "train.steps=40",
                    "train.warmup=5",
                    "train.checkpoint_every=10",
                    "train.log_every=1",
                ],
                *["train.eval_every=10", "train.eval_windows=4", "train.sample_every=20", "train.sample_tokens=20"],
                "train.report_share=0",
            ]
        ]

    def start(self, module: str, *arguments: object, before: str = "", cwd: Path = ROOT, **environment: str):
        """Start a command as a process; `before` is Python that runs in it first. Its output is text in pipes."""
        call = f"import runpy, sys; sys.argv[0] = 'x'; runpy.run_module('juliagpt_jax.{module}', run_name='__main__')"
        how = ["-c", f"{before}\n{call}"] if before else ["-m", f"juliagpt_jax.{module}"]
        own = {"XLA_FLAGS": "", "JULIAGPT_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, *how, *map(str, arguments)],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | own | environment,
        )

    def run(self, module: str, *arguments: object, before: str = "", timeout: float = 90, **more: Any):
        """`start`, wait, and return the process with `out` and `err`; no traceback may be in it."""
        process = self.start(module, *arguments, before=before, **more)
        try:
            process.out, process.err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert "Traceback" not in process.err, process.err
        return process

    def training(self, workdir: Path, *overrides: str) -> list[str]:
        """The arguments of `main`; an override is "train.steps=3", a flag begins with "--"."""
        extra = [o if o.startswith("--") else f"--config.{o}" for o in overrides]
        return ["--config=configs/tiny.py", f"--workdir={workdir}", *self.flags, *extra]

    def train(self, workdir: Path, *overrides: str, code: int = 0, **more: Any):
        """Train in a process of its own and hold it to its exit code."""
        process = self.run("main", *self.training(workdir, *overrides), **more)
        assert process.returncode == code, f"exit code {process.returncode}\n{process.out}\n{process.err}"
        return process


@pytest.fixture(scope="session")
def micro(tmp_path_factory):
    return Micro(tmp_path_factory.mktemp("micro"))


@pytest.fixture(scope="session")
def clean(micro):
    """The workdir of a micro run that was never disturbed; to be read only."""
    micro.train(micro.folder / "clean")
    return micro.folder / "clean"


@pytest.fixture(scope="session")
def past_the_context():
    """`past_the_context(model, params, prompts)`: greedy text of two contexts, held to one forward pass a token over
    the rolling window."""
    import jax
    import numpy as np

    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.sampling import Rule

    def held(model, params, prompts):
        slots = model.config.context
        text = Generator(model, params).generate(prompts, 2 * slots, Rule(greedy=True))
        forward = jax.jit(lambda tokens: model.apply({"params": params}, tokens)[0])
        for row, prompt in enumerate(prompts):
            window, block = list(prompt), slots // 2
            for at in range(2 * slots):
                if at % block == 0 and len(window) + block > slots:
                    window = window[-(slots // 2) :]
                padded = np.zeros((1, slots), np.int32)
                padded[0, : len(window)] = window
                logits = np.asarray(forward(padded)[0, len(window) - 1])
                first, second = np.sort(logits)[[-1, -2]]
                assert text[row, at] == np.argmax(logits) or first - second < 1e-4
                window.append(text[row, at])
        return text

    return held


def one_line(process: Any, *parts: str) -> str:
    """stderr, which must be one line with all the parts in it."""
    assert process.err.count("\n") == 1, process.err
    for part in parts:
        assert part in process.err, process.err
    return process.err


@pytest.fixture(scope="session")
def says():
    return one_line


def pytest_addoption(parser):
    parser.addoption(
        "--part",
        metavar="I/N",
        help="the tests of part I of N, such as 1/2, drawn by name; of the long ones CI runs that of its commit",
    )


def pytest_collection_modifyitems(config, items):
    """Of every N tests one part; each test is in the same part on every machine."""
    if not (asked := config.getoption("--part")):
        return
    part, parts = map(int, asked.split("/"))
    number = lambda item: int(hashlib.sha256(item.nodeid.encode()).hexdigest(), 16) % parts
    left = [item for item in items if number(item) != part - 1]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if number(item) == part - 1]
