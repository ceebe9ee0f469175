"""The doctor: what it finds on this machine, in a sound workdir and in one that is not."""

import fcntl
import json
import shutil

import pytest

from juliagpt_jax import doctor
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.store import health


@pytest.fixture
def quick(monkeypatch):
    """Devices as a process of its own would tell them: starting JAX takes seconds."""
    monkeypatch.setattr(health, "LOOK", "print('cpu cpu')\nprint(1.0)")


def looked(folder=None):
    return {finding.what: finding for finding in health.look(folder)}


def test_a_sound_machine_and_a_sound_run(quick, clean, capsys):
    found = looked(clean)
    assert not {name for name, finding in found.items() if finding.advice} - {"memory", "cache", "disk"}
    assert "jax 0." in found["packages"].says and found["devices"].says == "cpu cpu"
    assert found["checkpoints"].says == "sound: 20, 30, 40" and found["workdir"].says.endswith(": DONE")
    doctor.main(doctor.parser().parse([f"--workdir={clean}", "--json"]))
    out = capsys.readouterr().out
    assert all(says in out for says, _ in doctor.COMMON)
    assert json.loads(out.splitlines()[-1])["wrong"] == []


def test_what_is_wrong_with_a_run(quick, clean, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(clean, workdir, symlinks=True)
    (workdir / "checkpoints" / "40" / "meta.json").write_text("{}")
    (workdir / "DONE").rename(workdir / "FAILED")
    (workdir / ".lock").write_text("process 1 on elsewhere\n")
    with open(workdir / ".lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = looked(workdir)
    assert found["lock"].says == "held by process 1 on elsewhere"
    assert found["checkpoints"].says == "sound: 20, 30" and "40 is damaged" in found["checkpoints"].advice
    assert found["workdir"].advice == "40 steps"
    with pytest.raises(UserError, match="to be put right: workdir, checkpoints"):
        doctor.main(doctor.parser().parse([f"--workdir={workdir}"]))
    assert (workdir / "checkpoints" / "40").exists(), "it changes nothing"
    with pytest.raises(UserError, match="is no folder"):
        doctor.main(doctor.parser().parse(["--workdir=/nowhere"]))


@pytest.mark.parametrize(
    "code, says, advice",
    [
        ("import sys; sys.exit('no plugin')", "JAX does not start: no plugin", "install"),
        ("import os; os.abort()", "JAX does not start", "install"),
        ("import time; time.sleep(60)", "JAX found none in", "another program"),
    ],
)
def test_a_driver_that_fails_or_hangs_ends_nothing(code, says, advice, monkeypatch):
    monkeypatch.setattr(health, "LOOK", code)
    monkeypatch.setattr(health, "SECONDS", 1)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    *_, found = health.found_devices()
    assert says in found.says and advice in found.advice


def test_what_a_folder_does_not_allow(monkeypatch, tmp_path):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    assert health._cannot(tmp_path) == ""
    monkeypatch.setattr(health.Path, "symlink_to", no_links)
    assert "Operation not permitted" in health._cannot(tmp_path)
    assert list(tmp_path.iterdir()) == []
