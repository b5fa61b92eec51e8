"""A model whose image tokens look nowhere in particular: no masks, and scores that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lmmsae_eval.sae.lmm import Batch, Prompt, TokenKind
from lmmsae_eval.tasks.dissect import Dissect
from lmmsae_eval.tasks.features.foils import items
from lmmsae_eval.tasks.features.masks import NO_PLACE
from lmmsae_eval.tasks.features.study import studies
from lmmsae_eval.tasks.iou import Iou


@pytest.fixture
def context(world: Any, study_context: Any) -> Any:
    class Queries(world.SeeingLMM):  # type: ignore[misc]
        def prepare(self, prompts: Sequence[Prompt]) -> Batch:
            batch = super().prepare(prompts)
            kinds = batch.kinds.clone()
            kinds[kinds == TokenKind.IMAGE] = TokenKind.QUERY
            return Batch(batch.inputs, kinds, [torch.zeros_like(one) for one in batch.boxes])

    return study_context([world.perfect_sae()], Queries(identity="queries"))


@pytest.mark.parametrize("task", [Iou, Dissect])
def test_a_mask_score_is_unscorable_and_says_why(context: Any, run_task: Any, task: Any) -> None:
    lines, _ = run_task(task(), context)
    masks = [one for one in lines if one["latent"] is not None and "/clip" not in one["id"]]
    assert masks
    assert {one["status"] for one in masks} == {"unscorable"}
    assert NO_PLACE in {one["detail"]["reason"] for one in masks}


def test_exemplars_are_shown_whole(context: Any) -> None:
    [study] = studies(context)
    latent = next(iter(study.explanations))
    masks = [mask for _, mask in study.masked(latent, "top", context.subject.score.size_of)]
    assert masks
    assert all(mask.all() for mask in masks)


def test_no_foil_moves_a_mask_that_is_everywhere(context: Any) -> None:
    [study] = studies(context)
    vocabulary = context.subject.provider.vocabulary
    kinds = {foil.kind for seed in range(8) for _, foil in items(study, {}, vocabulary, seed)}
    assert "moved" not in kinds
