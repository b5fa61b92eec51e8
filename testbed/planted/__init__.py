"""The planted subject: known features and exact answers behind the LMM and SAE interfaces.

The residual stream is `z @ D + noise`, with z read off the true masks and a known dictionary D.
Tests of metrics run on it, since every score is known beforehand; it is never a headline score.

What is planted, so that a metric can be held against it:

* every label of the world has a latent, active on the patches that the label covers to at least
  one half, with the covered share as its value;
* at a yes/no question's last token, one latent for 'it is there' and one for 'it is not', which
  tell the truth, and one latent a prior, active whatever the picture shows;
* logit(yes) - logit(no) is linear in these. Where a prior pulls harder than the evidence and the
  other way, the answer is wrong; without the prior's latent it is right;
* at the last token of any other question, the latents of the words that would answer it, and one
  for being asked for a name; logits of words are linear in these too;
* noise lies outside the span of D. So the true SAE's error is the noise, its latents are exact,
  and no amount of noise changes an answer. A corrupted SAE does read the noise, the more the
  earlier the layer.
"""

from __future__ import annotations

from .dictionary import D_MODEL, N_LAYERS, NOISE, label_latent, planted, prior_latent
from .known import KnownPictures, Sight
from .lmm import PlantedLMM, load_lmm
from .provider import PlantedTestbed
from .truth import prior_pull
from .weights import causal_latents, true_sae

__all__ = [
    "D_MODEL",
    "NOISE",
    "N_LAYERS",
    "KnownPictures",
    "PlantedLMM",
    "PlantedTestbed",
    "Sight",
    "causal_latents",
    "label_latent",
    "load_lmm",
    "planted",
    "prior_latent",
    "prior_pull",
    "true_sae",
]
