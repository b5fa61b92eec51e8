"""Selecting images from a stream: exactly the best, whatever the grouping, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.tasks.features.selection import (
    Entries,
    Selector,
    TokenStore,
    random_deciles,
)

N_LATENTS, TOKENS = 5, 6


def random_entries(rng: np.random.Generator, images: range) -> Entries:
    """About a third of all (image, token) pairs carry one latent."""
    rows = [
        (int(rng.integers(N_LATENTS)), image, token, float(rng.integers(1, 5)))
        for image in images
        for token in range(TOKENS)
        if rng.random() < 0.35
    ]
    latents, at, tokens, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Entries(
        np.array(latents, np.int32),
        np.array(at, np.int32),
        np.array(tokens, np.int32),
        np.array(values, np.float32),
    )


def pooled(entries: Entries, n_images: int) -> np.ndarray:
    sums = np.zeros((n_images, N_LATENTS), np.float32)
    np.add.at(sums, (entries.images, entries.latents), entries.values)
    return sums / TOKENS


def stream_through(entries: Entries, n_images: int, group: int, size: int = 3) -> tuple:
    selector = Selector(N_LATENTS, size)
    store = TokenStore([selector])
    means = pooled(entries, n_images)
    for start in range(0, n_images, group):
        images = np.arange(start, min(start + group, n_images), dtype=np.int32)
        part = means[images]
        selector.offer(np.where(part > 0, part, -np.inf).astype(np.float32), part, images)
        store.add(entries.where(np.isin(entries.images, images)))
    return selector, store


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 50))
def test_the_gallery_holds_the_best_images_with_all_their_tokens(
    seed: int, n_images: int, group: int
) -> None:
    entries = random_entries(np.random.default_rng(seed), range(n_images))
    selector, store = stream_through(entries, n_images, group)
    gallery = selector.gallery(store.entries())
    means = pooled(entries, n_images)
    for latent in range(N_LATENTS):
        order = np.lexsort((np.arange(n_images), -means[:, latent]))
        best = [i for i in order if means[i, latent] > 0][:3]
        assert gallery.images[latent, : len(best)].tolist() == best
        assert gallery.count(latent) == len(best)
        for slot, image in enumerate(best):
            mine = (entries.latents == latent) & (entries.images == image)
            tokens, values = gallery.active(latent, slot)
            assert tokens.tolist() == entries.tokens[mine].tolist()
            assert values.tolist() == entries.values[mine].tolist()


def test_the_earlier_image_wins_a_tie() -> None:
    selector = Selector(1, 2)
    for start in (0, 2):
        ones = np.ones((2, 1), np.float32)
        selector.offer(ones, ones, np.arange(start, start + 2, dtype=np.int32))
    assert selector.images.tolist() == [[0, 1]]


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    held = []
    for n_images in (1_000, 10_000):
        selector = Selector(50, 3)
        store = TokenStore([selector])
        store._limit = 256
        rng = np.random.default_rng(0)
        most = 0
        for image in range(n_images):
            values = rng.random((1, 50), np.float32)
            entries = Entries(
                np.arange(50, dtype=np.int32),
                np.full(50, image, np.int32),
                np.zeros(50, np.int32),
                values[0],
            )
            selector.offer(values, values, np.array([image], np.int32))
            store.add(entries)
            most = max(most, store._size)
        held.append(most)
    assert max(held) <= (1 << 16) + 50
    assert held[1] <= max(held[0], 1 << 16)
    assert len(store.entries()) == 50 * 3


def test_taking_slots_keeps_their_tokens() -> None:
    entries = random_entries(np.random.default_rng(3), range(30))
    selector, store = stream_through(entries, 30, 8)
    gallery = selector.gallery(store.entries())
    slots = np.full((N_LATENTS, 2), -1)
    slots[:, 0] = 2
    taken = gallery.take(slots)
    for latent in range(N_LATENTS):
        assert taken.images[latent].tolist() == [gallery.images[latent, 2], -1]
        assert taken.active(latent, 0)[0].tolist() == gallery.active(latent, 2)[0].tolist()
        assert taken.active(latent, 1)[0].size == 0
        assert taken.count(latent) == (gallery.images[latent, 2] >= 0)


def uniform_gallery(n_images: int, size: int, seed: int = 0) -> tuple:
    """One latent that fires on every image, the more the later: the top 5 and a random sample."""
    top, sample = Selector(1, 5), Selector(1, size)
    rng = np.random.default_rng(seed)
    images = np.arange(n_images, dtype=np.int32)
    means = (images[:, None] + 1).astype(np.float32)
    top.offer(means, means, images)
    sample.offer(rng.random((n_images, 1), np.float32), means, images)
    empty = Entries.concatenate([])
    return top.gallery(empty), sample.gallery(empty)


def test_random_deciles_leave_out_the_top_images_and_never_repeat_one() -> None:
    top, sample = uniform_gallery(100, 24)
    chosen = random_deciles(sample, top, 5, seed=0)
    images = chosen.images[0]
    assert chosen.count(0) == 5
    assert len(set(images.tolist())) == 5
    assert not set(images.tolist()) & set(range(95, 100))


def test_random_deciles_come_from_all_of_the_range() -> None:
    means = []
    for seed in range(200):
        top, sample = uniform_gallery(100, 24, seed)
        means.append(random_deciles(sample, top, 5, seed).images[0].mean())
    assert np.mean(means) == pytest.approx(47, abs=3)


def test_a_latent_that_fires_on_few_images_gives_those_that_there_are() -> None:
    top, sample = uniform_gallery(8, 24)
    assert random_deciles(sample, top, 5, 0).count(0) == 3
    top, sample = uniform_gallery(4, 24)
    assert random_deciles(sample, top, 5, 0).count(0) == 0
