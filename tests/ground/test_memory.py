"""Little memory is one line and exit code 4, wherever it is missed; real processes under real limits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from juliagpt_jax.ground import memory
from juliagpt_jax.ground.errors import StorageError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to such limits")

FRAME = """
import os, resource, signal, sys, threading, time
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
from juliagpt_jax.ground import command
from juliagpt_jax.ground.errors import UserError
def body(_):
    print("begun", flush=True)
    {}
command.run(command.Parser("generate", "."), body)
"""


def started(body: str, *flags: str) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", FRAME.format(body), *flags], cwd=os.getcwd(), start_new_session=True, **pipes
    )


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize(
    "body, says",
    [
        ("os.abort()", "(it ended with -6)"),
        (
            "os.write(2, b'LLVM ERROR: pthread_create failed: x\\n  @ 0x1\\n'); os.abort()",
            "(LLVM ERROR: pthread_create",
        ),
        (
            "os.write(2, b'cannot allocate memory for thread-local data: ABORT\\n'); os._exit(127)",
            "(cannot alloc",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "(it ended with -11)"),
        ("import ctypes; ctypes.string_at(0)", "(it ended with -11)"),
        ("raise SystemError('error return without exception set')", "(SystemError: error return without"),
        (
            "os.write(2, b'OpenBLAS error: Memory allocation still failed\\n'); os._exit(1)",
            "(OpenBLAS error",
        ),
        # JAX, where there was no room to read its cache, and then XLA's end of it
        (
            "import logging, warnings; warnings.warn('no cache: MemoryError: Unable to allocate output buffer'); "
            "logging.getLogger('x').warning('no cache'); os.abort()",
            "MemoryError: Unable to allocate output buffer",
        ),
    ],
)
def test_an_end_that_nobody_in_the_process_can_tell(body, says):
    code, out, err = ended(started(body))
    assert (code, out) == (4, "begun\n")
    assert err.startswith("generate: out of memory: ulimit -v allows 600 MB") and says in err
    assert err.count("\n") == 1 and err.endswith("raise the limit\n")


@pytest.mark.parametrize(
    "body, code, err",
    [
        ("bytearray(1 << 30)", 4, "generate: out of memory: MemoryError; try a smaller model, text or batch\n"),
        ("raise UserError('no')", 2, "generate: no\n"),
        ("print('note', file=sys.stderr)", 0, "note\n"),
        ("os.write(2, b'a library\\n')", 0, "a library\n"),
        ("import warnings; warnings.warn_explicit('old', UserWarning, 'f', 1)", 0, "f:1: UserWarning: old\n"),
        ("import logging; logging.getLogger('x').warning('old')", 0, "old\n"),
        # A thread's complaint, and then the line of the main thread: one line.
        ("t = threading.Thread(target=lambda: bytearray(1 << 30)); t.start(); t.join(); bytearray(1 << 30)", 4, None),
        ("threading.Thread(target=lambda: bytearray(1 << 30)).start()", 0, ""),  # it came to its end
    ],
)
def test_an_end_that_the_command_tells(body, code, err):
    got, _, said = ended(started(body))
    assert got == code and (said.count("\n") == 1 if err is None else said == err)


def test_debug_shows_what_libraries_said():
    code, _, err = ended(started("os.write(2, b'a stack\\n'); os.abort()", "--debug"))
    assert code == 4 and err.startswith("a stack\ngenerate: out of memory")


def test_a_fault_of_ours_keeps_its_traceback():
    code, _, err = ended(started("raise KeyError('x')"))
    assert code == 1 and "KeyError: 'x'" in err and "Traceback" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command_once(number):
    """Ctrl-C goes to all processes of a terminal's group; a second one would end a run at once."""
    catch = "got = []; [signal.signal(s, lambda s, _: got.append(s)) for s in (2, 15)]"
    process = started(f"{catch}; print('ready', flush=True); time.sleep(0.5); print(got); sys.exit(143)")
    while process.stdout.readline() != "ready\n":
        pass
    os.killpg(process.pid, number)
    code, out, _ = ended(process)
    assert code == 143 and out == f"[{number.value}]\n"


def test_sigkill_ends_both():
    with started("print(os.getpid(), flush=True); time.sleep(60)") as process:
        process.stdout.readline()
        child = int(process.stdout.readline())
        assert child != process.pid
        process.kill()
        gone, words = False, Path(f"/proc/{child}/cmdline")  # empty of one that nobody has asked for its exit code
        for _ in range(100):
            gone = gone or (process.poll() is not None and not (words.exists() and words.read_bytes()))
            time.sleep(0 if gone else 0.05)
        if not gone:
            os.kill(child, signal.SIGKILL)
    assert gone, "the command outlived its parent"


def test_no_limit_no_second_process(monkeypatch):
    monkeypatch.setattr(memory, "limit", lambda: (0, ""))
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    assert memory.supervise("main") == 2


def test_what_cannot_hold_jax_is_refused_before_it_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CGROUPS", (str(tmp_path / "none"), str(tmp_path / "max")))
    for text in ("max\n", str(1 << 40)):
        (tmp_path / "max").write_text(text)
        memory.check()
    (tmp_path / "max").write_text(str(128 << 20))
    with pytest.raises(StorageError, match=r"this container has 128 MB, JAX and a small model take about 250 MB"):
        memory.check()
    monkeypatch.setattr(memory, "limit", lambda: (900, "ulimit -v"))
    with pytest.raises(StorageError, match=r"ulimit -v allows 900 MB of address space, JAX .* take about 1,900 MB"):
        memory.check()


@pytest.mark.long
@pytest.mark.parametrize("module, megabytes", [("generate", 1_000), ("generate", 1_500), ("main", 1_450)])
def test_jax_under_a_limit(module, megabytes, clean, micro, tmp_path):
    """Where each of its threads and imports may be what fails: it works, or it is one line."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20}, {megabytes << 20}))"
    given = (
        micro.training(tmp_path / "run")
        if module == "main"
        else [f"--workdir={clean}", "--prompt=the", "--max_new_tokens=5"]
    )
    done = micro.run(module, *given, before=limit)
    lines = [line for line in done.err.splitlines() if not line.startswith("warning: saving")]
    assert (done.returncode, len(lines)) in [(0, 0), (4, 1)], done.err
    assert megabytes != 1_000 or "take about 1,900 MB" in done.err
