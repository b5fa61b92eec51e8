"""Options in a file, TOML or YAML by its suffix: read, checked, written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .writing import replace_bytes

PARAMS = "params"
"""The one table: per task, what differs from its defaults."""


def read_config(path: Path) -> dict[str, Any]:
    """The options of a file, hyphens in names as underscores. Raises `UsageError` in one line."""
    try:
        document = _parsed(path, path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"can't read options from {path}: {reason}") from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise UsageError(f"{path} holds no options; write lines such as tasks = ['iou']")
    params = document.get(PARAMS, {})
    if not isinstance(params, dict) or not all(isinstance(p, dict) for p in params.values()):
        raise UsageError(f"{path}: {PARAMS} is no table of tasks; begin with [{PARAMS}.iou]")
    return {key.replace("-", "_"): value for key, value in document.items()}


def write_config(path: Path, options: Mapping[str, Any], heading: str) -> None:
    """The options as TOML or YAML, by the suffix, below a comment."""
    text = toml_text(options) if _format(path) == "toml" else _yaml_text(options)
    replace_bytes(path, f"# {heading}\n{text}".encode())


def _format(path: Path) -> str:
    found = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}.get(path.suffix.lower())
    if found is None:
        raise UsageError(f"{path} is neither TOML nor YAML; call it .toml, .yaml or .yml")
    return found


def _parsed(path: Path, text: str) -> Any:
    if _format(path) == "toml":
        import tomllib

        return tomllib.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _yaml_text(options: Mapping[str, Any]) -> str:
    import yaml

    # In ASCII: YAML folds some line ends of Unicode that it has written as they are.
    return str(yaml.safe_dump(dict(options), sort_keys=False))


def toml_text(options: Mapping[str, Any]) -> str:
    """The standard library reads TOML and writes none."""
    return "\n".join(_table(options, ())) + "\n"


def _table(values: Mapping[str, Any], path: Sequence[str]) -> Iterator[str]:
    """Plain values first: what follows a table's heading belongs to it."""
    inner = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in values.items() if key not in inner}
    if path and (plain or not inner):
        yield f"\n[{'.'.join(map(_text, path))}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        yield from _table(value, (*path, key))


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_value, value))}]"
    if value is None:
        raise UsageError("TOML has no word for nothing; write a .yaml file")
    return _text(str(value))


def _text(text: str) -> str:
    """JSON's strings are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
