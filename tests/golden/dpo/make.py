"""Writes golden.npz: what the library TRL gives for pairs of answers: losses, their gradients, and what it logs.

python make.py      (with torch and trl 1.16)

The logits stand in for a model, so that nothing but the loss is compared. DPO and IPO are TRL's whole loss; of ORPO it
is the odds ratio, beside the mean loss a token of the chosen answer, of answers alone as in the paper.
"""

import collections
import types
from pathlib import Path

import numpy as np
import torch
from trl import DPOTrainer
from trl.experimental.orpo import ORPOTrainer

PAIRS, T, V, BETA = 4, 9, 7, 0.3


def main():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2 * PAIRS, T, V)).astype(np.float32) * 2
    ids = rng.integers(V, size=(2 * PAIRS, T + 1))
    begins, ends = rng.integers(1, 4, size=2 * PAIRS), rng.integers(5, T + 2, size=2 * PAIRS)
    places = np.arange(T + 1)
    mask = (places >= begins[:, None]) & (places < ends[:, None])
    reference = rng.normal(size=(PAIRS, 2)).astype(np.float32) * 3 - 12
    arrays = {"logits": logits, "ids": ids.astype(np.int32), "mask": mask, "reference": reference, "beta": BETA}
    for name, word in (("dpo", "sigmoid"), ("ipo", "ipo")):
        loss, grads, logged = of_dpo(word, logits, ids, mask, reference)
        arrays |= {f"{name}/loss": loss, f"{name}/grads": grads}
        arrays |= {f"{name}/{key}": value for key, value in logged.items()}
    arrays |= of_orpo(logits, ids, mask)
    np.savez(Path(__file__).parent / "golden.npz", **arrays)


def log_probs(logits, ids, mask):
    each = torch.log_softmax(logits, -1).gather(-1, torch.tensor(ids[:, 1:])[..., None])[..., 0]
    return each * torch.tensor(mask[:, 1:])


def of_dpo(word, logits, ids, mask, reference):
    weights = torch.tensor(logits, requires_grad=True)

    def model(**given):
        zeros = torch.zeros(2 * PAIRS, T)  # of what is logged beside
        own = log_probs(weights, ids, mask)
        return types.SimpleNamespace(log_probs=own, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

    same = lambda x: x
    trainer = types.SimpleNamespace(
        model=types.SimpleNamespace(training=True),
        accelerator=types.SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[word],
        loss_weights=[1.0],
        beta=BETA,
        use_weighting=False,
        label_smoothing=0.0,
        _metrics={"train": collections.defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.ones(ids.shape, dtype=torch.long),
        "completion_mask": torch.tensor(mask).long(),
        "ref_chosen_logps": torch.tensor(reference[:, 0]),
        "ref_rejected_logps": torch.tensor(reference[:, 1]),
    }
    loss = DPOTrainer._compute_loss(trainer, model, inputs, False)
    loss.backward()
    logged = {key: values[0] for key, values in trainer._metrics["train"].items() if key.split("/")[0] in KEPT}
    return loss.detach().numpy(), weights.grad.numpy(), logged


KEPT = ("rewards", "logps")


def of_orpo(logits, ids, mask):
    weights = torch.tensor(logits, requires_grad=True)
    means = log_probs(weights, ids, mask).sum(1) / torch.tensor(mask[:, 1:]).sum(1)
    chosen, rejected = means.chunk(2)
    trainer = types.SimpleNamespace(beta=BETA, accelerator=types.SimpleNamespace(device="cpu"))
    ratio, rewards, others, *_ = ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)
    loss = (-chosen - ratio).mean()
    loss.backward()
    logged = {"rewards/chosen": rewards.mean().item(), "rewards/rejected": others.mean().item()}
    found = {"loss": loss.detach().numpy(), "grads": weights.grad.numpy()} | logged
    return {f"orpo/{key}": value for key, value in found.items()}


if __name__ == "__main__":
    main()
