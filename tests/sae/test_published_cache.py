"""The paper's activation caches and filters, written here exactly as its code writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.progress import Quiet
from lmmsae_eval.sae.published_cache import PublishedCache, published_caches, read_filter
from safetensors.torch import save_file
from torch import Tensor

WIDTH, SPLITS = 64, 4
LOST = [15, 31, 47, 63]


class Heard(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def dense_latents(seed: int = 0) -> Tensor:
    """`(images, positions, latents)`: every latent fires."""
    dense = torch.rand(5, 7, WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.where(dense > 0.8, dense, 0.0)


def write(folder: Path, dense: Tensor, prefix: str = "", first_image: int = 0) -> None:
    """Edges by linspace, a name that gives the last latent, and a comparison that loses it."""
    folder.mkdir(parents=True, exist_ok=True)
    locations = dense.abs().gt(1e-5).nonzero()
    values = dense[dense.abs() > 1e-5]
    locations[:, 0] += first_image
    edges = torch.linspace(0, WIDTH, steps=SPLITS + 1).long()
    for start, end in zip(edges[:-1], edges[1:] - 1, strict=True):
        kept = (locations[:, 2] >= start) & (locations[:, 2] < end)
        split = {"locations": locations[kept], "activations": values[kept]}
        save_file(split, folder / f"{prefix}{start}_{end}.safetensors")


@pytest.fixture
def cache(tmp_path: Path) -> PublishedCache:
    write(tmp_path / "model.layers.24", dense_latents())
    return published_caches(tmp_path, Quiet())[0]


def test_a_latents_firings_are_those_that_were_written(cache: PublishedCache) -> None:
    dense = dense_latents()
    for latent in set(range(WIDTH)) - set(LOST):
        found = cache.of(latent)
        again = torch.zeros(dense.shape[:2])
        again[found.images, found.positions] = found.values
        assert torch.equal(again, dense[..., latent])


def test_the_latents_that_the_writer_lost_are_named_in_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "model.layers.24", dense_latents())
    heard = Heard()
    [cache] = published_caches(tmp_path, heard)
    assert cache.edges == LOST
    assert heard.said == [
        "model.layers.24: the code that wrote this cache lost the last latent of each file; "
        "nothing is known of 4 latents (15, 31, 47, 63)"
    ]


def test_a_lost_latent_is_an_error_and_not_a_silent_one(cache: PublishedCache) -> None:
    with pytest.raises(UsageError, match=r"latent 31 .* is the last of its file"):
        cache.of(31)
    with pytest.raises(UsageError, match="holds latent 64"):
        cache.of(64)


def test_a_last_latent_that_a_mended_writer_kept_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "model.layers.7"
    folder.mkdir()
    kept = {"locations": torch.tensor([[2, 3, 31]]), "activations": torch.tensor([0.5])}
    save_file(kept, folder / "0_31.safetensors")
    found = published_caches(folder, Quiet())[0].of(31)
    assert (found.images.tolist(), found.positions.tolist(), found.values.tolist()) == (
        [2], [3], [0.5]
    )  # fmt: skip


def test_hookpoints_come_in_the_order_of_layers_and_ranks_are_merged(tmp_path: Path) -> None:
    for rank in (0, 1):
        write(tmp_path / "model.layers.7", dense_latents(rank), f"Rank{rank}_", 5 * rank)
    write(tmp_path / "layers.24", dense_latents())
    (tmp_path / "notes").mkdir()
    first, second = published_caches(tmp_path, Quiet())
    assert (first.hookpoint, second.hookpoint) == ("model.layers.7", "model.layers.24")
    both = torch.cat([dense_latents(0), dense_latents(1)])[..., 3]
    found = first.of(3)
    again = torch.zeros(both.shape)
    again[found.images, found.positions] = found.values
    assert torch.equal(again, both)


DAMAGED = {
    "without activations": {"locations": torch.zeros(2, 3, dtype=torch.int64)},
    "two columns": {
        "locations": torch.zeros(2, 2, dtype=torch.int64),
        "activations": torch.ones(2),
    },
    "too few": {"locations": torch.zeros(2, 3, dtype=torch.int64), "activations": torch.ones(3)},
    "another range": {"locations": torch.tensor([[0, 0, 99]]), "activations": torch.ones(1)},
    "nan": {"locations": torch.tensor([[0, 0, 1]]), "activations": torch.tensor([torch.nan])},
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "model.layers.24"
    folder.mkdir()
    save_file(DAMAGED[what], folder / "0_15.safetensors")
    with pytest.raises(UsageError, match=r"0_15\.safetensors") as error:
        published_caches(folder, Quiet())[0].of(1)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no activation cache in"):
        published_caches(tmp_path, Quiet())


def test_a_filter_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "filters_5k.json"
    path.write_text(json.dumps({"model.layers.24": [0, 1, 4999]}))
    assert read_filter(path) == {"model.layers.24": [0, 1, 4999]}


@pytest.mark.parametrize(
    "text", ["[]", '{"model.layers.24": 3}', '{"x": [-1]}', '{"x": ["1"]}', "{"]
)
def test_what_is_no_filter_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "filter.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="filter"):
        read_filter(path)
