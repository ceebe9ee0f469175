"""A mixture.toml says where ids lie and how they are drawn; what is wrong in it is named."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from juliagpt_jax.data import corpus, mixture, sampler, selection, sharding, snapshots
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError

STAGES = """
[[stages]]
steps = 30
lr = 1e-3
weights = {one = 50, other = 50}
[[stages]]
steps = 10
lr = 1e-3
min_lr = 1e-4
weights = {one = 20, other = 80}
"""
SOURCES = '[sources]\none = "one"\nother = {path = "other"}\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards of two texts in one alphabet, and of one in another."""
    folder = tmp_path_factory.mktemp("mixture")
    for name, letters in (("one", "abc"), ("other", "xyz"), ("foreign", "pqr")):
        rng = random.Random(name)
        (folder / f"{name}.txt").write_text("".join("".join(rng.choices(letters, k=30)) + "\n" for _ in range(200)))
        own = CharTokenizer.train("pqr\n" if name == "foreign" else "abcxyz\n")
        sharding.make(str(folder / f"{name}.txt"), own, folder / name, 0.1)
    return folder


def write(folder, text):
    (folder / "mixture.toml").write_text(text)
    return folder / "mixture.toml"


def test_batches_come_from_the_sources_as_stages_say(folder, tiny):
    own = tiny(f"data.path={write(folder, SOURCES + STAGES)}", "data.weights_by=source", "train.steps=40")
    found = corpus.load(own.data, 16)
    chosen = selection.select(found, own.data, 0, 16)
    plan = selection.plan(chosen, own.data, 16, 64, 40, 0)
    assert plan.epoch_windows == sum(-(-size // 16) for size in chosen.sizes)
    shares = []
    for steps in (range(30), range(30, 40)):
        of_one = 0
        for step in steps:
            window = sampler.batch(found.train, plan, step).inputs
            letters = np.isin(window, found.tokenizer.encode("abc"))
            assert ((letters.sum(1) == 0) | (np.isin(window, found.tokenizer.encode("xyz")).sum(1) == 0)).all()
            of_one += int((letters.sum(1) > 0).sum())
        shares.append((of_one, 64 * len(steps)))
    for (of_one, count), share in zip(shares, (0.5, 0.2), strict=True):
        assert abs(of_one - count * share) <= 3 * np.sqrt(count * share * (1 - share))
    assert set(selection.parts(found.val_chunks, "source")) == {"one", "other"}
    with pytest.raises(UserError, match=r"train.steps: 41, and the stages of the mixture have 40 steps"):
        selection.plan(chosen, own.data, 16, 64, 41, 0)


def test_what_the_stages_say_is_part_of_the_fingerprint(folder, tiny):
    of = lambda text: corpus.load(tiny(f"data.path={write(folder, SOURCES + text)}").data, 16).fingerprint
    assert len({of(STAGES), of(STAGES.replace("50", "40", 1).replace("50", "60", 1)), of(STAGES[:-1])}) == 2


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("[sources]", "[source]", "no key is called 'source'; did you mean sources|sources"),
        ("steps = 30", "steps = 0", "stage 1: steps needs a whole number above 0"),
        ("steps = 10\n", "", "stage 2: steps is missing"),
        ("other = 50", "othr = 50", "stage 1: weights: no key is called 'othr'"),
        (", other = 50", "", "stage 1: weights: other is missing; 0 leaves a source out"),
        ("other = 80", "other = 81", "stage 2: weights add up to 101, not to 1 or 100"),
        ("one = 20", "one = -20", "stage 2: weights.one: needs a number of at least 0"),
        ("lr = 1e-3\nweights", "weights", "some stages have a learning rate and some have none"),
        ("min_lr = 1e-4", "min_lr = 1e-2", "min_lr at most lr"),
        ("other = 50", f"other = {10**400}", "stage 1: weights.other: needs a number of at least 0"),
        ('"one"', '"nothing"', "one: .*nothing is no folder of shards"),
        ('"other"}', '"foreign"}', "other was made with another tokenizer than one"),
        ('"other"}', f'"other", snapshot = "{"0" * 64}"}}', "sources.other.snapshot: .* has no manifest.jsonl"),
        ("[[stages]]", "[[stages]", "not TOML"),
        ("steps = 10", f"steps = {'9' * 5000}", "not TOML: .*digits"),
        ("steps = 10", f"steps = {'[' * 5000}", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(folder, tiny, old, new, says):
    assert old in SOURCES + STAGES
    path = write(folder, (SOURCES + STAGES).replace(old, new, 1))
    with pytest.raises(UserError, match=says) as error:
        corpus.check(tiny(f"data.path={path}").data)
    assert "\n" not in str(error.value)


def test_a_source_is_held_to_its_snapshot(folder, tiny):
    digest = snapshots.freeze(folder / "other", "CC0")["sha256"]
    pinned = SOURCES.replace('"other"}', f'"other", snapshot = "{digest}"}}') + STAGES
    assert mixture.read(write(folder, pinned)).sources["other"].snapshot == digest
    corpus.check(tiny(f"data.path={folder / 'mixture.toml'}").data)
    with pytest.raises(UserError, match="is the snapshot"):
        corpus.check(tiny(f"data.path={write(folder, pinned.replace(digest[:8], '0' * 8))}").data)
    (folder / "other" / snapshots.FILE).unlink()


NAMES = st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=4), unique=True)
NUMBERS = st.one_of(st.floats(0, 1e6), st.integers(0, 100))
ANYTHING = st.one_of(
    st.sampled_from(["true", "[]", "{}", "inf", "nan", "-1", "1979-05-27", "9" * 400, "9" * 5_000, "0x" + "f" * 5_000]),
    st.sampled_from(["[" * 5_000, '"""', "1 2", '"~\\u0000"']),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(st.characters(codec="utf-8")).map(json.dumps),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("mixture") / "mixture.toml"


@given(data=st.data(), names=NAMES.filter(len), whole=st.sampled_from([1, 100]))
def test_any_mixture_is_read_as_it_is_written(file, data, names, whole):
    """Shares of all sources, in the order in which these stand, whatever they are called."""
    draws = data.draw(st.lists(st.lists(NUMBERS, min_size=len(names), max_size=len(names)).filter(sum), min_size=1))
    quoted = [f'"{name}"' for name in names]
    text = "[sources]\n" + "".join(f'{name} = "{i}"\n' for i, name in enumerate(quoted))
    for i, weights in enumerate(draws, 1):
        shares = [f"{n} = {whole * w / sum(weights)!r}" for n, w in zip(quoted, weights, strict=True)]
        text += f"[[stages]]\nsteps = {i}\nweights = {{{', '.join(reversed(shares))}}}\n"
    file.write_text(text, encoding="utf-8")
    found = mixture.read(file)
    assert {n: s.folder.name for n, s in found.sources.items()} == {n: str(i) for i, n in enumerate(names)}
    assert [stage.steps for stage in found.stages] == [*range(1, len(draws) + 1)]
    for stage, weights in zip(found.stages, draws, strict=True):
        np.testing.assert_allclose(stage.weights, np.array(weights) / sum(weights), atol=1e-9)


@given(key=st.sampled_from(["steps", "lr", "min_lr", "one", "two", "weights", "path", "snapshot"]), value=ANYTHING)
def test_any_value_is_taken_or_refused_in_one_line(file, key, value):
    """What is taken adds up, and is such that a run can be made of it."""
    own = {"steps": "8", "lr": "1e-3", "min_lr": "1e-4", "one": "30", "two": "70", "path": '"a"', "snapshot": '"b"'}
    own = {"weights": "{one = 30, two = 70}"} | own | {key: value}
    weights = own["weights"] if key == "weights" else f"{{one = {own['one']}, two = {own['two']}}}"
    source = f"one = {{path = {own['path']}, snapshot = {own['snapshot']}}}"
    stage = "".join(f"{name} = {own[name]}\n" for name in ("steps", "lr", "min_lr"))
    text = f'[sources]\n{source}\ntwo = "b"\n[[stages]]\n{stage}weights = {weights}\n'
    file.write_text(text, encoding="utf-8")
    try:
        (stage,) = mixture.read(file).stages
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return
    assert type(stage.steps) is int and stage.steps > 0 and math.isclose(sum(stage.weights), 1)
    assert min(stage.weights) >= 0 and 0 <= stage.min_lr <= stage.lr < math.inf and stage.lr > 0
