"""What is in the pictures that captions are written of, and where that is known from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import UsageError
from ...harness.identity import sha256
from ..benchmarks.published import PUBLISHED, data_root
from .mentions import Vocabulary

_INSTANCES, _CAPTIONS, _SYNONYMS = "instances_*.json", "captions_*.json", "synonyms.txt"
_AMBER, _RELATIONS, _SAFE = "annotations.json", "relation.json", "safe_words.txt"
SCHEMA = (
    "{'objects': {'boat': ['ship']}, 'images': {'a.jpg': ['boat']}}, or a folder with COCO's "
    "instances_*.json, or AMBER's annotations.json"
)


@dataclass(frozen=True)
class Truth:
    """Objects by picture, and the words for them."""

    vocabulary: Vocabulary
    images: Mapping[str, frozenset[str]]
    """By file name without its folders."""

    @classmethod
    def of(cls, vocabulary: Vocabulary, images: Mapping[str, Iterable[str]]) -> Truth:
        """Names of objects as they were annotated; what the vocabulary lacks is left out.

        Raises `UsageError` for pictures of one name in several folders that hold other objects.
        """
        found: dict[str, frozenset[str]] = {}
        for path, annotated in images.items():
            name, there = file_name(path), frozenset(vocabulary.known(annotated))
            if found.setdefault(name, there) != there:
                raise UsageError(
                    f"several pictures are called {name}, with other objects in them; rename them: "
                    "they are known by their names without folders"
                )
        return cls(vocabulary, found)

    def of_image(self, filename: str) -> frozenset[str] | None:
        """The objects in a picture, or None for one that nobody annotated."""
        return self.images.get(file_name(filename))

    @property
    def identity(self) -> str:
        """Changes whenever a caption could be scored otherwise."""
        words = {name: list(words) for name, words in self.vocabulary.words.items()}
        related = {name: list(others) for name, others in self.vocabulary.related.items()}
        images = {name: sorted(there) for name, there in self.images.items()}
        return sha256({"words": words, "related": related, "images": images})


def file_name(path: str) -> str:
    return PurePosixPath(path).name


def objects_place(ref: str) -> Path:
    """A published set's folder by its name, or a path."""
    return data_root() / ref if ref in PUBLISHED else Path(ref)


def read_truth(place: Path) -> Truth:
    """From a file of our own schema, a COCO `instances_*.json`, or a folder of COCO or AMBER.

    Beside COCO's instances, `captions_*.json` adds the objects that people's captions name, as in
    CHAIR, and `synonyms.txt` (a line an object, its words between commas) the words. Raises
    `UsageError` for anything else.
    """
    if place.is_dir():
        return _of_folder(place)
    document = _json(place)
    try:
        if "annotations" in document:
            return _coco(document, [], None)
        return _own(document)
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_truth(place, f"lacks or misplaces {error}") from error


def _of_folder(place: Path) -> Truth:
    instances = sorted(place.glob(_INSTANCES))
    try:
        if instances:
            captions = [_json(file) for file in sorted(place.glob(_CAPTIONS))]
            synonyms = place / _SYNONYMS
            words = _synonyms(synonyms) if synonyms.is_file() else None
            return _coco(_merged([_json(file) for file in instances]), captions, words)
        if (place / _AMBER).is_file() and (place / _RELATIONS).is_file():
            safe = place / _SAFE
            never = safe.read_text(encoding="utf-8").split() if safe.is_file() else []
            return _amber(_json(place / _AMBER), _json(place / _RELATIONS), never)
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_truth(place, f"lacks or misplaces {error}") from error
    raise _no_truth(place, "holds no file of these")


def _own(document: Mapping[str, Any]) -> Truth:
    words = {str(name): [str(w) for w in words] for name, words in document["objects"].items()}
    images = {str(name): [str(o) for o in there] for name, there in document["images"].items()}
    return Truth.of(Vocabulary(words, {}), images)


def _coco(
    instances: Mapping[str, Any],
    captions: Sequence[Mapping[str, Any]],
    words: Mapping[str, Sequence[str]] | None,
) -> Truth:
    """Segmented objects, and those that the reference captions name."""
    categories = {each["id"]: str(each["name"]) for each in instances["categories"]}
    names = {each["id"]: str(each["file_name"]) for each in instances["images"]}
    vocabulary = Vocabulary(words or dict.fromkeys(categories.values(), ()), {})
    images: dict[str, set[str]] = {name: set() for name in names.values()}
    for each in instances["annotations"]:
        images[names[each["image_id"]]].add(categories[each["category_id"]])
    for each in (row for document in captions for row in document["annotations"]):
        if each["image_id"] in names:
            images[names[each["image_id"]]].update(vocabulary.mentions(str(each["caption"])))
    return Truth.of(vocabulary, images)


def _merged(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Train and validation, say, as one."""
    parts = ("images", "annotations", "categories")
    return {part: [each for document in documents for each in document[part]] for part in parts}


def _synonyms(file: Path) -> dict[str, list[str]]:
    lines = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [[word.strip() for word in line if word.strip()] for line in lines]
    return {row[0]: row[1:] for row in rows if row}


def _amber(
    annotations: Sequence[Mapping[str, Any]], relations: Mapping[str, Any], never: Sequence[str]
) -> Truth:
    """AMBER's generative part. Where an object is, what is related to it may be named too.

    Words that are `never` held against a caption are no object at all.
    """
    related = {str(name): [str(other) for other in others] for name, others in relations.items()}
    images = {
        f"AMBER_{row['id']}.jpg": [str(name) for name in row["truth"]]
        for row in annotations
        if row["type"] == "generative"
    }
    named = chain(related, *related.values(), *images.values())
    every = [name for name in dict.fromkeys(named) if name not in set(never)]
    return Truth.of(Vocabulary(dict.fromkeys(every, ()), related), images)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _no_truth(file, str(error)) from error


def _no_truth(place: Path, why: str) -> UsageError:
    return UsageError(f"{place} says of no picture what is in it ({why}); give {SCHEMA}")
