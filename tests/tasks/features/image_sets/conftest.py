"""The drawn world written down as users keep their pictures, with masks in each known way."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.tasks.features.image_sets.opening import OwnSet, open_image_set
from PIL import Image

Open = Callable[..., OwnSet]


@pytest.fixture
def open_set(tmp_path: Path) -> Open:
    """Opens a set, every different picture of it being another one."""

    def opened(ref: str | Path, names: Path | None = None, near: int | None = 0) -> OwnSet:
        return open_image_set(
            str(ref), names, near, ArtefactStore(tmp_path / "cache"), SilentProgress()
        )

    return opened


@pytest.fixture(autouse=True)
def _no_cache_of_others(tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
    """`datasets` keeps what it has read in a folder of its own."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    datasets.disable_progress_bars()


@pytest.fixture
def write(world: Any) -> Any:
    """The drawn world on disk."""
    return Writer(world)


class Writer:
    """Each way writes pictures of the drawn world, the first `n` of a seed, into a folder."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.labels = world.Drawn().labels

    def drawn(self, n: int) -> Any:
        return self.world.Drawn(n, 5)

    def pictures(self, folder: Path, n: int) -> Any:
        images = self.drawn(n)
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(n):
            images.image(i).save(folder / f"{i:03d}.png")
        return images

    def ade(self, folder: Path, n: int) -> Any:
        """One map of objects beside each picture, and names by value."""
        images = self.pictures(folder, n)
        lines = []
        for i in range(n):
            Image.fromarray(images.label_maps(i)["object"]).save(folder / f"m{i:03d}.png")
            lines.append({"image_file_name": f"{i:03d}.png", "mask_file_name": f"m{i:03d}.png"})
        _metadata(folder, lines)
        names = {str(v + 1): label for v, label in enumerate(self.labels["object"])}
        (folder / "names.json").write_text(json.dumps(names))
        return images

    def coco(self, folder: Path, n: int) -> Any:
        """Every label of every concept a thing with a mask: bitmasks, polygons, run lengths."""
        images = self.pictures(folder, n)
        lines = [
            {
                "file_name": f"{i:03d}.png",
                "objects": [
                    {"category": label, "segmentation": _runs(images.mask(i, label))}
                    for label in self.world.vocabulary
                    if images.mask(i, label).any()
                ],
            }
            for i in range(n)
        ]
        _metadata(folder, lines)
        return images

    def broden(self, folder: Path, n: int) -> Any:
        """A parquet file with a map for objects, one for colours, and scenes of whole pictures."""
        from datasets import ClassLabel, Dataset, Features
        from datasets import Image as Picture

        images = self.drawn(n)
        rows: dict[str, list[Any]] = {"image": [], "object": [], "color": [], "scene": []}
        for i in range(n):
            maps = images.label_maps(i)
            rows["image"].append(_png(images.image(i)))
            rows["object"].append(_png(Image.fromarray(maps["object"])))
            rows["color"].append(_png(Image.fromarray(maps["colour"])))
            rows["scene"].append(int(maps["scene"][0, 0]) - 1)
        kinds = {name: Picture() for name in ("image", "object", "color")}
        features = Features({**kinds, "scene": ClassLabel(names=list(self.labels["scene"]))})
        folder.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(rows, features=features).to_parquet(folder / "part.parquet")
        names = {
            column: [None, *self.labels[concept]]
            for column, concept in (("object", "object"), ("color", "colour"))
        }
        (folder / "names.json").write_text(json.dumps(names))
        return images


def _metadata(folder: Path, lines: list[dict[str, Any]]) -> None:
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "metadata.jsonl").write_text(text + "\n")


def _png(picture: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    picture.save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def _runs(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    bounds = [0, *edges.tolist(), flat.size]
    runs = np.diff(bounds).tolist()
    counts = [0, *runs] if flat[0] else runs
    return {"size": list(mask.shape), "counts": counts}
