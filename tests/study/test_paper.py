"""The paper: no number typed by hand, every macro made and used, and nothing said that the results do not say."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "experiments" / "paper"
TEXT = (PAPER / "paper.tex").read_text(encoding="utf-8")
BODY = re.sub(r"(?<!\\)%.*", "", TEXT.partition(r"\begin{document}")[2])
# Digits that may stand in the text: the level of the intervals and of the tests, arms named by their share, and names.
ALLOWED = [r"95\\%", r"\.05\b", r"60\\%", r"30\\%", r"\bEL2N\b", r"\bS1\b", r"\b(b?float(16|32|64)|int8)\b"]
ALLOWED += ["WikiText-2", "SmolLM2"]


@pytest.fixture(scope="module")
def paper():
    """The module build.py."""
    pytest.importorskip("SALib")
    spec = importlib.util.spec_from_file_location("paper_build", PAPER / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(paper, tmp_path_factory):
    out = tmp_path_factory.mktemp("paper") / "generated"
    paper.build(ROOT / "experiments", out)
    return out


def macros(out: Path) -> dict[str, str]:
    text = (out / "numbers.tex").read_text(encoding="utf-8")
    return dict(re.findall(r"^\\newcommand\{\\(\w+)\}\{(.*)\}$", text, re.M))


def read(text: str, out: Path) -> str:
    """A text as it is read: of the two branches of each \\measuredNAME the one that the results choose."""
    made = (out / "numbers.tex").read_text(encoding="utf-8")
    taken = dict(re.findall(r"^\\newcommand\{\\measured(\w+)\}\[2\]\{#([12])\}$", made, re.M))
    assert set(re.findall(r"\\measured(\w+)\{", text)) == set(taken)
    while found := re.search(r"\\measured(\w+)(?=\{)", text):
        branches, at = [], found.end()
        for _ in range(2):
            depth, begin = 1, at + 1
            while depth:
                at += 1
                depth += {"{": 1, "}": -1}.get(text[at], 0)
            branches.append(text[begin:at])
            at += 1
        text = text[: found.start()] + branches[int(taken[found[1]]) - 1] + text[at:]
    return text


def typed(body: str) -> list[str]:
    """Digits in a text, without what LaTeX needs them for."""
    body = re.sub(
        r"\\(cite[pt]?|label|ref|includegraphics|input|setlength|hspace|vspace)(\[[^]]*\])?\{[^}]*\}", "", body
    )
    body = re.sub(r"(\{-?\d+(\.\d+)?pt[^}]*\})|(\\begin\{\w+\}\[\w+\])", "", body)
    for allowed in ALLOWED:
        body = re.sub(allowed, "", body)
    return re.findall(r"\S*\d\S*", body)


def test_no_number_is_typed_by_hand():
    assert typed(BODY) == []


@pytest.mark.parametrize("text", ["a loss of 1.27", r"\textbf{12} seeds", "in 15\\% fewer", r"\ref{tab:x} has 3 arms"])
def test_a_typed_number_is_seen(text):
    assert typed(text)


def test_every_macro_is_made_and_used(built):
    made = macros(built)
    assert all(value for name, value in made.items() if not name.startswith("Holds"))
    used = set(re.findall(r"\\([A-Z]\w*)", read(BODY, built))) - {"LaTeX", "TeX"}
    assert used == set(made)


def test_tables_and_figures_are_made_and_used(built):
    files = {path.name for path in built.iterdir()}
    text = read(TEXT, built)
    used = {f"{name}.tex" for name in re.findall(r"\\input\{generated/(\w+)\}", text)}
    used |= {f"{name}.pdf" for name in re.findall(r"\\includegraphics\[[^]]*\]\{generated/(\w+)\}", text)}
    assert files == used


def test_a_paragraph_stands_once_its_results_do(paper, tmp_path):
    """A pipeline's: without its file nothing of it is made; with it, the numbers that are in it."""
    pending, results = paper.content.PENDING["Pipeline"], paper.Results(tmp_path)
    assert not pending.there(results)
    right = {"sft": (0.30, 0.34, 0.32), "more": (0.31, 0.34, 0.34), "dpo": (0.31, 0.33, 0.32)}
    right |= {"+ vote of 4": (0.41, 0.43, 0.42), "+ verifier's best of 4": (0.40, 0.44, 0.45)}
    right |= {"+ revised": (0.41, 0.45, 0.46)}
    before = ["", "sft", "more", "dpo", "dpo", "+ verifier's best of 4"]
    rows = [
        {"stage": name, "before": other, "right": dict(zip("012", own, strict=True))}
        for other, (name, own) in zip(before, right.items(), strict=True)
    ]
    path = tmp_path / pending.files[0]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"rows": rows, "curves": [{"answers": 4, "any": 0.7}]}), encoding="utf-8")
    assert pending.there(results)
    said = {name: statistic(results) for name, statistic in pending.numbers.items()}
    assert said["PipelineSft"] == "32.0%" and said["PipelineSeeds"] == "0, 1, 2"
    assert said["PipelineVote"] == "+10.0 [+10.0, +10.0]" and said["PipelineBestVote"].startswith("+1.0 [")
    table = pending.tables["pipeline"](results)
    assert [line[0] for line in table[1:]] == [*right, "one of 4 is right"]
    assert table[-1][1] == "70.0%" and table[4][2:] == ["dpo", said["PipelineVote"]]


def test_what_is_committed_is_of_the_committed_results(built):
    assert {path.name for path in (PAPER / "generated").iterdir()} == {path.name for path in built.iterdir()}
    for path in built.glob("*.tex"):
        committed = (PAPER / "generated" / path.name).read_text(encoding="utf-8")
        assert committed == path.read_text(encoding="utf-8"), "run python experiments/paper/build.py --pdf"


def rewritten(paper, tmp_path, change):
    """Results of which one file of the Monarch suite was changed, row by row."""
    results = paper.Results(ROOT / "experiments")
    name = paper.content.MONARCH.name
    (tmp_path / name).parent.mkdir(parents=True)
    rows = [json.loads(line) for line in (ROOT / "experiments" / name).read_text(encoding="utf-8").splitlines()]
    (tmp_path / name).write_text("".join(json.dumps(change(row)) + "\n" for row in rows), encoding="utf-8")
    changed = paper.Results(tmp_path)
    elsewhere, changed.has = changed.rows, results.has
    changed.rows = lambda other: elsewhere(other) if other == name else results.rows(other)
    return changed


def test_a_changed_result_changes_its_numbers_and_no_other(paper, built, tmp_path):
    def change(row):
        worse = row["arm"] == "mixer: monarch" and row["seed"] == 12
        return row | {"perplexity": row["perplexity"] + 1} if worse else row

    new, old = paper.numbers(rewritten(paper, tmp_path, change)), macros(built)
    assert {name for name in old if new[name] != old[name]} == {"MonarchMixerPerplexity"}
    assert float(new["MonarchMixerPerplexity"]) == pytest.approx(
        float(old["MonarchMixerPerplexity"]) + 1 / 3, abs=0.011
    )


def test_a_sentence_that_no_longer_holds_is_refused(paper, tmp_path):
    attention_wins = lambda row: row | {"loss": 1.0} if (row["arm"], row["seed"]) == ("baseline", 11) else row
    with pytest.raises(paper.UserError, match=r"every Monarch arm is ahead of attention.*HoldsMonarchAhead"):
        paper.numbers(rewritten(paper, tmp_path, attention_wins))


def test_a_missing_file_or_arm_is_one_line(paper, tmp_path, capsys):
    assert paper.main([f"--experiments={tmp_path}", f"--out={tmp_path / 'out'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "results.jsonl does not exist" in line
    results = paper.Results(ROOT / "experiments")
    with pytest.raises(paper.UserError, match=r"mixers/results\.jsonl: no row with \{'arm': 'monrach'\}"):
        paper.content.MONARCH.mean("monrach", "loss", ".3f")(results)
    with pytest.raises(paper.UserError, match="'los'"):
        paper.content.MONARCH.mean("mixer: monarch", "los", ".3f")(results)
    with pytest.raises(paper.UserError, match="not one value"):
        paper.content.MONARCH.value({}, "params")(results)


def test_signs_become_latex(paper):
    assert paper.tex("-0.5 [-1.0, +2.0] ± 3%") == r"$-$0.5 [$-$1.0, +2.0] $\pm$ 3\%"
    assert paper.tex("x86_64, 18-45, EK-FAC") == r"x86\_64, 18-45, EK-FAC"


def test_references_are_whole_and_cited():
    entries = re.findall(r"^@(\w+)\{(\w+),(.*?)^\}", (PAPER / "references.bib").read_text("utf-8"), re.M | re.S)
    assert {key for _, key, _ in entries} == {
        key for keys in re.findall(r"\\cite[pt]?\{([^}]*)\}", BODY) for key in keys.split(",")
    }
    venue = {"article": "journal", "inproceedings": "booktitle", "phdthesis": "school", "misc": "howpublished"}
    for kind, key, fields in entries:
        names = re.findall(r"^  (\w+) = \{.+\},?$", fields, re.M)
        assert {"author", "title", "year", venue[kind]} <= set(names), key


@pytest.mark.skipif(not shutil.which("pdflatex") or not shutil.which("bibtex"), reason="needs pdflatex and bibtex")
def test_the_pdf_is_made(paper, built, tmp_path):
    log = paper.pdf(PAPER, built, tmp_path / "paper.pdf")
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert not re.search("undefined|multiply defined", log)
    assert [wide for wide in re.findall(r"Overfull \\hbox \((\d+)", log) if int(wide) > 3] == []
    pages = int(re.findall(r"Output written on paper\.pdf \((\d+) pages", log)[0])
    assert 6 <= pages <= 20
