"""What reads a file of each format as a command does, and what holds of what it gives (formats.py)."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import sound
from flax.traverse_util import flatten_dict, unflatten_dict
from sound import GOLDEN, ROOT

from juliagpt_jax.books import archives, documents, parsers
from juliagpt_jax.data import chat, mixture, query, streamed, vocabularies
from juliagpt_jax.data import corpus as corpora
from juliagpt_jax.data.examples import build as examples
from juliagpt_jax.data.puzzles import build as puzzles
from juliagpt_jax.data.tasks import build as tasks
from juliagpt_jax.ground import config, config_file
from juliagpt_jax.models.decoder import Decoder
from juliagpt_jax.serving.asked import Limits
from juliagpt_jax.store import export, hf
from juliagpt_jax.store.run import Run
from juliagpt_jax.store.workdir import read_adapters

LIMITS = Limits(max_tokens=100, max_prompt=1_000, max_body=10_000, texts=8, context=64)
BUDGET = archives.Budget(1 << 24, 1 << 22, 200)


def data_of(path: Path, *more: str) -> config.Data:
    overrides = [f"data.path={path}", "data.max_leak=1", *more]
    return config_file.load(str(ROOT / "configs" / "micro.py"), overrides).data


def corpus(path: Path) -> Any:
    return corpora.load(data_of(path), 8)


def is_corpus(found: Any) -> bool:
    size = found.tokenizer.vocab_size
    return len(found.train) > 0 and all(0 <= t.min() and t.max() < size for t in (found.train, found.val))


def books(path: Path) -> Any:
    return parsers.read(path, dataclasses.replace(BUDGET))


def are_texts(found: Any) -> bool:
    return all(isinstance(document.text, str) and "\0" not in document.text for document in found)


def rows_of_documents(path: Path) -> Any:
    options = documents.Options(unit="row", val_share=0.2, min_tokens=0, max_tokens=0, seed=0, errors="strict")
    return documents._rows(path, options, dataclasses.replace(BUDGET), [])


def given(path: Path) -> Any:
    return export.read(path.parent)


def is_model(found: Any) -> bool:
    return all(isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" for leaf in found.params.values())


def solved(kind: str, *more: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        words = [f"data.puzzle.kind={kind}", "data.puzzle.train=1", "data.puzzle.test=1", "data.puzzle.least=0"]
        words += [f"data.path={path.parent}", "model.recursive.ids=9"]
        settings = config_file.load(str(ROOT / "configs" / "trm_sudoku6.py"), [*words, *more])
        return puzzles.build_puzzles(settings, files=False).read(path)

    return read


def templated(path: Path) -> str:
    messages = [{"role": role, "content": f"what {role} says"} for role in ("system", "user", "assistant", "user")]
    return chat.render(path.read_bytes().decode(errors="replace"), messages, True, {"bos_token": "<s>"})


def asked(kind: type) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        return kind.read(path.read_bytes()).requests(sound.tokenizer(), LIMITS)

    return read


def are_requests(found: Any) -> bool:
    return 0 < len(found) <= LIMITS.texts


def queries(path: Path) -> Any:
    lines = (path.read_bytes().decode(errors="replace").split("\n") + [""] * 3)[:3]
    return query.parse_filter(lines[0]), query.parse_keep(lines[1]), query.parse_weights(lines[2], "phase")


def are_shares(found: Any) -> bool:
    return not found[2] or math.isclose(sum(found[2].values()), 1)


def override(path: Path) -> Any:
    """A line of overrides, as on the command line, each after a blank."""
    words = path.read_bytes().decode(errors="replace").split()
    return config_file.load(str(ROOT / "configs" / "micro.py"), words)


def sized(found: Any) -> bool:
    return found.vocab_size > 0


def plain(_: Any) -> bool:
    return True


def learned(*more: str, paired: bool = False) -> Callable[[Path], Any]:
    """Read examples to learn from."""

    def read(path: Path) -> Any:
        words = ["data.task=jsonl", f"data.path={path}", *(word.format(folder=path.parent) for word in more)]
        return examples.load(config_file.load(str(ROOT / "configs" / "micro.py"), words), paired)

    return read


def are_learned(found: Any) -> bool:
    size, each = found.tokenizer.vocab_size, (*found.encoded, *found.measured, *found.rejected, *found.dev_rejected)
    inside = all(0 <= own.ids.min() and own.ids.max() < size and own.learned.any() for own in each)
    return len(found.train) > 0 and len(found.dev) > 0 and inside


def of_task(word: str, split: str) -> Callable[[Path], Any]:
    return lambda path: tasks.read(word, split, str(path))


def are_asked(found: Any) -> bool:
    texts = all(isinstance(own.prompt, str) and isinstance(own.answer, str) and own.prompt for own in found)
    return len(found) > 0 and texts and all(own.answer in own.choices for own in found if own.choices)


def mixed(path: Path) -> mixture.Mixture:
    return streamed.check(data_of(path))[0]


def is_mixture(found: mixture.Mixture) -> bool:
    return all(stage.steps > 0 and math.isclose(sum(stage.weights), 1) for stage in found.stages)


def sharded_text(path: Path) -> Any:
    return streamed.read(data_of(path.parent))


def is_sharded(found: Any) -> bool:
    return all(len(t) and np.asarray(t).max() < found.tokenizer.vocab_size for t in (found.train, found.val))


@functools.lru_cache(1)
def base() -> Run:
    """Return the model that the golden adapters lie beside."""
    home = GOLDEN / "llama_gqa_untied"
    facts = json.loads((home / "config.json").read_text())
    fields, params = hf.read_model(home, facts)
    values = config.to_dict(config_file.load(str(ROOT / "configs" / "micro.py"), []))
    values["model"] |= fields
    settings = config.build(values)
    tree = unflatten_dict({path: jnp.asarray(leaf) for path, leaf in params.items()}, sep="/")
    return Run(settings, None, Decoder(settings.model, facts["vocab_size"]), tree, 0, {"data": None}, home)


def adapted(path: Path) -> Any:
    return read_adapters(path.parent, base())


def pair(path: Path) -> Any:
    return vocabularies.read(path.parent)


def are_adapters(found: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in found.params.values())


def is_packed(found: Any) -> bool:
    leaves = flatten_dict(found.params).values()
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves) and found.tokenizer.vocab_size > 0
