"""From a text to a tokenizer, as a user goes; what a user writes is never a special token."""

import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest

from juliagpt_jax import tokenize
from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import UserError

FILES = {"tokenizer.json", "report.json", "report.md"}
FILES |= {"transformers/tokenizer.json", "transformers/tokenizer_config.json"}
SPECIAL = "<bos><eos><pad><|endoftext|><unk>"
LINES = [f"the nature of thing {n} is <eos> and <unk> the nature of {SPECIAL}\n" for n in range(60)]


def run(*flags) -> None:
    tokenize.main(tokenize.parser().parse([str(flag) for flag in flags]))


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder with two sides; one word is in the validation text alone."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text("".join(LINES))
    (folder / "val.txt").write_text("".join(LINES[:20]) + "another another another\n" * 20)
    return folder


@pytest.fixture(scope="module")
def words(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "words"
    run(f"--source={text}", "--vocab=300", f"--out={folder}")
    return folder


def test_what_is_written(words, text):
    assert {*content(words)} == FILES
    tokenizer = tokenizers.load(words / "tokenizer.json")
    report = sealed.read_json(words / "report.json")
    assert report["vocab"] == tokenizer.vocab_size == 300 and report["special"] == {"bos": 0, "eos": 1, "pad": 2}
    assert report["tokenizer_sha256"] == json.loads((words / "tokenizer.json").read_text())["sha256"]
    assert report["characters"] == sum(map(len, LINES)) == report["measured"]["characters"]
    page = (words / "report.md").read_text()
    assert report["tokenizer_sha256"] in page and "| letters |" in page and f"{report['characters']:,}" in page
    assert str(text) not in page + (words / "report.json").read_text()
    config = json.loads((words / "transformers" / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<eos>" and config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_validation_text_is_not_seen(words):
    vocabulary = tokenizers.load(words / "tokenizer.json").content["model"]["vocab"]
    assert any("nature" in token for token in vocabulary) and not any("anot" in token for token in vocabulary)


def test_the_same_text_gives_the_same_bytes(tmp_path):
    """As one file or as several in another order."""
    joined, parts = tmp_path / "one.jsonl", tmp_path / "parts"
    rows = [json.dumps({"text": line}) + "\n" for line in LINES]
    joined.write_text("".join(rows))
    parts.mkdir()
    for i in (2, 0, 1):  # a tenth of each file is left to validation: its last rows
        own = rows[i * 18 : (i + 1) * 18]
        (parts / f"{9 - i}.jsonl").write_text("".join([*own, *rows[:2]]))
    run(f"--source={joined}", "--vocab=280", f"--out={tmp_path / 'a'}")
    run(f"--source={parts}", "--vocab=280", f"--out={tmp_path / 'b'}")
    one, other = ((tmp_path / name / "tokenizer.json").read_bytes() for name in "ab")
    assert one == other


def test_more_than_the_text_has(text, tmp_path, capsys):
    run(f"--source={text}", "--vocab=5000", f"--out={tmp_path / 'out'}", "--unk", "--json")
    out = capsys.readouterr().out
    report = json.loads(out.splitlines()[-1])
    assert report["vocab"] < 1000 and f"{report['vocab']:,} tokens" in out
    assert "no pair of tokens is left that occurs 2 times: 5,000 were asked for" in out
    assert report["measured"]["kinds"]["<unk>"]["tokens"] == 2 * len(LINES)


def test_no_text_becomes_a_special_token(words, text, tiny):
    """By every door: the text of a run, a prompt, a request to the server."""
    settings = tiny(f"data.path={text}", f"data.tokenizer={words}/tokenizer.json", "data.max_leak=1")
    corpus = corpora.load(settings.data, 8)
    assert corpus.tokenizer.decode(np.asarray(corpus.train)) == "".join(LINES)
    assert corpus.tokenizer.special == {"bos": 0, "eos": 1, "pad": 2} and corpus.train.min() > 2
    assert corpus.tokenizer.prompt(SPECIAL).ids.min() > 2 and corpus.tokenizer.prompt(SPECIAL).hidden == 0
    pytest.importorskip("pydantic")
    from juliagpt_jax.serving.asked import Limits
    from juliagpt_jax.serving.completions import Completion

    asked = Completion.read(json.dumps({"model": "m", "prompt": [SPECIAL, "a <eos> b"]}).encode())
    limits = Limits(max_tokens=20, max_prompt=200, max_body=10**6, texts=9, context=16)
    requests = asked.requests(corpus.tokenizer, limits)
    assert [corpus.tokenizer.decode(request.prompt) for request in requests] == [SPECIAL, "a <eos> b"]
    assert all(request.prompt.min() > 2 for request in requests)


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--vocab=300"], "give --source=PATH"),
        (["--source={text}", "--from={text}", "--vocab=300"], "give --source=PATH"),
        (["--source={text}"], "--source needs --vocab=N"),
        (["--source={text}", "--vocab=258"], "--vocab=258 must be from 259 to"),
        (["--source={text}", "--vocab=260", "--unk"], "--vocab=260 must be from 261 to"),
        (["--source=/nowhere", "--vocab=300"], "--source=/nowhere does not exist"),
        (["--source={empty}", "--vocab=300"], "has neither train.txt and val.txt nor any other"),
        (["--from={empty}"], "is no folder with a tokenizer"),
        (["--from={empty}", "--unk"], "--vocab and --unk are for --source"),
        (["--from={text}/train.txt"], "train.txt: not JSON"),
    ],
)
def test_mistakes(flags, says, text, tmp_path):
    (tmp_path / "empty").mkdir()
    values = {"text": text, "empty": tmp_path / "empty"}
    with pytest.raises(UserError) as error:
        run(*(flag.format(**values) for flag in flags), f"--out={tmp_path / 'out'}")
    assert says in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"empty"}, "nothing is left behind"


def test_what_is_there_is_not_overwritten(words, text):
    before = content(words)
    with pytest.raises(UserError, match="is there already"):
        run(f"--source={text}", "--vocab=300", f"--out={words}")
    assert content(words) == before


def test_a_killed_run_leaves_nothing_torn(words, text, micro, tmp_path):
    """Killed while it writes; the next attempt does it all."""
    stop = "import os, signal; from juliagpt_jax.data import vocabularies; from juliagpt_jax.ground import files\n"
    stop += "def torn(path, values):\n    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    stop += "vocabularies.write_json = torn"
    flags = [f"--source={text}", "--vocab=300", f"--out={tmp_path / 'out'}"]
    killed = micro.run("tokenize", *flags, before=stop)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    run(*flags)
    assert content(tmp_path / "out") == content(words) and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_bar_on_a_terminal_only(text, tmp_path, capsys, monkeypatch):
    run(f"--source={text}", "--vocab=300", f"--out={tmp_path / 'plain'}")
    assert capsys.readouterr().err == ""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    run(f"--source={text}", "--vocab=300", f"--out={tmp_path / 'shown'}")
    shown = terminal.getvalue()
    assert "reading:   0%" in shown and "characters/s" in shown and shown.endswith("learning the tokens\n")


def test_ctrl_c_ends_it_at_once(text, micro, tmp_path):
    """Also while the library learns, which does not listen."""
    stop = "import os, signal; from juliagpt_jax.data import bpe\n"
    stop += "def train(*_):\n    os.kill(os.getpid(), signal.SIGINT); print('went on')\n"
    stop += "bpe.train = train"
    ended = micro.run("tokenize", f"--source={text}", "--vocab=300", f"--out={tmp_path / 'out'}", before=stop)
    assert ended.returncode == -signal.SIGINT and ended.out == ended.err == ""
