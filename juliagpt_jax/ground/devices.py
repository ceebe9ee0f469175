"""Settings that XLA reads once, before JAX is imported, and the device mesh after it.

`prepare` sets environment variables that XLA reads once, at start-up; a variable that is already set wins.
"""

import contextlib
import logging
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from juliagpt_jax.ground import config, memory
from juliagpt_jax.ground.errors import UserError

if TYPE_CHECKING:
    import jax

MICRO_TOKENS = 512


def cache_folder() -> Path:
    """Return where derived data and compiled programs are kept: $JULIAGPT_CACHE, else the user's cache folder. A user
    without a home (a container's, which no passwd names) has one among the temporary files, for nobody else: compiled
    programs are run."""
    base = os.environ.get("JULIAGPT_CACHE")
    if base:
        return Path(base)
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "juliagpt_jax"
    folder = Path(tempfile.gettempdir()) / f"juliagpt_jax-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
            return folder
    except OSError as error:
        raise UserError(f"no folder for the cache ({error}): set JULIAGPT_CACHE to one") from error
    raise UserError(f"{folder} is somebody else's: set JULIAGPT_CACHE to a folder for the cache")


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads(threads: int) -> None:
    """Keep this process on `threads` cores; XLA sizes its thread pool from that. 0 keeps all.

    Raises:
        UserError: there are not that many cores.
    """
    if not threads:
        return
    if threads > cores():
        raise UserError(f"--threads={threads}: this machine has {cores()} cores")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def prepare(settings: config.Config) -> None:
    """Set, before JAX is imported, host devices for a mesh, bitwise repeatable GPU kernels, the compilation cache.

    With `mesh.deterministic` these flags replace what XLA_FLAGS has, one device is the default, and nothing on a CPU is
    cut by its number of threads.

    Two CPU devices that share the batch are faster than one with two threads: XLA runs element-wise work on one thread.

    Raises:
        StorageError: there is too little memory for JAX to start.
    """
    memory.check()
    mesh = settings.mesh
    alone = mesh.deterministic or mesh.shared > 1
    wanted = (mesh.data or (1 if alone else min(2, cores()))) * mesh.shared
    ours = {"xla_force_host_platform_device_count": str(wanted), "xla_gpu_deterministic_ops": "true"}
    given = os.environ.get("XLA_FLAGS", "").split()
    if mesh.deterministic:  # whatever else was set
        os.environ["NPROC"] = "1"  # from which XLA sizes the pool of threads that it cuts sums and products for
        given = [flag for flag in given if flag.lstrip("-").partition("=")[0] not in ours]
    missing = [f"--{name}={value}" for name, value in ours.items() if not any(f"--{name}=" in flag for flag in given)]
    os.environ["XLA_FLAGS"] = " ".join([*given, *missing])
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's start-up chatter
    logging.getLogger("jax._src.xla_bridge").addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Cut what JAX logs of a plugin that does not start, before it takes another device, to one line."""
    if record.exc_info and record.exc_info[1]:
        reason = next(iter(str(record.exc_info[1]).splitlines()), type(record.exc_info[1]).__name__)
        record.msg, record.args = f"{record.getMessage()}: {reason}; going on without it", ()
        record.exc_info = record.exc_text = None
    return True


AXES = ("data", "fsdp", "model")  # of a mesh; the rows of a batch are spread over the first two
BATCH = AXES[:2]


def make_mesh(mesh: config.Mesh, batch: int) -> "jax.sharding.Mesh":
    """The mesh of AXES. `batch` rows (of a micro-batch) are spread over its "data" and "fsdp" axes.

    With `mesh.data=0` the most devices that divide the batch are taken.

    Raises:
        UserError: fewer devices than asked for, or they do not divide the batch.
    """
    import jax

    devices, asked = jax.devices(), f"{mesh.data} x {mesh.fsdp} x {mesh.model}"
    if mesh.data:
        data = mesh.data
        if data * mesh.shared > len(devices):
            kind = devices[0].platform
            raise UserError(f"config.mesh: {asked} devices asked for, {len(devices)} {kind} there")
        if batch % (data * mesh.fsdp):
            raise UserError(f"config.mesh: {data * mesh.fsdp} devices do not divide a (micro-)batch of {batch} rows")
    else:
        most = 1 if mesh.deterministic else len(devices) // mesh.shared
        fitting = [d for d in range(1, most + 1) if batch % (d * mesh.fsdp) == 0]
        if not fitting:
            knobs = f"config.mesh.fsdp={mesh.fsdp}, .model={mesh.model}"
            raise UserError(f"{knobs}: {len(devices)} devices, a (micro-)batch of {batch} rows")
        data = max(fitting)
    return grid((data, mesh.fsdp, mesh.model), devices)


def grid(sizes: tuple[int, int, int], devices: Any) -> "jax.sharding.Mesh":
    """The first of some devices as a mesh of AXES with these sizes."""
    import jax

    auto = (jax.sharding.AxisType.Auto,) * len(AXES)
    return jax.make_mesh(sizes, AXES, axis_types=auto, devices=devices[: math.prod(sizes)])


def peak_memory_bytes() -> int:
    """Peak memory: of the accelerator where it counts it, else of this process (resident set, high-water mark)."""
    import resource

    import jax

    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats:
        return int(stats["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def micro_batches(accumulate: int, batch: int, context: int) -> int:
    """The number of micro-batches: `accumulate`, or, where that is 0, what suits the device.

    An accelerator takes the batch whole. A CPU is faster and needs less memory when the activations of a micro-batch
    stay in its caches: about MICRO_TOKENS tokens, and at least two rows a device.
    """
    import jax

    if accumulate:
        return accumulate
    if jax.default_backend() != "cpu":
        return 1
    rows = max(2 * len(jax.devices()), MICRO_TOKENS // context)
    return max(a for a in range(1, batch + 1) if batch % a == 0 and (batch // a >= rows or a == 1))
