"""From questions to a verifier and back, as a user goes: train on a task, answer, mark, train a verifier, choose."""

import json

import pytest

SMALL = ["data.task=addition", "model.context=32", "train.steps=30", "train.eval_every=30", "data.examples.written=4",
         "train.sample_every=0"]  # fmt: skip


@pytest.mark.long
def test_from_answers_to_a_verifier(micro, tmp_path):
    task, pairs = tmp_path / "task", tmp_path / "pairs.jsonl"
    micro.train(task, *SMALL)
    flags = ["--task=addition", f"--workdir={task}", "--samples=3", "--json"]
    told = micro.run("answer", *flags, "--examples=40", "--split=train", f"--pairs={pairs}")
    assert told.returncode == 0, told.err
    preferred = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert len(preferred) == 40 and all(row["chosen"] != row["rejected"] for row in preferred)
    verifier = tmp_path / "verifier"
    micro.train(verifier, *SMALL, f"train.init={task}", "train.objective=value", "train.value.samples=1")
    chosen = micro.run(
        "answer", *flags, "--examples=6", "--by=verifier", f"--verifier={verifier}", "--revise=1", "--gate=1"
    )
    assert chosen.returncode == 0, chosen.err
    values = json.loads(chosen.out.splitlines()[-1])
    curve = values["curve"]
    assert [row["samples"] for row in curve] == [1, 2, 3]
    assert {"vote", "likelihood", "verifier", "any"} < curve[0].keys()
    for row in curve:
        assert row["verifier"]["accuracy"] <= row["any"]["accuracy"] + 1e-9
        assert row["verifier"]["flops"] > row["vote"]["flops"] > 0
    before, after = values["revised"]
    assert before["doubted"] == 6 and after["flops"] > before["flops"] and len(after["answers"]) == 6
    held = micro.run("generate", f"--workdir={task}", "--prompt=012+345=", "--grammar=integer", "--json")
    (sample,) = json.loads(held.out.splitlines()[-1])["samples"]
    assert sample["stopped"] and str(int(sample["text"])) == sample["text"].strip()
