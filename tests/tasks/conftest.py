"""A linear LMM whose causal latents are known, and questions that its priors answer wrongly.

The residual stream is z D with orthonormal rows D. The yes/no margin is the sum over tokens of two
kinds of latents, minus 1: *evidence* (2 when the thing is in the image) and *prior* (how strongly
the thing is expected, below zero where it is denied). All other latents are read by nobody.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.results import line_document
from lmmsae_eval.harness.task import Context
from lmmsae_eval.sae.lmm import Batch, Hook, Hookpoint, Prompt, TokenKind, resolve_hookpoint
from lmmsae_eval.sae.topk import TopK, TrainedSae
from lmmsae_eval.tasks.hallucination.questions import Record, RecordQuestions
from lmmsae_eval.tasks.subject import Subject
from PIL import Image

TOPICS = ("boat", "tree", "car", "moon")
SIGNS = (1, 1, -1, -1)
"""boat and tree are expected, car and moon are denied."""
PRIOR, EVIDENCE, SPARE = 0, 4, 8
"""First latent of each kind; spare ones are read by nobody."""
D_MODEL, N_LATENTS = 48, 40
REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = ("<pad>", "yes", "no", "maybe")


def dictionary() -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    square = torch.randn(D_MODEL, D_MODEL, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(square)[0][:N_LATENTS].float()


@dataclass
class PlantedLMM:
    """Two blocks that pass everything on; tokens are BOS, three of the image, two of text."""

    name: str = "planted"
    identity: str = "planted-1"
    n_layers: int = 2
    d_model: int = D_MODEL
    breaks_on: str | None = None
    """A word whose questions can't be prepared."""
    rows: torch.Tensor = field(default_factory=dictionary)
    n_forwards: int = 0

    def hookpoint(self, ref: str | int) -> Hookpoint:
        modules = [f"layers.{index}" for index in range(self.n_layers)]
        return resolve_hookpoint(ref, modules, self.name)

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        z = torch.zeros(len(prompts), 6, N_LATENTS)
        kinds = torch.tensor([1, 3, 3, 3, 2, 2], dtype=torch.int8).repeat(len(prompts), 1)
        for row, prompt in enumerate(prompts):
            if self.breaks_on and self.breaks_on in prompt.text:
                raise RuntimeError("this figure is broken")
            self._fill(z[row], prompt)
            if prompt.image is None:
                kinds[row] = torch.tensor([0, 0, 0, 1, 2, 2], dtype=torch.int8)
        mumbles = torch.tensor(["mumble" in prompt.text for prompt in prompts])
        inputs = {"x": z @ self.rows, "mumbles": mumbles}
        return Batch(inputs, kinds, [torch.zeros(3, 4)] * len(prompts))

    def _fill(self, z: torch.Tensor, prompt: Prompt) -> None:
        """Evidence on an image token, the prior and a spare latent on text tokens."""
        topic = next((i for i, thing in enumerate(TOPICS) if thing in prompt.text), 0)
        present, strength, seed = (0, 20, 0) if prompt.image is None else self._read(prompt.image)
        z[4, PRIOR + topic] = strength / 10
        random = np.random.default_rng(seed)
        for token in (4, 5) if prompt.image is None else (1, 2, 3, 4, 5):
            z[token, SPARE + int(random.integers(N_LATENTS - SPARE))] += 1.0
        if prompt.image is not None:
            z[2, EVIDENCE + topic] = 2.0 * present

    @staticmethod
    def _read(image: Image.Image) -> tuple[int, int, int]:
        present, strength, seed = image.getpixel((0, 0))
        return present, strength, seed

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> torch.Tensor | None:
        self.n_forwards += len(batch)
        x = batch.inputs["x"]
        for index in range(self.n_layers):
            for hookpoint, hook in (hooks or {}).items():
                if hookpoint.index == index:
                    x = hook(x, batch)
            if stop_after is not None and stop_after.index == index:
                return None
        margin = (x * (batch.kinds != TokenKind.PAD)[..., None]).sum(1) @ self._readout() - 1.0
        maybe = torch.where(batch.inputs["mumbles"], 50.0, -50.0)
        return torch.stack([torch.full_like(margin, -99.0), margin / 2, -margin / 2, maybe], dim=1)

    def _readout(self) -> torch.Tensor:
        weights = torch.zeros(N_LATENTS)
        weights[PRIOR : PRIOR + 4] = torch.tensor(SIGNS, dtype=torch.float)
        weights[EVIDENCE : EVIDENCE + 4] = 1.0
        return weights @ self.rows

    def generate(
        self, batch: Batch, max_new_tokens: int, hooks: Mapping[Hookpoint, Hook] | None = None
    ) -> list[str]:
        logits = self.forward(batch, hooks)
        assert logits is not None
        return [WORDS[i] for i in logits.argmax(-1).tolist()]

    def token_id(self, word: str) -> int:
        return WORDS.index(word)


def families(numbers: Sequence[int], seed: int) -> list[Record]:
    """Per family one topic: a figure with the thing and one without; some also without any."""
    random = np.random.default_rng(seed)
    return [record for number in numbers for record in _family(number, random)]


def _family(number: int, random: np.random.Generator) -> list[Record]:
    topic, expected = TOPICS[number % 4], SIGNS[number % 4] > 0
    strength = int(random.integers(13, 18)) if number % 8 < 6 else 0
    kind = ("prior_yes" if expected else "prior_no") if strength else "matched"
    common: dict[str, str | None] = {
        "category": "VS", "subcategory": "map", "set_id": str(number), "question_id": "0",
        "question": f"is there a {topic} ?", "topic": topic, "kind": kind,
    }  # fmt: skip
    rows = []
    for figure, present in ((1, True), (2, False)):
        shown = {
            "present": str(int(present)),
            "strength": str(strength),
            "noise": str(number % 250),
        }
        rows.append(
            {**common, **shown, "figure_id": str(figure), "visual_input": str(figure)}
            | {"gt_answer": str(int(present)), "filename": f"{number}_{figure}.png"}
        )
    if number % 16 in (2, 3):
        unseen = {"figure_id": "0", "visual_input": "0", "filename": None, "kind": "blind"}
        rows.append({**common, **unseen, "gt_answer": str(int(expected))})
    return rows


def figure_of(record: Record) -> Image.Image:
    keys = ("present", "strength", "noise")
    return Image.new("RGB", (2, 2), tuple(int(record[key] or 0) for key in keys))


@dataclass(frozen=True)
class PlantedImages:
    """Figures without their questions: all that an SAE's L0 is measured on."""

    records: Sequence[Record]
    name: str = "planted"
    revision: str = "planted-1"

    @property
    def ids(self) -> list[str]:
        return [str(record["filename"]) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def image(self, i: int) -> Image.Image:
        return figure_of(self.records[i])


@dataclass
class PlantedProvider:
    """Questions of 48 dev families and 64 others."""

    dev: list[Record] = field(default_factory=lambda: families(range(1000, 1048), seed=1))
    test: list[Record] = field(default_factory=lambda: families(range(64), seed=2))
    revision: str = "planted-questions-1"
    note: str = "planted"
    default_hookpoints: Sequence[str] = ("model.layers.0", "model.layers.1")
    lmm: PlantedLMM = field(default_factory=PlantedLMM)

    def load_lmm(self) -> PlantedLMM:
        return self.lmm

    def sae_training_prompts(self, n: int, seed: int) -> list[Prompt]:
        return [Prompt(str(r["question"]), figure_of(r)) for r in self.dev[:n] if r["filename"]]

    def images(self, split: str, n: int, seed: int) -> PlantedImages:
        return PlantedImages([record for record in self.dev if record["filename"]][:n])

    def questions(self, split: str) -> RecordQuestions:
        records = {"dev": self.dev, "test": self.test, "all": [*self.dev, *self.test]}[split]
        return RecordQuestions(records, figure_of, f"{self.revision}/{split}")


@dataclass
class Planted:
    """A subject with true latents, and where to keep what is made of it."""

    lmm: PlantedLMM
    sae: TrainedSae
    provider: PlantedProvider

    def context(self, root: Path | None = None, **params: Any) -> Context[Subject]:
        provider: Any = self.provider
        subject = Subject(self.lmm, [self.sae], provider)
        return Context(subject, ArtefactStore(root), SilentProgress(), params=params)

    def with_sae(self, **changes: Any) -> Planted:
        """The same model read through a changed dictionary."""
        changed = replace(self.sae.sae, **changes)
        sae = TrainedSae(self.sae.name, self.sae.hookpoint, changed)
        return Planted(self.lmm, sae, self.provider)


@pytest.fixture
def planted() -> Planted:
    """Latents 0-3 are the priors of boat, tree, car, moon; 4-7 their evidence."""
    lmm = PlantedLMM()
    rows = dictionary()
    silent = {"b_enc": torch.zeros(N_LATENTS), "b_dec": torch.zeros(D_MODEL)}
    sae = TopK(W_enc=rows, W_dec=rows, k=4, **silent)
    trained = TrainedSae("true", lmm.hookpoint("model.layers.0"), sae)
    return Planted(lmm, trained, PlantedProvider(lmm=lmm))


@pytest.fixture
def task_lines(planted: Planted) -> Callable[..., list[dict[str, Any]]]:
    """All lines of a task on the planted subject, without a run directory."""

    def lines(task: Any, subject: Planted = planted, **params: Any) -> list[dict[str, Any]]:
        context = subject.context(**params)
        samples = list(task.samples(context))
        found = []
        for start in range(0, len(samples), task.batch_size):
            batch = samples[start : start + task.batch_size]
            outcomes = zip(batch, task.evaluate(batch, context), strict=True)
            found += [line_document(task.spec, "strict", s, o) for s, o in outcomes]
        return found

    return lines


@pytest.fixture(scope="session")
def published_folder() -> Callable[[str], Path]:
    """The folder of a set; skips where there is none."""

    def folder(name: str) -> Path:
        roots = [os.environ.get("LMMSAE_EVAL_TEST_DATA"), REPOSITORY.parent / "shared" / "data"]
        found = next((Path(r) / name for r in roots if r and (Path(r) / name).is_dir()), None)
        if found is None:
            pytest.skip(f"{name} is not in ../shared/data nor in $LMMSAE_EVAL_TEST_DATA")
        return found

    return folder


@pytest.fixture(scope="session")
def hallusionbench(published_folder: Callable[[str], Path]) -> list[dict[str, Any]]:
    """The 1,129 records; they are nobody's to copy into this repository."""
    file = published_folder("hallusionbench") / "HallusionBench.json"
    records: list[dict[str, Any]] = json.loads(file.read_text())
    return records
