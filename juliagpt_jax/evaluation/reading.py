"""Say in plain words what the numbers of a report mean: what is good, what went wrong, what to try next.

Each line has its condition, and is left out where that was not measured: nothing here is said to be kind.
"""

import dataclasses
import math
from collections.abc import Sequence

from juliagpt_jax.ground import config

# Where a remark begins.
BEHIND = 0.1  # share of its validation loss by which a model is better on its training text
WORSE = 0.02  # share by which a loss has risen from its lowest
FALLING = 0.03  # share by which the validation loss fell in the last quarter of the steps
ENOUGH = 1_000_000  # tokens after which configs/micro.py is far ahead of counted pairs
EPOCHS = 4  # readings of a text up to which they teach as much as new text (Muennighoff et al. 2023, figure 1)


@dataclasses.dataclass(frozen=True)
class Course:
    """The course of training. Curves are (step, bits a character), rising in steps.

    Attributes:
        read: tokens trained on.
        text: tokens of the training text.
        skipped: steps that were refused, because their numbers were not finite.
    """

    steps: int
    read: int
    text: int
    skipped: int
    train: Sequence[tuple[int, float]]
    val: Sequence[tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class Technique:
    """An arm of experiments/techniques, as it came out there beside the baseline, three seeds.

    Attributes:
        knobs: what it changes, by dotted name.
        nats: of validation loss more than the baseline's, a character.
        time: of a step, in the baseline's.
    """

    arm: str
    knobs: dict[str, str]
    nats: float
    time: float

    @property
    def flags(self) -> str:
        return " ".join(f"--config.{key}={value}" for key, value in self.knobs.items())


_SOAP = {"train.optimizer": "soap", "train.lr": "0.008", "train.adam_lr": "0.04"}
SOAP = Technique("soap", _SOAP, -0.112, 1.59)
MONARCH = Technique("monarch_heads", {"model.mixer": "monarch_heads"}, -0.126, 1.01)
STACK = Technique("stack", _SOAP | {"model.qk_norm": "true", "model.zero_init": "true"}, -0.140, 1.59)
BOTH = Technique("stack with monarch_heads", _SOAP | {"model.zero_init": "true"}, -0.134, 1.55)

TRIED = (SOAP, MONARCH, STACK, BOTH)


def read(
    bits: float,
    entropy: float,
    counted: dict[int, float],
    unit: str = "character",
    course: Course | None = None,
    settings: config.Config | None = None,
) -> list[str]:
    """Return at most six lines, one thing each.

    Args:
        bits: of the model, a character of validation text.
        entropy: of the text, in bits a character; nan where it is not known.
        counted: bits a character under n-grams of the training text, by n; {} where they were not counted.
        unit: what the n-grams are of: "character" or "token".
        course: None for a model that is not known to have been trained just so.
        settings: of the run; None where nothing is to be tried next.
    """
    lines = [number(bits), *([floor(bits, entropy, counted, unit)] if math.isfinite(bits) else [])]
    if course and settings:
        lines += diagnosis(bits, counted, course, settings)
    return [*lines, *(advice(settings) if settings else [])]


def number(bits: float) -> str:
    """Say what bits per character are."""
    if not math.isfinite(bits):
        return "The loss is not a finite number: this model predicts nothing."
    choices = 2.0 ** min(bits, 64.0)
    return (
        f"{bits:.2f} bits per character: at each character the model is as unsure as between {choices:.1f} "
        "equally likely ones."
    )


def floor(bits: float, entropy: float, counted: dict[int, float], unit: str) -> str:
    """Say what is good: the text's own entropy, where it is known, and what mere counting gives."""
    good = "Lower is better; how low this text can be predicted, nobody knows."
    if entropy == entropy:
        good = f"The floor is {entropy:.2f}: the text is drawn at random, so no model can get below."
    if not counted:
        return good
    seen = lambda n: f"the last {unit if n == 2 else f'{n - 1} {unit}s'}"
    first, *rest = sorted(counted)
    values = [f"{seen(first)} give {counted[first]:.2f}", *(f"{seen(n)} {counted[n]:.2f}" for n in rest)]
    beaten = sum(bits < value for value in counted.values())
    verdict = "worse than" if not beaten else "better than" if beaten == len(counted) else "between"
    which = "both" if len(counted) > 1 else "that"
    return f"{good} Mere counts of what follows {', of '.join(values)}: this model is {verdict} {which}."


def diagnosis(bits: float, counted: dict[int, float], course: Course, settings: config.Config) -> list[str]:
    """Return what went wrong, the most certain first."""
    train = settings.train
    lines = []
    if course.skipped:
        precision = "" if train.precision == "f32" else " or --config.train.precision=f32"
        lines.append(
            f"{course.skipped:,} of {course.steps:,} steps were refused, because their numbers were not finite: try a "
            f"--config.train.lr below {train.lr:g}{precision}."
        )
    lines += _turned(course, train) or _overfit(course, settings) or _falling(bits, counted, course)
    times = course.read / course.text
    if times > EPOCHS:
        lines.append(
            f"Too little text: it was read {times:,.0f} times, and beyond {EPOCHS} another reading teaches less than "
            "new text. Add text to data.path, or train for fewer steps."
        )
    return lines


def _turned(course: Course, train: config.Train) -> list[str]:
    """Say that the loss was lower before, as training blew up or learnt its text by heart; nothing where it was not."""
    finite = [point for point in course.val if math.isfinite(point[1])]
    if not finite:
        return []
    best, lowest = min(finite, key=lambda point: point[1])
    end = course.val[-1][1]
    if end <= lowest * (1 + WORSE):
        return []
    said = f"It was best after step {best:,}: {lowest:.2f} bits on validation windows, {end:.2f} at the end"
    before, after = _about(course.train, best, course), _about(course.train, course.steps, course)
    if after != after or after > before * (1 + WORSE):
        return [f"{said}, and training went wrong with it: try a --config.train.lr below {train.lr:g}."]
    return [f"{said}. It overfits: add text, or write with --checkpoint=best."]


def _overfit(course: Course, settings: config.Config) -> list[str]:
    trained = _about(course.train, course.steps, course)
    if not course.val or not trained < course.val[-1][1] * (1 - BEHIND):
        return []
    drop = "" if settings.model.dropout else ", --config.model.dropout=0.1"
    return [
        f"It overfits: {trained:.2f} bits on its training text, {course.val[-1][1]:.2f} on validation windows. "
        f"Add text{drop}, or make the model smaller."
    ]


def _falling(bits: float, counted: dict[int, float], course: Course) -> list[str]:
    """Say that the run could have learnt more: it is worse than counted pairs, or its loss fell to the last."""
    if counted and not bits < counted[min(counted)]:
        share = course.read / course.text
        read = f"Far too short a run: it read {course.read:,} tokens, as many as {share:.1%} of the text has"
        enough = max(2 * course.steps, round(course.steps * min(course.text, ENOUGH) / course.read))
        return [f"{read}. Try --config.train.steps={enough} in another --workdir."]
    early = [value for step, value in course.val if step <= 0.75 * course.steps]
    fell = 1 - course.val[-1][1] / early[-1] if early else 0.0
    if fell > FALLING:
        said = f"It was still learning: the loss fell by {fell:.0%} in the last quarter of the steps"
        return [f"{said}. Try --config.train.steps={2 * course.steps} in another --workdir."]
    return []


def _about(curve: Sequence[tuple[int, float]], step: int, course: Course) -> float:
    """The mean of a curve in the tenth of the run's steps that ends at a step; nan where it has no point."""
    values = [value for at, value in curve if step - course.steps / 10 < at <= step]
    return sum(values) / len(values) if values else math.nan


def advice(settings: config.Config) -> list[str]:
    """Return what did better than the baseline in experiments/techniques and is not in use yet."""
    model, train = settings.model, settings.train
    if model.linear != "dense" or model.depth != "stack" or train.optimizer not in ("adamw", "soap"):
        return []  # another model than those that were measured there
    if model.mixer == "attention" and train.optimizer == "adamw":
        return [_next(MONARCH, 0.0, 1.0)]
    if train.optimizer == "adamw" and model.mixer == "monarch_heads":
        return [_next(BOTH, MONARCH.nats, MONARCH.time)]
    if model.mixer == "attention" and not (model.qk_norm and model.zero_init):
        return [_next(STACK, SOAP.nats, SOAP.time)]
    return []


def _next(technique: Technique, nats: float, time: float) -> str:
    gain = (nats - technique.nats) / math.log(2)
    return (
        f"Try next: {technique.flags} (on classical books {gain:.2f} bits less at equal steps, "
        f"{technique.time / time:.1f} times the time a step: experiments/techniques)."
    )
