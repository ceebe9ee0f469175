"""Filter, keep, scores, weights, order: what the words of the config leave of a corpus, on the schoolroom's fields."""

import dataclasses
import json

import numpy as np
import pytest

from juliagpt_jax.data import query, sampler, selection
from juliagpt_jax.data.corpus import load
from juliagpt_jax.data.metadata import Words
from juliagpt_jax.ground import words
from juliagpt_jax.ground.errors import UserError

CONTEXT, SEED = 16, 5


@pytest.fixture(scope="module")
def school(tiny, tmp_path_factory):
    """The first 2,000 passages of the schoolroom."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JULIAGPT_CACHE", str(tmp_path_factory.mktemp("school")))
        whole = load(tiny().data, CONTEXT)
    chunks = whole.train_chunks.take(np.arange(2000))
    return dataclasses.replace(whole, train=whole.train[: chunks.lengths.sum()], train_chunks=chunks)


@pytest.fixture(scope="module")
def select(school, tiny):
    return lambda *more: selection.select(school, tiny(*more).data, SEED, CONTEXT)


def values(chunks, name: str) -> np.ndarray:
    """A field as an array of words or numbers."""
    column = chunks.columns[name]
    return np.array(column.names)[column.codes] if isinstance(column, Words) else column


def test_everything_as_it_lies(school, select):
    chosen = select()
    assert chosen.tokens is school.train and chosen.rings == () and chosen.notes == ()
    np.testing.assert_array_equal(chosen.ids, np.arange(2000))


FILTERS = {
    "phase in trivium, quadrivium": lambda f: np.isin(f("phase"), ["trivium", "quadrivium"]),
    "phase not in trivium,quadrivium": lambda f: f("phase") == "philosophy",
    "phase==trivium": lambda f: f("phase") == "trivium",
    "phase != trivium ;": None,
    "quality >= 0.6": lambda f: f("quality") >= 0.6,
    "difficulty<0.4; quality > .5 ; phase in trivium": lambda f: (
        (f("difficulty") < 0.4) & (f("quality") > 0.5) & (f("phase") == "trivium")
    ),
    "chunk <= 99": lambda f: np.arange(2000) <= 99,
    "chunk in 3, 5, 700, 701": lambda f: np.isin(np.arange(2000), [3, 5, 700, 701]),
    'art in "logic", music': lambda f: np.isin(f("art"), ["logic", "music"]),
}


@pytest.mark.parametrize("text", [t for t, rule in FILTERS.items() if rule])
def test_filter(school, select, text):
    chosen = select(f"data.filter={text}")
    wanted = FILTERS[text](lambda name: values(school.train_chunks, name))
    assert 0 < wanted.sum() < 2000
    np.testing.assert_array_equal(chosen.ids, np.flatnonzero(wanted))
    lines = school.tokenizer.decode(school.train).split("\n")
    kept = school.tokenizer.decode(chosen.tokens).split("\n")[:-1]
    assert kept == [lines[i] for i in chosen.ids], "packed in reading order"
    assert f"{wanted.sum():,} of 2,000 training passages selected" in chosen.notes[0]


@pytest.mark.parametrize("which", ["top", "middle", "bottom"])
def test_keep(school, select, which):
    chosen = select("data.filter=phase in trivium", f"data.keep={which} 0.3 of difficulty")
    trivium = np.flatnonzero(values(school.train_chunks, "phase") == "trivium")
    all_of_them = values(school.train_chunks, "difficulty")[trivium]
    count = round(0.3 * len(trivium))
    assert len(chosen.ids) == count and (np.diff(chosen.ids) > 0).all()
    ordered = np.sort(all_of_them)
    first = {"bottom": 0, "middle": (len(trivium) - count) // 2, "top": len(trivium) - count}[which]
    np.testing.assert_array_equal(np.sort(values(chosen.chunks, "difficulty")), ordered[first : first + count])


def test_keep_random(school, tiny, select):
    one = select("data.keep=random 0.25").ids
    assert len(one) == 500 and (np.diff(one) > 0).all()
    np.testing.assert_array_equal(one, select("data.keep=random 0.25").ids)
    other = selection.select(school, tiny("data.keep=random 0.25").data, SEED + 1, CONTEXT).ids
    assert 80 < len(np.intersect1d(one, other)) < 180, "another seed draws other chunks"


def test_weights_make_rings(school, select):
    chosen = select("data.phase_weights=quadrivium:1, trivium:3, philosophy:0")
    assert (chosen.rings, chosen.weights) == (("quadrivium", "trivium"), (0.25, 0.75))
    phases = values(school.train_chunks, "phase")
    np.testing.assert_array_equal(
        chosen.ids, [*np.flatnonzero(phases == "quadrivium"), *np.flatnonzero(phases == "trivium")]
    )
    ends = np.cumsum(school.train_chunks.lengths)
    pieces = [school.train[ends[i] - school.train_chunks.lengths[i] : ends[i]] for i in chosen.ids]
    np.testing.assert_array_equal(chosen.tokens, np.concatenate(pieces))
    assert sum(chosen.sizes) == len(chosen.tokens)
    by_art = select(
        "data.weights_by=art", "data.filter=art in logic, music", 'data.phase_weights="logic":0.9,music:0.1'
    )
    assert by_art.rings == ("logic", "music")


def test_weights_from_a_file(select, tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"by": "phase", "weights": {"trivium": 1, "quadrivium": 1, "philosophy": 2}}))
    chosen = select(f"data.phase_weights={path}")
    assert dict(zip(chosen.rings, chosen.weights, strict=True)) == {
        "philosophy": 0.5,
        "quadrivium": 0.25,
        "trivium": 0.25,
    }
    path.write_text(json.dumps({"by": "phase", "weights": {"trivium": 1, "quadrivium": 1, "philosophy": 3}}))
    assert select(f"data.phase_weights={path}").fingerprint != chosen.fingerprint
    for one, other, says in [
        (10**400, 1, "share of 'one' is not a number"),
        (1e308, 1e308, "sum is beyond any number"),
    ]:
        path.write_text(json.dumps({"by": "phase", "weights": {"one": one, "other": other}}))
        with pytest.raises(UserError, match=says):
            query.parse_weights(str(path), "phase")


def test_shares_are_written_and_read(school, tiny):
    data = tiny().data
    drawn = selection.shares(school, data, SEED, CONTEXT)
    assert sum(drawn.values()) == pytest.approx(1) and list(drawn) == ["philosophy", "quadrivium", "trivium"]
    again = query.parse_weights(query.write_weights(drawn | {"a, b: c": 0.5}), "phase")
    assert again["a, b: c"] == pytest.approx(0.5 / 1.5, abs=1e-6)


def write_scores(path, school, **changes) -> str:
    arrays = {
        "chunk": np.arange(2000)[::-1],
        "loss": np.arange(2000, dtype=np.float32)[::-1],
        "fingerprint": np.array(school.fingerprint),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return f"data.scores={path}"


def test_scores_become_fields(school, select, tmp_path):
    """In the order of the chunks, whatever the file's."""
    scores = write_scores(tmp_path / "s.npz", school)
    np.testing.assert_array_equal(select(scores, "data.filter=loss < 7").ids, np.arange(7))
    np.testing.assert_array_equal(select(scores, "data.keep=top 0.01 of loss").ids, np.arange(1980, 2000))
    other = write_scores(tmp_path / "t.npz", school, loss=np.ones(2000))
    assert select(scores).fingerprint != select(other).fingerprint != select().fingerprint


def test_a_plan_draws_what_was_selected(school, tiny, select):
    """Through filter, weights and order: the phases and difficulties of what is drawn are those of the fields."""
    flags = ["data.filter=quality > 0.5", "data.phase_weights=trivium:0.6, quadrivium:0.3, philosophy:0.1"]
    flags += ["data.order=easy_first", "train.steps=200"]
    chosen = select(*flags)
    settings = tiny(*flags)
    plan = selection.plan(chosen, settings.data, CONTEXT, 4, 200, SEED)
    assert plan.draws == 800
    drawn = [sampler.windows(plan, step) for step in range(200)]
    begins = np.concatenate([w.begins for w in drawn])
    shares = [(begins == b).mean() for b in np.cumsum([0, *chosen.sizes[:-1]])]
    np.testing.assert_allclose(shares, chosen.weights, atol=3 * 0.5 / np.sqrt(800))
    hard = np.concatenate([plan.curriculum.of(w) for w in drawn])
    assert (np.diff(hard) >= 0).all()
    assert values(chosen.chunks, "quality").min() > 0.5


def test_parts_of_a_text(school):
    masks = selection.parts(school.train_chunks, "phase")
    assert set(masks) == {"trivium", "quadrivium", "philosophy"}
    np.testing.assert_array_equal(sum(mask.astype(int) for mask in masks.values()), 1)
    first = values(school.train_chunks, "phase")[0]
    assert masks[first][: school.train_chunks.lengths[0]].all()
    assert selection.parts(school.train_chunks, "difficulty") == selection.parts(school.train_chunks, "nothing") == {}


@pytest.mark.parametrize("flag", ["data.filter=phase in trivium", "data.phase_weights=trivium:1"])
def test_a_field_that_no_book_has_says_where_it_comes_from(school, tiny, flag):
    """Books without a manifest have an empty phase."""
    count = len(school.train_chunks)
    empty = school.train_chunks.columns | {"phase": Words(np.zeros(count, np.int64), ("",))}
    books = dataclasses.replace(school, train_chunks=dataclasses.replace(school.train_chunks, columns=empty))
    with pytest.raises(UserError, match=r"has phase 'trivium'; none has one: prepare takes it from a source_manifest"):
        selection.select(books, tiny(flag).data, 0, 16)


@pytest.mark.parametrize(
    "flag, says",
    [
        ("filter=phase on trivium", "'phase on trivium' is no condition"),
        ("filter=phase", "is no condition"),
        ("filter=quality >= 0.5 and phase in trivium", "is a field of numbers, '0.5 and phase in trivium' is none"),
        ('filter=phase in "trivium', "is no condition"),
        ("filter=fase in trivium", "no field 'fase'; did you mean phase"),
        ("filter=phase in trivum", "no passage has phase 'trivum'; did you mean trivium"),
        ("filter=phase >= trivium", "field of words, which >= does not compare"),
        ("filter=quality > high", "field of numbers, 'high' is none"),
        ("filter=quality > nan", "field of numbers, 'nan' is none"),
        ("filter=quality > 2", "leave 0 passages with 0 tokens, 17 needed"),
        ("keep=best 0.5 of quality", "is not top, middle or bottom SHARE of FIELD"),
        ("keep=top 0.5", "is not top, middle or bottom SHARE of FIELD"),
        ("keep=top 60 of quality", "the share 60 is not a number above 0"),
        ("keep=random 0", "the share 0 is not"),
        ("keep=random nan", "the share nan is not"),
        ("keep=random half", "the share half is not"),
        ("keep=top 0.5 of qualty", "no field 'qualty'; did you mean quality"),
        ("keep=top 0.5 of phase", "phase is a field of words, such as 'philosophy'"),
        ("phase_weights=trivium=0.4", "'trivium=0.4' is not NAME:SHARE"),
        ("phase_weights=trivium:x, quadrivium:1", "share of 'trivium' is not a number"),
        ("phase_weights=trivium:-1, quadrivium:1", "share of 'trivium' is not a number that is at least 0"),
        ("phase_weights=trivium:1, trivium:1", "a name stands there twice"),
        ("phase_weights=trivium:0", "all shares are 0"),
        ("phase_weights=trivum:1", "no passage selected has phase 'trivum'; did you mean trivium"),
        ("phase_weights=trivium:1, quadrivium:1", "no share for 'philosophy'; philosophy:0 leaves it out"),
        ("phase_weights=nowhere/w.json", "nowhere/w.json: No such file"),
        ("weights_by=difficulty data.phase_weights=a:1", "difficulty is a field of numbers; a field of words"),
        ("order=easy", "no order is called 'easy'; there are: easy_first, hard_first"),
        ("curriculum.pacing=sqrt", "no pacing is called 'sqrt'"),
        ("order=easy_first data.curriculum.by=loss", "no field 'loss'"),
        ("order=easy_first data.curriculum.by=phase", "phase is a field of words"),
        ("scores=nowhere.npz", "nowhere.npz: No such file"),
    ],
)
def test_mistakes_in_words(school, tiny, flag, says):
    with pytest.raises(UserError) as error:
        settings = tiny(*[o if o.startswith("data.") else f"data.{o}" for o in flag.split(" data.")])
        data = settings.data
        words.check(settings, selection.WORDS)
        selection.check(data)
        selection.plan(selection.select(school, data, SEED, CONTEXT), data, CONTEXT, 4, 10, SEED)
    assert says in str(error.value) and "config.data" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"fingerprint": np.array("0" * 64)}, "scores of another text"),
        ({"fingerprint": None}, "no array 'fingerprint'"),
        ({"chunk": None}, "no array 'chunk'"),
        ({"chunk": np.arange(1999)}, "not 0 to 1,999, each once"),
        ({"chunk": np.zeros(2000, int)}, "not 0 to 1,999, each once"),
        ({"chunk": np.arange(2000.0)}, "not 0 to 1,999, each once"),
        ({"loss": np.full(2000, np.nan)}, "'loss' is not a finite number for each passage"),
        ({"loss": np.zeros(1999)}, "'loss' is not a finite number"),
        ({"loss": np.full(2000, "a")}, "'loss' is not a finite number"),
        ({"difficulty": np.zeros(2000)}, "'difficulty' is a field of the passages already"),
        ({"loss": np.full(2000, None, object)}, "not an .npz file of scores"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_scores_that_do_not_fit(school, select, tmp_path, changes, says):
    flag = write_scores(tmp_path / "s.npz", school, **changes)
    with pytest.raises(UserError) as error:
        select(flag)
    assert says in str(error.value) and "s.npz" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04torn"], ids=repr)
def test_scores_that_are_no_scores(select, tmp_path, content):
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"not an \.npz file of scores"):
        select(f"data.scores={tmp_path / 's.npz'}")


@pytest.mark.parametrize(
    "content, says",
    [
        ("", "is not a file of weights"),
        ("[1]", "is not a file of weights"),
        ('{"weights": {"trivium": 1}}', "is not a file of weights"),
        ('{"by": "art", "weights": {"logic": 1}}', "add --config.data.weights_by=art"),
        ('{"by": "phase", "weights": {"trivium": "1"}}', "share of 'trivium' is not a number"),
        ('{"by": "phase", "weights": {"trivium": NaN}}', "share of 'trivium' is not a number"),
        ('{"by": "phase", "weights": {}}', "or there are none"),
    ],
)
def test_files_of_weights_that_are_none(select, tmp_path, content, says):
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(UserError, match=says):
        select(f"data.phase_weights={tmp_path / 'w.json'}")
