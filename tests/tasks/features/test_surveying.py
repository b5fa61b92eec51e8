"""How images are ranked, which are left out, and what an interrupted survey keeps."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.tasks.features import exemplars, resuming, stream
from lmmsae_eval.tasks.features.duplicates import distinct, hashes, image_hash
from lmmsae_eval.tasks.features.exemplars import survey_images
from lmmsae_eval.tasks.features.resuming import State, state_of
from lmmsae_eval.tasks.features.selection import Entries
from lmmsae_eval.tasks.features.stream import Chunk
from lmmsae_eval.tasks.features.surveying import Looking, Surveyor, base_view
from PIL import Image


def one_chunk(values: np.ndarray) -> tuple[Chunk, Entries]:
    """Images x tokens x latents, zeros silent."""
    images, tokens, latents = np.nonzero(values)
    entries = Entries(
        latents.astype(np.int32),
        images.astype(np.int32),
        tokens.astype(np.int32),
        values[images, tokens, latents].astype(np.float32),
    )
    boxes = [np.zeros((values.shape[1], 4), np.float32)] * len(values)
    return Chunk(np.arange(len(values), dtype=np.int32), boxes, [entries]), entries


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", lambda v: v.mean(1)),
        ("max", lambda v: v.max(1)),
        # The nearest rank: of 200 tokens the third largest, 198 lie at or below it.
        ("p99", lambda v: np.sort(v, axis=1)[:, 197]),
    ],
)
def test_an_image_is_ranked_by_the_pooling_over_all_its_tokens(pooling: Any, expected: Any) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((9, 200, 3)) * (rng.random((9, 200, 3)) < 0.03)
    chunk, entries = one_chunk(values)
    surveyor = Surveyor(3, seed=0, pooling=pooling)
    surveyor.add(chunk, entries)
    wanted = expected(values)
    for latent in range(3):
        top = surveyor._top
        for image, pooled in zip(top.images[latent], top.pooled[latent], strict=True):
            assert pooled == pytest.approx(wanted[image, latent], rel=1e-5)
        assert (np.diff(top.pooled[latent]) <= 0).all()
        assert top.pooled[latent, 0] == pytest.approx(wanted[:, latent].max(), rel=1e-5)


def test_an_unknown_pooling_is_one_line() -> None:
    wrong: Any = "median"
    with pytest.raises(UsageError, match="mean, max, p99"):
        Surveyor(3, 0, wrong)


def test_tokens_of_tiles_do_not_count_in_the_base_view() -> None:
    values = np.zeros((2, 8, 1))
    values[:, 1], values[:, 6] = 1, 50
    chunk, _ = one_chunk(values)
    corners = np.array([(0, 0), (4, 0), (0, 4), (4, 4)])
    base = np.hstack([corners, corners + 4]).astype(np.float32)
    chunk.boxes[:] = [np.concatenate([base, base])] * 2  # type: ignore[index]
    seen = base_view(chunk)
    assert [len(boxes) for boxes in seen.boxes] == [4, 4]
    assert seen.entries[0].tokens.tolist() == [1, 1]


class Killed(Exception):
    pass


def survey(world: Any, images: Any, **kwargs: Any) -> Any:
    saes = [world.perfect_sae(), world.perfect_sae().untrained(1)]
    return survey_images(
        world.SeeingLMM(), saes, images, seed=0, progress=SilentProgress(), **kwargs
    )


@pytest.mark.parametrize("killed_at", [7, 20, 39])
def test_stopped_anywhere_it_goes_on_to_the_same_result(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr(stream, "GROUP", 5)
    images = world.Drawn(40)
    whole = survey(world, images)
    state = State(tmp_path / "x" / "state.npz", every=10)
    looked: list[int] = []

    class Stopping(world.Drawn):  # type: ignore[name-defined,misc]
        def image(self, i: int) -> Image.Image:
            looked.append(i)
            if i == killed_at and looked.count(i) == 1:
                raise Killed
            return super().image(i)

    with pytest.raises(Killed):
        survey(world, Stopping(40), state=state)
    before = len(looked)
    resumed = survey(world, Stopping(40), state=state)
    again = looked[before:]
    assert again == list(range(killed_at // 10 * 10, 40))
    for a, b in zip(whole, resumed, strict=True):
        for group in ("top", "decile"):
            for name in ("images", "pooled", "starts", "tokens", "values"):
                np.testing.assert_array_equal(
                    getattr(getattr(a, group), name), getattr(getattr(b, group), name)
                )
        for name in ("fired_images", "fired_tokens", "mass", "maximum", "layout_of"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        np.testing.assert_array_equal(a.strengths.counts, b.strengths.counts)
        np.testing.assert_array_equal(a.strengths.octave, b.strengths.octave)
        assert (a.n_images, a.n_tokens) == (b.n_images, b.n_tokens)


def killed_by(world: Any, state: State, at: str, tmp_path: Path) -> int:
    """A process that surveys 40 images is killed by the system; how many it had looked at."""
    looked = tmp_path / "looked"

    class Deadly(world.Drawn):  # type: ignore[name-defined,misc]
        def image(self, i: int) -> Image.Image:
            with looked.open("a") as file:
                file.write("x")
            if at == f"image {i}":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().image(i)

    def half_a_file(path: Path, **arrays: Any) -> None:
        if sum(1 for _ in looked.read_text()) >= 30:
            path.write_bytes(b"PK\x03\x04 half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        savez(path, **arrays)

    savez = np.savez
    if (child := os.fork()) == 0:
        # A fork has none of its parent's worker threads; with one, torch waits for no others.
        torch.set_num_threads(1)
        resuming.np.savez = half_a_file if at == "saving" else savez  # type: ignore[attr-defined]
        survey(world, Deadly(40), state=state)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return len(looked.read_text())


@pytest.mark.parametrize(
    ("at", "kept"), [("image 3", 0), ("image 17", 10), ("image 33", 30), ("saving", 20)]
)
def test_killed_by_the_system_it_goes_on_from_the_last_saving(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, kept: int
) -> None:
    monkeypatch.setattr(stream, "GROUP", 5)
    state = State(tmp_path / "x" / "state.npz", every=10)
    assert killed_by(world, state, at, tmp_path) > kept
    lmm = world.SeeingLMM()
    saes = [world.perfect_sae(), world.perfect_sae().untrained(1)]
    options: dict[str, Any] = {"seed": 0, "progress": SilentProgress()}
    resumed = survey_images(lmm, saes, world.Drawn(40), state=state, **options)
    assert lmm.n_images == 40 - kept
    for a, b in zip(survey(world, world.Drawn(40)), resumed, strict=True):
        for group in ("top", "decile"):
            np.testing.assert_array_equal(getattr(a, group).images, getattr(b, group).images)
            np.testing.assert_array_equal(getattr(a, group).values, getattr(b, group).values)
        np.testing.assert_array_equal(a.strengths.counts, b.strengths.counts)
        np.testing.assert_array_equal(a.fired_tokens, b.fired_tokens)


def test_a_damaged_state_is_started_anew(world: Any, tmp_path: Path) -> None:
    state = State(tmp_path / "state.npz", every=10)
    state.file.write_bytes(b"PK\x03\x04 half a file")
    assert survey(world, world.Drawn(12), state=state)[0].n_images == 12


def test_a_finished_survey_leaves_no_state_behind(
    world: Any, tmp_path: Path, study_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmmsae_eval.tasks.features.study import surveys

    context = study_context(root=tmp_path)
    surveys(context, context.subject.search)
    assert not list(tmp_path.rglob("state.npz"))
    assert state_of(ArtefactStore(), {"a": 1}) is None
    assert exemplars.TOP == 5


def picture(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((200, 160), Image.Resampling.BICUBIC)


def distance(a: Image.Image, b: Image.Image) -> int:
    return (image_hash(a) ^ image_hash(b)).bit_count()


def test_a_copy_smaller_brighter_and_compressed_is_near_and_another_picture_is_far(
    tmp_path: Path,
) -> None:
    original = picture(1)
    original.resize((90, 70)).point(lambda v: min(255, v + 12)).save(tmp_path / "x.jpg", quality=60)
    with Image.open(tmp_path / "x.jpg") as copy:
        assert distance(original, copy) <= 6
    assert min(distance(picture(i), picture(j)) for i in range(6) for j in range(i)) > 12


def test_of_near_duplicates_the_first_stays() -> None:
    found = np.array([0b0000, 0b0001, 0b1111, 0b0111, 0b0000], np.uint64)
    assert distinct(found, 0) == [0, 1, 2, 3]
    assert distinct(found, 1) == [0, 2]
    assert distinct(found, 64) == [0]
    assert distinct(found, 1, seen=np.array([0b1111], np.uint64)) == [0]
    assert distinct(np.zeros(0, np.uint64), 4) == []


def test_left_out_images_are_no_exemplars_and_no_negatives(world: Any, study_context: Any) -> None:
    from lmmsae_eval.tasks.features.choosing import kept_images
    from lmmsae_eval.tasks.features.presence import presence
    from lmmsae_eval.tasks.features.study import surveys

    context = study_context(near_duplicates=0)
    images = context.subject.score
    kept = kept_images(context, images)
    found = hashes(images)
    assert len(kept) == len({*found.tolist()} - {*hashes(context.subject.search).tolist()})
    one = surveys(context, images)[0]
    assert set(one.top.images.ravel().tolist()) <= {-1, *kept}
    assert one.n_images == len(kept)
    assert presence(context, images)[0].images.tolist() == kept


def test_the_default_way_of_looking_adds_nothing_to_the_key() -> None:
    assert Looking().key() == {}
    assert Looking("max").key() == {"pooling": "max", "base_only": False}
