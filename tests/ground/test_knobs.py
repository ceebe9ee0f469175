"""Knobs move and are added; what was saved before is read, and what nobody can mean is refused in one line."""

import dataclasses
import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from juliagpt_jax.ground import config, config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs import limits, names

ROOT = Path(__file__).parents[2]
BASE = str(ROOT / "configs" / "base.py")


def values_of_base():
    return config.to_dict(config_file.load(BASE))


def old_of_base():
    """The values of base as version 0.1 saved them, and by dotted name."""
    flat = names.first_names(config.flatten(values_of_base()))
    old = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        group = old
        for part in groups:
            group = group.setdefault(part, {})
        group[name] = value
    return old, flat


def test_a_new_knob_leaves_what_was_there_as_it_was():
    """Its default is what every run had before it, or committed results would no longer be those of their suites."""
    now = config.flatten(values_of_base())
    assert {key for key, value in names.BEFORE.items() if now[key] != value} == {"train.report_share"}


def test_every_knob_that_moved_is_read_under_its_old_name():
    old, flat = old_of_base()
    assert len(names.MOVED) >= 30 and set(names.MOVED) <= set(flat)
    assert names.modern(old) == values_of_base()
    assert config.of_dict(old) == config_file.load(BASE)
    assert names.modern_names(flat) == config.flatten(values_of_base())
    assert names.modern(values_of_base()) == values_of_base(), "what is modern stays"


def test_what_is_read_is_not_changed():
    old, _ = old_of_base()
    kept = json.dumps(old)
    names.modern(old)
    assert json.dumps(old) == kept


@pytest.mark.parametrize("old, new", names.MOVED.items())
def test_an_old_name_on_the_command_line_is_answered_with_the_new_one(old, new):
    with pytest.raises(UserError, match=re.escape(f"--config.{old} has moved: it is --config.{new} now")):
        config_file.load(BASE, [f"{old}=1"])
    with pytest.raises(UserError, match=re.escape(f"--config.{old} has moved")):
        config_file.load(BASE, [old])


def test_an_old_name_in_a_config_is_answered_with_the_new_one():
    values = values_of_base()
    values["train"]["kfac_kl"] = 0.1
    with pytest.raises(UserError, match=r"config.train.kfac_kl: has moved: it is config.train.kfac.kl now"):
        config.build(values)


def test_a_knob_under_both_names_is_refused():
    values = values_of_base()
    values["model"]["ode_steps"] = 3
    with pytest.raises(UserError, match=r"config.model.ode_steps: the same knob as config.model.ode.steps"):
        config.of_dict(values)


# A knob that is added. The toy has one beside the old ones, one in a group that is new itself, and one that moved.


@dataclasses.dataclass(frozen=True)
class Moe:
    experts: int = limits.at_least(0, since="0.2", before=0)
    balance: float = limits.at_least(0, since="0.3", before=0.01)


@dataclasses.dataclass(frozen=True)
class Toy:
    width: int = limits.at_least(1)
    groups: int = limits.at_least(1, since="0.2", before=1)
    moe: Moe = limits.group()


@dataclasses.dataclass(frozen=True)
class Whole:
    model: Toy


@pytest.fixture
def toys(monkeypatch):
    knobs = dict(names.walk(Whole))
    monkeypatch.setattr(names, "MOVED", names.moved(knobs))
    monkeypatch.setattr(names, "BEFORE", names.before(knobs))


def test_a_new_knob_has_in_old_configs_what_every_run_had(toys):
    filled = {"model": {"width": 4, "groups": 1, "moe": {"experts": 0, "balance": 0.01}}}
    assert names.modern({"model": {"width": 4}}) == filled
    filled["model"]["moe"]["experts"] = 8
    assert names.modern({"model": {"width": 4, "moe": {"experts": 8}}}) == filled, "of version 0.2"
    assert names.modern_names({"model.width": 4, "model.moe.experts": 8}) == config.flatten(filled)
    assert names.first_names(config.flatten(filled)) == {"model.width": 4, "model.moe.experts": 8}


def test_a_new_knob_says_what_there_was_before():
    for wrong in ({"since": "0.2"}, {"before": 0}, {"since": "0.2", "after": 0}):
        with pytest.raises(TypeError, match="before=VALUE"):
            limits.knob(**wrong)


def test_no_knob_is_newer_than_the_package():
    parts = lambda version: tuple(map(int, version.split(".")))
    package = parts(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    for key, field in names.KNOBS.items():
        assert parts(field.metadata["since"]) <= package, key
        if "before" in field.metadata:  # a value that the knob itself may have
            config._checked(key, field.metadata["before"], field)


# What a damaged file may say.

DAMAGED = [None, True, -1, 3, 1.5, 1e308, 10**400, float("nan"), "", "x", "\0", [], [1], {}, {"a": {}}, [[[]]]]


@pytest.mark.parametrize("key", [*names.KNOBS, *names.MOVED])
def test_damaged_values_never_end_in_a_traceback(key, tmp_path):
    """A config of today, or of version 0.1: every knob, and every group that it is in, as any value that JSON has."""
    path = tmp_path / "config.json"
    whole = json.dumps(old_of_base()[0] if key in names.MOVED else values_of_base())
    refused = 0
    for depth in range(1, len(key.split(".")) + 1):
        *groups, name = key.split(".")[:depth]
        for value in DAMAGED:
            values = json.loads(whole)
            group = values
            for part in groups:
                group = group[part]
            assert name in group
            group[name] = value
            path.write_text(json.dumps(values))
            try:
                config.read(path)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 1_000
    assert refused >= 8


@pytest.mark.parametrize("content", ["[" * 100_000, '{"model":' * 100_000, '{"model": {"ode": 3, "ode_steps": 2}}'])
def test_a_config_that_is_no_config(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError):
        config.read(tmp_path / "config.json")


# The page.


def test_the_page_of_all_knobs_is_current():
    page = runpy.run_path(str(ROOT / "docs" / "knobs.py"))["page"]()
    assert (ROOT / "docs" / "knobs.md").read_text(encoding="utf-8") == page, "python docs/knobs.py writes it"
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", page, re.MULTILINE)
    assert {name for name, _ in rows} == set(names.KNOBS) and len(rows) == len(names.KNOBS)
    for name, row in rows:
        kind, default, _, why, since, *_ = (cell.strip() for cell in row.split(" |"))
        assert kind and default.startswith("`") and why and since, name
    assert "| `model.ode.steps` | whole number | `6` | in 1 .. 1024 |" in page and "| `model.ode_steps` |" in page
