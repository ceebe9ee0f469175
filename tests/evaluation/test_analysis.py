"""What an analysis says is what a count by hand says: attention weights, losses by place and context, copies."""

import json
import math
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juliagpt_jax import analyse
from juliagpt_jax.data.metadata import Chunks, column
from juliagpt_jax.evaluation import analysis, attention, memorisation, samples
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.gpt import RMSNorm
from juliagpt_jax.models.layers import linears, split_heads
from juliagpt_jax.models.mixers import Attention
from juliagpt_jax.training.state import initial_state

VOCAB = 11


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.heads=2"],
        ["model.heads=4", "model.kv_heads=2", "model.qk_norm=true", "model.bias=true"],
        [
            "model.heads=4",
            "model.kv_heads=1",
            "model.positions=learned",
            "model.linear=monarch",
            "model.monarch.blocks=2",
        ],
    ],
    ids=["plain", "grouped", "learned"],
)
def test_weighted_values_are_what_the_mixer_gives(overrides, tiny):
    model = tiny(*overrides).model
    mixer = Attention(model, 1.0, linears(model))
    x, positions = jax.random.normal(jax.random.key(0), (2, 9, model.width)), jnp.arange(9)[None]

    @jax.jit
    def run(key):
        params = mixer.init(key, x, positions)["params"]
        params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(key, p.shape), params)  # biases and scales, too
        (found,) = attention.seen(lambda: mixer.apply({"params": params}, x, positions))
        kv_heads = model.kv_heads or model.heads
        linear = lambda name, width, y: mixer.linear(width, parent=None).apply({"params": params[name]}, y)
        v = split_heads(linear("value", kv_heads * model.width // model.heads, x), kv_heads)
        y = found @ jnp.repeat(v, model.heads // kv_heads, axis=1)
        by_hand = linear("out", model.width, y.swapaxes(1, 2).reshape(2, 9, model.width))
        return found, by_hand, mixer.apply({"params": params}, x, positions)[0]

    found, by_hand, wanted = run(jax.random.key(1))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert found.shape == (2, model.heads, 9, 9) and (np.triu(found, 1) == 0).all()
    np.testing.assert_allclose(by_hand, wanted, atol=2e-5)


@pytest.fixture(scope="module")
def mixed(tiny):
    """A model of a Monarch layer and two of attention, and its parameters."""
    config = tiny("model.mixer=attention monarch attention", "model.layers=3", "model.width=16", "train.remat=true")
    model = build_model(config, VOCAB)
    return model, jax.jit(lambda: initial_state(config, model).params)()


def test_the_weights_are_of_what_enters_each_layer(mixed):
    model, params = mixed
    assert attention.layers_with_heads(model) == [0, 2]
    tokens = jax.random.randint(jax.random.key(0), (2, 16), 0, VOCAB)
    found = attention.maps(model, params, tokens)
    assert found.shape == (2, 2, 2, 16, 16)
    mixer = Attention(model.config, 1.0, linears(model.config))
    own = params["block_0"]
    x = RMSNorm(model.config.norm_eps).apply({"params": own["mixer_norm"]}, params["embedding"][tokens])
    (first,) = attention.seen(lambda: mixer.apply({"params": own["mixer"]}, x, jnp.arange(16)[None]))
    np.testing.assert_allclose(found[0], first, atol=1e-5)
    assert np.abs(found[1] - first).max() > 0.01


def test_an_ode_has_no_heads_to_show(tiny):
    model = Decoder(tiny("model.depth=stack ode").model, VOCAB)
    assert attention.layers_with_heads(model) == []
    assert analysis.of_heads(model, {}, np.zeros(99, np.uint8), 0, 4) == {}


def test_mass_lies_at_the_distance_looked_at(mixed):
    model, params = mixed
    windows = np.random.default_rng(0).integers(VOCAB, size=(6, 16)).astype(np.int32)
    found = attention.mass(model, params, windows, batch=4)  # and the two that are left
    weights = np.asarray(attention.maps(model, params, windows), np.float64)
    by_hand = np.zeros((2, 2, 16))
    for query in range(8, 16):
        for place in range(query + 1):
            by_hand[:, :, query - place] += weights[:, :, :, query, place].mean(axis=1) / 8
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_a_head_without_queries_looks_everywhere_alike(mixed):
    model, params = mixed
    mixer = params["block_0"]["mixer"] | {"query": jax.tree.map(jnp.zeros_like, params["block_0"]["mixer"]["query"])}
    blind = params | {"block_0": params["block_0"] | {"mixer": mixer}}
    found = attention.mass(model, blind, np.zeros((3, 16), np.int32), batch=3)
    np.testing.assert_allclose(found[0, 0], attention.uniform(16), atol=1e-6)


def test_distances_by_hand():
    third = np.eye(16)[3]
    described = attention.describe(third)
    assert described == {"mean_distance": 3.0, "median_distance": 3, "nearest": {"1": 0, "2": 0, "4": 1, "8": 1}}
    assert attention.describe((np.eye(16)[0] + np.eye(16)[10]) / 2)["mean_distance"] == 5
    assert attention.uniform(4) == pytest.approx([(1 / 3 + 1 / 4) / 2] * 3 + [1 / 8])


def test_places_in_lines_by_hand():
    (bins,) = analysis.by_position(np.array([5, 1, 9])).values()
    assert {name: np.flatnonzero(mask).tolist() for name, mask in bins.items()} == {
        "0": [0, 5, 6],
        "1": [1, 7],
        "2-3": [2, 3, 8, 9],
        "4-7": [4, 10, 11, 12, 13],
        "8-15": [14],
    }
    assert analysis.by_position(np.array([7])) == {}


def test_fields_of_words_become_parts():
    words = {"phase": column(["a", "b", "a"]), "author": column(["x", "x", "x"]), "difficulty": column([1.0, 2.0, 3.0])}
    found = analysis.by_field(Chunks(np.array([2, 3, 1]), words))
    assert list(found) == ["phase"]  # one author is no comparison, a number no word
    assert {name: mask.tolist() for name, mask in found["phase"].items()} == {
        "a": [1, 1, 0, 0, 0, 1],
        "b": [0, 0, 1, 1, 1, 0],
    }
    many = column([str(i) for i in range(analysis.MOST_WORDS + 1)])
    assert analysis.by_field(Chunks(np.ones(analysis.MOST_WORDS + 1, int), {"title": many})) == {}


def test_loss_by_context_is_that_of_the_last_tokens_alone(mixed):
    model, params = mixed
    tokens = np.random.default_rng(1).integers(VOCAB, size=60).astype(np.uint8)
    rows = analysis.by_context(model, params, tokens, 5)
    assert [row["visible"] for row in rows] == [1, 2, 4, 8, 16] and {row["targets"] for row in rows} == {5}
    places = np.linspace(16, 59, 5).astype(int)
    log_p = lambda seen: jax.nn.log_softmax(model.apply({"params": params}, seen)[0][:, -1])
    for row in (rows[1], rows[-1]):
        seen = np.stack([tokens[p - row["visible"] : p] for p in places]).astype(np.int32)
        losses = -np.asarray(jax.jit(log_p)(seen))[np.arange(5), tokens[places]]
        assert row["loss"] == pytest.approx(losses.mean(), abs=1e-5)
        assert row["error"] == pytest.approx(losses.std(ddof=1) / math.sqrt(5), abs=1e-5)
    assert rows[-1]["more"] == rows[-1]["more_error"] == 0
    assert rows[0]["more"] == pytest.approx(rows[0]["loss"] - rows[-1]["loss"])


def brute_force(text, training):
    """The length of the longest common substring."""
    pieces = {text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    return max((len(piece) for piece in pieces if piece in training), default=0)


@given(st.lists(st.text("abé㐀 \n", max_size=12), min_size=1, max_size=3), st.text("abcé§㐀㐁 \n", max_size=60))
@settings(max_examples=60)
def test_longest_copies_are_those_of_brute_force(texts, training):
    pytest.importorskip("pydivsufsort")
    for text, copy in zip(texts, memorisation.longest_copies(texts, training), strict=True):
        assert copy.length == brute_force(text, training)
        here, there = (t[at : at + copy.length] for t, at in ((text, copy.at), (training, copy.source)))
        assert here == there


def test_any_alphabet_can_be_looked_up():
    pytest.importorskip("pydivsufsort")
    signs = "".join(map(chr, range(0x4E00, 0x4E00 + 600)))
    assert memorisation.longest_copies([signs[100:500] + "x"], "e\u0301" + signs) == [(400, 0, 102)]


def test_without_the_library_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydivsufsort", None)
    with pytest.raises(UserError, match=r"pip install 'juliagpt-jax\[study\]'"):
        memorisation.longest_copies(["a"], "a")


def test_the_nearest_passage_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    words = "the nature of truth is a line and number".split()
    lines = [" ".join(rng.choice(words, 8)) for _ in range(40)]
    grams = lambda text: {text[i : i + 6] for i in range(len(text) - 5)}
    jaccard = lambda a, b: len(grams(a) & grams(b)) / len(grams(a) | grams(b))
    texts = [lines[7], *(" ".join(rng.choice(words, 12)) for _ in range(5))]
    found = memorisation.nearest([*texts, "xyz xyz xyz", "abc"], lines)
    assert found[0] == (1.0, 7)
    for text, (similarity, index) in zip(texts, found, strict=False):
        assert similarity == pytest.approx(max(jaccard(text, line) for line in lines))
        assert similarity == pytest.approx(jaccard(text, lines[index]))
    assert found[-2:] == [(0.0, 0), (0.0, 0)]


def test_whole_lines_by_hand():
    long, other = "a" * 40, "b" * 50
    assert memorisation.whole_lines([f"{long}\n{other}\nshort\n{long}", f"{long}\n"], [long, "short"]) == (2, 3)


def test_copies_are_counted_beside_held_out_text():
    pytest.importorskip("pydivsufsort")
    training = "the nature of truth is a line that goes on in time\nand number is another of them\n"
    rows = [{"prompt": "the nature", "text": " of truth is a line that goes on in time\nzzz"}]
    rows += [{"prompt": "", "text": "zzz number zzz"}]
    found = samples.copied(rows, ["zzzz", "is another of them"], training)
    assert rows[0]["copy"] == {"characters": 41, "text": " of truth is a line that goes on in time\n"}
    assert rows[0]["nearest"]["text"].startswith("the nature") and rows[0]["nearest"]["similarity"] > 0.5
    assert rows[1]["copy"] == {"characters": 8, "text": " number "}
    assert found["samples"]["longest_copy"] == {"mean": 24.5, "median": 24.5, "max": 41}
    assert found["held_out"]["longest_copy"]["max"] == 18 and found["held_out"]["characters"] == 22
    assert (found["samples"]["whole_lines_in_training"], found["samples"]["whole_lines"]) == (1, 1)


def test_held_out_pieces_begin_with_a_line():
    text = "".join(f"line {i} of the held-out text\n" for i in range(50))
    pieces = samples.held_out(text, 7, 60)
    assert len(pieces) == 7 and {len(piece) for piece in pieces} == {60}
    assert all(piece.startswith("line") and piece in text for piece in pieces)
    assert pieces[0].startswith("line 0") and pieces[-1].startswith("line 4")
    assert samples.held_out("short", 3, 60) == ["short"]


def test_the_pick_follows_its_rule():
    row = lambda seed, text, prompt="": {"prompt": prompt, "seed": seed, "text": text}
    true, false = "three and four make seven.\n", "three and four make eight.\n"
    seed = lambda rows, schoolroom: [picked["seed"] for picked in samples.pick(rows, schoolroom)]
    assert seed([row(0, false), row(1, "no claim at all here\n"), row(2, true), row(3, true)], True) == [2]
    assert seed([row(0, false), row(1, "no claim at all here\n")], True) == [1]
    again = "a b c d a b c d"
    assert seed([row(0, again), row(1, "a b c d e f g h"), row(2, "a")], False) == [1]
    assert seed([row(0, again, "p"), row(1, "a b c d e", "q"), row(2, "a b c d e", "p")], False) == [2, 1]


@pytest.mark.long
def test_the_command_shows_two_runs(micro, clean, tmp_path):
    pytest.importorskip("pydivsufsort")
    other = tmp_path / "other"
    shutil.copytree(clean, other)
    flags = ["--seeds=2", "--new_tokens=30", "--prompt=the n", "--targets=40", "--attention_windows=4", "--json"]
    flags.append("--by_position=2")
    done = micro.run(
        "analyse", f"--workdir={clean}", f"--workdir={other}", f"--out={tmp_path / 'out'}", *flags, timeout=300
    )
    assert done.returncode == 0, done.err
    values = sealed.read_json(tmp_path / "out" / "analysis.json")
    assert values == json.loads(done.out.splitlines()[-1])
    run = values["runs"]["clean"]
    assert {**values["runs"]["other"], "workdir": run["workdir"]} == run
    report = json.loads((clean / "report.json").read_text())
    assert [run[k] for k in ("loss", "bpc", "characters")] == pytest.approx(
        [report[k] for k in ("loss", "bpc", "characters")]
    )
    places = run["parts"]["place"].values()
    total = sum(part["loss"] * part["characters"] for part in places) / run["characters"]
    assert total == pytest.approx(run["loss"]) and sum(part["characters"] for part in places) == run["characters"]
    assert [row["seed"] for row in run["samples"]] == [0, 1] and run["picked"][0][0] == "the n"
    assert len(run["attention"]["heads"]) == 1 and {len(row["text"]) for row in run["samples"]} == {30}
    page = (tmp_path / "out" / "analysis.md").read_text()
    for name in ("losses.png", "distances-clean.png", "maps-other.png"):
        assert (tmp_path / "out" / name).stat().st_size > 5000 and name in page
    assert run["streams"]["length"] == 32 and len(run["streams"]["rows"]) == 4 * 3
    for part in [
        "## clean",
        "Loss by position in long texts",
        "## other",
        "held-out text",
        "Prompt 'the n', seed 1",
        "everywhere alike",
    ]:
        assert part in page


def test_runs_are_called_by_what_tells_their_folders_apart(tmp_path):
    names = lambda *folders: analyse._names([tmp_path / folder for folder in folders])
    assert names("runs/a", "runs/b") == ["a", "b"] and names("runs/a") == ["a"]
    assert names("cells/base/11/run", "cells/muon/11/run") == ["base", "muon"]
    assert names("cells/base/11/run", "cells/muon/12/run") == ["base-11", "muon-12"]


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--workdir=a/x", "--workdir=b/../a/x"], "same name"),
        (["--workdir=x", "--seeds=0"], "--seeds=0 must be at least 1"),
        (["--workdir=x", "--by_position=1"], "--by_position=1 is outside 2 .. 1024"),
        (["--workdir=nowhere"], "nowhere"),
    ],
)
def test_mistakes_get_one_line(flags, says, micro, tmp_path):
    done = micro.run("analyse", *flags, f"--out={tmp_path}")
    assert done.returncode == 2 and done.err.count("\n") == 1 and says in done.err
