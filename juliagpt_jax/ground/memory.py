"""A process that may use little memory ends with one line, whatever it was that found no room.

Where memory is short, a thread of XLA, an import or the dynamic linker can fail, and each ends the process in its own
words: an abort with a stack of addresses, exit code 127, an error of Python's own. Nothing in the process can answer
for that, so under a limit of the system (`ulimit -v`, `ulimit -d`) the command runs in a child, and the parent, which
is a few megabytes of Python, says how it ended. Without a limit there is one process, as always.
"""

import contextlib
import ctypes
import gc
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import hosts
from juliagpt_jax.ground.errors import HostError, StorageError

# Megabytes that JAX takes on one or two cores, measured with a model of 0.1M parameters: below the least of address
# space, no run of 40 came to its end; `ADDRESSES` is what generate, evaluate, serve and main took where there was
# room, `RESIDENT` the memory that was in use after the first compiled program of two numbers.
LEAST_ADDRESSES, ADDRESSES, RESIDENT = 1_400, 1_900, 250

# What a system says where a library, a thread or an array finds no room.
SHORT = re.compile(
    "RESOURCE_EXHAUSTED|[Cc]annot allocate memory|failed to map segment|bad_alloc|can't start new thread|"
    "[Uu]nable to allocate|pthread_create|Resource temporarily unavailable|MemoryError|SystemError|[Aa]llocation.*fail"
)
# What XLA says: before it runs a program, and in the middle of one.
_XLA = re.compile("RESOURCE_EXHAUSTED|Out of memory allocating")
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_HELD = 1 << 16  # bytes that are kept of what libraries say
_ABORTS = {127, *(-s for s in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP))}
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


_MMAP_THRESHOLD, _SMALL, _LARGEST = -3, 1 << 20, 32 << 20  # of glibc's mallopt: a parameter, and bytes for it


def ran_out(error: BaseException) -> bool:
    """Tell whether an exception says that a program, or an array, found no room."""
    return isinstance(error, MemoryError) or _XLA.search(str(error)) is not None


@contextlib.contextmanager
def returned() -> Iterator[None]:
    """Give back to the system, at once, the large blocks that are freed within, and at the end all that is free.

    Reading a model takes buffers of the size of its arrays, on many threads, and glibc would keep most of what they
    leave. Where the C library is another one nothing is done.
    """
    libc = None
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_MMAP_THRESHOLD, _SMALL)
    try:
        yield
    finally:
        if libc:
            libc.mallopt(_MMAP_THRESHOLD, _LARGEST)  # as glibc itself sets it once a large block has been freed
            gc.collect()
            libc.malloc_trim(0)


def limit() -> tuple[int, str]:
    """Return the megabytes of address space that this process may use and the command that set them; 0: no limit."""
    if sys.platform != "linux":  # other systems do not hold a process to it
        return 0, ""
    import resource

    kinds = [(resource.RLIMIT_AS, "ulimit -v"), (resource.RLIMIT_DATA, "ulimit -d")]
    given = [(resource.getrlimit(kind)[0], by) for kind, by in kinds]
    return min(((most >> 20, by) for most, by in given if most != resource.RLIM_INFINITY), default=(0, ""))


def free() -> int:
    """Return the bytes of memory that this process may still take; 0 where the system does not say."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) << 10)
    for path in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(path).read_text()))
    return min(found, default=0)


def check() -> None:
    """Refuse to start JAX where it is known to find no room.

    Raises:
        StorageError: the text has the limit and what is needed.
    """
    most, by = limit()
    if by.endswith("v") and most < LEAST_ADDRESSES:
        needs = f"JAX and a small model take about {ADDRESSES:,} MB"
        raise StorageError(f"out of memory: {by} allows {most:,} MB of address space, {needs}: raise the limit")
    for path in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            if (most := int(Path(path).read_text()) >> 20) < RESIDENT:
                needs = f"JAX and a small model take about {RESIDENT:,} MB"
                raise StorageError(f"out of memory: this container has {most:,} MB, {needs}: give it more")


def supervise(name: str) -> int:
    """Under a limit, or as one of several hosts, go on in a child process; its parent leaves with the child's exit
    code, or, where the child did not end of its own will, with one line and exit code 4. (XLA aborts a process whose
    coordinator is gone.)

    In the child, what libraries and Python itself write to file descriptor 2 is held back by the parent, which shows it
    unless memory ran out.

    Returns:
        The file descriptor of what the command has to say on stderr.
    """
    most, by = limit()
    if not most and not hosts.asked():
        return 2
    os.environ.setdefault("MIMALLOC_ARENA_RESERVE", "16M")  # rensa's allocator would take a gigabyte of it at once
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if not child:
        os.close(reader)
        own = os.dup(2)
        os.dup2(writer, 2)
        os.close(writer)
        _end_with(parent)
        _hold_back()
        return own
    os.close(writer)
    for number in _FORWARDED:
        signal.signal(number, lambda number, _: os.kill(child, number))
    held = b""
    while said := os.read(reader, _HELD):
        held = (held + said)[-_HELD:]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(_tell(name, code, held.decode(errors="replace"), f"{by} allows {most:,} MB"))


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, so that a SIGKILL ends both; and leave the terminal's
    group, so that Ctrl-C comes once, from the parent."""
    import ctypes

    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
    os.setpgid(0, 0)


def _hold_back() -> None:
    """Have tracebacks that nobody caught, and what libraries warn and log of, written where the parent holds it back:
    JAX warns where it finds no memory to read its cache, and that is not the line that the user needs."""

    def write(error: BaseException | None) -> None:
        traceback.print_exception(error, file=sys.__stderr__)

    def raised(_: Any, error: BaseException, __: Any) -> None:
        write(error)

    sys.excepthook = raised
    threading.excepthook = lambda args: write(args.exc_value)
    sys.unraisablehook = lambda args: write(args.exc_value)
    shown = warnings.formatwarning
    warnings.showwarning = lambda *what, **_: print(shown(*what[:4]), end="", file=sys.__stderr__)
    logging.lastResort = logging.StreamHandler(sys.__stderr__)
    logging.lastResort.setLevel(logging.WARNING)


def _tell(name: str, code: int, held: str, limited: str) -> int:
    """Say on stderr how a child ended; return the exit code for it."""
    debug = "--debug" in sys.argv
    if hosts.asked() and code in (HostError.exit_code, *_ABORTS) and hosts.GONE.search(held):
        says = "" if code == HostError.exit_code else f"{name}: {hosts.gone('its coordinator does not answer')}\n"
        says = next((f"{line}\n" for line in held.splitlines() if hosts.LINE in line), says)
        os.write(2, (held * debug + says).encode())
        return HostError.exit_code
    short = next((line.strip() for line in held.splitlines() if SHORT.search(line)), "")
    if code in _ABORTS or (code == 1 and short):
        first = short or next(iter(held.splitlines()), f"it ended with {code}")
        says = f"{name}: out of memory: {limited} ({first[:200]}); raise the limit\n"
        os.write(2, (held * debug + says).encode())
        return StorageError.exit_code
    if debug or not short:  # else its one line is said, or it came to its end and stumbled over its own tidying up
        os.write(2, held.encode())
    return 128 - code if code < 0 else code
