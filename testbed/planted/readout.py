"""From the last residual to logits: one matrix and a constant, so every derivative is exact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ..recipe.words import UNCLEAR, all_words
from ..world.labels import PRIORS, VOCABULARY
from .dictionary import FEATURES, NAMING, SEEN, UNSEEN, feature, label_latent, planted, prior_latent

EVIDENCE = 2.0
"""a: what 'seen' adds to logit(yes) - logit(no), and 'unseen' takes away."""
PRIOR = 12.0
"""b: what a prior's latent adds or takes away, per unit. So much more than a that four times the
evidence would not outweigh a strong prior, nor would the evidence outweigh half of one: to take the
prior away is all that helps."""
NAME = 40.0
"""What a label's latent at the last token adds to the logit of its word, per unit."""
ASKED_TO_NAME = 32.0
"""What the latent 'naming' adds to the logit of every label and of 'unclear', per unit."""
OTHERS = -40.0
"""Logit of every word but yes and no to begin with. So low that an edit which stirs some label's
latents doesn't turn a yes/no answer into a name."""

PAD, BOS, EOS, UNKNOWN, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
WORDS: tuple[str, ...] = (PAD, BOS, EOS, UNKNOWN, IMAGE, *all_words())
WORD_ID = {word: i for i, word in enumerate(WORDS)}


def margin_weights() -> Tensor:
    """`(n_features,)`: m = logit(yes) - logit(no) is this times z at the last token."""
    weights = torch.zeros(len(FEATURES))
    weights[feature(SEEN)], weights[feature(UNSEEN)] = EVIDENCE, -EVIDENCE
    for prior in PRIORS:
        weights[prior_latent(prior)] = PRIOR if prior.answer == "yes" else -PRIOR
    return weights


@dataclass(frozen=True)
class ReadOut:
    """logits = x @ weight.T + bias."""

    weight: Tensor
    """`(vocabulary, d_model)`: blind to the noise."""
    bias: Tensor
    """`(vocabulary,)`."""

    def __call__(self, x: Tensor) -> Tensor:
        """`(batch, d_model)` to `(batch, vocabulary)`."""
        return torch.addmm(self.bias.to(x), x, self.weight.to(x).T)


@cache
@torch.inference_mode(False)
def readout() -> ReadOut:
    """The same one on every call, and usable under autograd whoever asks first."""
    table = torch.zeros(len(WORDS), len(FEATURES))
    table[WORD_ID["yes"]] = margin_weights() / 2
    table[WORD_ID["no"]] = -margin_weights() / 2
    names = {label: label_latent(label) for label in VOCABULARY} | {UNCLEAR: feature(UNCLEAR)}
    for word, latent in names.items():
        table[WORD_ID[word], latent] = NAME
        table[WORD_ID[word], feature(NAMING)] = ASKED_TO_NAME
    bias = torch.full((len(WORDS),), OTHERS)
    bias[[WORD_ID["yes"], WORD_ID["no"]]] = 0.0
    return ReadOut(table @ planted().dual, bias)
