"""Time and memory by context: what is measured stays, and a script goes on where it was stopped."""

import json

import pytest

from juliagpt_jax.study import growth


@pytest.fixture
def asked(monkeypatch):
    """What is asked of the clock, which answers at once."""
    found = []

    def measure(words, context, options):
        found.append((context, words))
        about = {"device": "a card" if found[1:] else "a processor", "jax": "1", "threads": 1, "head_width": 32}
        about |= {"width": options.width, "tokens": 8192, "rounds": options.rounds, "knobs": ""}
        facts = about | {
            "train_s_per_token": 1.0,
            "decode_s_per_token": 1.0,
            "memory_bytes_per_token": 1.0,
            "cache_bytes": 1,
        }
        return [{"mixer": word, "context": context, "rows": 1} | facts for word in words], {}

    monkeypatch.setattr(growth, "measure", measure)
    monkeypatch.setattr(growth, "begin", lambda options: [int(one) for one in options.contexts.split(",")])
    return found


def test_a_context_is_measured_once(tmp_path, asked):
    out = [f"--out={tmp_path}"]
    for contexts in ("128,512", "128,256,512"):
        options = growth.flags("", "", 64).parse_args([*out, f"--contexts={contexts}"])
        growth.go_on(["attention", "topk"], options, {"topk": 200})
    assert asked == [(128, ["attention", "topk"]), (512, ["attention"]), (256, ["attention"])]
    rows = [json.loads(line) for line in (tmp_path / "speed.jsonl").read_text().splitlines()]
    assert [(row["mixer"], row["context"], row["width"]) for row in rows] == [
        *[("attention", 128, 64), ("topk", 128, 64)],
        *[("attention", 256, 64), ("attention", 512, 64)],
    ]
    said = (tmp_path / "speed.md").read_text()
    assert "| forward and backward, us a token | topk | 1,000,000 |  |  |" in said
    assert "1 thread(s), a processor or a card, jax 1." in said  # of the rows, not of the machine that writes
