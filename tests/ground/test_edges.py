"""A machine that is not as one expects: no home, no device, a locale without UTF-8; and lists that are empty."""

import logging
import os
import tempfile
from pathlib import Path

import pytest

from juliagpt_jax import generate, main
from juliagpt_jax.ground import command, config_file, devices, files, words
from juliagpt_jax.ground.errors import UserError

ROOT = Path(__file__).parents[2]


def test_near_names():
    assert words.near("larg", ["b", "large"]) == "; did you mean large?"
    assert words.near("x", ["b", "a"]) == "; there are: a, b"
    assert words.near("x", iter([])) == "; there is none"


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user whom no passwd names, and $HOME neither."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("JULIAGPT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path / f"juliagpt_jax-{os.getuid()}"


def test_a_cache_without_a_home(homeless):
    assert devices.cache_folder() == homeless == devices.cache_folder()
    assert homeless.stat().st_mode & 0o777 == 0o700


def test_no_cache_in_a_folder_of_somebody_else(homeless):
    """Compiled programs are run: a link in a folder that all may write is not followed."""
    homeless.symlink_to(homeless.parent)
    with pytest.raises(UserError, match="is somebody else's: set JULIAGPT_CACHE"):
        devices.cache_folder()


def raised(module: str, call: str, text: str) -> Exception:
    """An exception that comes out of a module of JAX."""
    scope = {"__name__": module}
    source = f"def backends():\n    raise RuntimeError({text!r})\n" if call else f"raise RuntimeError({text!r})"
    try:
        exec(compile(source, "x", "exec"), scope)
        scope["backends"]()
    except RuntimeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "module, call, text, platforms, code, says",
    [
        (
            "jax._src.xla_bridge",
            "x",
            "Unable to initialize\nmore",
            "",
            2,
            "JAX does not start: Unable to initialize; JAX_",
        ),
        ("jax._src.xla_bridge", "x", "", "cuda", 2, "no device of JAX_PLATFORMS=cuda is there; JAX_PLATFORMS=cpu runs"),
        (
            "jax._src.xla_bridge",
            "x",
            "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
            "",
            4,
            "another process has the device's",
        ),
        ("jaxlib", "", "jaxlib is version 0.1", "", 2, "JAX cannot be imported: jaxlib is version 0.1; pip install -c"),
        ("other", "x", "RESOURCE_EXHAUSTED: 9 bytes\nmore", "", 4, "out of memory: RESOURCE_EXHAUSTED: 9 bytes; try"),
        (
            "other",
            "x",
            "INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes.",
            "",
            4,
            "out of memory: INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes.; try",
        ),
        ("numpy", "x", "c-extensions failed\nlibx.so: failed to map segment", "", 4, "starts: libx.so: failed to map"),
        ("jaxlib", "", "libx.so: cannot allocate memory in static", "", 4, "while it starts: libx.so: cannot allocate"),
        ("threading", "x", "can't start new thread", "", 4, "can't start new thread; end other programs, or raise"),
        ("other", "x", "a fault of ours", "", 0, ""),
    ],
)
def test_a_library_that_fails_is_told_in_one_line(module, call, text, platforms, code, says, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    line, found = command._one_line(raised(module, call, text), False)
    assert found == code and says in line and "\n" not in line


def test_a_platform_that_is_not_there(clean, micro, says):
    """In a process of its own, as a user meets it."""
    done = micro.run("evaluate", f"--workdir={clean}", JAX_PLATFORMS="cuda")
    assert done.returncode == 2
    says(done, "evaluate: JAX does not start: no device of JAX_PLATFORMS=cuda is there", "JAX_PLATFORMS=cpu")


def test_a_plugin_that_fails_is_one_line(caplog):
    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(devices._without_traceback)
    try:
        raise RuntimeError("needs another jaxlib\nand more")
    except RuntimeError:
        logger.exception("Jax plugin configuration error: %s", "x")
    finally:
        logger.removeFilter(devices._without_traceback)
    (record,) = caplog.records
    assert not record.exc_info and "x: needs another jaxlib; going on without it" in record.getMessage()


@pytest.mark.parametrize("name, encoding", [("é", "latin-1"), ("\udcc3\udca9", "ascii")])
def test_a_name_that_this_locale_has_otherwise(name, encoding, monkeypatch):
    """Python reads the bytes of "é" as the locale has them; Orbax would write what Python read as UTF-8."""
    monkeypatch.setattr(os, "fsencode", lambda path: str(path).encode(encoding, "surrogateescape"))
    with pytest.raises(UserError, match=r"--workdir=.*with this locale.*set LC_ALL=C\.UTF-8"):
        files.check_name(Path("/x") / name, "--workdir")
    files.check_name(Path("/x/plain"), "--workdir")


def test_home_in_a_flag(monkeypatch):
    """A shell expands ~ only at the start of a word, and these flags are words that begin with --."""
    monkeypatch.setenv("HOME", "/home/somebody")
    given = ["--config=~/c.py", "--workdir=~/runs/a", "--config.data.path=~/book.txt", "--config.data.filter=~x"]
    options = main.parser().parse(given, overrides=True)
    assert (options.config, options.workdir) == ("/home/somebody/c.py", "/home/somebody/runs/a")
    settings = config_file.load(str(ROOT / "configs" / "micro.py"), options.overrides)
    assert settings.data.path == "/home/somebody/book.txt" and settings.data.filter == "~x"
    asked = generate.parser().parse(["--workdir=~", "--prompt=~/x"])
    assert asked.workdir == "/home/somebody" and asked.prompt == ["~/x"]
