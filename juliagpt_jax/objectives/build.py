"""From a config to the objective that it names."""

from juliagpt_jax.ground import config, words
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import ngrams
from juliagpt_jax.objectives.distil import Distil, OnPolicy
from juliagpt_jax.objectives.doremi import DoReMi
from juliagpt_jax.objectives.next_token import NextToken
from juliagpt_jax.objectives.objective import Chosen, Objective
from juliagpt_jax.objectives.preference import DPO, IPO, ORPO
from juliagpt_jax.objectives.recursive import DeepSupervision
from juliagpt_jax.objectives.value import Value
from juliagpt_jax.objectives.written import GRPO, ExpertIteration

OBJECTIVES = {
    "next_token": NextToken,
    "doremi": DoReMi,
    "distil": Distil,
    "on_policy": OnPolicy,
    "recursive": DeepSupervision,
    "dpo": DPO,
    "ipo": IPO,
    "orpo": ORPO,
    "grpo": GRPO,
    "expert_iteration": ExpertIteration,
    "value": Value,
}
WORDS = {"train.objective": OBJECTIVES, "train.ngram.kind": ngrams.PENALTIES}


def build_objective(config: config.Config, model: Model, chosen: Chosen | None = None) -> Objective:
    """Return the objective of a run.

    Args:
        chosen: what the run trains on; None where there is no corpus.

    Raises:
        UserError: it needs what is not there.
    """
    return OBJECTIVES[config.train.objective](config, model, chosen)


def paired(config: config.Config) -> bool:
    """Tell whether a config's examples need a rejected answer beside each."""
    return OBJECTIVES[config.train.objective].paired and not config.train.preference.samples


def check(config: config.Config) -> None:
    """Refuse a word that is in no table, and an optimizer that asks an objective for what it does not have.

    Raises:
        UserError: naming the key.
    """
    words.check(config, WORDS)
    train = config.train
    if train.optimizer == "kfac" and not OBJECTIVES[train.objective].curved:
        raise UserError(
            f"config.train.optimizer: kfac measures the curvature of a sum over targets, and train.objective="
            f"{train.objective} is none"
        )
    if train.optimizer == "kfac" and train.kfac.fisher == "sampled" and OBJECTIVES[train.objective].sampled is None:
        raise UserError(
            f"config.train.optimizer: kfac measures on targets drawn from the model, for which "
            f"train.objective={train.objective} has no loss; train.kfac.fisher=empirical needs none"
        )
