"""Examples as rows: what is learned of them, what is refused, and that a batch is a function of its step."""

import collections
import dataclasses
import gzip
import json

import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.bpe import train as train_bpe
from juliagpt_jax.data.examples import build, jsonl, rows, wrong
from juliagpt_jax.data.tasks.build import TASKS
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.model import PASSAGE

CHARS = CharTokenizer.train("0123456789+=\n")
FORM = rows.Form(CHARS, (CHARS.newline,))
SUMS = [Example(f"{a}+{b}=", str(a + b)) for a in range(12) for b in range(0, 120, 7)]


def told(batch, row):
    """The text of a row's inputs, and the text that is learned of it."""
    scored = batch.targets[row] != IGNORED
    return CHARS.decode(batch.inputs[row]), CHARS.decode(batch.targets[row][scored])


def test_answers_alone_are_learned():
    """Another prompt has the same targets; another answer has not. What is asked is what stands before an answer."""
    batch = lambda example: rows.lay([FORM.encode(example)], 16, False).take([0])
    one, flipped, other = map(batch, (Example("2+3=", "15"), Example("2+4=", "15"), Example("2+3=", "16")))
    assert told(one, 0) == ("\n2+3=15" + "\n0"[0] * 0 + CHARS.decode(one.inputs[0][7:]), "15\n")
    np.testing.assert_array_equal(one.targets, flipped.targets)
    assert (one.inputs != flipped.inputs).sum() == 1 and (one.targets != other.targets).sum() == 1
    asked = FORM.asked(Example("2+3=", "15"))
    np.testing.assert_array_equal(one.inputs[0, : len(asked)], asked)
    assert (
        one.targets[0, len(asked) - 1] == CHARS.encode("1")[0] and (one.targets[0, : len(asked) - 1] == IGNORED).all()
    )
    with pytest.raises(UserError, match="an answer holds what ends an answer"):
        FORM.encode(Example("2+3=", "1\n5"))


def test_what_was_written_ends():
    assert FORM.answered(CHARS.encode("15\n3")) == "15" and FORM.answered(CHARS.encode("15")) == "15"
    newline = CHARS.newline
    two = rows.Form(CHARS, (newline, newline))
    assert two.answered(CHARS.encode("1\n5\n\n3")) == "1\n5" and two.ended(CHARS.encode("1\n5\n")) is None
    assert two.encode(Example("1+", "2\n3")).ids[-3:].tolist() == [*CHARS.encode("3"), newline, newline]


@pytest.mark.parametrize("pack", [False, True])
def test_a_batch_is_a_function_of_seed_and_step_and_an_epoch_has_each_once(pack):
    laid = rows.lay([FORM.encode(own) for own in SUMS], 24, pack)
    again = rows.lay([FORM.encode(own) for own in SUMS], 24, pack)
    np.testing.assert_array_equal(laid.batch(7, 5, 10).inputs, again.batch(7, 5, 10).inputs)
    assert (laid.batch(7, 5, 10).inputs != laid.batch(8, 5, 10).inputs).any()
    steps = -(-2 * len(laid) // 10)
    drawn = np.concatenate([laid.drawn(7, step, 10) for step in range(steps)])
    for epoch in (drawn[: len(laid)], drawn[len(laid) : 2 * len(laid)]):
        assert sorted(epoch) == list(range(len(laid)))
    assert (drawn[: len(laid)] != drawn[len(laid) : 2 * len(laid)]).any()
    assert (len(laid) < len(SUMS) / 2) == pack


def test_packed_rows():
    """Each example once, none over the end of a row, positions from 0 in a passage of its own; the same targets."""
    encoded = [FORM.encode(own) for own in SUMS]
    laid, plain = rows.lay(encoded, 24, True), rows.lay(encoded, 24, False)
    assert sorted(m for own in laid.members for m in own) == list(range(len(SUMS)))
    batch, one = laid.take(range(len(laid))), plain.take(range(len(SUMS)))
    texts = collections.Counter()
    for row in range(len(laid)):
        passages, places = np.divmod(batch.positions[row], PASSAGE)
        for number, member in enumerate(laid.members[row]):
            where = np.flatnonzero(passages == number)
            assert places[where].tolist() == list(range(len(where))) and len(where) == len(encoded[member].ids) - 1
            texts[CHARS.decode(batch.inputs[row, where])] += 1
        pads = passages == len(laid.members[row])
        assert (places[pads] == 24).all() and (batch.targets[row, pads] == IGNORED).all()
    assert texts == collections.Counter(f"\n{own.prompt}{own.answer}" for own in SUMS)
    tally = lambda batch: np.bincount(batch.targets[batch.targets != IGNORED]).tolist()
    assert tally(batch) == tally(one) and plain.take([0]).positions == ()
    full = np.mean([sum(len(encoded[m].ids) - 1 for m in own) for own in laid.members])
    assert full > 22, "nearly no place is wasted"


def test_packed_or_not_the_same_is_measured(tiny):
    """Dev rows hold an example each, and are no longer than the longest of them needs."""
    plain = build.load(tiny("data.task=addition", "model.context=64"))
    packed = dataclasses.replace(plain, pack=True, length=64)
    assert packed.rows.length == 64 and len(packed.rows) < len(plain.rows) / 2
    wanted = max(len(own.ids) - 1 for own in packed.measured)
    assert wanted <= packed.dev_rows.length < wanted + rows.MULTIPLE
    one, other = (own.dev_rows.take([3]) for own in (plain, packed))
    for name in ("inputs", "targets"):
        mine, theirs = (getattr(batch, name)[:, :wanted] for batch in (one, other))
        np.testing.assert_array_equal(mine, theirs)


def test_a_part_of_the_training_examples(tiny):
    """The fewer are among the more, in the same order, whatever the seed; what is measured with stays as it is."""
    part = lambda most, *flags: build.load(tiny("data.task=addition", f"data.examples.most={most}", *flags))
    whole, some, fewer = (part(most) for most in (0, 50, 20))
    assert (len(some.train), len(fewer.train)) == (50, 20) and part(50, "seed=7").train == some.train
    assert whole.dev == some.dev == fewer.dev and part(10**6).fingerprint == whole.fingerprint != some.fingerprint
    for few, more in ((fewer, some), (some, whole)):
        places = [[own.prompt for own in more.train].index(own.prompt) for own in few.train]
        assert places == sorted(places) != list(range(len(places)))


def test_too_long():
    encoded = [(FORM.encode(Example("1+" * 20 + "0=", "20")),), (FORM.encode(Example("1+1=", "2")),)]
    with pytest.raises(UserError, match=r"dev: 1 of 2 examples are longer than the 16 tokens of a row, up to 45; "):
        rows.fitted(encoded, 16, "error", "dev")
    kept, which, notes = rows.fitted(encoded, 16, "skip", "dev")
    assert (len(kept), which, notes) == (1, [1], ["dev: 1 of 2 examples were too long: skip"])
    kept, which, notes = rows.fitted(encoded, 16, "cut", "dev")
    assert which == [0, 1] and notes == ["dev: 1 of 2 examples were too long: cut"]
    assert CHARS.decode(kept[0][0].ids) == "\n+1+1+1+1+1+0=20\n" and kept[0][0].learned.sum() == 3
    kept, which, notes = rows.fitted(encoded, 3, "cut", "dev")
    assert [CHARS.decode(own.ids) for (own,) in kept] == ["\n=20", "\n=2\n"] and len(notes) == 1
    silent = rows.Encoded(encoded[1][0].ids, np.zeros(7, bool))
    kept, which, notes = rows.fitted([(silent,), encoded[1]], 16, "error", "dev")
    assert which == [1] and notes == ["dev: 1 examples left out that have nothing to learn in 16 tokens"]
    with pytest.raises(UserError, match="no example fits into 16 tokens"):
        rows.fitted([(silent,)], 16, "skip", "dev")


def test_pairs_stay_together():
    """They are cut alike, so that both answer the same; one without a difference is left out."""
    asked = Example("1+" * 6 + "0=", "6")
    pairs = [(FORM.encode(asked), FORM.encode(asked, "6666")), (FORM.encode(asked), FORM.encode(asked))]
    kept, which, notes = rows.fitted(pairs, 16, "cut", "dev")
    assert [CHARS.decode(own.ids) for own in kept[0]] == ["\n+1+1+1+1+0=6\n", "\n+1+1+1+1+0=6666\n"] and which == [0]
    assert notes[-1] == "dev: 1 pairs left out whose answers are the same"


def test_wrong_answers(tiny, tmp_path):
    """Stated, another choice, or the likest answer of another question that the verifier finds wrong."""
    stated = Example("a", "b", facts={"rejected": "c"})
    assert wrong.rejected([stated, Example("a", "b", ("b", "x"))], None) == ["c", "x"]
    task = TASKS["addition"]
    examples = task.read("dev", None)[:100]
    others = wrong.rejected(examples, task)
    assert not any(task.verify(own, other) for own, other in zip(examples, others, strict=True))
    alike = [sum(map(str.__eq__, own.answer, other)) for own, other in zip(examples, others, strict=True)]
    assert np.mean(alike) > 2, "of four digits"
    assert wrong.rejected(examples, task) == others
    with pytest.raises(UserError, match="example 1 states no answer"):
        wrong.rejected([Example("a", "b")], None)
    lines = [{"prompt": own.prompt, "chosen": own.answer, "rejected": own.answer[::-1]} for own in SUMS]
    found = build.load(tiny("data.task=jsonl", f"data.path={written(tmp_path, 'pairs.jsonl', *lines)}"), paired=True)
    assert any("pairs left out whose answers are the same" in note for note in found.notes)
    assert len(found.rejected) == len(found.encoded) and len(found.pairs) == 4
    one = [own.take([3]) for own in found.pairs[:2]]
    np.testing.assert_array_equal(one[0].targets == IGNORED, one[1].targets == IGNORED)
    assert (one[0].targets != one[1].targets).any() and (one[0].inputs != one[1].inputs).any()


# From a config.


def written(folder, name, *lines):
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / name


PAIRS = [{"prompt": f"{own.prompt}", "answer": own.answer} for own in SUMS]


def test_a_file_is_split_by_its_prompts(tmp_path, tiny):
    path = written(tmp_path, "sums.jsonl", *PAIRS, *PAIRS[::-1])
    train, dev = jsonl.read(str(path))
    assert len(train) + len(dev) == 2 * len(PAIRS) and 0 < len(dev) < len(PAIRS) / 4
    assert not {own.prompt for own in train} & {own.prompt for own in dev}
    (tmp_path / "sums.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert jsonl.read(str(tmp_path / "sums.jsonl.gz")) == (train, dev)
    found = build.load(tiny("data.task=jsonl", f"data.path={path}"))
    assert (found.length, found.exact, found.tokenizer.characters) == (16, False, "\n+0123456789=")
    assert found.verify(SUMS[3], f" {SUMS[3].answer}\n") and not found.verify(SUMS[3], "x")
    other = build.load(tiny("data.task=jsonl", f"data.path={written(tmp_path, 'more.jsonl', *PAIRS, PAIRS[0])}"))
    assert other.fingerprint != found.fingerprint


def test_the_forms_of_a_line():
    talk = [{"role": r, "content": c} for r, c in [("user", "a"), ("assistant", "b"), ("user", "c")]]
    assert jsonl.example({"messages": talk})[:2] == ("a", "b")
    assert jsonl.example({"prompt": "p", "chosen": "c", "rejected": "r"}) == Example("p", "c", facts={"rejected": "r"})
    hh = {"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: yet"}
    assert jsonl.example(hh) == Example("\n\nHuman: q\n\nAssistant:", " yes", facts={"rejected": " yet"})


@pytest.mark.parametrize(
    "line, says",
    [
        ('{"prompt": "2+3="}', 'has no field "answer"; an example has prompt and answer, or messages'),
        ('{"prompt": 2, "answer": "5"}', '"prompt" is no text'),
        ('{"messages": [{"role": "user", "content": "a"}]}', 'no message is of the role "assistant"'),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "it answers nothing"),
        ('{"chosen": "a", "rejected": "b"}', "are not alike up to"),
        ("{", "not JSON"),
        ("", "is empty"),
    ],
)
def test_a_line_that_is_none(tmp_path, line, says):
    (tmp_path / "bad.jsonl").write_text(json.dumps(PAIRS[0]) + "\n" + line + "\n")
    with pytest.raises(UserError) as error:
        jsonl.read(str(tmp_path / "bad.jsonl"))
    assert str(error.value).startswith(f"{tmp_path / 'bad.jsonl'}:2: ") and says in str(error.value)


def test_what_is_refused(tmp_path, tiny):
    with pytest.raises(UserError, match=r"config\.data\.task: no task is called 'sumz'.*sums"):
        build.load(tiny("data.task=sumz"))
    with pytest.raises(UserError, match="does not exist"):
        build.load(tiny("data.task=jsonl", "data.path=nowhere.jsonl"))
    (tmp_path / "train.jsonl").write_text(json.dumps(PAIRS[0]) + "\n")
    with pytest.raises(UserError, match=r"no dev\.jsonl in it"):
        build.load(tiny("data.task=jsonl", f"data.path={tmp_path}"))
    written(tmp_path, "dev.jsonl", {"prompt": "a", "answer": "b"})
    folder = ["data.task=jsonl", f"data.path={tmp_path}"]
    with pytest.raises(UserError, match=r"lacks characters of the examples: 'a' .*'b' .*--config\.data\.unknown=skip"):
        build.load(tiny(*folder))
    assert any("2 characters left out" in note for note in build.load(tiny(*folder, "data.unknown=skip")).notes)
    with pytest.raises(UserError, match="this model has no chat template"):
        build.load(tiny(*folder, "data.examples.chat=true"))
    with pytest.raises(UserError, match=r"data\.examples\.length=32 is above model\.context=16"):
        build.load(tiny(*folder, "data.unknown=skip", "data.examples.length=32"))


def test_bpe_ends_a_task_with_its_own_sign_and_a_file_with_eos(tmp_path, tiny):
    found = build.load(tiny("data.task=addition", "data.tokenizer=bpe", "data.vocab=300"))
    assert found.form.end == (found.tokenizer.newline,) != (found.tokenizer.eos,)
    path = written(tmp_path, "sums.jsonl", *PAIRS)
    found = build.load(tiny("data.task=jsonl", f"data.path={path}", "data.tokenizer=bpe", "data.vocab=300"))
    assert found.form.end == (found.tokenizer.eos,)
    assert found.encoded[0].ids[-1] == found.tokenizer.eos and found.encoded[0].learned[-1]
    own = rows.Form(train_bpe(["a\nb"], 300), (1,))
    assert own.answered(own.encode(Example("a", "x\ny")).ids[-4:]) == "x\ny", "with eos an answer has several lines"
