"""Facts about the machine and the code that numbers came from."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def describe_run(seed: int, devices: list[Any]) -> dict[str, Any]:
    """Return versions, commit, device and seed: where numbers came from, for run.json and every checkpoint."""
    names = ["juliagpt-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"]
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in names},
        "commit": commit(),
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "platform": devices[0].platform,
        "machine": f"{platform.machine()}, {processor()}, {os.cpu_count()} cores",
        "seed": seed,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # this package, run from its folder


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def device() -> str:
    """Return the name of what JAX computes on. It calls every processor "cpu", so there it is the processor's own."""
    import jax

    return processor() if jax.default_backend() == "cpu" else jax.devices()[0].device_kind


@functools.cache
def commit() -> str:
    """Return the commit of the source, with "+changes" where files differ from it; its version where it lies in no
    checkout of its own."""
    here = Path(__file__).resolve()
    try:
        run = lambda *args: (
            subprocess.run(
                ["git", *args], cwd=here.parent, capture_output=True, text=True, timeout=5, check=True
            ).stdout
        )
        run("ls-files", "--error-unmatch", here.name)  # else it is installed inside somebody else's checkout
        return run("rev-parse", "HEAD").strip() + ("+changes" if run("status", "--porcelain", "-uno").strip() else "")
    except (OSError, subprocess.SubprocessError):
        return f"version {_version('juliagpt-jax')}"
