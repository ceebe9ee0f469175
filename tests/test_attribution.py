"""The commands score and influence, as a user calls them."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.long


def last_json(process) -> dict:
    assert process.returncode == 0, process.err
    return json.loads(process.out.splitlines()[-1], parse_constant=pytest.fail)


def test_score_writes_a_row_for_each_line(micro, clean, tmp_path):
    out = tmp_path / "new" / "scores.npz"
    values = last_json(micro.run("score", f"--workdir={clean}", f"--out={out}", "--json"))
    kept = micro.text.read_text()
    kept = kept[: len(kept) - int(len(kept) * 0.1)].split("\n")
    with np.load(out, allow_pickle=False) as scores:
        assert set(scores) == {"sha256", "chunk", "fingerprint", "loss", "perplexity", "el2n", "grad_norm", "tokens"}
        np.testing.assert_array_equal(scores["chunk"], np.arange(len(kept)))
        np.testing.assert_array_equal(
            scores["tokens"], [len(line) + (i < len(kept) - 1) for i, line in enumerate(kept)]
        )
        assert str(scores["fingerprint"]) == values["fingerprint"]
        np.testing.assert_allclose(scores["perplexity"], np.exp(scores["loss"]), rtol=1e-5)
        assert values["scores"]["loss"]["mean"] == pytest.approx(scores["loss"].mean(), rel=1e-5)
        assert (scores["grad_norm"] > 0).all() and values["step"] == 40
    early = last_json(
        micro.run("score", f"--workdir={clean}", f"--out={out}", "--what=loss", "--checkpoint=20", "--json")
    )
    assert early["step"] == 20 and early["scores"]["loss"]["mean"] > values["scores"]["loss"]["mean"]


def test_a_second_run_trains_on_a_part_picked_by_scores(micro, clean, tmp_path):
    """After a first pass: score, keep, train again."""
    out = tmp_path / "scores.npz"
    last_json(micro.run("score", f"--workdir={clean}", f"--out={out}", "--what=el2n", "--json"))
    process = micro.train(
        tmp_path / "w", f"data.scores={out}", "data.keep=middle 0.6 of el2n", "train.steps=6", "train.sample_every=0"
    )
    with np.load(out) as scores:
        count = len(scores["chunk"])
    assert f"{round(0.6 * count)} of {count} training passages selected" in process.out


def test_influence_writes_a_page_and_scores(micro, clean, tmp_path):
    out = tmp_path / "influence"
    few = ["--queries=5", "--top=3", "--checkpoints=all", "--features=16", "--fit_windows=16"]
    values = last_json(micro.run("influence", f"--workdir={clean}", f"--out={out}", "--method=trak", *few, "--json"))
    page = (out / "report.md").read_text()
    with np.load(out / "scores.npz", allow_pickle=False) as scores:
        assert set(scores) == {"sha256", "chunk", "fingerprint", "trak"}
        order = np.argsort(-scores["trak"], kind="stable")
    assert values["most"] == order[:3].tolist() and values["least"] == order[::-1][:3].tolist()
    assert values["steps"] == [20, 30, 40] and values["queries"] == 5
    lines = micro.text.read_text().split("\n")
    for chunk in values["most"] + values["least"]:
        assert f"| {chunk} |" in page and lines[chunk] in page


@pytest.mark.parametrize(
    ("module", "arguments", "part"),
    [
        ("score", ["--out={out}/s.npz", "--what=loss,el3n"], "no score is called 'el3n'; did you mean el2n"),
        ("score", ["--out=/proc/none/s.npz", "--what=loss"], "/proc/none: cannot be made"),
        ("influence", ["--out={out}", "--method=trac"], "did you mean tracin or trak"),
        (
            "influence",
            ["--out={out}", "--where=phase in x"],
            "the passages have no field 'phase'; there are:",
        ),
        ("influence", ["--out={out}", "--queries=-1"], "--queries=-1 must be at least 0"),
        (
            "influence",
            ["--out={out}", "--checkpoints=20,7"],
            "--checkpoint=7: it is newest, best, or one of 20, 30, 40",
        ),
    ],
)
def test_mistakes_are_answered_in_one_line(micro, clean, tmp_path, says, module, arguments, part):
    refused = micro.run(module, f"--workdir={clean}", *[a.format(out=tmp_path / "out") for a in arguments])
    assert refused.returncode == 2, refused.err
    says(refused, part.format(text=micro.text))
    assert not any((tmp_path / "out").glob("*"))
