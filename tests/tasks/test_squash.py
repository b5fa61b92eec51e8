"""Under the paper's protocols the model sees what the paper's saw: squashed pictures, no tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.sae.formats import save_sae
from lmmsae_eval.sae.image_tokens import image_tokens
from lmmsae_eval.sae.lmm import Prompt, TokenKind
from lmmsae_eval.sae.load import load_lmm
from lmmsae_eval.sae.topk import TopK
from lmmsae_eval.tasks.loading import open_subject
from lmmsae_eval.tasks.request import Request
from lmmsae_eval.testbed.images import drawn_images
from lmmsae_eval.testbed.provider import WEIGHTS
from PIL import Image

PAPERS = ["paper", "released"]
QUESTION = "is there a boat ?"


@pytest.mark.parametrize("protocol", PAPERS)
@pytest.mark.parametrize("given", [{}, {"image_tokens": "squash"}], ids=str)
def test_the_papers_protocols_squash_and_the_run_says_so(
    protocol: str, given: dict[str, str]
) -> None:
    request = Request.of("iou", model="owner/name", protocol=protocol, loading=given)
    assert request.loading == {"image_tokens": "squash"}
    assert request.document()["loading"] == {"image_tokens": "squash"}


@pytest.mark.parametrize("protocol", PAPERS)
@pytest.mark.parametrize("view", ["all", "base", "tile"])
def test_other_image_tokens_are_refused_in_one_line(protocol: str, view: str) -> None:
    with pytest.raises(UsageError, match=f"leave out --image-tokens {view}") as error:
        Request.of("iou", model="owner/name", protocol=protocol, loading={"image_tokens": view})
    assert "\n" not in str(error.value)


def test_strict_reads_what_was_asked_for_and_a_testbed_is_loaded_as_it_is() -> None:
    assert Request.of("iou", model="owner/name").loading == {}
    tile = {"image_tokens": "tile"}
    assert Request.of("iou", model="owner/name", loading=tile).loading == tile
    for protocol in PAPERS:
        assert "loading" not in Request.of("iou", protocol=protocol).document()


@pytest.mark.parametrize(("protocol", "kinds"), [("strict", {3, 4, 5}), ("paper", {3, 5})])
def test_an_anyres_model_reads_its_base_grid_alone(
    protocol: str, kinds: set[int], tiny_anyres_folder: Path, tmp_path: Path
) -> None:
    save_sae(TopK.random(48, 32, 4, seed=0), tmp_path / "sae" / "model.layers.1")
    saes = tmp_path / "sae"
    request = Request.of("clip", [saes], model=str(tiny_anyres_folder), protocol=protocol)
    lmm = open_subject(request, None, SilentProgress()).lmm
    assert lmm.identity.endswith("+squash") == (protocol == "paper")
    [tokens] = image_tokens(lmm.prepare([Prompt(QUESTION, Image.new("RGB", (120, 50)))]))
    assert set(tokens.kinds.tolist()) == kinds
    base = tokens.boxes[tokens.kinds == TokenKind.IMAGE]
    assert len(base) == 64
    assert base[-1].tolist() == [105, 43.75, 120, 50]


def test_on_the_testbed_squashing_changes_nothing(testbed_squashed: Any) -> None:
    plain, images = load_lmm("testbed"), drawn_images("search", 4, 0)
    prompts = [Prompt(QUESTION, images.image(i)) for i in range(4)]
    before, after = plain.prepare(prompts), testbed_squashed.prepare(prompts)
    assert before.inputs.keys() == after.inputs.keys()
    for name, tensor in before.inputs.items():
        assert torch.equal(after.inputs[name], tensor), name
    assert torch.equal(before.kinds, after.kinds)
    assert all(map(torch.equal, before.boxes, after.boxes))


@pytest.fixture(scope="module")
def testbed_squashed() -> Any:
    return load_lmm(WEIGHTS / "lmm", device="cpu", image_tokens="squash")


@pytest.fixture(scope="module")
def tiny_anyres_folder(tiny_families: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random LLaVA-NeXT."""
    folder = tmp_path_factory.mktemp("llava-next")
    lmm = tiny_families.tiny("llava_next")
    lmm.model.save_pretrained(folder)
    lmm.processor.save_pretrained(folder)
    return folder
