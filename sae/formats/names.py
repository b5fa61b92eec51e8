"""The names that families give to the same place: the residual stream after a decoder block."""

from __future__ import annotations

import re

_NAMES = (
    # (pattern, what its number counts from: a block's input is the output of the one before)
    (re.compile(r"(?:model\.)?layers\.(\d+)"), 0),
    (re.compile(r"blocks\.(\d+)\.hook_resid_post"), 0),
    (re.compile(r"blocks\.(\d+)\.hook_resid_pre"), -1),
    (re.compile(r"resid_post_layer_(\d+)"), 0),
)


def published(name: str) -> str:
    """`model.layers.24` for any known spelling; other names, such as an MLP's, stay as they are."""
    for pattern, shift in _NAMES:
        if (match := pattern.fullmatch(name)) and (layer := int(match[1]) + shift) >= 0:
            return f"model.layers.{layer}"
    return name


def layer_of(name: str) -> int | None:
    """The 0-based block of a hookpoint, None for a name without one."""
    match = re.fullmatch(r"model\.layers\.(\d+)", published(name))
    return int(match[1]) if match else None


def same(name: str, wanted: str) -> bool:
    return published(name) == published(wanted)


def in_order(name: str) -> tuple[int, str]:
    """A sort key: layers by number."""
    last = name.rpartition(".")[2]
    return (int(last) if last.isdigit() else -1, name)
