"""SAEs that nobody has to bring: trained once on the testbed's pictures, kept by content."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..harness.artefacts import ArtefactStore
    from ..harness.progress import Progress
    from ..sae.lmm import LMM, Hookpoint
    from ..sae.sae import SAE, TrainedSae
    from .subject import Provider

_KIND = "sae"
_PRESET = "small"


@dataclass(frozen=True, slots=True)
class DefaultRecipe:
    """Small on purpose: the world has few concepts, and wide dictionaries split them."""

    n_latents: int = 256
    k: int = 4
    n_tokens: int = 1_000_000
    n_prompts: int = 2000
    seed: int = 0
    version: int = 2
    """Bumped whenever the trainer would make other weights of the same recipe."""

    @property
    def name(self) -> str:
        return f"topk-{self.n_latents}-k{self.k}"


RECIPE = DefaultRecipe()


def trained_saes(
    lmm: LMM,
    provider: Provider,
    hookpoints: Sequence[Hookpoint],
    store: ArtefactStore,
    progress: Progress,
    recipe: DefaultRecipe,
) -> list[TrainedSae]:
    """One SAE per hookpoint. What the store lacks is trained together, from the same forwards."""
    from ..sae.topk import TrainedSae

    keys = {h: _key(lmm, provider, h, recipe) for h in hookpoints}
    stored = [artefact.key for artefact in store.ls() if artefact.kind == _KIND]
    missing = [h for h in hookpoints if keys[h] not in stored]
    made = _train(lmm, provider, missing, progress, recipe) if missing else {}
    saes = {
        h: store.get(_KIND, keys[h], partial(made.__getitem__, h), _save, _load) for h in hookpoints
    }
    return [TrainedSae(recipe.name, hookpoint, sae) for hookpoint, sae in saes.items()]


def _key(
    lmm: LMM, provider: Provider, hookpoint: Hookpoint, recipe: DefaultRecipe
) -> dict[str, Any]:
    """Everything that decides the weights. Which others are trained beside it doesn't."""
    from ..sae.learner import auxk_for
    from ..sae.recipe import recipe_for, settings

    trainer = recipe_for(_PRESET, **_chosen(recipe))
    auxk = auxk_for(trainer, lmm.d_model)
    told = settings(trainer)
    del told["architecture"]  # always topk, and keys are older than the others
    return {
        "model": lmm.identity,
        "data": provider.revision,
        "hookpoint": hookpoint.name,
        "recipe": asdict(recipe),
        "trainer": told | {"auxk_k": auxk.k if auxk else None},
    }


def _chosen(recipe: DefaultRecipe) -> dict[str, Any]:
    """What differs from the trainer's preset."""
    return {
        "n_latents": recipe.n_latents,
        "k": recipe.k,
        "n_tokens": recipe.n_tokens,
        "seed": recipe.seed,
    }


def _train(
    lmm: LMM,
    provider: Provider,
    hookpoints: Sequence[Hookpoint],
    progress: Progress,
    recipe: DefaultRecipe,
) -> dict[Hookpoint, SAE]:
    from ..sae.train import train

    names = ", ".join(hookpoint.name for hookpoint in hookpoints)
    progress.say(f"no SAE in the cache for {names}: training")
    prompts = list(provider.sae_training_prompts(recipe.n_prompts, recipe.seed))
    out = Path(tempfile.mkdtemp(prefix="lmmsae-eval-"))
    try:
        folders = train(
            lmm,
            prompts,
            hookpoints,
            out=out,
            preset=_PRESET,
            progress=progress,
            **_chosen(recipe),
        )
        return {h: _load(folder) for h, folder in zip(hookpoints, folders, strict=True)}
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _save(sae: SAE, folder: Path) -> None:
    from ..sae.formats import save_sae

    save_sae(sae, folder)


def _load(folder: Path) -> SAE:
    from ..sae.formats import load_sae

    return load_sae(folder)[0][1]
