"""The front door: every command as a user calls it, what a run leaves behind, and what mistakes are answered with."""

import json
import math
import os
import re
import shutil
import struct
import time
from pathlib import Path

import pytest

from juliagpt_jax import benchmark, generate
from juliagpt_jax.data.tokenizer import CharTokenizer
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.files import write_json
from juliagpt_jax.models import precision
from juliagpt_jax.store import manifest
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.study import speed, speed_table
from juliagpt_jax.training import metrics

UTF8 = "utf-8"


def last_json(process) -> dict:
    """The JSON object on the last line of stdout; it has no NaN in it."""
    return json.loads(process.out.splitlines()[-1], parse_constant=pytest.fail)


def succeeds(process):
    assert process.returncode == 0, f"{process.returncode}\n{process.out}\n{process.err}"
    return process


@pytest.fixture
def workdir(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


# What a run leaves behind


def test_a_run_leaves_what_the_readme_says(clean):
    names = {p.name for p in clean.iterdir() if not p.name.startswith("events.out.tfevents.")}
    assert names == {
        *(
            ".lock",
            "DONE",
            "checkpoints",
            "config.json",
            "config.yaml",
            "metrics.jsonl",
            "plots",
            "report.json",
            "run.json",
            "samples",
        ),
        "tokenizer.json",
    }
    assert (clean / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in (clean / "samples").iterdir()] == ["20.txt"]
    assert len((clean / "samples" / "20.txt").read_text()) == 21


def test_every_number_in_the_files_is_json(clean):
    for path in clean.rglob("*.json*"):
        for line in path.read_text(UTF8).splitlines() if path.suffix == ".jsonl" else [path.read_text(UTF8)]:
            json.loads(line, parse_constant=pytest.fail)


def test_metrics_have_a_row_a_step_and_the_loss_falls(clean):
    rows = metrics.read(clean / "metrics.jsonl")
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 41))
    assert [row["step"] for row in rows if "val_loss" in row] == [10, 20, 30, 40]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert all(row["bpc"] == row["loss"] / math.log(2) and row["tokens_per_s"] > 0 for row in steps)


def test_tensorboard_events_hold_the_same_numbers(clean):
    from tensorboardX.proto.event_pb2 import Event

    (path,) = clean.glob("events.out.tfevents.*")
    content, losses, at = path.read_bytes(), [], 0
    while at < len(content):  # records: length, its checksum, the event, its checksum
        (length,) = struct.unpack("<Q", content[at : at + 8])
        event = Event.FromString(content[at + 12 : at + 12 + length])
        losses += [(event.step, value.simple_value) for value in event.summary.value if value.tag == "loss"]
        at += 16 + length
    rows = metrics.read(clean / "metrics.jsonl")
    assert losses == [(row["step"], row["loss"]) for row in rows if "loss" in row]


def test_run_and_report_say_where_the_numbers_come_from(clean):
    run = json.loads((clean / "run.json").read_text())
    assert set(run) >= {"versions", "commit", "device", "platform", "machine", "seed"}
    assert set(run["versions"]) >= {"python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "juliagpt-jax"}
    report = json.loads((clean / "report.json").read_text())
    tokens = json.loads((clean / "tokenizer.json").read_text())["sha256"]
    assert run["tokenizer_sha256"] == report["tokenizer_sha256"] == tokens
    assert report["step"] == 40 and report["tokens"] == 40 * 4 * 16 and report["entropy"] is None
    assert report["bpc"] == pytest.approx(math.log2(report["perplexity"])) and report["skipped_steps"] == 0
    assert report["checkpoint_bytes"] > 0 and report["wall_s"] > 0 and len(report["passages"]) >= 1
    assert report["compilations"] == {"train": 1, "eval": 1, "prefill": 4, "decode": 2}  # of 1 and of 20 rows


def test_nothing_is_pickled(clean):
    for path in clean.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not (content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")), path
            assert path.suffix not in (".pkl", ".pickle", ".pt", ".npy") and not content.startswith(b"PK"), path


@pytest.mark.long
def test_best_is_the_lowest_validation_loss_and_only_the_newest_stay(micro, tmp_path):
    # A rate that ends far too high: the best evaluation is an early one.
    overrides = [
        "train.keep=2",
        "train.lr=0.02",
        "train.min_lr=0.02",
        "train.checkpoint_every=4",
        "train.sample_every=0",
    ]
    succeeds(micro.train(tmp_path / "w", *overrides))
    losses = {
        row["step"]: row["val_loss"] for row in metrics.read(tmp_path / "w" / "metrics.jsonl") if "val_loss" in row
    }
    saved = {step: loss for step, loss in losses.items() if step % 4 == 0}
    best = min(saved, key=saved.__getitem__)
    folder = tmp_path / "w" / "checkpoints"
    assert os.readlink(folder / "best") == str(best)
    assert {p.name for p in folder.iterdir()} == {"best", "36", "40", str(best)}
    assert open_run(tmp_path / "w", "best").step == best


# Running again


def test_a_finished_run_prints_its_report_and_trains_nothing(micro, clean, workdir):
    before = {
        p: p.stat().st_mtime_ns
        for p in workdir.rglob("*")
        if p.is_file() and p.name not in (".lock", "config.json", "config.yaml")
    }
    again = succeeds(micro.train(workdir, "--json"))
    assert "is done; its report" in again.out and "step 10" not in again.out
    assert last_json(again) == sealed.read_json(clean / "report.json")
    assert before == {
        p: p.stat().st_mtime_ns
        for p in workdir.rglob("*")
        if p.is_file() and p.name not in (".lock", "config.json", "config.yaml")
    }


def test_a_report_with_numbers_that_are_not_finite_is_shown_again(micro, workdir):
    path = workdir / "report.json"
    sealed.write_json(path, sealed.read_json(path) | {"truth_share": None, "claims": 0, "perplexity": None})
    again = succeeds(micro.train(workdir, "--json"))
    assert "nan" in again.out and last_json(again)["perplexity"] is None


@pytest.mark.long
def test_a_finished_run_without_its_report_says_what_to_do(micro, clean, workdir, says):
    (workdir / "report.json").unlink()
    says(micro.train(workdir, code=2), "report.json: missing or damaged; remove")
    (workdir / "DONE").unlink()
    succeeds(micro.train(workdir))
    ours, theirs = (json.loads((w / "report.json").read_text()) for w in (workdir, clean))
    assert ours["perplexity"] == theirs["perplexity"] and ours["passages"] == theirs["passages"]


@pytest.mark.long
def test_a_short_runs_report_is_in_proportion_and_the_same_each_time(micro, clean, workdir):
    reports = []
    for name in ("one", "two"):
        for left in ("DONE", "report.json"):
            (workdir / left).unlink()
        done = succeeds(micro.train(workdir, "train.report_share=0.25"))
        reports.append(sealed.read_json(workdir / "report.json"))
        assert f"{reports[0]['characters']} of {reports[0]['text_characters']:,} characters, evenly" in done.out, name
    clocks = {"wall_s", "compile_s", "chars_per_s", "peak_memory_bytes", "step_memory_bytes"}
    one, two = ({k: v for k, v in report.items() if k not in clocks} for report in reports)
    assert one == two
    whole = json.loads((clean / "report.json").read_text())
    assert whole["characters"] == whole["text_characters"] == one["text_characters"] and whole["written"] == 10_000
    tokens = 40 * 4 * 16
    assert one["characters"] <= 10 * 8 + 8 and 500 < one["written"] < 0.25 * tokens


@pytest.mark.long
def test_a_report_says_what_its_numbers_mean(clean, workdir, micro):
    report = json.loads((clean / "report.json").read_text())
    number, floor, *more = report["words"]
    assert number.startswith(f"{report['bpc']:.2f} bits per character")
    assert f"the last character give {report['counted']['2']:.2f}" in floor
    assert len(more) <= 4 and "--config.model.mixer=monarch_heads" in more[-1]
    shown = succeeds(micro.train(workdir)).out
    assert all(f"\n{line}\n" in shown for line in report["words"])
    measured = last_json(succeeds(micro.run("evaluate", f"--workdir={clean}", "--json")))
    assert measured["words"] == report["words"][:2] and measured["counted"] == report["counted"]


def test_the_first_word_comes_before_the_text_is_read(micro, tmp_path):
    before = """
import sys
from juliagpt_jax.data import corpus
corpus.load = lambda *_: sys.exit(0)
"""
    done = micro.train(tmp_path / "w", before=before)
    assert done.out == f"configs/tiny.py -> {tmp_path}/w: 40 steps on {micro.text}\nreading {micro.text}\n"


@pytest.mark.long
def test_where_no_bar_shows_it_a_run_says_how_far_it_is(micro, clean, tmp_path):
    often = "from juliagpt_jax.training import events\nevents.SILENCE = 0.0"
    said = micro.train(tmp_path / "w", before=often).out
    now = r"loss \d\.\d{3}, \d\.\d{3} bpc; [\d.]+ (?:second|minute)s? left, then the report(?=\n)"
    steps = re.findall(rf"\nstep (\d+) of 40: {now}", said)
    assert steps[0] == "1" and len(steps) > 1, "later ones come after a twentieth of the time"
    for piece in ("reading ", "making the parameters", "compiling the training step", "reporting: scoring"):
        assert piece in said
    assert said.count("the first time it is compiled") == 1


@pytest.mark.long
def test_a_torn_last_metrics_line_is_gone_after_a_rerun(micro, clean, workdir):
    (workdir / "DONE").unlink()
    whole = (workdir / "metrics.jsonl").read_text()
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "los')
    succeeds(micro.train(workdir))
    assert (workdir / "metrics.jsonl").read_text() == whole


# Opening a run


def test_open_run_takes_the_newest_sound_checkpoint_and_changes_nothing(workdir, capsys):
    assert open_run(workdir).step == 40 and open_run(workdir, "20").step == 20
    os.truncate(workdir / "checkpoints" / "40" / "meta.json", 10)
    (workdir / "checkpoints" / "50.partial").mkdir()
    (workdir / "checkpoints" / "9999").mkdir()
    before = sorted(workdir.rglob("*"))
    assert open_run(workdir).step == 30
    assert capsys.readouterr().err.count("taking an older checkpoint") == 2
    with pytest.raises(StorageError, match="damaged"):
        open_run(workdir, "40")
    with pytest.raises(UserError, match="newest, best, or one of 20, 30, 40, 9999"):
        open_run(workdir, "21")
    assert sorted(workdir.rglob("*")) == before


@pytest.mark.parametrize("target", [None, "30.corrupt", "/etc", "77"])
def test_best_that_is_missing_or_leads_nowhere_is_said_so(workdir, target):
    (workdir / "checkpoints" / "best").unlink()
    if target:
        (workdir / "checkpoints" / "best").symlink_to(target)
    with pytest.raises(UserError, match="has no best checkpoint"):
        open_run(workdir, "best")


@pytest.mark.long
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of Orbax, when a step goes while it reads
def test_a_run_in_use_can_be_read(micro, tmp_path):
    seen = tmp_path / "seen"  # at step 20 the run waits until it has been read once: no machine is too slow for that
    slowly = f"""
import time, pathlib
from juliagpt_jax.training import loop
batch = loop.Trainer.batch
def waits(self, step):
    time.sleep(0.2)
    while step == 20 and not pathlib.Path({str(seen)!r}).exists():
        time.sleep(0.05)
    return batch(self, step)
loop.Trainer.batch = waits
"""
    overrides = ["train.keep=1", "train.checkpoint_every=2", "train.eval_every=40"]
    process = micro.start("main", *micro.training(tmp_path / "w", *overrides), before=slowly)
    steps = set()
    try:
        while process.poll() is None:
            try:
                steps.add(open_run(tmp_path / "w").step)
                seen.touch()
            except UserError as error:
                assert not steps and ("no checkpoint yet" in str(error) or "does not exist" in str(error)), error
                time.sleep(0.1)
        steps.add(open_run(tmp_path / "w").step)
    finally:
        process.kill()
        _, err = process.communicate()
    assert process.returncode == 0 and min(steps) <= 20 < max(steps) == 40, (steps, err)


# generate


@pytest.mark.long
def test_generate_writes_the_same_text_in_every_form(micro, clean):
    arguments = [f"--workdir={clean}", "--prompt=the ", "--max_new_tokens=12", "--seed=3"]
    plain = succeeds(micro.run("generate", *arguments))
    formed = last_json(succeeds(micro.run("generate", *arguments, "--json")))
    (sample,) = formed["samples"]
    assert plain.out == "the " + sample["text"] + "\n" and len(sample["text"]) == 12 and formed["step"] == 40
    assert formed["compilations"] == {"prefill": 1, "decode": 1}
    assert plain.err == ""


@pytest.mark.long
def test_generate_names_unknown_characters_or_skips_them(micro, clean, says):
    arguments = [f"--workdir={clean}", "--max_new_tokens=4", "--prompt=the é\u4e2d"]
    refused = micro.run("generate", *arguments)
    assert refused.returncode == 2
    says(refused, "characters the tokenizer lacks: 'é' (U+00E9), '\u4e2d' (U+4E2D)")
    assert succeeds(micro.run("generate", *arguments, "--unknown=skip")).out.startswith("the é\u4e2d")


def test_generate_past_the_context_says_so_or_is_strict(micro, clean, says):
    arguments = [f"--workdir={clean}", "--max_new_tokens=40", "--prompt=the nature of truth is"]
    noted = succeeds(micro.run("generate", *arguments))
    says(noted, "note: 22 of the prompt + 40 new tokens are more than the context of 16")
    assert len(noted.out) == 22 + 40 + 1
    strict = micro.run("generate", *arguments, "--strict")
    assert strict.returncode == 2 and strict.out == ""
    says(strict, "generate: --strict: 22 of the prompt + 40 new")


@pytest.mark.long
def test_generate_from_a_text_without_line_ends(micro, tmp_path):
    (tmp_path / "one.txt").write_text("abc " * 200)
    succeeds(micro.train(tmp_path / "w", f"data.path={tmp_path}/one.txt", "train.steps=6", "train.sample_every=0"))
    succeeds(micro.run("generate", f"--workdir={tmp_path}/w", "--max_new_tokens=5"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--workdir=/nowhere/at/all"], "is not the workdir of a run"),
        (["--workdir={clean}", "--promt=x"], "no flag is called --promt; did you mean --prompt"),
        (["--workdir={clean}", "--sinks=8"], "sinks=8 is outside 0 .. 7"),
        (["--workdir={clean}", "--temperature=nan"], "temperature"),
        (["--workdir={clean}", "--checkpoint=7"], "--checkpoint=7: it is newest, best, or one of 20, 30, 40"),
        (["--workdir={clean}", "--averaged"], "no averaged weights"),
    ],
)
def test_generate_answers_mistakes_in_one_line(micro, clean, says, arguments, part):
    refused = micro.run("generate", *[a.format(clean=clean) for a in arguments])
    assert refused.returncode == 2, refused.err
    says(refused, part)


@pytest.fixture
def generated(clean, capsys):
    """`generate` in this process: the one sample, the other values, and stderr."""

    def run(*arguments):
        flags = [f"--workdir={clean}", "--prompt=the ", "--max_new_tokens=12", "--greedy", "--json", *arguments]
        generate.main(generate.parser().parse(flags))
        out, err = capsys.readouterr()
        values = json.loads(out.splitlines()[-1])
        (sample,) = values.pop("samples")
        return sample, values, err

    return run


def test_generate_with_a_draft_and_stops(clean, generated):
    sample, values, _ = generated()
    assert sample["stopped"] is False and "accepted" not in values
    drafted, values, err = generated(f"--draft={clean}", "--draft_tokens=3")
    assert drafted == sample and values["accepted"] == 1 and err == ""
    stop = sample["text"][5:8]
    stopped, _, _ = generated("--stop=never said", f"--stop={stop}")
    assert stopped["stopped"] is True
    assert stopped["text"] == sample["text"][: sample["text"].index(stop)]


def test_generate_ends_with_the_text(generated, monkeypatch):
    """At the token that ends one, of which nothing shows, unless it is told to go on; with a draft, too."""
    whole, _, _ = generated()
    end = whole["text"][6]
    monkeypatch.setattr(CharTokenizer, "stops", property(lambda self: (self.characters.index(end),)))
    sample, _, _ = generated()
    assert sample["stopped"] is True and sample["text"] == whole["text"].partition(end)[0]
    assert generated("--ignore_eos")[0] == whole


def test_generate_says_what_is_in_sight(generated):
    _, _, err = generated("--max_new_tokens=20", "--sinks=2")
    assert "the model sees the first 2 and the last 6 to 14 at any time" in err


def test_generate_refuses_what_does_not_go_together(clean, generated, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(clean, other)
    tokenizer = sealed.read_json(other / "tokenizer.json")
    tokenizer["characters"] = tokenizer["characters"][:-1] + "\u4e2d"
    sealed.write_json(other / "tokenizer.json", tokenizer)
    for step in manifest.steps(other / "checkpoints"):
        folder = other / "checkpoints" / str(step)
        write_json(folder / "meta.json", manifest.read_meta(folder) | {"tokenizer": tokenizer})
        write_json(folder / manifest.MANIFEST, {"files": manifest.hashes(folder)})
    for flags, says in [
        ([f"--draft={other}"], f"--draft={other}: its tokenizer is not the one of {clean}"),
        ([f"--draft={tmp_path}"], "is not the workdir of a run"),
        ([f"--draft={clean}", "--draft_tokens=0"], "draft_tokens=0 is outside 1 .. 16"),
        (["--sinks=8"], "sinks=8 is outside 0 .. 7"),
        (["--stop=x", "--stop="], "a stop string is empty"),
    ]:
        with pytest.raises(UserError, match=re.escape(says)):
            generated(*flags)


# evaluate, benchmark


def test_evaluate_repeats_the_number_of_the_report(micro, clean):
    report = json.loads((clean / "report.json").read_text())
    values = last_json(succeeds(micro.run("evaluate", f"--workdir={clean}", "--json")))
    assert (
        values["perplexity"] == pytest.approx(report["perplexity"], rel=1e-6)
        and values["characters"] == report["characters"]
    )
    assert values["step"] == 40 and values["compilations"] == {"eval": 1, "prefill": 2, "decode": 1}
    flags = f"--data={micro.text}", "--stride=16", "--written=0", "--json"
    own = last_json(succeeds(micro.run("evaluate", f"--workdir={clean}", *flags)))
    assert own["characters"] == len(micro.text.read_text()) and own["stride"] == 16
    assert own["compilations"] == {"eval": 1}  # nothing was written, and nothing is said of it
    assert {"written", "distinct_1", "chars_per_s"} & own.keys() == set() < {"written", "chars_per_s"} & values.keys()


@pytest.mark.long
def test_evaluate_sets_rows_beside_the_models_own(micro, clean):
    """Of a --data text the mixture's share is fitted on the validation text; every row has words and bytes."""
    flags = ["--baseline=kneser_ney", "--order=3", "--cache=64", "--dynamic=sgd", "--dynamic_rate=0.01", "--json"]
    done = succeeds(micro.run("evaluate", f"--workdir={clean}", f"--data={micro.text}", *flags))
    values = last_json(done)
    counted, mixture, cache, dynamic = values["beside"]
    assert [row["adapts"] for row in values["beside"]] == [False, False, True, True]
    assert "fitted on the run's validation text" in mixture["name"] and mixture["loss"] <= values["loss"] + 0.05
    text = micro.text.read_text()
    for row in (values, counted, mixture, cache, dynamic):
        assert row["scored_words"] == len(text.split()) + text.count("\n") and row["scored_bytes"] == len(text.encode())
        assert row["bpb"] > 0 and row["word_perplexity"] > 1
    assert "SHA-256" in values["protocol"] and "adapts to the text it reads" in done.out


@pytest.mark.parametrize("flag", ["--seed=-1", "--stride=17", "--data=/nowhere.txt", "--sed=3", "--mix=2"])
def test_evaluate_answers_mistakes_in_one_line(micro, clean, says, flag):
    refused = micro.run("evaluate", f"--workdir={clean}", flag)
    assert refused.returncode == 2
    says(refused, flag.partition("=")[0] if "data" not in flag else "/nowhere.txt")


SMALL = ["--config=configs/tiny.py", "--width=16", "--layers=1", "--heads=1", "--context=16", "--repeats=2", "--json"]


@pytest.mark.long
def test_benchmark_measures_training(micro):
    values = last_json(succeeds(micro.run("benchmark", "--what=train", "--batch=4", *SMALL)))
    assert values["what"] == "train" and values["batch"] == 4 and 0 < values["share_of_limit"] < 1


@pytest.mark.long
def test_benchmark_measures_generation(micro):
    """A table of one row, which is what a process without the table reports."""
    flags = ["--what=generate", "--batches=4", "--precisions=f16", "--eager"]
    ((row,),) = last_json(succeeds(micro.run("benchmark", *flags, *SMALL, timeout=300))).values()
    assert (row["what"], row["batch"], row["new"], row["precision"]) == ("generate", 4, 15, "f16")
    assert 0 < row["share_of_limit"] < 1 and row["compile_s"] > 0
    assert row["seconds_500"] > row["first_token_s"] > 0
    assert 0 < row["eager_tokens_per_s"] < row["tokens_per_s"]
    matrices = 16 * 16 * 4 + 3 * 16 * 64 + 65 * 16  # of float16; the scales of three norms stay float32
    assert row["weight_bytes"] == 2 * matrices + 4 * 3 * 16
    assert row["weight_bytes"] < row["decode_memory_bytes"] < row["run_peak_memory_bytes"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--what=train", "--eager"], "go with --what=generate"),
        (["--what=generate", "--precisions=f32,bf61"], "no precision is called 'bf61'; did you mean bf16"),
        (["--what=generate", "--batches=1,0"], "--batches=1,0: each must be at least 1"),
        (["--what=generate", "--batches=1;2"], "--batches=1;2: whole numbers with commas"),
        (["--what=generate", "--precision=f61"], "no precision is called 'f61'"),
    ],
)
def test_benchmark_refuses(flags, says):
    with pytest.raises(UserError, match=re.escape(says)):
        benchmark.main(benchmark.parser().parse([*SMALL, *flags], overrides=True))


def test_benchmark_has_a_limit_for_every_precision():
    assert speed.PRODUCTS.keys() == precision.PRECISIONS.keys()


def test_benchmark_table_shows_what_failed():
    good = {"precision": "f32", "batch": 1, "tokens_per_s": 1234.5, "share_of_limit": None}
    lines = speed_table.layout(
        [good, {"precision": "f16", "batch": 8, "error": "benchmark: out of memory"}]
    ).splitlines()
    assert lines[0].split() == "precision | batch | tokens/s | of limit, %".split()
    assert "1,234" in lines[1] and lines[2].endswith("8 | FAILED: benchmark: out of memory")


# Mistakes


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--config.model.widht=16"], "--config.model.widht: no such key; did you mean width"),
        (["--config.train.steps=many"], "--config.train.steps: needs a whole number, not 'many'"),
        (["--config.train.steps=[1, 2]"], "--config.train.steps: needs a whole number, not '[1, 2]'"),
        (["--config.train.lr=nan"], "config.train.lr: nan is not a finite number"),
        (["--config.train.dropout"], "--config.train.dropout needs a value"),
        (["--config.model.dropout=1.5"], "config.model.dropout: must be in [0, 1)"),
        (["--config.model.heads=3"], "3 heads do not divide model.width=16"),
        (["--config.model.mixer=atention"], "did you mean attention"),
        (["--config.train.optimizer=adamv"], "did you mean adamw"),
        (["--wrokdir=x"], "no flag is called --wrokdir; did you mean --workdir"),
        (["--config=configs/tny.py"], "config file configs/tny.py does not exist; did you mean tiny.py"),
    ],
)
def test_a_mistake_is_answered_at_once_in_one_line(micro, tmp_path, says, flags, part):
    begun = time.monotonic()
    says(micro.train(tmp_path / "w", *flags, code=2), part)
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "w").exists()


def test_debug_shows_the_traceback(micro, tmp_path):
    process = micro.start("main", *micro.training(tmp_path / "w", "seed=-1", "--debug"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" in err and err.splitlines()[-1].startswith("main: config.seed")


# Surroundings


@pytest.mark.long
def test_another_folder_a_plain_locale_and_a_path_beyond_ascii(micro, tmp_path):
    folder = tmp_path / "Übung \u4e2d"
    folder.mkdir()
    root = Path(__file__).parent.parent
    arguments = micro.training("w", "train.steps=6", "train.sample_every=2", f"--config={root}/configs/tiny.py")
    succeeds(micro.run("main", *arguments, cwd=folder, LC_ALL="C", PYTHONIOENCODING="ascii"))
    assert (folder / "w" / "DONE").exists()
    flags = [f"--workdir={folder}/w", "--max_new_tokens=5", "--prompt=the \u4e2d", "--unknown=skip"]
    written = succeeds(micro.run("generate", *flags, cwd=tmp_path, LC_ALL="C", PYTHONIOENCODING="ascii"))
    assert written.out.startswith("the \\u4e2d"), "as far as the terminal has letters"


@pytest.mark.long
@pytest.mark.parametrize("end", ["closed", "broken", "full"])
def test_a_stdout_that_takes_nothing_ends_no_run(micro, tmp_path, end):
    shut = {
        "closed": "import os, sys; sys.stdout.close(); sys.stdout = None; os.close(1)",
        "broken": "import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.close(w)",
        "full": "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
    }[end]
    done = micro.run(
        "main", *micro.training(tmp_path / "w", "train.steps=6", "train.sample_every=2", "--json"), before=shut
    )
    assert done.returncode == (4 if end == "full" else 0), done.err
    assert (tmp_path / "w" / "DONE").exists() == (end != "full")
