"""Processes that train one model together, each with devices of its own: how they meet, what they agree on, and the end
of all when one of them is gone.

JAX brings them together (`jax.distributed`) and adds up over all of their devices. The first process leads: it alone
writes, and the others follow it with a scratch folder for a workdir.
"""

import argparse
import atexit
import contextlib
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from juliagpt_jax.ground.errors import HostError, Stopped, UserError

BEAT = 1.0  # seconds between two signs of life
LOST = 30.0  # seconds without one after which a process is gone; JULIAGPT_HOST_LOST
LONG = 24 * 3_600_000  # milliseconds: as long as it takes; _watch ends a wait for who is gone
LINE = "another host of this run is gone"
MEETING = 300  # seconds to wait for all at the start
# What XLA and the libraries below it say where another process is gone.
GONE = re.compile(
    "[Gg]loo|NCCL|[Cc]oordination|[Hh]eartbeat|[Cc]onnection (closed|reset|refused)|UNAVAILABLE|[Bb]arrier"
)


class Place(NamedTuple):
    """The place of this process among those of a run."""

    hosts: int = 1
    rank: int = 0


class _Here:
    place = Place()
    said = 0  # words of the leader so far
    met = 0  # meetings so far
    leaving = False  # this process is about to end, and says why itself
    lost = LOST
    scratch: Path | None = None
    stop_at = 0  # the call after which all stop; 0: none is known


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add what says which processes train together. The environment says it as well: JULIAGPT_HOSTS, JULIAGPT_HOST and
    JULIAGPT_COORDINATOR."""
    more = flags.add_argument_group("several hosts", "the same command on each; the first one writes")
    more.add_argument("--hosts", metavar="N", help="processes in all; auto: as Slurm, Open MPI or a TPU pod says")
    more.add_argument("--host", type=int, metavar="I", help="the number of this one, 0 .. N-1")
    more.add_argument("--coordinator", metavar="ADDRESS:PORT", help="of host 0, for all to meet")


def asked() -> bool:
    """The command line, or the environment, speaks of several hosts. Before it is parsed."""
    return "JULIAGPT_HOSTS" in os.environ or any(word.startswith("--hosts") for word in sys.argv[1:])


def begin(options: argparse.Namespace) -> Place:
    """Meet the other processes, if there are to be any. Before any computation, after `devices.prepare`.

    Raises:
        UserError: what says who they are is no such thing.
        HostError: they do not all come.
    """
    given = lambda flag, name: os.environ.get(name) if flag is None else str(flag)
    hosts, rank = given(options.hosts, "JULIAGPT_HOSTS"), given(options.host, "JULIAGPT_HOST")
    address = given(options.coordinator, "JULIAGPT_COORDINATOR")
    if hosts in (None, "1") and not rank and address is None:
        return _Here.place
    try:
        _Here.lost = float(os.environ.get("JULIAGPT_HOST_LOST", LOST))
    except ValueError as error:
        raise UserError(f"JULIAGPT_HOST_LOST={os.environ['JULIAGPT_HOST_LOST']} is no number of seconds") from error
    wanted: dict[str, Any] = {}
    if hosts != "auto":
        if None in (hosts, rank, address):
            raise UserError("--hosts, --host and --coordinator: give all three, or --hosts=auto")
        assert hosts is not None and rank is not None and address is not None
        if not (hosts.isdecimal() and rank.isdecimal() and int(rank) < int(hosts)):
            raise UserError(f"--hosts={hosts} --host={rank}: whole numbers, the second below the first")
        if not re.fullmatch(r".+:\d+", address):
            raise UserError(f"--coordinator={address} is no ADDRESS:PORT")
        wanted = {"coordinator_address": address, "num_processes": int(hosts), "process_id": int(rank)}
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # signals are ours: training/signals.py
    try:
        jax.distributed.initialize(
            **wanted, initialization_timeout=MEETING, heartbeat_timeout_seconds=int(3 * _Here.lost) + 1
        )
    except ValueError as error:  # no cluster was found
        raise UserError(f"--hosts=auto: {error}; give --hosts, --host and --coordinator") from error
    except RuntimeError as error:
        raise HostError(f"the hosts did not meet at {address}: {str(error).splitlines()[0]}") from error
    _Here.place = Place(jax.process_count(), jax.process_index())
    if _Here.place.hosts > 1:
        threading.Thread(target=_watch, daemon=True, name="hosts").start()
    return _Here.place


def leads() -> bool:
    """This process writes: it is the first, or the only one."""
    return _Here.place.rank == 0


def several() -> bool:
    """Several processes train together."""
    return _Here.place.hosts > 1


def workdir(path: Path) -> Path:
    """Return the workdir of this process: the leader's is the one that was asked for, another's a scratch folder that
    ends with it."""
    if leads():
        return path
    _Here.scratch = scratch = Path(tempfile.mkdtemp(prefix="juliagpt_jax-host-"))
    atexit.register(tidy)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")
    return scratch / "run"


def tidy() -> None:
    """Remove the scratch folder of a process that follows, before it ends."""
    if _Here.scratch is not None:
        shutil.rmtree(_Here.scratch, ignore_errors=True)


def told(value: Any) -> Any:
    """Return what the leader gives here, a value of JSON, in all processes."""
    if not several():
        return value
    _Here.said += 1
    key, client = f"told/{_Here.said}", _client()
    if leads():
        client.key_value_set(key, json.dumps(value))
        return value
    return json.loads(client.blocking_key_value_get(key, LONG))


def same(value: Any, what: str) -> None:
    """Raise a UserError where a value is not the leader's."""
    if told(value) != value:
        raise UserError(f"host {_Here.place.rank} has another {what} than host 0: all train on the same")


def meet() -> None:
    """Wait until all processes are here. Where one may be long in coming: a sum over devices waits 30 s for all of
    them (gloo, between processors)."""
    if several():
        _Here.met += 1
        _client().wait_at_barrier(f"met/{_Here.met}", LONG)


def stops(wanted: bool, call: int) -> bool:
    """Return true where all stop after this call of the step, because one of them has been asked to.

    The leader names a call that no process has passed: metrics of the call before this one have been read, so that no
    other is more than one call ahead.
    """
    if not several():
        return wanted
    client = _client()
    if wanted and not _Here.stop_at:
        client.key_value_set("stop/wanted", "yes", allow_overwrite=True)
    if not _Here.stop_at and leads() and _value("stop/wanted"):
        client.key_value_set("stop/at", str(call + 2))
    _Here.stop_at = _Here.stop_at or int(_value("stop/at") or 0)
    return bool(_Here.stop_at) and call >= _Here.stop_at


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Leave together with the others at the end, or where all stop; and say in one line that another process is gone,
    where that is why a computation fails.

    Raises:
        HostError: so it is.
    """
    try:
        yield
    except Stopped:
        _part()
        raise
    except Exception as error:
        if several() and type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError") and GONE.search(str(error)):
            _Here.leaving = True
            raise HostError(gone(str(error).splitlines()[0][:150])) from error
        raise
    _part()


def _part() -> None:
    """Wait until all processes are here, and leave the others."""
    if several():
        import jax

        try:
            _client().wait_at_barrier("end", LONG)
            _Here.leaving = True
            jax.distributed.shutdown()
        except Exception as error:
            _Here.leaving = True
            raise HostError(gone(str(error).splitlines()[0][:150])) from error
        _Here.place = Place(1, _Here.place.rank)


def _client() -> Any:
    from jax._src import distributed  # the store of the coordinator has no public name

    return distributed.global_state.client


def _value(key: str) -> str | None:
    try:
        return _client().key_value_try_get(key)
    except Exception as error:
        if "NOT_FOUND" in str(error):
            return None
        raise


def gone(why: str) -> str:
    """Return the line that a command ends with where another host is no longer there."""
    return f"{LINE} ({why}); start all again, and they go on from the newest checkpoint"


def _watch() -> None:
    """Give a sign of life, and end this process when another gives none: the leader looks at all, all at the leader."""
    client, (count, rank) = _client(), _Here.place
    others = range(1, count) if rank == 0 else [0]
    seen: dict[int, tuple[str | None, float]] = {other: (None, time.monotonic()) for other in others}
    for beat in itertools.count():
        if _Here.leaving:
            return
        try:
            client.key_value_set(f"alive/{rank}", str(beat), allow_overwrite=True)
            for other in others:
                value, now = _value(f"alive/{other}"), time.monotonic()
                if value != seen[other][0]:
                    seen[other] = value, now
                elif now - seen[other][1] > _Here.lost:
                    _leave(f"host {other} has given no sign of life for {_Here.lost:.0f} s")
        except Exception as error:
            _leave(str(error).splitlines()[0][:150])
        time.sleep(BEAT)


def _leave(why: str) -> None:
    if _Here.leaving:
        return
    tidy()
    os.write(2, f"main: {gone(why)}\n".encode())
    os._exit(HostError.exit_code)
