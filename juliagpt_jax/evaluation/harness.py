"""Answer what lm-evaluation-harness asks of a model: log-likelihoods and continuations of its own texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import continuations, scoring
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.stops import cut, first_stop, until
from juliagpt_jax.models.interface import Model

ROWS = 32  # requests that are written together
NEW_TOKENS = 256  # where a request says no max_gen_toks; the harness's own default


class Adapter:
    """The three methods of `lm_eval.api.model.LM`. A request has its arguments in `args`.

    Args:
        unknown: characters that the tokenizer lacks: "error", or "skip" to leave them out.
        seed: of draws, for tasks that sample.
    """

    def __init__(self, model: Model, params: Any, tokenizer: Tokenizer, unknown: str = "error", seed: int = 0):
        self.model, self.params, self.decoder = model, params, tokenizer
        self.unknown, self.seed = unknown, seed
        self._generator = Generator(model, params)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each (context, continuation) the log-probability of the continuation in nats, and whether greedy decoding
        gives it. An empty context is the start of a text.

        Raises:
            UserError: a continuation is empty, or has more tokens than the model's context.
        """
        pairs = [self._pair(*request.args) for request in requests]
        sums, greedy = continuations.last_ids(self.model, self.params, pairs)
        return list(zip(sums.tolist(), greedy.tolist(), strict=True))

    def _pair(self, context: str, continuation: str) -> tuple[np.ndarray, int]:
        """At most context + 1 ids whose last `count` are the continuation's."""
        before = self._ids(context)
        ids = self._ids(context + continuation)
        count, most = len(ids) - len(before), self.model.config.context
        if not 0 < count <= most:
            raise UserError(f"the continuation {continuation[:40]!r} has {count} tokens; the model takes 1 .. {most}")
        return ids[-(most + 1) :], count

    def _ids(self, text: str) -> np.ndarray:
        return self.decoder.prompt(text, self.unknown, begins=True).ids

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """For each (text,) the log-probability of all of it, each token scored once behind half to all the context, as
        `evaluate` does."""
        found = []
        for request in requests:
            tokens = self.decoder.encode(request.args[0], self.unknown)
            score = scoring.score_text(self.model, self.params, tokens, self.decoder.lead) if len(tokens) else None
            found.append(-score.loss * score.scored_tokens if score else 0.0)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """For each (context, settings) the continuation up to the first of settings["until"], or to the token that ends
        a text; greedy unless settings["do_sample"]."""
        found: list[str] = [""] * len(requests)
        groups: dict[tuple[Rule, int], list[int]] = {}
        for i, request in enumerate(requests):
            settings = request.args[1]
            greedy = not settings.get("do_sample", False) or settings.get("temperature", 1.0) == 0
            sampled = lambda s: Rule(s.get("temperature", 1.0), int(s.get("top_k", 0)), s.get("top_p", 1.0))
            rule = Rule(greedy=True) if greedy else sampled(settings)
            groups.setdefault((rule, int(settings.get("max_gen_toks", NEW_TOKENS))), []).append(i)
        for (rule, most), members in groups.items():
            for at in range(0, len(members), ROWS):
                part = members[at : at + ROWS]
                texts = self._continue([requests[i].args for i in part], rule, most)
                for i, text in zip(part, texts, strict=True):
                    found[i] = text
        return found

    def _continue(self, asked: Sequence[tuple[str, dict]], rule: Rule, most: int) -> list[str]:
        """All rows go on until each has met a stop of its own or has `most` tokens; a row filled in twice pads the
        batch, so that one program serves all."""
        prompts = [self._ids(context) for context, _ in asked]
        wanted = [settings.get("until") or [] for _, settings in asked]
        stops = [[one] if isinstance(one, str) else [stop for stop in one if stop] for one in wanted]
        prompts += [prompts[-1]] * (ROWS - len(prompts))
        shown = [len(self.decoder.decode(prompt)) for prompt in prompts]
        texts, ended = [""] * len(asked), [False] * len(asked)
        for piece in self._generator.stream(prompts, most, rule, self.seed):
            for row in range(len(asked)):
                if not ended[row]:
                    own, ended[row] = until(piece[row], self.decoder.stops)
                    prompts[row] = np.concatenate([prompts[row], own])
                    texts[row] = self.decoder.decode(prompts[row])[shown[row] :]
            if all(met or first_stop(text, own) for met, text, own in zip(ended, texts, stops, strict=True)):
                break
        return [cut(text, own) for text, own in zip(texts, stops, strict=True)]


def run_tasks(adapter: Adapter, tasks: list[str], folder: str | None, shots: int | None, limit: int | None) -> dict:
    """Results of tasks of the harness by name; more of them are looked for in `folder`.

    Raises:
        UserError: lm_eval is missing, or knows no such task.
    """
    try:
        from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]
        from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("needs lm-evaluation-harness: pip install 'juliagpt-jax[harness]'") from error

    class Model(Adapter, LM):
        def __init__(self):
            LM.__init__(self)
            self.__dict__.update(adapter.__dict__)

    manager = TaskManager(include_path=folder)
    missing = [task for task in tasks if not manager.match_tasks([task])]
    if missing:
        raise UserError(f"--tasks: the harness knows no {', '.join(missing)}; --task_folder names a folder of more")
    model: Any = Model()
    results = simple_evaluate(model, tasks=tasks, task_manager=manager, num_fewshot=shots, limit=limit)
    return results["results"] if results else {}
