"""A dialogue: each answer is to all that was said before, and ends where the model ends its turn."""

import io
import json
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from juliagpt_jax.data.library import LibraryTokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import conversation
from juliagpt_jax.inference.conversation import Conversation
from juliagpt_jax.inference.generate import slots_for
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.window import Window
from juliagpt_jax.models.build import build_model

FOLDER = Path(__file__).parents[1] / "golden" / "chat"
TEMPLATE = json.loads((FOLDER / "cases.json").read_text())["template"]
TOKENIZER = LibraryTokenizer(json.loads((FOLDER / "tokenizer.json").read_text()), 300, 1, {"eos": 2}, (), TEMPLATE)
END = 2


class Parrot:
    """A generator that answers with the texts it was given, each ended by the end of a turn and something after it."""

    model = types.SimpleNamespace(encodes=False)

    def __init__(self, answers):
        self.answers, self.prompts, self.slots = iter(answers), [], 10**6

    def stream(self, prompts, new_tokens, rule, seed, guided=None):
        self.prompts.append(TOKENIZER.decode(prompts[0]))
        ids = [*TOKENIZER.encode(next(self.answers)), END, *TOKENIZER.encode("<|im_start|>user")]
        for at in range(0, len(ids), 3):
            yield np.array([ids[at : at + 3]])


@pytest.fixture
def opened(tiny):
    model = build_model(tiny(), 300)
    return SimpleNamespace(tokenizer=TOKENIZER, model=model, params={}, stops=TOKENIZER.stops)


def test_each_answer_is_to_all_that_was_said(opened):
    parrot = Parrot(["Paris.", "Rome é😀"])
    held = Conversation(opened, Window(16), "Be brief.")
    held._generator = parrot  # pyright: ignore[reportAttributeAccessIssue]
    answers = ["".join(held.answer(said, 40, Rule(), 0, ends=[END])) for said in ("France?", "And Italy?")]
    assert answers == ["Paris.", "Rome é😀"]
    assert parrot.prompts[0] == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nFrance?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert parrot.prompts[1] == (
        parrot.prompts[0] + "Paris.<|im_end|>\n<|im_start|>user\nAnd Italy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert [message["role"] for message in held.messages] == ["system", "user", "assistant", "user", "assistant"]


def test_lines_are_turns(opened, monkeypatch, capsys):
    parrot = Parrot(["one", "two"])
    monkeypatch.setattr(conversation, "Generator", lambda *_: parrot)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n\nb\n"))
    flags = {"json": False, "draft": None, "strict": False, "system": None, "unknown": "error"}
    options = SimpleNamespace(**flags, max_new_tokens=40, seed=0, stop=[])
    conversation.hold(opened, Rule(), Window(16), options, [END])  # pyright: ignore[reportArgumentType]
    out, err = capsys.readouterr()
    assert out == "one\ntwo\n" and "note: the model sees the last 8 to 16 of what was said" in err
    for flag, value in [("json", True), ("draft", "x"), ("strict", True)]:
        other = SimpleNamespace(**vars(options) | {flag: value})
        with pytest.raises(UserError, match=f"--{flag} is not of a dialogue"):
            conversation.hold(opened, Rule(), Window(16), other, [END])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "overrides, length, evict, slots",
    [
        ((), 20, False, 512),
        ((), 513, False, 1024),
        ((), 5000, False, 2000),
        ((), 20, True, 2000),
        (("model.mixer=monarch", "model.monarch.blocks=2"), 20, False, 2000),
    ],
)
def test_a_cache_is_as_long_as_it_needs_to_be(overrides, length, evict, slots, tiny):
    model = build_model(tiny("model.context=2000", *overrides), 300)
    assert slots_for(model, length, Window(2000, evict=evict)) == slots
