"""`--image-set`: the user's pictures opened, split and put where the testbed's would be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ....errors import UsageError
from ....harness.identity import sha256
from .index import NEAR, read_index, split
from .own import OwnImages, Words
from .rows import open_rows

if TYPE_CHECKING:
    from ....harness.artefacts import ArtefactStore
    from ....harness.progress import Progress
    from ....sae.lmm import LMM, Prompt
    from ...hallucination.questions import QuestionSet
    from ...subject import Provider
    from ..imageset import ImageSet

QUESTION = "What do the bright parts of this picture show? Answer in one or two words."
"""Put to an LMM that is no testbed's; ours are asked as they were taught."""
NOTE = (
    "The images are the user's own: {search} to search exemplars in, {score} held out, {dropped} "
    "near-duplicates left out. {masks}"
)


@dataclass(frozen=True)
class OwnSet:
    """A set of pictures, split by their hashes."""

    ref: str
    revision: str
    """By content: of pictures, masks, names of labels and what counts as a near-duplicate."""
    search: OwnImages
    score: OwnImages
    n_dropped: int

    @property
    def has_masks(self) -> bool:
        return bool(self.score.vocabulary)

    @property
    def note(self) -> str:
        """What a reader of a report should know."""
        masks = "Masks are the set's own." if self.has_masks else "They have no masks of their own."
        counts = {"search": len(self.search), "score": len(self.score), "dropped": self.n_dropped}
        return NOTE.format(**counts, masks=masks)

    def document(self) -> dict[str, Any]:
        """For `run.json`."""
        return {
            "id": self.ref,
            "revision": self.revision,
            "n_search": len(self.search),
            "n_score": len(self.score),
            "near_duplicates": self.n_dropped,
            "labels": len(self.score.vocabulary),
        }


def open_image_set(
    ref: str,
    label_names: Path | None,
    near: int | None,
    store: ArtefactStore,
    progress: Progress,
) -> OwnSet:
    """`ref` as in `open_rows`; `near` bits of a picture's hash are too few to be another picture.

    Raises `UsageError` for what can't be opened, where the pictures can't be split, and for masks
    that are of another form than their column's name and type promise.
    """
    rows = open_rows(ref, label_names)
    index = read_index(rows, store, progress)
    bits = NEAR if near is None else near
    words = Words(rows.columns)
    revision = sha256({"content": index.content, "labels": words.meaning, "near": bits})
    search, score = split(index.hashes, bits)
    if not (len(search) and len(score)):
        raise UsageError(
            f"{ref} has {len(rows)} pictures, {len(search) + len(score)} of them distinct: too few "
            "to hold a third out; give more"
        )
    dropped = len(rows) - len(search) - len(score)
    progress.say(f"{ref}: {len(search)} pictures, {len(score)} held out, {dropped} too near others")
    parts = {
        name: OwnImages(
            f"{rows.name}/{name}", f"{revision}/{name}", rows, chosen, index.sizes[chosen], words
        )
        for name, chosen in (("search", search), ("score", score))
    }
    for part in parts.values():
        part.label_maps(0)  # masks of a form that can't be read say so now
    return OwnSet(ref, revision, parts["search"], parts["score"], dropped)


class OwnProvider:
    """A testbed with the user's pictures in the place of its own; questions stay the testbed's."""

    def __init__(self, own: OwnSet, base: Provider, embedded: bool) -> None:
        """`embedded`: whether the LMM under study is the testbed's."""
        self._own, self._base, self._embedded = own, base, embedded
        self.revision = f"{base.revision}/images {own.revision}"
        self.note = f"{own.note} {base.note}" if embedded else own.note
        self.default_hookpoints: Sequence[str] = base.default_hookpoints
        self.unclear_answer = base.unclear_answer
        self.vocabulary: Mapping[str, str] = own.score.vocabulary

    def load_lmm(self) -> LMM:
        return self._base.load_lmm()

    def images(self, split: Literal["search", "score", "train"], n: int, seed: int) -> ImageSet:
        """The first `n` of a part, or all where it has no more; for training the base's."""
        if split == "train":
            return self._base.images(split, n, seed)
        return (self._own.search if split == "search" else self._own.score).first(n)

    def questions(self, split: Literal["dev", "test", "all"]) -> QuestionSet:
        return self._base.questions(split)

    def things(self) -> Mapping[str, Sequence[str]]:
        return self._base.things()

    def clip_folder(self) -> Path:
        return self._base.clip_folder()

    def highlight_question(self, kind: str | None) -> str:
        return self._base.highlight_question(kind) if self._embedded else QUESTION

    def caption_of(self, label: str) -> str:
        return label

    def sae_training_prompts(self, n: int, seed: int) -> Iterable[Prompt]:
        return self._base.sae_training_prompts(n, seed)
