"""lm-eval's benchmarks on an LMM with an SAE in its residual stream.

`spliced_model` is lm-eval's own `hf-multimodal` with hooks: everything that it can run shows what
the SAE costs, or what steering does. Needs the extra `lm-eval`. `benchmarks/lm_eval_task.py` writes
HallusionBench as one of its tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..sae.hf import TransformersLMM
    from ..sae.lmm import Hook
    from ..sae.sae import TrainedSae

RECONSTRUCTION, ERROR, STEERED = "reconstruction", "reconstruction+error", "steered"


@dataclass(frozen=True, slots=True)
class Splice:
    """What is done at the SAE's hookpoint."""

    arm: str = RECONSTRUCTION
    """`reconstruction`; `reconstruction+error`, which changes nothing; `steered`, which keeps the
    error.
    """
    latents: tuple[int, ...] = ()
    scale: float = 0.0
    """Of the latents' values when steered: 0 ablates, -1 flips."""

    def hook(self, trained: TrainedSae) -> Hook:
        """Raises `UsageError` on an unknown arm, or on steering without latents of the SAE."""
        import torch

        from ..sae.steering import reconstruct, steer

        if self.arm in (RECONSTRUCTION, ERROR):
            return reconstruct(trained.sae, error=self.arm == ERROR)
        known = range(trained.sae.n_latents)
        if self.arm != STEERED or not self.latents or not all(j in known for j in self.latents):
            raise UsageError(
                f"arm {self.arm!r} with latents {list(self.latents)}; choose {RECONSTRUCTION}, "
                f"{ERROR}, or {STEERED} with latents below {len(known)}"
            )
        return steer(trained.sae, torch.tensor(self.latents), self.scale)


def spliced_model(
    pretrained: str | Path,
    sae: str | Path,
    splice: Splice | None = None,
    *,
    layer: str | int | None = None,
    **options: Any,
) -> Any:
    """An lm-eval model for `simple_evaluate(model=...)`; `options` are `hf-multimodal`'s.

    `layer` chooses among several SAEs of `sae`. Raises `UsageError` in one line.
    """
    try:
        from lm_eval.models.hf_vlms import HFMultimodalLM
    except ImportError as error:
        raise UsageError("lm-eval is not installed; pip install 'lmmsae-eval[lm-eval]'") from error
    from ..sae.hf import TransformersLMM

    model = HFMultimodalLM(str(pretrained), **options)
    lmm = TransformersLMM(model.model, model.processor, str(pretrained), identity="")
    trained = one_sae(lmm, sae, layer)
    lmm.attach({trained.hookpoint: (splice or Splice()).hook(trained)})
    return model


def one_sae(lmm: TransformersLMM, ref: str | Path, layer: str | int | None) -> TrainedSae:
    """The SAE at `layer`, or the only one. Raises `UsageError` when there are several."""
    from .loading import load_saes

    found = load_saes(lmm, [ref], [] if layer is None else [layer])
    if len(found) > 1:
        places = ", ".join(str(sae.hookpoint) for sae in found)
        raise UsageError(f"{ref} holds SAEs at {places}; choose one with layer=")
    return found[0]
