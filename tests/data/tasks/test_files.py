"""Tasks that are read from files: what each makes of a row, and what it says of a bad one."""

import gzip
import json
from pathlib import Path

import pytest

from juliagpt_jax.data.tasks.build import TASKS, read
from juliagpt_jax.ground.errors import UserError

HEAD = "Question,Numbers,Equation,Answer,Body\n"
PROBLEM = (
    '"Ann has number0 pens , and number1 more . How many pens has she ?",3.0 4.5,+ number0 number1,7.5,"Ann has"\n'
)
TALK = "A: hi\r\nB: see you at six"
STORY = (
    "Tom had a small red kite . He took the kite to the hill every day . The wind was strong and he ran with his "
    "friends until all of them were tired . In the evening he came home and put away the kite."
)
# task -> name of its file, content, prompt, answer.
ROWS = {
    "sst2": ("test.tsv", "a  fine film\t1\n", "Review: a  fine film\nSentiment:", " positive"),
    "sst2_phrases": ("test.tsv", "sentence\tlabel\ndull \t0\n", "Review: dull\nSentiment:", " negative"),
    "samsum": (
        "test.json",
        json.dumps([{"id": "7", "dialogue": TALK, "summary": "B meets\nA."}, {"dialogue": "", "summary": "x"}]),
        "A: hi\nB: see you at six\n\nSummary:",
        " B meets A.",
    ),
    "dialogsum": (
        "dialogsum.test.jsonl",
        json.dumps({"dialogue": "A: hi", "summary1": "one", "summary2": "two", "summary3": "three"}) + "\n",
        "A: hi\n\nSummary:",
        " one",
    ),
    "mts_dialog": (
        "MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv",
        'ID,section_header,section_text,dialogue\n0,ROS,"No pain, none","Doctor: Pain?\nPatient: No."\n',
        "Doctor: Pain?\nPatient: No.\n\nSummary:",
        " No pain, none",
    ),
    "gsm8k": (
        "test.jsonl",
        json.dumps({"question": "2 and 3?", "answer": "It is 2+3=<<2+3=5>>5.\n\n#### 5"}) + "\n",
        "Question: 2 and 3?\nAnswer:",
        " It is 2+3=<<2+3=5>>5.\n#### 5",
    ),
    "mawps": ("fold0_dev.csv", HEAD + PROBLEM, PROBLEM.split('"')[1] + "\n", "+ number0 number1"),
    "mawps_blind": ("fold0_dev.csv", HEAD + PROBLEM, "Ann has\n", "+ number0 number1"),
    "mawps_text": (
        "fold0_dev.csv",
        HEAD + PROBLEM,
        "Question: Ann has 3 pens , and 4.5 more . How many pens has she ?\nAnswer:",
        " <<3+4.5=7.5>>7.5",
    ),
    "svamp": ("mawps-asdiv-a_svamp_dev.csv", HEAD + PROBLEM, PROBLEM.split('"')[1] + "\n", "+ number0 number1"),
    "svamp_text": (
        "mawps-asdiv-a_svamp_dev.csv",
        HEAD + PROBLEM,
        "Question: Ann has 3 pens , and 4.5 more . How many pens has she ?\nAnswer:",
        " <<3+4.5=7.5>>7.5",
    ),
    "last_words": ("test.jsonl", json.dumps({"text": "he saw the kite"}) + "\n", "he saw the", " kite"),
}


@pytest.mark.parametrize("word", ROWS)
def test_a_row(tmp_path, word):
    """From a folder, packed or not, and from the file itself; its own answer is right, another is not."""
    name, content, prompt, answer = ROWS[word]
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    found = read(word, "test", str(tmp_path))
    assert [(example.prompt, example.answer) for example in found] == [(prompt, answer)]
    assert found == read(word, "test", str(tmp_path / name)) == read(word, "test", str(packed))
    assert TASKS[word].stop not in answer
    if verify := TASKS[word].verify:
        assert verify(found[0], answer) and not verify(found[0], "") and not verify(found[0], "- number0 number1 kites")
    for path, says in [(None, "get it from http"), (str(tmp_path / "no"), "does not exist; get it from")]:
        with pytest.raises(UserError, match=f"^{word}: .*{says}"):
            read(word, "test", path)


@pytest.mark.parametrize(
    "word, name, content, says",
    [
        ("sst2", "test.tsv", "good\t1\nbad\t2\n", r'test\.tsv: row 2: "label" is \'2\', not 0 or 1'),
        ("sst2", "test.tsv", "good\t1\nbad\n", r"row 2: 1 fields, not 2: sentence, label"),
        ("sst2", "test.tsv", "good\t1\n \t0\n", r'row 2: "sentence" is empty'),
        ("sst2", "test.tsv", "", r"test\.tsv: no example in it"),
        ("sst2", "test.tsv", b"caf\xe9\t1\n", r"byte 3 is not UTF-8"),
        ("gsm8k", "test.jsonl", '{"question": "x", "answer": "5"}\n', r'row 1: "answer" does not end in ####'),
        ("gsm8k", "test.jsonl", '{"question": "x"}\n', r'row 1: has no "answer"; it has "question"'),
        ("gsm8k", "test.jsonl", '{"question": 3, "answer": "#### 1"}\n', r'"question" is not a text but int'),
        ("gsm8k", "test.jsonl", "{oops\n", r"row 1: not JSON"),
        ("samsum", "test.json", '{"a": 1}', r"not a JSON list of objects"),
        ("samsum", "test.json", "[3]", r"row 1: not a JSON object"),
        ("samsum", "test.json", '[{"dialogue": "a: b"}]', r'row 1: has no "summary"'),
        ("mts_dialog", "MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv", 'ID\n"x', r"row 2: not CSV: unexpected end"),
        ("mawps", "fold0_dev.csv", HEAD + "q,1 2,+ number0 number5,3,b\n", r'row 2: "Equation" is none in Polish'),
        ("mawps", "fold0_dev.csv", HEAD + "q,1 2,+ number0 number1,many,b\n", r'row 2: "Answer" is no number: .many'),
        ("last_words", "test.jsonl", '{"text": "alone"}\n', r'row 1: "text" has one word'),
        ("last_words", "test.txt", "too short\n", r"no passage of 30 to 150 words"),
        ("samsum", "test.json.gz", b"\x1f\x8bnonsense", r"not a sound gzip file"),
        ("samsum", "test.parquet", b"PAR1", r"not a file of rows; \.jsonl, \.json"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(tmp_path, word, name, content, says):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=says) as caught:
        read(word, "test", str(file))
    assert str(caught.value).startswith(f"{word}: {file}: ") and "\n" not in str(caught.value)


def test_training_files_without_a_dev_part_give_one(tmp_path):
    rows = [{"question": f"{i} and 1?", "answer": f"#### {i + 1}"} for i in range(400)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, dev = (read("gsm8k", split, str(tmp_path)) for split in ("train", "dev"))
    assert len(train) + len(dev) == 400 and 8 <= len(dev) <= 40
    assert not {example.prompt for example in train} & {example.prompt for example in dev}


def test_last_words_of_a_text(tmp_path):
    """A passage whose last word was said before its last sentence, in one part and no other."""
    file = tmp_path / "stories.txt"
    file.write_text(f"{STORY}\n\n{STORY.replace('the kite.', 'the dishes.')}\n{STORY.replace('kite', 'cat')}\n")
    parts = {}
    for split in ("train", "dev", "test"):
        try:
            parts[split] = read("last_words", split, str(file))
        except UserError:
            continue
    (example,) = [example for part in parts.values() for example in part]
    assert example.prompt == STORY.removesuffix(" kite.") and example.answer == " kite" and example.facts["seen"]


DATA = Path(__file__).parents[3] / ".." / "shared" / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not there")
def test_the_public_files_have_the_published_sizes():
    sizes = {"sst2": (6_920, 872, 1_821), "dialogsum": (12_460, 500, 500), "mts_dialog": (1_201, 100, 200)}
    sizes |= {"gsm8k": (7_473, None, 1_319), "mawps": (1_537, None, 384), "samsum": (14_731, 818, 819)}
    for word, (train, dev, test) in sizes.items():
        path = str(DATA / word)
        found = [len(read(word, split, path)) for split in ("train", "dev", "test")]
        assert found == [train, dev, test] if dev else (found[0] + found[1], found[2]) == (train, test), word
