"""Things made from images are kept up to a number of bytes."""

from __future__ import annotations

from lmmsae_eval.tasks.features.kept import Kept


def test_what_was_asked_for_last_stays_and_the_limit_holds() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name

    kept: Kept[str] = Kept(len, limit=9)
    for name in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):
        assert kept.get(name, lambda name=name: make(name)) == name
    assert made == ["aaaa", "bbbb", "cccc", "bbbb"]


def test_one_thing_larger_than_the_limit_is_still_kept() -> None:
    kept: Kept[bytes] = Kept(len, limit=3)
    first = kept.get(1, lambda: b"long enough")
    assert kept.get(1, lambda: b"other") is first
