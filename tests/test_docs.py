"""The documentation: its examples run as printed, its commands exist, and the site builds without a warning."""

import ast
import dataclasses
import importlib
import json
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from juliagpt_jax.data import corpus, orders, sampler, selection
from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config, config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.inference.speculative import SpeculativeGenerator
from juliagpt_jax.models import build, roles
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.models.masks import MASKS
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.objectives.build import OBJECTIVES, build_objective
from juliagpt_jax.study import runner, suite, tables
from juliagpt_jax.training import run
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state
from juliagpt_jax.training.step import make_train_step

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMMAND = re.compile(r"^ {4}(?:\S*python3? )-m juliagpt_jax\.(\w+) (.*)$", re.MULTILINE)


def code(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python[^\n]*\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.M)


def commands() -> list[tuple[str, str, list[str]]]:
    """(page, module, arguments) of every command of the package that a page or the README prints as one to run."""
    found = []
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for module, words in COMMAND.findall(text):
            found.append((str(page.relative_to(ROOT)), module, shlex.split(words, comments=True)))
    return found


# The commands.


@pytest.mark.parametrize("page, module, arguments", commands(), ids=lambda value: value if value else None)
def test_a_printed_command_is_one_that_there_is(page, module, arguments):
    """Its flags parse, its config file loads with its overrides, and the words in them are in the tables or the page's
    own."""
    source = (ROOT / "juliagpt_jax" / f"{module}.py").read_text(encoding="utf-8")
    parser = importlib.import_module(f"juliagpt_jax.{module}").parser()
    options = parser.parse(arguments, overrides=bool(re.search(r"command\.run\(.*overrides=True\)", source)))
    if getattr(options, "config", "").startswith("configs/"):
        settings = config_file.load(str(ROOT / options.config), options.overrides)
        if "mean" not in settings.model.mixer:
            build.check(settings)


def test_the_readmes_table_is_what_was_measured():
    """Every number of it, from the rows of results."""
    folder = ROOT / "experiments" / "techniques"
    rows = runner.read(folder / "results" / "all" / "results.jsonl")
    lines = tables.compare(rows, list(dict.fromkeys(r["arm"] for r in rows)), "baseline")
    base = next(line for line in lines if line.arm == "baseline")
    middle = lambda line, key: statistics.median(r[key] for r in line.rows)
    found = set()
    for page in (ROOT / "README.md", folder / "README.md"):
        printed = re.findall(r"^\| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
        for line in lines:
            (cells,) = [row.split(" | ") for row in printed if row.startswith(f"{line.arm} | ")] or [None]
            if cells is None:
                continue
            found.add((page.parent.name, line.arm))
            gap, many = line.difference, len(cells) == 10
            apart = "" if line is base else f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
            more = ["" if line is base else f"{line.corrected:.2f}", f"{line.rows[0]['params']:,}"] if many else []
            costs = ("step_s", "step_memory_bytes", "chars_per_s")
            assert cells == [
                *(line.arm, f"{tables.mean(line.rows, 'perplexity'):.2f}", apart, *more, tables.reached(line.steps)),
                *(f"{middle(line, key) / middle(base, key):.2f}" for key in costs),
                f"{middle(line, 'model_bytes') / 1e6:.2f}",
            ]
    assert len(found) >= len(lines) + 10


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "experiments").rglob("*.md")])
def test_a_link_leads_somewhere(page):
    """In the repository, as a reader on the web sees it; the page of commands is the site's alone."""
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert "://" in link or (page.parent / link).exists() or link.endswith("commands.md"), link


def test_commands_are_found():
    pages = {page for page, _, _ in commands()}
    assert {"README.md", "docs/tutorial.md", "docs/howto/mixer.md", "docs/howto/export.md"} <= pages


@pytest.mark.parametrize("page", ["tutorial.md", "howto/compare.md"])
def test_a_pages_suite(page, tmp_path):
    (text,) = code(page)
    (tmp_path / "suite.py").write_text(text)
    question = suite.load(str(tmp_path / "suite.py"), "micro")
    cells = suite.cells(question, tmp_path)
    assert len(cells) == len(question.arms) * len(question.seeds) and len(question.seeds) >= 3


# The mixer.


VOCAB, SLOTS, B, T = 13, 12, 3, 9


@pytest.fixture(scope="module")
def mixed(tiny):
    """A one-block model of the page's mixer: its parameters, tokens, and its compiled forward and cached pass."""
    (text,) = code("howto/mixer.md")
    page: dict = {}
    exec(text, page)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MIXERS, "mean", page["CausalMean"])
        settings = tiny("model.mixer=mean", "model.layers=1", "model.tie=false")
        build.check(settings)
        model = Decoder(settings.model, VOCAB)
        tokens = jax.random.randint(jax.random.key(1), (B, T), 0, VOCAB)
        params = model.init(jax.random.key(0), tokens)["params"]
        forward = jax.jit(lambda t: model.apply({"params": params}, t)[0])
        go_on = jax.jit(lambda t, at, cache: model.apply({"params": params}, t, at, cache)[:2])
        forward(tokens)
        yield model, tokens, forward, go_on


def test_the_mixer_goes_back(mixed):
    """As `--draft` needs it: a model of it, helped by a smaller guess at itself, writes the greedy text that it writes
    alone; without `rewindable` both places refuse it by name."""
    model, tokens, *_ = mixed
    params = model.init(jax.random.key(0), tokens)["params"]
    near = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), params)
    prompts = [np.asarray(tokens[0, :2]), np.asarray(tokens[1])]
    alone = Generator(model, params).generate(prompts, 20, Rule(greedy=True))
    helped = SpeculativeGenerator(model, params, model, near, draft_tokens=3)
    np.testing.assert_array_equal(helped.generate(prompts, 20, Rule(greedy=True)), alone)
    assert 0 < helped.accepted < helped.proposed
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(MIXERS["mean"], "rewindable")
        with pytest.raises(UserError, match="the model's mixer=mean has a cache that can't go back"):
            SpeculativeGenerator(model, params, model, near, draft_tokens=3)


@pytest.mark.parametrize("mask", [word for word in MASKS if MASKS[word].causal])
def test_the_mixer_takes_masks(mixed, mask):
    """Each shown as the page's table says: what an early token says is not heard behind a window."""
    model, tokens, *_ = mixed
    settings = dataclasses.replace(model.config, mask=mask, window=3, sink_tokens=1)
    model = model.clone(config=settings, parent=None)
    params = model.init(jax.random.key(0), tokens)["params"]
    run = jax.jit(lambda tokens: model.apply({"params": params}, tokens)[0])
    heard = lambda at: bool((run(tokens)[0, 7] != run(tokens.at[0, at].add(1) % VOCAB)[0, 7]).any())
    assert [at for at in range(T) if heard(at)] == {
        "causal": [0, 1, 2, 3, 4, 5, 6, 7],
        "window": [5, 6, 7],
        "sinks": [0, 5, 6, 7],
    }[mask]


def test_the_pages_row_of_a_role():
    """The row that the page shows is one that the table takes."""
    (row,) = re.findall(r'^(\("\*\*/mixer/rates".*\)),$', (DOCS / "howto/mixer.md").read_text("utf-8"), re.M)
    with pytest.raises(UserError, match="no role is known"):
        roles.of("block_0/mixer/rates")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roles, "ROLES", (*roles.ROLES, ast.literal_eval(row)))
        role = roles.of("block_1/mixer/rates")
    roles.of.cache_clear()
    assert not (role.decay or role.cast or role.matrix) and role.axes == ("width",)


def test_the_mixer_decodes_as_it_trains(mixed):
    """Prompts of 2, 5 and 6 tokens in one padded prefill, then token by token."""
    model, tokens, forward, go_on = mixed
    wanted, lengths = np.asarray(forward(tokens)), np.array([2, 5, 6])
    slots = np.arange(6)[None]
    positions = np.where(slots < lengths[:, None], slots, SLOTS)
    logits, cache = go_on(jnp.where(positions < SLOTS, tokens[:, :6], 0), positions, model.init_cache(B, SLOTS))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(logits[row, :length], wanted[row, :length], atol=1e-5)
    for ahead in range(3):
        at = lengths + ahead
        logits, cache = go_on(tokens[np.arange(B), at][:, None], at[:, None], cache)
        np.testing.assert_allclose(logits[:, 0], wanted[np.arange(B), at], atol=1e-5)
    before = jax.tree.map(np.asarray, cache)
    _, same = go_on(tokens[:, :1], np.full((B, 1), SLOTS), cache)
    jax.tree.map(np.testing.assert_array_equal, before, same)


def test_the_mixer_sees_no_later_token_and_no_other_row(mixed):
    _, tokens, forward, _ = mixed
    one, other = np.asarray(forward(tokens)), np.asarray(forward(tokens.at[1, 5:].add(1) % VOCAB))
    np.testing.assert_array_equal(one[[0, 2]], other[[0, 2]])
    np.testing.assert_array_equal(one[1, :5], other[1, :5])
    assert (one[1, 5:] != other[1, 5:]).any(axis=-1).all()


# The objectives.


@pytest.mark.long
def test_the_objectives(tiny, monkeypatch):
    """The page's classes under their names: a batch in two parts is the batch in one; what they say is what they do."""
    page: dict = {}
    for text in code("howto/objective.md"):
        exec(text, page)
    tokens = np.random.default_rng(0).integers(VOCAB, size=(4, 17), dtype=np.int32)
    batch, seen = Batch(tokens[:, :-1], tokens[:, 1:]), {}
    for name, made in [("smoothed", "Smoothed"), ("hard_first", "HardFirst")]:
        monkeypatch.setitem(OBJECTIVES, name, page[made])
        for parts in (1, 2):
            words = ["train.lr=2e-5", "train.min_lr=0", f"train.objective={name}", f"train.accumulate={parts}"]
            settings = tiny("model.layers=1", *words)
            run.check(settings)
            model = build.build_model(settings, VOCAB)
            state = initial_state(settings, model, memo=build_objective(settings, model).memo())
            params = jax.device_get(state.params)
            seen[name, parts] = make_train_step(settings, model, make_mesh(settings))(state, batch, Frozen())
        (one, metrics), (two, _) = seen[name, 1], seen[name, 2]
        for a, b in zip(*map(jax.tree.leaves, (one, two)), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-6)
        logits = model.apply({"params": params}, batch.inputs)[0]
        losses = np.asarray(token_losses(logits, batch.targets))
        if name == "smoothed":
            assert float(metrics["loss"]) == pytest.approx(losses.mean(), rel=1e-5)
            wanted = optax.smooth_labels(jax.nn.one_hot(batch.targets, VOCAB), 0.1)
            apply = lambda params, inputs, key, model=model: model.apply({"params": params}, inputs)
            total = page[made](settings, model).loss(apply, params, (), None, batch, None).total
            assert float(total) == pytest.approx(float(optax.softmax_cross_entropy(logits, wanted).sum()), rel=1e-5)
        else:
            rows = losses.mean(axis=1)
            weights = 1 / (1 + np.exp(rows.mean() - rows))
            assert float(metrics["loss"]) == pytest.approx((rows * weights).sum() / weights.sum(), rel=1e-5)
            assert float(metrics["mean_so_far"]) == pytest.approx(losses.mean(), rel=1e-5)


# The data techniques.


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The page's data/mine, 200 passages of five words of which some are equal, and its configs, in the folder that
    the process is in."""
    rng = np.random.default_rng(0)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "data" / "mine").mkdir(parents=True)
    for name, count in [("train", 200), ("val", 60)]:
        rows = [
            {"text": " ".join(rng.choice(list("abcdefgh"), size=5)), "difficulty": i / count, "quality": 0.5}
            for i in range(count)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "data" / "mine" / f"{name}_enriched.jsonl").write_text(text)
    monkeypatch.chdir(tmp_path)


def settings_of(workdir: str) -> config.Config:
    """The config of the page's command that trains in `workdir`."""
    (words,) = [w for page, _, w in commands() if page == "docs/howto/data.md" and f"--workdir={workdir}" in w]
    return config_file.load(
        "configs/micro.py", [w.removeprefix("--config.") for w in words if w.startswith("--config.")]
    )


def test_the_score(mine):
    score, _ = code("howto/data.md")
    exec(score, {})
    data = settings_of("runs/varied").data
    chosen = selection.select(corpus.load(data, 16), data, 0, 16)
    assert len(chosen.ids) == 140
    lines = [json.loads(line)["text"] for line in Path("data/mine/train_enriched.jsonl").read_text().splitlines()]
    variety = np.array([len(set(line.split())) / 5 for line in lines])
    left_out = np.setdiff1d(np.arange(200), chosen.ids)
    assert variety[left_out].max() <= variety[chosen.ids].min() < variety[chosen.ids].max()


def test_the_order(mine, monkeypatch):
    """The windows of random order, those nearest to the middle of the field first."""
    _, order = code("howto/data.md")
    monkeypatch.setitem(orders.ORDERS, "middle_first", None)
    (name,) = [node.name for node in ast.parse(order).body]
    own = dict(vars(orders))
    exec(order, own)
    monkeypatch.setitem(orders.ORDERS, "middle_first", own[name])
    data = settings_of("runs/middle_first").data
    chosen = selection.select(corpus.load(data, 16), data, 0, 16)
    plan = selection.plan(chosen, data, 16, 4, 20, 0)
    plain = selection.plan(chosen, settings_of("runs/varied").data, 16, 4, 20, 0)
    drawn, random = (
        [np.concatenate(column) for column in zip(*(sampler.windows(p, step) for step in range(20)), strict=True)]
        for p in (plan, plain)
    )
    assert sorted(zip(*drawn, strict=True)) == sorted(zip(*random, strict=True))
    values = plan.curriculum.of(sampler.Windows(*drawn))
    assert (np.diff(np.abs(values - np.median(values))) >= 0).all()


# The site.


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    built = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    page = lambda path: (tmp_path / path / "index.html").read_text(encoding="utf-8")
    assert "What makes a small language model better?" in page("")
    assert (tmp_path / "experiments" / "monarch" / "results" / "mixers" / "curves.png").stat().st_size > 0
    assert re.search(r'(src|href)="results/mixers/curves.png"', page("experiments/monarch"))
    assert 'id="juliagpt_jax.models.mixers.MIXERS"' in page("reference/models/mixers")
    assert "<code>model.ode.steps</code>" in page("knobs")
    parsers = {p.stem for p in (ROOT / "juliagpt_jax").glob("*.py") if "def parser()" in p.read_text("utf-8")}
    assert set(re.findall(r'<h2 id="(\w+)"', page("commands"))) == parsers
    for path in tmp_path.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'<(script|img|iframe)[^>]* src="?https?:|<link[^>]* href="?https?:', text), path
        assert str(ROOT) not in text, path
