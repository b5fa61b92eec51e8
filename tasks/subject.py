"""What the built-in tasks measure: one LMM, its SAEs, and the images and questions around them.

Everything costly is made on first use, so a task pays only for what it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from .features.roles import Roles

if TYPE_CHECKING:
    from ..harness.chat import ChatClient
    from ..sae.lmm import LMM, Prompt
    from ..sae.topk import TrainedSae
    from .features.imageset import ImageSet
    from .hallucination.questions import QuestionSet

UNTRAINED = "untrained"
"""The arm of an SAE that has never been trained: the control of every feature metric."""


class Provider(Protocol):
    """Where images, questions and embedded models come from. The testbed is one, by name."""

    revision: str
    """Changes whenever an image, a question or a label could."""
    note: str
    """What a reader must know before believing scores on it; shown in every report."""
    default_hookpoints: Sequence[str]
    unclear_answer: str
    """What the explainer says when it can't tell."""
    vocabulary: Mapping[str, str]
    """label -> concept."""

    def load_lmm(self) -> LMM: ...

    def images(self, split: Literal["search", "score", "train"], n: int, seed: int) -> ImageSet: ...

    def questions(self, split: Literal["dev", "test", "all"]) -> QuestionSet: ...

    def things(self) -> Mapping[str, Sequence[str]]:
        """The objects in the figures of its questions, by file name."""

    def clip_folder(self) -> Path: ...

    def highlight_question(self, kind: str | None) -> str: ...

    def caption_of(self, label: str) -> str: ...

    def sae_training_prompts(self, n: int, seed: int) -> Iterable[Prompt]: ...


@dataclass
class Subject:
    """One LMM with SAEs on some of its hookpoints, and lazily all that tasks need around them."""

    lmm: LMM
    saes: Sequence[TrainedSae]
    """Every SAE of the run, untrained controls (`arm == "untrained"`) included."""
    provider: Provider
    seed: int = 0
    n_search: int = 600
    """Images that exemplars are searched in."""
    n_score: int = 300
    """Held-out images that explanations are scored on."""
    judge_ref: str | None = None
    """`openai/gpt-4o`, a URL, `replay:FILE`; None is the testbed's own label judge."""
    make_judge: Callable[[], ChatClient] | None = field(default=None, repr=False)
    own_questions: Callable[[Literal["dev", "test", "all"]], QuestionSet] | None = field(
        default=None, repr=False
    )
    """The user's or a published set's, by split; None: the provider's."""
    roles: Roles = field(default_factory=Roles, repr=False)
    """Who explains, shortens, sorts; by default the LMM under study explains itself."""

    @property
    def main_saes(self) -> list[TrainedSae]:
        """The SAEs under study, without their untrained controls."""
        return [sae for sae in self.saes if sae.arm != UNTRAINED]

    @cached_property
    def search(self) -> ImageSet:
        """Images for exemplars."""
        return self.provider.images("search", self.n_search, self.seed)

    @cached_property
    def score(self) -> ImageSet:
        """Images that no explanation has seen."""
        return self.provider.images("score", self.n_score, self.seed)

    @cached_property
    def dev_questions(self) -> QuestionSet:
        """Yes/no questions that features and strengths are chosen on."""
        return (self.own_questions or self.provider.questions)("dev")

    @cached_property
    def test_questions(self) -> QuestionSet:
        """Yes/no questions of other image families."""
        return (self.own_questions or self.provider.questions)("test")

    @cached_property
    def all_questions(self) -> QuestionSet:
        """Both halves: what cross-fitting makes its own folds of."""
        return (self.own_questions or self.provider.questions)("all")

    @cached_property
    def clip_folder(self) -> Path:
        """A transformers CLIP model and processor."""
        return self.provider.clip_folder()

    @cached_property
    def judge(self) -> ChatClient | None:
        """The chat judge; None means the testbed's own label judge."""
        return self.make_judge() if self.make_judge else None
