"""Answers of a model: by the likelihood of choices, or written."""

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from juliagpt_jax.data.examples import pairs
from juliagpt_jax.data.examples.rows import Encoded
from juliagpt_jax.data.tasks.task import Example, Task
from juliagpt_jax.data.tokenizer import Tokenizer
from juliagpt_jax.evaluation.tasks.metrics import Chosen, Written
from juliagpt_jax.evaluation.tasks.prompting import Prompter, cue
from juliagpt_jax.inference import beginning, continuations, scoring
from juliagpt_jax.inference.generate import Generator, slots_for
from juliagpt_jax.inference.opened import Opened
from juliagpt_jax.inference.sampling import Rule
from juliagpt_jax.inference.stops import stream_texts
from juliagpt_jax.inference.window import Window

ROWS = 32  # answers that are written together
CACHED = 2**14  # tokens that their caches hold together

Told = Callable[[int, int], None]  # how many answers there are of how many


def choose(opened: Opened, prompter: Prompter, examples: Sequence[Example], by: str = "sum") -> Chosen:
    """Return the log-probabilities of each example's choices; of one without choices, of its answer.

    Args:
        by: a word of metrics.NORMALISED.

    Raises:
        UserError: as `Prompter.prompt`.
    """
    choices = [example.choices or (example.answer,) for example in examples]
    asked, first = list(zip(examples, choices, strict=True)), examples[0]
    if prompter.encodes:
        logs, greedy = _of_pairs(opened, [[prompter.pair(e, choice) for choice in own] for e, own in asked])
        bare = _of_pairs(opened, [[prompter.bare.pair(cue(first), choice) for choice in choices[0]]])[0]
    else:
        logs, greedy = _scored(opened, [prompter.continued(e, own) for e, own in asked])
        bare = _scored(opened, [prompter.alone(first)])[0] if first.choices else np.nan
    alone = np.broadcast_to(bare, logs.shape) if first.choices else np.full(logs.shape, np.nan)
    lengths = np.array([[len(choice.encode()) for choice in own] for own in choices])
    return Chosen(logs, lengths, alone, greedy, by)


def _scored(opened: Opened, each: list[list[tuple[np.ndarray, int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probabilities (n, C) of ids at the end of texts, and whether they are greedy's. Where each is a
    single id behind a text that all choices share, one pass does for all of them."""
    model, params = opened.model, opened.params
    if len(each[0]) > 1 and all(count == 1 for own in each for _, count in own):
        texts, asked = [own[0][0][:-1] for own in each], np.array([[ids[-1] for ids, _ in own] for own in each])
        return continuations.next_ids(model, params, texts, asked), np.zeros(asked.shape, bool)
    logs, greedy = continuations.last_ids(model, params, [pair for own in each for pair in own])
    return logs.reshape(len(each), -1), greedy.reshape(len(each), -1)


def _of_pairs(opened: Opened, each: list[list[Encoded]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probabilities (n, C) of answers that a decoder writes to questions that an encoder reads, with
    what ends them; none is said to be greedy's."""
    rows = pairs.pair([own for encoded in each for own in encoded])
    batch = rows.take(np.arange(len(rows)))
    losses = scoring.losses_of(opened.model, opened.params, batch.inputs, np.asarray(batch.targets), ROWS)
    return -losses.sum(axis=1, dtype=np.float64).reshape(len(each), -1), np.zeros((len(each), len(each[0])), bool)


def write(
    opened: Opened,
    prompter: Prompter,
    examples: Sequence[Example],
    rule: Rule,
    samples: int = 1,
    seed: int = 0,
    told: Told = lambda done, of: None,
) -> Written:
    """Return the answers that a model writes, each up to the task's stop, to an id that ends a text or a turn, or to
    `prompter.most` tokens. In a conversation an answer ends where its turn does.

    They are streamed as `generate` streams them, so that what is marked is what a reader sees: text behind its prompt,
    where some tokenizers have a blank that they leave out of an answer alone. Hence not by `inference.answering`, whose
    answers are ids; and a number of the sample draws them, not their place in a batch, since prompts are sorted.

    Args:
        samples: for each example; their draws depend on the seed, the prompt and the number of the sample alone.

    Raises:
        UserError: as `Prompter.prompt`.
    """
    model, tokenizer, most = opened.model, opened.tokenizer, prompter.most
    prompts = [prompter.prompt(example) for example in examples]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))  # so that rows of a batch are alike
    window, longest = Window(model.config.context), max(map(len, prompts))
    slots = slots_for(model, max(longest, most + 1) if prompter.encodes else longest + most, window)
    generator, rows = Generator(model, opened.params, slots=slots), max(1, min(ROWS, CACHED // slots, len(prompts)))
    if length := beginning.shared(model, prompts, [1] * len(prompts), rows):
        generator.begin(prompts[0][:length])
    texts: list[list[str]] = [[""] * samples for _ in prompts]
    ended = [[False] * samples for _ in prompts]
    stops = [] if prompter.chat or prompter.encodes else [prompter.task.stop]
    ends = (tokenizer.ending, *opened.stops) if prompter.encodes else opened.stops
    for sample in range(samples):
        number = zlib.crc32(f"{seed} {sample}".encode())
        for at in range(0, len(order), rows):
            members = order[at : at + rows]
            asked = [prompts[i] for i in members] + [prompts[members[-1]]] * (rows - len(members))  # one program
            for pieces in stream_texts(generator, tokenizer, asked, most, rule, number, stops, ends):
                for i, (text, over) in zip(members, pieces, strict=False):
                    texts[i][sample] += text
                    ended[i][sample] = over
            told(sample * len(order) + at + len(members), samples * len(order))
    return Written(texts, ended)


def most_tokens(tokenizer: Tokenizer, task: Task, examples: Sequence[Example]) -> int:
    """Return how many tokens `task.most` characters are, by those of the examples' answers, and one for the stop."""
    texts = [example.answer for example in examples]
    ids = sum(len(tokenizer.encode(text, "skip")) for text in texts)
    return 1 + -(-task.most * max(ids, 1) // max(1, sum(map(len, texts))))


def answer(
    opened: Opened,
    prompter: Prompter,
    examples: Sequence[Example],
    by: str,
    rule: Rule,
    samples: int,
    seed: int,
    told: Told,
) -> Chosen | Written:
    """Return a model's answers, as the task's metric wants them: chosen or written."""
    if prompter.task.metric in ("accuracy", "last_word"):
        return choose(opened, prompter, examples, by)
    return write(opened, prompter, examples, rule, samples, seed, told)
