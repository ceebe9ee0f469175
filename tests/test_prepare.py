"""The whole way from books to a corpus, as a user goes it."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from juliagpt_jax import prepare
from juliagpt_jax.books import archives, datasets, pipeline, reading, scorer, sources, summary
from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import StorageError, UserError

spec = importlib.util.spec_from_file_location("books", Path(__file__).parent / "books" / "books.py")
books = importlib.util.module_from_spec(spec)
spec.loader.exec_module(books)
FILES = {"train.txt", "val.txt", "train_enriched.jsonl", "val_enriched.jsonl", "manifest.json", "report.md", "plots"}
CLASSICS = Path(__file__).parent.parent / ".." / "shared" / "data" / "classics"


def run(source, out, *flags):
    prepare.main(prepare.parser().parse([f"--source={source}", f"--out={out}", "--jobs=1", *flags]))
    return json.loads((Path(out) / "manifest.json").read_text())


def lines(folder, name):
    """[(line of NAME.txt, its description)]."""
    texts = (Path(folder) / f"{name}.txt").read_text().split("\n")
    described = (Path(folder) / f"{name}_enriched.jsonl").read_text().splitlines()
    assert texts.pop() == "" and len(texts) == len(described)
    return [(text, json.loads(line)) for text, line in zip(texts, described, strict=True)]


def content(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in Path(folder).rglob("*") if f.is_file()}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """Three books of three kinds, one with what must be dropped."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "one.txt").write_text(books.wrapped(books.book(1, 40)))
    (folder / "two.txt").write_text(books.wrapped(books.book(2, 40), "archive"))
    spoilt = (
        books.book(3, 30) + "\n\n" + books.prose(1, 1)[0] + "\n\n" + "Quidquid delirant reges plectuntur achivi. " * 4
    )
    (folder / "three.txt").write_text(spoilt)
    return folder


@pytest.fixture(scope="session")
def prepared(shelf, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "corpus"
    run(shelf, out)
    return out


def test_the_contract(prepared):
    """What the loader relies on: line i describes line i; works are contiguous, in reading order."""
    assert {f.name for f in prepared.iterdir()} == FILES
    for name in ("train", "val"):
        found = lines(prepared, name)
        works = [d["work"] for _, d in found]
        assert works == sorted(works, key=works.index) and len(set(works)) == 3
        for text, d in found:
            assert (
                text == d["text"]
                and 40 <= len(text) <= 256
                and set(text) <= set("abcdefghijklmnopqrstuvwxyz .,;:?!'\"-()")
            )
            assert all(0 <= d[score] <= 1 for score in ("difficulty", "quality"))
            assert {"author", "title", "translator", "art", "phase", "compression", "mtld", "flesch"} <= set(d)
        for (_, a), (_, b) in itertools.pairwise(found):
            assert a["work"] != b["work"] or a["index"] < b["index"]
    assert lines(prepared, "train")[0][1]["author"] == "Ann Author"


def test_the_numbers_add_up(prepared, shelf):
    manifest = json.loads((prepared / "manifest.json").read_text())
    for work in manifest["works"]:
        assert (
            work["kept"] + sum(work["apparatus"].values())
            == work["characters"]
            == len((shelf / f"{work['id']}.txt").read_text())
        )
        assert work["sha256"] == hashlib.sha256((shelf / f"{work['id']}.txt").read_bytes()).hexdigest()
    for name in ("train", "val"):
        assert manifest["chunks"][name] == len(lines(prepared, name))
        assert manifest["characters"][name] == (prepared / f"{name}.txt").stat().st_size
    for file, digest in manifest["files"].items():
        assert hashlib.sha256((prepared / file).read_bytes()).hexdigest() == digest
    three = next(w for w in manifest["works"] if w["id"] == "three")
    assert three["chunks"]["poor"] >= 1 and three["chunks"]["exact"] + three["chunks"]["near"] >= 1
    report = (prepared / "report.md").read_text()
    for fate, name in pipeline.FATES.items():
        assert f"| {name} | {manifest['chunks'][fate]:,} |" in report
    assert str(shelf) not in report + (prepared / "manifest.json").read_text()


def test_no_neighbours_and_no_copies_across_the_split(prepared):
    """Between a validation passage and the training text around it a chunk is missing; a tenth is for validation."""
    train, val = ({(d["work"], d["index"]) for _, d in lines(prepared, name)} for name in ("train", "val"))
    assert not {(work, i + step) for work, i in val for step in (-1, 1)} & train
    assert 0.08 < len(val) / (len(val) + len(train)) < 0.12
    assert not {t for t, _ in lines(prepared, "train")} & {t for t, _ in lines(prepared, "val")}


def test_the_same_bytes_each_time(prepared, shelf, tmp_path):
    """Whatever the number of processes and the path."""
    moved = tmp_path / "else where"
    shutil.copytree(shelf, moved)
    prepare.main(prepare.parser().parse([f"--source={moved}", f"--out={tmp_path / 'out'}", "--jobs=2"]))
    assert content(tmp_path / "out") == content(prepared)
    run(shelf, tmp_path / "seed", "--seed=1")
    assert content(tmp_path / "seed")["val.txt"] != content(prepared)["val.txt"]


def test_options_reach_the_corpus(shelf, tmp_path):
    manifest = run(
        shelf,
        tmp_path / "full",
        "--alphabet=full",
        "--shortest=20",
        "--longest=90",
        "--val_share=0.2",
        "--min_quality=0",
        "--guard=0",
    )
    found = lines(tmp_path / "full", "train")
    assert all(20 <= len(t) <= 90 for t, _ in found) and any(c.isupper() for t, _ in found for c in t)
    assert any(c.isdigit() for t, _ in found for c in t)
    assert manifest["chunks"]["poor"] == manifest["chunks"]["guard"] == 0
    assert manifest["chunks"]["val"] / (manifest["chunks"]["val"] + manifest["chunks"]["train"]) == pytest.approx(
        0.2, abs=0.01
    )


def test_one_work_alone(tmp_path):
    """Its halves judge each other."""
    (tmp_path / "a.txt").write_text(books.book(5, 30))
    run(tmp_path / "a.txt", tmp_path / "out")
    assert all(0 < d["compression"] < 1 for _, d in lines(tmp_path / "out", "train"))


def test_a_work_is_compressed_with_the_text_of_others(shelf):
    works, _ = sources.local(shelf)
    read = [reading.read(work, pipeline.Options(), archives.Budget())[0] for work in works]
    pipeline.score(read, pipeline.Options(), map)
    for book in read:
        others = [text for other in read if other is not book for text in other.chunks]
        judge = scorer.Judge(scorer.dictionary(others, 0), {}, 0)
        assert [s.compression for s in book.scores] == [judge.compression(text) for text in book.chunks]


def test_the_loader_takes_it(prepared, tiny):
    corpus = corpora.load(tiny(f"data.path={prepared}").data, 16)
    assert corpus.tokenizer.decode(corpus.train) == (prepared / "train.txt").read_text()


# Fault 14: too little. Fault 15: no text. Fault 19: the same text on both sides.


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "no running text: 0 characters read"),
        ("Too short.", "no running text: 10 characters read"),
        (" ".join(books.prose(1, 1)), "too small to split"),
    ],
)
def test_fault_14_too_little(tmp_path, text, says):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=says):
        run(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fault_15_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(books.book(1, 30).encode() + b"\n\n\xe9\n")
    with pytest.raises(UserError, match=r"a\.txt: byte \d+ is not UTF-8"):
        run(tmp_path, tmp_path / "out")
    manifest = run(tmp_path, tmp_path / "out", "--errors=replace")
    assert manifest["works"][0]["replaced"] == 1


def test_fault_19_two_editions_of_one_work(tmp_path):
    """The second is punctuated otherwise and so cut at other places: none of its chunks is one of the first's."""
    text = " ".join(" ".join(books.prose(9, 40)).split())
    (tmp_path / "a.txt").write_text("\n\n".join([text[:20_000], *books.prose(4, 3)]))
    (tmp_path / "b.txt").write_text("\n\n".join([text[57:20_000].replace(". ", ", "), *books.prose(6, 3)]))
    with pytest.raises(
        UserError, match=r"stand in the training text too, more than --leak_limit=0\.05.*(a|b)"
    ) as error:
        run(tmp_path, tmp_path / "out", "--similarity=1")
    assert "Is one work there twice?" in str(error.value) and not (tmp_path / "out").exists()
    manifest = run(tmp_path, tmp_path / "out", "--similarity=1", "--leak_limit=1")
    assert manifest["leaked"]["found"] > 0 and manifest["leaked"]["left"] == 0 and manifest["chunks"]["leak"] > 0
    grams = lambda name: [
        tuple(t.split()[i : i + 8]) for t, _ in lines(tmp_path / "out", name) for i in range(len(t.split()) - 7)
    ]
    train = set(grams("train"))
    val = grams("val")
    assert sum(g in train for g in val) < 0.5 * len(val)


# Files and texts as other people have them.


def test_files_as_people_have_them(tmp_path, capsys):
    """Capitals in names, hidden files, another encoding; what is not read is mentioned."""
    (tmp_path / "A.TXT").write_text(books.book(1, 30))
    (tmp_path / "._A.TXT").write_bytes(b"\0\x05\x16\x07 Mac OS X")
    (tmp_path / ".draft.txt").write_text("secret " * 500)
    (tmp_path / "b.txt").write_bytes(books.book(2, 30).encode("utf-16"))
    (tmp_path / "c.md").write_text(f"# A book\n\n{books.book(3, 30)}")
    for name in ("README.md", "paper.pdf"):
        (tmp_path / name).write_text("x")
    manifest = run(tmp_path, tmp_path / "out")
    assert [w["id"] for w in manifest["works"]] == ["a", "b", "c"]
    assert manifest["notes"] == ["2 other files of the folder are not read: README.md, paper.pdf"]
    assert "README.md, paper.pdf" in capsys.readouterr().out


def test_names_and_files_that_hold_nothing(tmp_path, capsys):
    """A name whose bytes are not UTF-8 can be read about; an empty file is mentioned; a link to nowhere is named."""
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / os.fsdecode(b"caf\xe9.txt")).write_text(books.book(1, 30))
    (tmp_path / "books" / os.fsdecode(b"caf\xe9.pdf")).write_text("x")
    (tmp_path / "books" / "empty.txt").write_text("\n")
    manifest = run(tmp_path / "books", tmp_path / "out")
    assert manifest["works"][0]["title"] == "caf\ufffd"
    assert manifest["notes"] == ["1 other files of the folder are not read: caf\ufffd.pdf"]
    assert "note: no running text in empty (" in capsys.readouterr().out
    (tmp_path / "books" / "gone.txt").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"gone\.txt: a link to a file that is not there$"):
        run(tmp_path / "books", tmp_path / "out2")


def test_a_text_that_says_the_same_again_and_again_is_no_corpus(tmp_path):
    """All of the training text is in the validation text, too, and is left out of it."""
    draw = random.Random(3).choice
    line = lambda: f"The {draw(['grey', 'pale', 'red'])} {draw(['moon', 'stone'])} sleeps beside the sea at night,"
    (tmp_path / "a.txt").write_text("\n\n".join("\n".join(line() for _ in range(14)) for _ in range(30)))
    with pytest.raises(UserError, match=r"no training text is left: all .* passages hold text of validation passages"):
        run(tmp_path, tmp_path / "out", "--similarity=1", "--leak_limit=1", "--guard=0", "--min_quality=0")


@pytest.mark.parametrize("jobs", ["--jobs=1", "--jobs=2"])
def test_all_bad_files_are_named_and_can_be_left_out(tmp_path, jobs):
    (tmp_path / "a.txt").write_text(books.book(1, 30))
    (tmp_path / "b.txt").write_bytes(books.book(2, 3).encode() + b" caf\xe9")
    (tmp_path / "c.txt").write_bytes(b"%PDF-1.4\n" + books.book(3, 3).encode())
    with pytest.raises(UserError, match=r"2 of 3 files .*b\.txt: byte \d+.*c\.txt: a PDF document") as error:
        run(tmp_path, tmp_path / "out", jobs)
    assert "--errors=skip" in str(error.value)
    manifest = run(tmp_path, tmp_path / "out", jobs, "--errors=skip")
    assert [w["id"] for w in manifest["works"]] == ["a"] and str(tmp_path) not in json.dumps(manifest)
    assert [note[:17] for note in manifest["notes"]] == ["left out: b.txt: ", "left out: c.txt: "]


def test_home_behind_an_equals_sign(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(shelf, tmp_path / "texts")
    prepare.main(prepare.parser().parse(["--source=~/texts", "--out=~/made", "--jobs=1"]))
    assert (tmp_path / "made" / "train.txt").is_file()


def test_a_text_in_another_alphabet(tmp_path):
    """Alone it is refused with the reason; a part of it in a book is left out and said."""
    russian = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувшхыз")
    (tmp_path / "a.txt").write_text(books.book(1, 30).lower().translate(russian), encoding="utf-8")
    with pytest.raises(UserError, match=r"outside the alphabet a-z.*--config\.data\.path"):
        run(tmp_path, tmp_path / "out")
    mixed = books.book(2, 30) + "\n\n" + "\n\n".join(books.prose(4, 4)).lower().translate(russian)
    (tmp_path / "a.txt").write_text(mixed, encoding="utf-8")
    work = run(tmp_path, tmp_path / "out")["works"][0]
    assert work["cleaner"]["left out"]["other alphabet"] > 1_000
    assert summary.losses(work)["other alphabet"] > 0.05


def test_what_goes_is_said(tmp_path, capsys):
    """By rule, with samples, in the report; on the terminal where it is more than a few per cent."""
    blocks = books.book(1, 40).split("\n\n")
    notes = [b for k, b in enumerate(blocks) for b in (f"{b}[{k}]", f"[{k}] See the oldest lamp of all, {k} times.")]
    (tmp_path / "noted.txt").write_text("\n\n".join(notes))
    (tmp_path / "plain.txt").write_text("\n\n".join(books.prose(2, 40)))
    manifest = run(tmp_path, tmp_path / "out")
    report = (tmp_path / "out" / "report.md").read_text()
    noted = manifest["works"][0]
    assert f"notes, {noted['apparatus']['notes']:,} characters:" in report
    assert "- noted: `` [0] See the oldest lamp of all, 0 times. ``" in report
    said = capsys.readouterr().out
    assert "left out of noted: " in said and "notes" in said and "of plain:" not in said


@pytest.mark.parametrize("sign", ["<|endoftext|>", "<|im_end|>"])
def test_signs_between_texts_are_no_words(sign, tmp_path, capsys):
    """They part passages, every character is accounted for, and one is told of the unit that keeps the texts whole."""
    stories = [" ".join(books.prose(i, 1)) for i in range(40)]
    inside = f"The sign {sign} stands in a sentence here. "
    (tmp_path / "a.txt").write_text(f"\n{sign}\n".join([inside + stories[0], *stories[1:]]))
    manifest = run(tmp_path, tmp_path / "out", "--min_quality=0")
    text = "\n".join(t for name in ("train", "val") for t, _ in lines(tmp_path / "out", name))
    word = sign.strip("<|>").replace("_", "")
    assert text.count(word) == 1, "that of the sentence"
    (work,) = manifest["works"]
    assert work["kept"] + sum(work["apparatus"].values()) == work["characters"] == (tmp_path / "a.txt").stat().st_size
    said = capsys.readouterr().out
    assert f"a.txt: 39 signs such as {sign} are read as blank lines" in said
    assert ("--unit=story makes a document of what each ends" in said) == (sign == "<|endoftext|>")
    assert f"- a: `` {sign} ``" in (tmp_path / "out" / "report.md").read_text()


def test_what_stays_on_suspicion_is_said(tmp_path, capsys):
    notes = [b for k, p in enumerate(books.prose(3, 40)) for b in (f"The lamp{k} burns.[{k}]", f"[{k}] {p}")]
    (tmp_path / "a.txt").write_text("\n\n".join(notes))
    work = run(tmp_path, tmp_path / "out")["works"][0]
    assert work["spared"]["notes"] > 5_000 and "notes" not in work["apparatus"]
    assert "characters that look like notes" in capsys.readouterr().out
    assert "look like notes and stayed" in (tmp_path / "out" / "report.md").read_text()


def test_several_books_in_one_file(tmp_path):
    text = books.wrapped(books.book(1, 30)) + "\n\n" + books.wrapped(books.book(2, 30), "small print")
    (tmp_path / "both.txt").write_text(text)
    manifest = run(tmp_path, tmp_path / "out")
    assert [w["id"] for w in manifest["works"]] == ["both", "both_2"]
    assert sum(w["characters"] for w in manifest["works"]) == len(text)
    assert not any("gutenberg" in t for name in ("train", "val") for t, _ in lines(tmp_path / "out", name))


def test_letters_that_the_alphabet_lacks(tmp_path):
    odd = "In \u0141\u00f3d\u017a the \u0167all sailor of \u0126amrun met \u00deorsteinn and the na\u00efve \u0259cho. "
    (tmp_path / "a.txt").write_text("\n\n".join([*books.prose(1, 30), odd + books.prose(7, 1)[0]]), encoding="utf-8")
    run(tmp_path, tmp_path / "out", "--min_quality=0")
    text = " ".join(t for name in ("train", "val") for t, _ in lines(tmp_path / "out", name))
    assert "in lodz the tall sailor of hamrun met thorsteinn and the naive echo." in text


@pytest.mark.parametrize(
    "unit",
    ["a", "I. ", "[Footnote ", ". ", "A. B\n\n", "-", "(a", "*a ", "[1] ", "  5\n", "a-\n", "([", "CONTENTS\n\n"],
)
def test_no_text_takes_for_ever(tmp_path, unit):
    """60 kB of nothing but one unit, on one line where it has no line end: linear in time, not quadratic (a minute)."""
    (tmp_path / "a.txt").write_text(books.prose(1, 1)[0] + "\n\n" + unit * (60_000 // len(unit)))
    (work,), _ = sources.local(tmp_path)
    started = time.process_time()
    (book,) = reading.read(work, pipeline.Options(), archives.Budget())
    assert time.process_time() - started < 5
    assert book.kept + book.ledger.counts.total() == book.characters


def test_failures_in_other_processes(tmp_path, monkeypatch):
    """A mistake found by a process of its own is still one line; so is the death of one."""
    (tmp_path / "a.txt").write_bytes(b"\xe9" * 100)
    (tmp_path / "b.txt").write_text(books.book(1, 10))
    with pytest.raises(UserError, match=r"a\.txt: byte 0 is not UTF-8"):
        run(tmp_path, tmp_path / "out", "--jobs=2")
    with pytest.raises(StorageError, match="was killed"), pipeline._pool(2) as spread:
        list(spread(os._exit, [9, 9]))


# The folder that is written.


def test_again_and_with_other_options(prepared, shelf, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    run(shelf, out)  # the same again
    assert content(out) == content(prepared)
    with pytest.raises(UserError, match=r"other options.*--force"):
        run(shelf, out, "--seed=1")
    assert content(out) == content(prepared)
    run(shelf, out, "--seed=1", "--force")
    assert json.loads((out / "manifest.json").read_text())["options"]["seed"] == 1
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_a_folder_with_other_things_is_left_alone(prepared, shelf, tmp_path, flags):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds other things \(thesis\.tex\)"):
        run(shelf, tmp_path, *flags)
    shutil.copytree(prepared, tmp_path / "out")
    (tmp_path / "out" / "notes.md").write_text("x")
    with pytest.raises(UserError, match=r"notes\.md"):
        run(shelf, tmp_path / "out", "--seed=1", *flags)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not a folder"):
        run(shelf, tmp_path / "file", *flags)


@pytest.mark.parametrize("when", ["while writing", "between the renames"])
def test_killed(prepared, shelf, tmp_path, micro, when):
    """A command killed while it writes leaves the old corpus; the next one clears up and ends with the same bytes."""
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    body = "import os, signal\nfrom juliagpt_jax.books import summary, writer\n"
    body += "kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    if when == "while writing":
        body += "summary.write = kill"
    else:
        body += "swap = os.replace\nwriter.os.replace = lambda a, b: kill() if str(a).endswith('.new') else swap(a, b)"
    process = micro.run("prepare", f"--source={shelf}", f"--out={out}", "--jobs=1", "--seed=1", "--force", before=body)
    assert process.returncode == -signal.SIGKILL
    if when == "while writing":
        assert content(out) == content(prepared) and (tmp_path / ".out.new").exists()
    with pytest.raises(UserError, match="--force"):
        run(shelf, out, "--seed=2")  # the old corpus is back, and guarded again
    assert content(out) == content(prepared)
    run(shelf, out)
    assert content(out) == content(prepared) and [f.name for f in tmp_path.iterdir()] == ["out"]


# The command.


def test_help_is_fast_and_imports_nothing_heavy(micro):
    started = time.perf_counter()
    process = micro.run(
        "prepare", "--help", before="import sys\nsys.modules['numpy'] = sys.modules['jax'] = sys.modules['ftfy'] = None"
    )
    assert process.returncode == 0 and "--source" in process.out and time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "flags, says",
    [
        ([], "--source"),
        (["--source=x"], "--out"),
        (["--source=nowhere", "--out=x"], "does not exist"),
        (["--source=.", "--out=x", "--longest=100"], "--longest=100 must be from 120"),
        (["--source=.", "--out=x", "--val_share=nan"], "--val_share=nan must be from"),
        (["--source=.", "--out=x", "--alphabet=latin"], "latin"),
        (["--source=.", "--out=x", "--sede=1"], "--seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_one_line(flags, says):
    with pytest.raises(UserError) as error:
        prepare.main(prepare.parser().parse(flags))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_json_and_quiet_stderr(shelf, tmp_path, micro):
    out = tmp_path / "n\u00e9"
    process = micro.run("prepare", f"--source={shelf}", f"--out={out}", "--json", "--jobs=2", LC_ALL="C")
    assert process.returncode == 0 and process.err == ""
    assert json.loads(process.out.splitlines()[-1]) == sealed.read_json(out / "manifest.json")


def test_the_classics_are_downloaded_and_kept(shelf, tmp_path, monkeypatch):
    """Through the project's list, from a server that has them as they were published; then from the disk."""
    (tmp_path / "Owner" / "Book_1" / ("a" * 40)).mkdir(parents=True)
    entries = []
    for name in ("one", "two"):
        source = (shelf / f"{name}.txt").read_bytes().replace(b"\n", b"\r\n")  # the list's texts have \n
        (tmp_path / "Owner" / "Book_1" / ("a" * 40) / f"{name} 8.txt").write_bytes(source)
        place = {"source_repo": "github.com/Owner/Book_1", "commit": "a" * 40, "source_path": f"{name} 8.txt"}
        hashes = {"source_sha256": hashlib.sha256(source).hexdigest(), "source_bytes": len(source), "sha256": "0" * 64}
        entries.append({"file": f"{name}.txt", "phase": "trivium", "tier": "core"} | place | hashes)
    latex = {"file": "c.txt", "tier": "core", "source_path": "c.tex"}
    (tmp_path / "list.json").write_text(json.dumps([*entries, latex]))
    monkeypatch.setattr(sources, "CLASSICS", tmp_path / "list.json")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        mirror = f"--mirror=http://127.0.0.1:{server.server_address[1]}"
        manifest = run("classics", tmp_path / "out", mirror)
        server.shutdown()
    assert [w["phase"] for w in manifest["works"]] == ["trivium"] * 2 and "published as LaTeX alone" in manifest[
        "notes"
    ][0]
    (tmp_path / "local").mkdir()
    for name in ("one", "two"):
        shutil.copy(shelf / f"{name}.txt", tmp_path / "local")
    run(tmp_path / "local", tmp_path / "other")
    assert content(tmp_path / "out")["train.txt"] == content(tmp_path / "other")["train.txt"]
    run("classics", tmp_path / "out", mirror)  # the server is gone


def test_the_classics_without_a_network(tmp_path, micro):
    process = micro.run(
        "prepare", "--source=classics", f"--out={tmp_path / 'out'}", "--mirror=http://no-such-host.invalid"
    )
    assert process.returncode == 4 and process.err.count("\n") == 1 and "--source=DIR" in process.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def wikitext(tmp_path, monkeypatch):
    """A small WikiText where the real one is pinned: its files on a server's disk, and the flag that names it."""
    known, works = datasets.DATASETS["wikitext2"], {}
    for side, work in known.works.items():
        articles = [
            f" = {side} {i} = \n \n The {side} <unk> no {i} was <b> here of train and val . \n \n = = Life = = \n \n"
            for i in range(9)
        ]
        content = " \n" + "".join(f"{article} {i * 'word '} . \n \n" for i, article in enumerate(articles))
        file = tmp_path / "server" / work.repo.partition("/")[2] / work.commit / work.source_path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        digest = hashlib.sha256(content.encode()).hexdigest()
        works[side] = dataclasses.replace(work, source_sha256=digest, source_bytes=len(content))
    monkeypatch.setitem(datasets.DATASETS, "wikitext2", dataclasses.replace(known, works=works))
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=tmp_path / "server")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield (
            {side: next((tmp_path / "server").rglob(Path(w.source_path).name)) for side, w in works.items()},
            (f"--mirror=http://127.0.0.1:{server.server_address[1]}"),
        )
        server.shutdown()


def rows(folder, name):
    return [json.loads(line) for line in (Path(folder) / f"{name}_enriched.jsonl").read_text().splitlines()]


def test_wikitext_is_downloaded_and_kept_to_the_byte(wikitext, tmp_path, tiny, capsys):
    """Its own split; no rule touches it; the test side is there, and no run reads it. The same without a network."""
    files, mirror = wikitext
    out = tmp_path / "out"
    manifest = run("wikitext2", out, mirror)
    assert manifest["documents"] | {"train": 9, "val": 9, "test": 9} == manifest["documents"]
    assert sum(manifest["documents"].values()) == 27 and manifest["unit"] == "article"
    assert "CC BY-SA 3.0" in manifest["licence"] and "SHA-256" in manifest["verified"] and len(manifest["origin"]) == 3
    for side, file in files.items():
        assert "".join(row["text"] for row in rows(out, side)) == file.read_text()
        assert [row["title"] for row in rows(out, side)] == [f"{side} {i}" for i in range(9)]
        assert all(0 <= row["difficulty"] <= 1 and row["words"] == len(row["text"].split()) for row in rows(out, side))
    assert (out / "test.txt").read_bytes() == files["test"].read_bytes() and not (out / "train.txt").exists()
    assert "CC BY-SA 3.0" in capsys.readouterr().out and "CC BY-SA 3.0" in (out / "report.md").read_text()
    corpus = corpora.load(tiny(f"data.path={out}", "data.max_leak=1").data, 16)
    assert corpus.tokenizer.decode(corpus.val) == files["val"].read_text() and len(corpus.train_chunks) == 9
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("train", "valid", "test"):
        shutil.copy(files["val" if name == "valid" else name], folder / f"{name}.txt")
    packed = gzip.compress((folder / "train.txt").read_bytes())
    (folder / "train.txt.gz").write_bytes(packed)
    (folder / "train.txt").unlink()
    run(folder, tmp_path / "other")
    assert content(tmp_path / "other") == content(out)
    run(folder, out)  # the same corpus: nothing to force


def test_a_wikitext_that_is_not_pinned(wikitext, tmp_path):
    files, _ = wikitext
    folder = tmp_path / "folder"
    folder.mkdir()
    for side, name in [("train", "train"), ("val", "valid"), ("test", "test")]:
        (folder / f"wiki.{name}.tokens").write_text(files[side].read_text() + " one more line \n")
    manifest = run(folder, tmp_path / "out", "--min_tokens=25")
    assert manifest["origin"] == [] and manifest["verified"].startswith("nothing") and "CC BY-SA" in manifest["licence"]
    assert manifest["documents"]["short"] == 2 and manifest["documents"]["val"] == 9, "rules act on training alone"


def test_stories_of_a_file(tmp_path, tiny, capsys):
    texts = [
        f"Story {i} is told to {i % 7} <i>good</i> children.\n\nIt ends well and they go to bed." for i in range(60)
    ]
    texts[5:9] = [texts[4], "Too short.", "A damned story that has words enough to be told to the very end.", ""]
    (tmp_path / "s.txt").write_text("\n<|endoftext|>\n".join([*texts, "This one was cut o"]))
    (tmp_path / "list").write_text("damned\n")
    flags = ["--unit=story", f"--blocklist={tmp_path / 'list'}", "--val_share=0.2"]
    manifest = run(tmp_path / "s.txt", tmp_path / "out", *flags)
    assert manifest["documents"] == {
        "train": 45,
        "val": 11,
        "test": 0,
        "empty": 1,
        "kind": 0,
        "unfinished": 1,
        "short": 1,
        "long": 0,
    } | {
        "blocked": 1,
        "exact": 1,
    }
    assert manifest["taken out"] == {"html": 7 * 57, "unprintable": 0} and manifest["licence"] == "not stated"
    report = (tmp_path / "out" / "report.md").read_text()
    for sample in ("Too short.", "A damned story", "This one was cut o", "`` <i> ``"):
        assert sample in report
    assert "45 documents: training" in capsys.readouterr().out
    corpus = corpora.load(tiny(f"data.path={tmp_path / 'out'}", "data.max_leak=1").data, 16)
    assert len(corpus.train_chunks) == 45 and len(corpus.val_chunks) == 11
    assert "Story 0 is told to 0 good children.\n\nIt ends" in corpus.tokenizer.decode(corpus.train)


def test_tokens_of_a_tokenizer_are_counted(tmp_path):
    """Characters, here: the limits go by what the tokenizer makes of a document."""
    (tmp_path / "texts").mkdir()
    for i in range(6):
        (tmp_path / "texts" / f"{i}.txt").write_text("word " * (i + 2))
    tokenizers.save(tokenizers.CharTokenizer("\n dorw"), tmp_path / "tokenizer.json")
    flags = ["--unit=file", f"--tokenizer={tmp_path / 'tokenizer.json'}", "--min_tokens=15"]
    manifest = run(tmp_path / "texts", tmp_path / "out", *flags)
    assert manifest["documents"]["short"] == 2 and len(manifest["options"]["tokens"]) == 64
    assert {row["title"] for name in ("train", "val") for row in rows(tmp_path / "out", name)} == {"2", "3", "4", "5"}


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--unit=file", "--alphabet=full"], "--alphabet says nothing of --unit=file"),
        (["--min_tokens=5"], "--min_tokens says nothing of --unit=chunk"),
        (["--source=classics", "--unit=row"], "classics is cut by chunk"),
        (["--source=tinystories", "--unit=file"], "tinystories is cut by story"),
        (["--unit=file", "--min_tokens=50", "--max_tokens=40"], "--min_tokens=50 is above --max_tokens=40"),
        (["--unit=file", "--min_tokens=-1"], "--min_tokens=-1 must be from 0"),
        (["--unit=row"], "holds no .jsonl"),
        (["--unit=file", "--blocklist=/nowhere"], "/nowhere: No such file"),
        (["--unit=file", "--tokenizer=/nowhere"], "/nowhere does not exist"),
    ],
)
def test_mistakes_about_documents(shelf, tmp_path, flags, says):
    with pytest.raises(UserError) as error:
        run(shelf, tmp_path / "out", *flags)
    assert says in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.skipif(not CLASSICS.exists(), reason="the classics are not there")
def test_some_classics(tmp_path):
    """Real books: what a reader must not meet, and how much of each is left."""
    names = [
        "archimedes_method",
        "plato_meno",
        "boethius_consolation_of_philosophy",
        "epictetus_enchiridion",
        "huygens_treatise_on_light",
    ]
    entries = [e for e in json.loads((CLASSICS / "source_manifest.json").read_text()) if Path(e["file"]).stem in names]
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for entry in entries:
        shutil.copy(CLASSICS / entry["file"], shelf)
    (shelf / "source_manifest.json").write_text(json.dumps(entries))
    manifest = run(shelf, tmp_path / "out")
    text = (tmp_path / "out" / "train.txt").read_text()
    for word in [
        "gutenberg",
        "etext",
        "e-text",
        "footnote",
        "transcriber",
        "http",
        "copyright",
        "[",
        "_",
        "chapter i.",
        "internet classics",
    ]:
        assert word not in text, word
    assert {d["phase"] for _, d in lines(tmp_path / "out", "train")} == {"quadrivium", "philosophy"}
    for work in manifest["works"]:
        assert work["kept"] > 0.7 * work["characters"] and work["chunks"]["poor"] < 0.1 * sum(
            work["chunks"].values()
        ), work["id"]
