"""From exemplars to an explanation: the explainer role, and the model under study in it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...harness.task import Outcome
from ...sae.lmm import Prompt
from .imageset import CONCEPTS
from .labels import VocabularyLabeller

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ...harness.progress import Progress, Step
    from ...sae.lmm import LMM
    from .labels import ConceptLabeller

FLOOR = math.log(1e-3)
"""No picture counts against a label more than this, so that one odd exemplar is no veto."""
_SPELLINGS = {"color": "colour"}
OUTSIDE = "answers outside the vocabulary"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the explainer says about one latent."""

    status: Literal["ok", "unscorable", "error"]
    """`error`: a broken reply or connection. It is never stored: the next run asks again."""
    text: str | None = None
    """As it was said."""
    label: str | None = None
    """Refined: short enough to look for in a picture."""
    concept: str | None = None
    reason: str | None = None
    """Why there is no explanation."""
    detail: Mapping[str, Any] = field(default_factory=dict)


class Explainer(Protocol):
    """Writes explanations from highlighted exemplars. A refusal is `unscorable`."""

    identity: str
    """Changes whenever an explanation could: model, prompt, vocabulary."""

    def explain(
        self,
        exemplars: Sequence[Sequence[Image]],
        progress: Progress,
        names: Sequence[str] = (),
    ) -> list[Explanation]:
        """One explanation per latent.

        Args:
            exemplars: per latent its exemplars, dimmed but for the active patches.
            names: of the latents, for the record.
        """


class SelfExplainer:
    """The model under study is asked what is highlighted in each exemplar; answers are combined.

    When every label is one token: log-probabilities of the labels and of the refusal are summed
    over exemplars, each not below `FLOOR`, and the largest wins. An exemplar whose likeliest answer
    is none of them is 'outside the vocabulary'; when most are, nothing is mapped onto a label.
    When some label is longer: greedy answers, the most frequent exact match wins, ties by rank of
    the exemplar.
    """

    batch_size = 64

    def __init__(
        self, lmm: LMM, question: str, vocabulary: Mapping[str, str], unclear: str = "unclear"
    ) -> None:
        self._lmm, self._question = lmm, question
        self._labeller: ConceptLabeller = VocabularyLabeller(vocabulary)
        self._unclear = unclear
        self._answers = [*vocabulary, unclear]
        about = [lmm.identity, question, sorted(vocabulary.items()), unclear, FLOOR]
        self.identity = json.dumps(["self, sum of log-probabilities/1", *about])

    def explain(
        self,
        exemplars: Sequence[Sequence[Image]],
        progress: Progress,
        names: Sequence[str] = (),
    ) -> list[Explanation]:
        pictures = [image for images in exemplars for image in images]
        ids = self._single_tokens()
        with progress.step("explaining", len(pictures)) as step:
            if ids:
                scores = self._log_probs(pictures, ids, step)
                return [self._by_log_prob([next(scores) for _ in images]) for images in exemplars]
            said = self._greedy(pictures, step)
            return [self._by_vote([next(said) for _ in images]) for images in exemplars]

    def _single_tokens(self) -> list[int]:
        try:
            return [self._lmm.token_id(answer) for answer in self._answers]
        except ValueError:
            return []

    def _prompts(self, pictures: Sequence[Image]) -> Iterator[list[Prompt]]:
        for start in range(0, len(pictures), self.batch_size):
            group = pictures[start : start + self.batch_size]
            yield [Prompt(self._question, image) for image in group]

    def _log_probs(
        self, pictures: Sequence[Image], ids: list[int], step: Step
    ) -> Iterator[tuple[Tensor, bool]]:
        """Per picture the answers' log-probabilities, and whether some other token was likelier."""
        import torch

        for prompts in self._prompts(pictures):
            # Not inference mode: what a model caches in its first forward must serve gradients too.
            with torch.no_grad():
                logits = self._lmm.forward(self._lmm.prepare(prompts))
            assert logits is not None
            logs = logits.float().log_softmax(-1).cpu()
            known = logs[:, ids]
            outside = known.max(1).values < logs.max(1).values
            step.advance(len(prompts))
            yield from zip(known, outside.tolist(), strict=True)

    def _greedy(self, pictures: Sequence[Image], step: Step) -> Iterator[str]:
        for prompts in self._prompts(pictures):
            replies = self._lmm.generate(self._lmm.prepare(prompts), 8)
            step.advance(len(prompts))
            yield from replies

    def _by_log_prob(self, replies: Sequence[tuple[Tensor, bool]]) -> Explanation:
        import torch

        if not replies:
            return Explanation("unscorable", reason="no exemplars")
        each = [self._answers[int(logs.argmax())] for logs, _ in replies]
        outside = sum(is_outside for _, is_outside in replies)
        if 2 * outside > len(replies):
            return Explanation("unscorable", reason=OUTSIDE, detail={"each": each})
        total = torch.stack([logs for logs, _ in replies]).clamp_min(FLOOR).mean(0)
        best = int(total.argmax())
        detail = {"each": each, "log_prob": round(float(total[best]), 4)}
        return self._explanation(self._answers[best], detail)

    def _by_vote(self, replies: Sequence[str]) -> Explanation:
        each = [normalised(reply) for reply in replies]
        votes = Counter(reply for reply in each if reply in self._answers)
        if 2 * votes.total() < len(each) or not votes:
            return Explanation("unscorable", reason=OUTSIDE, detail={"each": each})
        return self._explanation(votes.most_common(1)[0][0], {"each": each})

    def _explanation(self, answer: str, detail: dict[str, Any]) -> Explanation:
        if answer == self._unclear:
            return Explanation("unscorable", text=answer, reason="refused", detail=detail)
        concept = self._labeller.concept(answer)
        return Explanation("ok", answer, answer, concept, detail=detail)


def normalised(reply: str) -> str:
    """A short answer without case, article and closing punctuation."""
    words = re.sub(r"[.!]+$", "", reply.strip().casefold())
    return re.sub(r"^(a|an|the)\s+", "", words).strip()


def concept_named(reply: str) -> str | None:
    """The one of the six that a reply says, whatever its case and spelling; None for others."""
    said = normalised(reply)
    said = _SPELLINGS.get(said, said)
    return said if said in CONCEPTS else None


def without_label(said: Explanation, reason: str | None = None) -> Outcome:
    """What becomes of a sample whose latent has nothing to be held against."""
    if said.status == "error":
        return Outcome("error", error=said.reason)
    return Outcome.unscorable(said.reason or reason or "no explanation")


def save_explanations(explanations: Sequence[Sequence[Explanation]], folder: Path) -> None:
    """One JSON for all SAEs of a survey."""
    rows = [[asdict(explanation) for explanation in per_sae] for per_sae in explanations]
    (folder / "explanations.json").write_text(json.dumps(rows))


def load_explanations(folder: Path) -> list[list[Explanation]]:
    """What `save_explanations` wrote."""
    rows = json.loads((folder / "explanations.json").read_text())
    return [[Explanation(**row) for row in per_sae] for per_sae in rows]
