"""Objects that a caption names, by a list of words for each.

CHAIR (Rohrbach et al., EMNLP 2018, arXiv 1809.02156) looks words up in a list of synonyms. So does
this: the longest phrase first, so that a hot dog is no dog, plurals being the same word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

_WORD = re.compile(r"[a-z]+")
_PLURALS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))

Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The words for every object that a caption is searched for; others are no object."""

    words: Mapping[str, Sequence[str]]
    """Object -> what it may be called. Its own name always counts."""
    related: Mapping[str, Sequence[str]]
    """Object -> others that are right wherever it is, although they are other objects."""

    @classmethod
    def of(cls, objects: Iterable[str]) -> Vocabulary:
        """Objects that have no other names."""
        return cls(dict.fromkeys(objects, ()), {})

    @cached_property
    def _object_of(self) -> Mapping[Phrase, str]:
        named = [(word, name) for name, words in self.words.items() for word in words]
        # An object's own name is its own, whichever other object may be called so.
        return {
            _phrase(word): name for word, name in (*named, *((name, name) for name in self.words))
        }

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._object_of), default=0)

    def mentions(self, caption: str) -> list[str]:
        """The objects named, once for every time, in order."""
        return list(self._found(_WORD.findall(caption.lower())))

    def known(self, names: Iterable[str]) -> set[str]:
        """Annotated names as objects of this vocabulary; those that it lacks are left out."""
        found = (self._object_of.get(_phrase(name)) for name in names)
        return {name for name in found if name is not None}

    def right(self, truths: Iterable[str]) -> set[str]:
        """What may be named of a picture that has these objects."""
        there = set(truths)
        return there | {other for name in there for other in self.related.get(name, ())}

    def _found(self, words: Sequence[str]) -> Iterator[str]:
        place = 0
        while place < len(words):
            name, length = self._at(words, place)
            if name is not None:
                yield name
            place += length

    def _at(self, words: Sequence[str], place: int) -> tuple[str | None, int]:
        """The longest phrase that begins here, as an object, and its length."""
        for length in range(min(self._longest, len(words) - place), 0, -1):
            *first, last = words[place : place + length]
            for form in _forms(last):
                name = self._object_of.get((*first, form))
                if name is not None:
                    return name, length
        return None, 1


def _phrase(text: str) -> Phrase:
    return tuple(_WORD.findall(text.lower()))


def _forms(word: str) -> Iterator[str]:
    """The word, then what it may be the plural of."""
    yield word
    for ending, singular in _PLURALS:
        if word.endswith(ending):
            yield word.removesuffix(ending) + singular
