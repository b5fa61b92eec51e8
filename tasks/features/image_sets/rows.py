"""Where a user's pictures come from: a plain folder, or whatever the `datasets` library reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ....errors import UsageError
from ....sae.images import ImageFolder
from .finding import mask_columns
from .names import names_file, read_names

if TYPE_CHECKING:
    from .columns import MaskColumn
    from .names import Names

DATASET = "dataset:"
IMAGE = "image"
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


class Rows(Protocol):
    """Pictures with what is said of them; a row is read when it is asked for."""

    name: str
    columns: Sequence[MaskColumn]

    def __len__(self) -> int: ...

    def row(self, place: int) -> Mapping[str, Any]:
        """`image` and the mask columns, pictures as they are stored."""

    def label(self, place: int) -> str:
        """What to call the row."""


class FolderRows:
    """Every picture under a folder; nothing says what is in them."""

    columns: Sequence[MaskColumn] = ()

    def __init__(self, folder: Path) -> None:
        self._folder = ImageFolder(folder)
        self.name = folder.resolve().name

    def __len__(self) -> int:
        return len(self._folder)

    def row(self, place: int) -> Mapping[str, Any]:
        return {IMAGE: {"bytes": None, "path": str(self._folder.files[place])}}

    def label(self, place: int) -> str:
        return self._folder.files[place].relative_to(self._folder.folder).as_posix()


class DatasetRows:
    """A `datasets.Dataset` with a column `image`."""

    def __init__(self, name: str, found: Any, names: Mapping[str | None, Names]) -> None:
        if IMAGE not in found.column_names:
            columns = ", ".join(found.column_names)
            raise UsageError(f"{name} has no column {IMAGE!r}, only {columns}")
        self.name = name
        whole = _as_stored(found)
        self.columns: Sequence[MaskColumn] = mask_columns(
            found.features, names, lambda column: _values(whole, column)
        )
        self._found = whole.select_columns([IMAGE, *(one.column for one in self.columns)])

    def __len__(self) -> int:
        return len(self._found)

    def row(self, place: int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._found[place]
        return found

    def label(self, place: int) -> str:
        return f"row {place}"


def open_rows(ref: str, label_names: Path | None) -> Rows:
    """`DIR`, or `dataset:REF[@revision][:split]` with a folder or hub id as REF.

    A folder with a metadata file or parquet files is a data set, any other is just its pictures.
    Names of labels come from `label_names`, or a file in the folder. Raises `UsageError` in one
    line for what can't be loaded.
    """
    folder = Path(ref).expanduser()
    if not ref.startswith(DATASET) and not folder.is_dir():
        raise UsageError(f"no folder of pictures at {ref}; a hub id is written {DATASET}owner/name")
    if not ref.startswith(DATASET) and not _is_dataset(folder):
        if label_names is not None:
            raise UsageError(
                f"--label-names name what masks show, and {ref} is a folder of pictures alone; "
                "leave it out"
            )
        return FolderRows(folder)
    found, place = _load(ref.removeprefix(DATASET) if ref.startswith(DATASET) else str(folder))
    file = label_names or (names_file(place) if place is not None else None)
    name = ref.removeprefix(DATASET) if place is None else place.resolve().name
    return DatasetRows(name, found, {} if file is None else read_names(file))


def _is_dataset(folder: Path) -> bool:
    return folder.is_dir() and (_has_metadata(folder) or bool(_parquet(folder)))


def _has_metadata(folder: Path) -> bool:
    """Beside the pictures, or in the folder of a split."""
    return any(True for name in _METADATA for _ in folder.rglob(name))


def _parquet(folder: Path) -> list[str]:
    return sorted(str(file) for file in folder.rglob("*.parquet") if file.name not in _METADATA)


def _load(ref: str) -> tuple[Any, Path | None]:
    """The data set and its folder, if it lies in one."""
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise UsageError("a data set needs the package datasets; pip install datasets") from error
    name, split = (ref, "") if Path(ref).is_dir() else _cut(ref, ":")
    name, revision = (name, "") if Path(name).is_dir() else _cut(name, "@")
    folder = Path(name).expanduser()
    local = folder.is_dir()
    try:
        if local and not split and _parquet(folder):
            found = load_dataset("parquet", data_files=_parquet(folder), split="train")
        elif local and _has_metadata(folder):
            found = load_dataset("imagefolder", data_dir=str(folder), split=split or "train")
        else:
            found = load_dataset(name, revision=revision or None, split=split or "train")
    except (OSError, ValueError, ImportError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"can't load the data set {name}: {reason}") from error
    return found, folder if local else None


def _cut(text: str, sign: str) -> tuple[str, str]:
    before, _, after = text.partition(sign)
    return before, after


def _as_stored(found: Any) -> Any:
    """Its pictures as bytes or paths: they are decoded when they are looked at, in our own way."""
    from datasets import Image

    for name, kind in found.features.items():
        if isinstance(kind, Image):
            found = found.cast_column(name, Image(decode=False))
    return found


def _values(found: Any, column: str) -> Iterator[Any]:
    one = found.select_columns([column])
    return (one[place][column] for place in range(len(one)))
