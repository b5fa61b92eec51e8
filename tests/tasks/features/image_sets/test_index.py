"""Which pictures are searched and which are held out."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.errors import BadImageError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.tasks.features.duplicates import image_hash
from lmmsae_eval.tasks.features.image_sets import index
from lmmsae_eval.tasks.features.image_sets.index import HELD_OUT, read_index, split
from lmmsae_eval.tasks.features.image_sets.rows import FolderRows
from PIL import Image


def picture(seed: int, side: int = 90) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side + 10, side), Image.Resampling.BICUBIC)


def folder_of(path: Path, n: int) -> Path:
    path.mkdir()
    for i in range(n):
        picture(i).save(path / f"{i:02d}.png")
    return path


def sides(own: Any) -> dict[str, str]:
    found = dict.fromkeys(own.search.ids, "search")
    return found | dict.fromkeys(own.score.ids, "score")


def test_a_third_is_held_out_by_the_picture_alone() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**63, 3000).astype(np.uint64)
    search, score = split(hashes, 0)
    assert len(score) / 3000 == pytest.approx(HELD_OUT, abs=0.03)
    assert sorted([*search, *score]) == list(range(3000))
    backwards = hashes[::-1]
    assert {int(backwards[i]) for i in split(backwards, 0)[1]} == {int(hashes[i]) for i in score}
    some = hashes[:700]
    assert {int(some[i]) for i in split(some, 0)[1]} <= {int(hashes[i]) for i in score}


def test_planted_copies_are_dropped_and_never_on_both_sides(tmp_path: Path, open_set: Any) -> None:
    """Ten pictures, each with a smaller, brighter, compressed copy."""
    folder = folder_of(tmp_path / "set", 10)
    for i in range(10):
        copy = picture(i, 60).point(lambda v: min(255, v + 10))
        copy.save(folder / f"{i:02d}-copy.jpg", quality=70)
        assert (image_hash(copy) ^ image_hash(picture(i))).bit_count() <= 4
    own = open_set(folder, near=4)
    assert own.n_dropped == 10
    assert sorted(name[:2] for name in sides(own)) == [f"{i:02d}" for i in range(10)]
    hashes = [image_hash(own.search.image(i)) for i in range(len(own.search))]
    for i in range(len(own.score)):
        held = image_hash(own.score.image(i))
        assert min((held ^ one).bit_count() for one in hashes) > 4


def test_names_and_neighbours_do_not_move_a_picture(tmp_path: Path, open_set: Any) -> None:
    before = open_set(folder_of(tmp_path / "set", 12))
    (tmp_path / "set" / "03.png").rename(tmp_path / "set" / "zz.png")
    picture(99).save(tmp_path / "set" / "new.png")
    after = sides(open_set(tmp_path / "set"))
    wanted = {("zz.png" if name == "03.png" else name): s for name, s in sides(before).items()}
    assert {name: side for name, side in after.items() if name != "new.png"} == wanted


def test_the_revision_is_of_the_content_alone(tmp_path: Path, open_set: Any) -> None:
    first = open_set(folder_of(tmp_path / "set", 6))
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    assert open_set(tmp_path / "copy").revision == first.revision
    size = (tmp_path / "copy" / "02.png").stat().st_size
    content = bytearray((tmp_path / "copy" / "02.png").read_bytes())
    picture(77).save(tmp_path / "copy" / "02.png")
    assert open_set(tmp_path / "copy").revision != first.revision
    assert len(content) == size


def test_pictures_are_hashed_once(
    tmp_path: Path, open_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "set", 6)
    first = open_set(tmp_path / "set")
    monkeypatch.setattr(index, "image_hash", None)
    assert sides(open_set(tmp_path / "set")) == sides(first)


def test_a_broken_picture_is_named(tmp_path: Path, open_set: Any) -> None:
    folder = folder_of(tmp_path / "set", 6)
    (folder / "04.png").write_bytes(b"no picture")
    with pytest.raises(BadImageError, match=r"04\.png of set: .*mend or remove it"):
        open_set(folder)


def test_a_picture_too_large_to_be_opened_is_named(
    tmp_path: Path, open_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "set", 6)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadImageError, match=r"00\.png of set: .*mend or remove it"):
        open_set(folder)


def test_pictures_of_any_size_and_form_are_read(tmp_path: Path, open_set: Any) -> None:
    folder = folder_of(tmp_path / "set", 5)
    Image.effect_noise((31, 70), 90).save(folder / "grey.png")
    Image.effect_noise((64, 20), 90).convert("P").save(folder / "palette.gif")
    own = open_set(folder)
    for part in (own.search, own.score):
        for i in range(len(part)):
            assert part.image(i).mode == "RGB"
            assert part.image(i).size == part.size_of(i)
    assert not own.has_masks


def test_a_tenfold_set_takes_no_more_memory_but_its_index(tmp_path: Path) -> None:
    """Pictures of 3 MB each when decoded: one held too many would show."""
    peaks = []
    for n in (4, 40):
        folder = tmp_path / str(n)
        folder.mkdir()
        for i in range(n):
            Image.new("RGB", (1000, 1000), (i, 0, 0)).save(folder / f"{i}.png", compress_level=1)
        rows = FolderRows(folder)
        tracemalloc.start()
        read_index(rows, ArtefactStore(), SilentProgress())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000
