"""Every test runs with four host devices, without implicit rank promotion, and with its own cache folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path.home() / ".cache" / "juliagpt_jax" / "compiled-by-tests")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


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
