"""A look at this machine and at a workdir, for who wonders why something does not work: nothing is changed."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from juliagpt_jax.ground import devices, memory
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.store import machine
from juliagpt_jax.store.manifest import Damaged, read_meta, steps, verify

SECONDS = 120  # in which JAX has to find its devices
LEAST_FREE = 1 << 30  # bytes: a checkpoint of a small model, compiled programs and plots
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "diffrax", "safetensors", "tokenizers")
# Run in a process of its own, which a driver may end or hold up.
LOOK = """
import jax, jax.numpy as jnp
print(*(f"{d.platform} {d.device_kind}" for d in jax.devices()), sep="; ")
print(float((jnp.ones((64, 64)) @ jnp.ones((64, 64))).sum()))
"""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A line of what was seen; `advice` says what to do where something is wrong, "" where nothing is."""

    what: str
    says: str
    advice: str = ""


def look(workdir: Path | None) -> Iterator[Finding]:
    """Yield what there is to say of versions, devices, flags, cache, disk and memory, and of a workdir."""
    yield from versions()
    yield from found_devices()
    yield from flags()
    yield from folders()
    yield from found_memory()
    if workdir:
        yield from run(workdir)


def versions() -> Iterator[Finding]:
    """Yield the versions of Python and of what the project stands on."""
    python = sys.version.split()[0]
    known = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield Finding("Python", python, "" if known else "the project needs Python 3.11 or 3.12")
    found = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if not version]
    advice = f"not installed: {', '.join(missing)}; pip install -c constraints.txt -e ." if missing else ""
    if found["jax"].split(".")[:2] != found["jaxlib"].split(".")[:2]:
        advice = "jax and jaxlib are of different releases; pip install -c constraints.txt -e . puts them right"
    yield Finding("packages", ", ".join(f"{name} {version or '-'}" for name, version in found.items()), advice)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def found_devices() -> Iterator[Finding]:
    """Yield what JAX computes on, by asking it in a process of its own."""
    yield Finding("processor", f"{machine.processor()}, {devices.cores()} cores for this process")
    graphics = shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists()
    try:
        asked = subprocess.run(
            [sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        yield Finding(
            "devices", f"JAX found none in {SECONDS} s", "another program may hold the GPU: look at nvidia-smi"
        )
        return
    if asked.returncode:
        last = next(iter(reversed(asked.stderr.strip().splitlines())), f"exit code {asked.returncode}")
        platforms = os.environ.get("JAX_PLATFORMS")
        way = f"JAX_PLATFORMS={platforms} asks for what is not there: unset it" if platforms else "install it anew"
        yield Finding("devices", f"JAX does not start: {last[:200]}", f"{way}; pip install -c constraints.txt -e .")
        return
    found = asked.stdout.splitlines()[0]
    blind = graphics and "cpu" in found.split("; ")[0].split()[0].lower()
    way = "a GPU is here and JAX does not use it: pip install -e '.[cuda12]' (or cuda13)" if blind else ""
    yield Finding("devices", found, way)


def flags() -> Iterator[Finding]:
    """Yield the environment variables that change what is computed and where things are kept."""
    names = [n for n in os.environ if n.startswith(("JAX_", "XLA_", "JULIAGPT_", "CUDA_VISIBLE", "TF_CPP"))]
    said = (
        "; ".join(f"{name}={os.environ[name]}" for name in sorted(names)) or "none of JAX's and this project's is set"
    )
    odd = "xla_gpu_deterministic_ops=false" in os.environ.get("XLA_FLAGS", "").lower()
    yield Finding("environment", said, "XLA_FLAGS lets a GPU round otherwise each time: take it out" if odd else "")


def folders() -> Iterator[Finding]:
    """Yield the cache and the folder that one is in: free space, and whether they can do what a workdir needs."""
    try:
        cache = devices.cache_folder()
    except UserError as error:
        yield Finding("cache", "none", str(error))
    else:
        size = sum(p.stat().st_size for p in cache.rglob("*") if p.is_file()) if cache.exists() else 0
        there = next(folder for folder in (cache, *cache.parents) if folder.exists())
        yield Finding("cache", f"{cache}: {_size(size)} in it, {_free(there)}", _short(there) or _cannot(there))
    here = Path.cwd()
    yield Finding("disk", f"{here}: {_free(here)}", _short(here) or _cannot(here))


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _free(folder: Path) -> str:
    return f"{_size(shutil.disk_usage(folder).free)} free"


def _short(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return f"less than {_size(LEAST_FREE)} are free: a save may find no room" if free < LEAST_FREE else ""


def _cannot(folder: Path) -> str:
    """Say what a folder does not allow of what runs need: to write, to link, to lock; "" where it allows all."""
    try:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            (Path(own) / "link").symlink_to("x")
            with open(Path(own) / "lock", "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return f"no file, link or lock can be made there ({error.strerror}): put --workdir on another disk"
    return ""


def found_memory() -> Iterator[Finding]:
    """Yield how much memory there is, and what limits it."""
    free = f"{_size(os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))} free"
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
        free = f"{_size(1024 * int(kilobytes))} available"
    most, by = memory.limit()
    short = (
        f"{by} allows {most:,} MB of addresses; JAX needs {memory.ADDRESSES:,}" if 0 < most < memory.ADDRESSES else ""
    )
    yield Finding("memory", f"{free}{f', {by}: {most:,} MB' if most else ''}", short)


def run(workdir: Path) -> Iterator[Finding]:
    """Yield the state of a run: who holds it, how it ended, and which of its checkpoints are sound."""
    if not (workdir / "config.json").exists():
        yield Finding("workdir", str(workdir), "no config.json in it: it is not the workdir of a run")
        return
    end = next((name for name in ("DONE", "FAILED") if (workdir / name).exists()), "")
    failed = (workdir / "FAILED").read_text(encoding="utf-8", errors="replace").strip() if end == "FAILED" else ""
    yield Finding("workdir", f"{workdir}: {end or 'under way, or stopped: the same command goes on'}", failed)
    holder = _holder(workdir / ".lock")
    if holder:
        yield Finding("lock", f"held by {holder}")
    folder, sound, bad = workdir / "checkpoints", [], []
    for step in steps(folder):
        try:
            verify(folder / str(step))
            read_meta(folder / str(step))
            sound.append(str(step))
        except Damaged as damage:
            bad.append(f"{step} is damaged ({damage})")
    aside = sorted(path.name for path in folder.glob("*.corrupt"))
    says = f"sound: {', '.join(sound) or 'none'}" + (f"; set aside: {', '.join(aside)}" if aside else "")
    way = "the newest sound one is used" if sound else "put a sound copy back, or train in another --workdir"
    yield Finding("checkpoints", says, f"{'; '.join(bad)}: {way}" if bad else "")


def _holder(lock: Path) -> str:
    """Return who holds a lock; "" where nobody does."""
    try:
        with open(lock, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "another process"
    except OSError:
        pass
    return ""
