"""The notebooks of colab/, executed as Jupyter does, on this processor, without network."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

COLAB = Path(__file__).parents[1] / "colab"
NOTEBOOKS = sorted(path.name for path in COLAB.glob("*.ipynb"))
# Of the client's own: it leaves a socket to the garbage collector, and asks for the event loop.
LOOSE_ENDS = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:(zmq|jupyter_client)")


def cells(name: str) -> dict[str, dict]:
    """{id: cell} of a notebook."""
    return {cell["id"]: cell for cell in json.loads((COLAB / name).read_text(encoding="utf-8"))["cells"]}


def execute(name: str, monkeypatch, **environment: str) -> dict[str, str]:
    """Run a notebook in its folder. {id of a cell: what it printed, and a line for each picture or table}."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    own = {"PYTHONPATH": str(COLAB.parent), "XLA_FLAGS": "", "IPYTHONDIR": environment["HOME"]}
    for key, value in (own | environment).items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(COLAB / name, as_version=4)
    where = {"metadata": {"path": str(COLAB)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    said = {}
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        kinds = [kind for output in outputs for kind in output.get("data", {}) if kind != "text/plain"]
        said[cell["id"]] = "".join(output.get("text", "") for output in outputs) + "".join(f"{k}\n" for k in kinds)
    return said


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_kept_without_outputs(name):
    for cell in cells(name).values():
        assert not cell.get("outputs") and not cell.get("execution_count"), cell["id"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_badge_opens_this_notebook(name):
    assert f"/juliagpt_jax/blob/main/colab/{name})" in "".join(cells(name)["about-title"]["source"])


def test_jax_is_not_imported_before_it_is_installed():
    """Nor after: the commands import it, in processes of their own."""
    code = ["".join(cell["source"]) for cell in cells("train_colab.ipynb").values() if cell["cell_type"] == "code"]
    assert not re.search(r"^\s*(import|from) (jax|flax|juliagpt_jax)", "\n".join(code), re.MULTILINE)
    assert "[cuda12" in "".join(cells("train_colab.ipynb")["install"]["source"])


def test_drive_gets_the_newest_checkpoint_whole(tmp_path):
    """`keep` copies nothing twice, leaves no checkpoint but the newest, and says DONE last."""
    own: dict = {"shutil": shutil, "DRIVE": tmp_path / "drive"}
    exec("".join(cells("train_colab.ipynb")["helpers"]["source"]), own)
    run, kept = tmp_path / "run", tmp_path / "drive" / "run"
    own["keep"](run)
    assert not kept.exists(), "no run yet"
    for step in ("9", "10"):
        (run / "checkpoints" / step / "params").mkdir(parents=True)
        (run / "checkpoints" / step / "params" / "data").write_text(step)
    (run / "checkpoints" / "best").symlink_to("9")
    (run / "checkpoints" / "20.partial").mkdir()
    (run / "metrics.jsonl").write_text("10\n")
    (run / "report.json.new").write_text("half")
    (kept / "checkpoints" / "10.partial" / "half").mkdir(parents=True)
    own["keep"](run)
    assert sorted(str(p.relative_to(kept)) for p in kept.rglob("*") if p.is_file()) == [
        "checkpoints/10/params/data",
        "metrics.jsonl",
    ]
    (run / "metrics.jsonl").write_text("10\n11\n")
    own["keep"](run)
    assert (kept / "metrics.jsonl").read_text() == "10\n", "nothing before the next checkpoint"
    (run / "checkpoints" / "20.partial").rename(run / "checkpoints" / "20")
    (run / "DONE").write_text("20 steps")
    own["keep"](run)
    assert os.listdir(kept / "checkpoints") == ["20"] and (kept / "DONE").exists()
    assert (kept / "metrics.jsonl").read_text() == "10\n11\n"


@pytest.mark.slow
@LOOSE_ENDS
def test_train_goes_on_from_drive(micro, tmp_path, monkeypatch):
    """A run was killed after its checkpoint of step 10, and Drive has what it left. The notebook ends it, and Drive has
    the model, the report and the exports."""
    monkeypatch.setenv("SMOKE", str(tmp_path))
    settings: dict = {}
    exec("".join(cells("train_colab.ipynb")["settings"]["source"]), settings)
    lost, drive = tmp_path / "lost" / settings["NAME"], settings["DRIVE"]
    kill = f"""
import os, pathlib, signal, time
from juliagpt_jax.training import events
whole = events.Events.note
def note(self, step, *rest):
    whole(self, step, *rest)
    while step == 17 and not pathlib.Path({str(lost)!r}, "checkpoints", "10").exists():
        time.sleep(0.1)
    if step == 17:
        os.kill(os.getpid(), signal.SIGKILL)
events.Events.note = note
"""
    flags = [f"--config={settings['CONFIG']}", f"--workdir={lost}", *settings["KNOBS"]]
    killed = micro.run("main", *flags, "--config.data.path=schoolroom", before=kill, timeout=240)
    assert killed.returncode == -9, killed.err
    (lost / "checkpoints" / "best").unlink(missing_ok=True)  # Drive has no links
    shutil.copytree(lost, drive / settings["NAME"])

    own = {"SMOKE": str(tmp_path), "HOME": str(tmp_path), "JULIAGPT_CACHE": str(micro.folder / "cache")}
    said = execute("train_colab.ipynb", monkeypatch, **own)
    assert "going on after step 10 of 20" in said["train"] and "validation perplexity" in said["train"]
    assert "image/png" in said["plot"]
    assert "the nature of " in said["write"]
    for name in ("base/config.json", "base/tokenizer.json", "base/model.safetensors", "base.gguf"):
        assert name in said["export"], said["export"]
    kept = drive / settings["NAME"]
    assert os.listdir(kept / "checkpoints") == ["20"] and (kept / "DONE").exists()
    written = micro.run("generate", f"--workdir={kept}", "--prompt=the ", "--max_new_tokens=5")
    assert written.returncode == 0 and written.out.startswith("the "), "what is on Drive is a whole run"


@pytest.mark.slow
@LOOSE_ENDS
def test_analysis_draws_what_the_experiments_say(tmp_path, monkeypatch):
    said = execute("analysis.ipynb", monkeypatch, HOME=str(tmp_path))
    results = COLAB.parent / "experiments" / "monarch" / "results" / "mixers" / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert f"monarch/mixers: {len(rows)} runs of {len({r['arm'] for r in rows})} arms" in said["load"]
    assert "text/markdown" in said["table"]
    assert said["figures"].count("image/png") >= 3 and said["all"].count("image/png") == 1


@pytest.mark.slow
@LOOSE_ENDS
def test_the_demo_from_tokens_to_heads(micro, tmp_path, monkeypatch):
    own = {"SMOKE": str(tmp_path), "HOME": str(tmp_path), "JULIAGPT_CACHE": str(micro.folder / "cache")}
    said = execute("demo.ipynb", monkeypatch, **own)
    assert "400 tokens" in said["tokenizer"] and re.match(r"41 characters, \d\d tokens: the \| ", said["cut"])
    assert "step 40: val_loss" in said["train"] and "image/png" in said["plot"]
    report = json.loads((tmp_path / "demo" / "run" / "report.json").read_text())
    assert f"perplexity of a word: {report['word_perplexity']:,.1f}" in said["words"]
    assert report["word_perplexity"] > report["perplexity"] > 1
    assert said["write"].startswith("the nature of ") and len(said["write"]) > 60
    assert "image/png" in said["heads"]
    told = r"layer \d, head \d: +([\d.]+) tokens back on average, ([\d.]+)% on the first token"
    heads = re.findall(told, said["sinks"])
    assert len(heads) == 2 * 3 and all(0 < float(back) < 128 and 0 < float(share) < 30 for back, share in heads)


@pytest.mark.slow
@LOOSE_ENDS
@pytest.mark.parametrize("name, said_last", [("kda_100m", "bits per byte"), ("trm_100m", "solved")])
def test_a_route_to_100m_stops_and_goes_on(name, said_last, micro, tmp_path, monkeypatch):
    """Prepared, tried, trained until it is stopped, gone on with, and evaluated; what lasts is a whole run."""
    own = {"SMOKE": str(tmp_path), "HOME": str(tmp_path), "JULIAGPT_CACHE": str(micro.folder / "cache")}
    said = execute(f"{name}.ipynb", monkeypatch, **own)
    assert re.search(r"loss \d.* -> \d.* GB a device", said["sanity"])
    assert "stopping after this step" in said["train"]
    assert "going on after step 1" in said["resume"] and said_last in said["evaluate"]
    kept = tmp_path / "kept" / name
    assert os.listdir(kept / "checkpoints") == ["20"] and (kept / "DONE").exists()
    assert "image/png" in said["plot"]


@pytest.mark.slow
@LOOSE_ENDS
def test_after_pre_training(micro, tmp_path, monkeypatch):
    """Examples, a model, a verifier, search, and a result that only a calculator can have filled in: 20 steps teach a
    model no sums."""
    own = {"SMOKE": str(tmp_path), "HOME": str(tmp_path), "JULIAGPT_CACHE": str(micro.folder / "cache")}
    said = execute("post_training.ipynb", monkeypatch, **own)
    assert json.loads(said["examples"].splitlines()[0]).keys() == {"prompt", "answer"}
    assert "image/png" in said["plot"]
    assert "105 answers to be marked" in said["verifier"]
    shares = [float(share) for share in re.findall(r": ([\d.]+)% right", said["search"])]
    assert len(shares) == 2 * 4 and all(one <= most for one, most in zip(shares[::4], shares[3::4], strict=True))
    assert said["calculator"].startswith("12+34-5=<<12+34=|46>>")
    assert re.findall(r"%  (25\+17-8\+40=)", said["chat"]) == ["25+17-8+40="] * 4
