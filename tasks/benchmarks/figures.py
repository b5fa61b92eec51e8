"""The images of a question set: in a folder or in an archive, found by the names in its records."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ...errors import BadImageError, UsageError
from ..hallucination.questions import NO_FIGURE, Record

if TYPE_CHECKING:
    from PIL.Image import Image

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Figures:
    """Files by their path below the root. Contents are read when they are asked for."""

    place: Path
    files: Mapping[str, Callable[[], bytes]]
    _by_name: Mapping[str, tuple[str, ...]]

    def find(self, filename: str) -> str | None:
        """The path of the file that a record calls `filename`: as it is, or in a folder above.

        Raises `UsageError` when several folders hold it.
        """
        wanted = plain(filename)
        if wanted in self.files:
            return wanted
        found = [
            path
            for path in self._by_name.get(PurePosixPath(wanted).name, ())
            if path.endswith(f"/{wanted}")
        ]
        if len(found) > 1:
            raise UsageError(
                f"{self.place} holds {wanted} twice, as {found[0]} and {found[1]}; remove one"
            )
        return found[0] if found else None

    def read(self, filename: str) -> bytes:
        """Raises `BadImageError` when it is missing."""
        path = self.find(filename)
        if path is None:
            raise BadImageError(f"no {plain(filename)} in {self.place}; add it")
        return self.files[path]()

    def image(self, filename: str) -> Image:
        """RGB. Raises `BadImageError` on a missing or broken file."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.read(filename))) as picture:
                return picture.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadImageError(
                f"can't read the image {filename} of {self.place} ({error}); mend it"
            ) from error

    def missing(self, filenames: Iterable[str]) -> list[str]:
        """Those that are not here, in order."""
        return [name for name in filenames if self.find(name) is None]

    def identity(self, filenames: Iterable[str]) -> str:
        """sha256 over names and contents of the given files."""
        digest = hashlib.sha256()
        for name in sorted({plain(name) for name in filenames}):
            content = hashlib.sha256(self.read(name)).hexdigest()
            digest.update(f"{name} {content}\n".encode())
        return digest.hexdigest()


def open_figures(place: Path) -> Figures:
    """A folder, or a zip or tar archive, which is read without unpacking it."""
    if place.is_dir():
        paths = {p.relative_to(place).as_posix(): p for p in place.rglob("*") if p.is_file()}
        return _figures(place, {name: path.read_bytes for name, path in paths.items()})
    if not place.is_file():
        raise UsageError(f"no folder or archive of images at {place}; check the path")
    try:
        if zipfile.is_zipfile(place):
            return _figures(place, _zip_members(place))
        return _figures(place, _tar_members(place))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UsageError(
            f"{place} is neither a folder nor an archive that can be read ({error}); "
            f"known endings: {', '.join(ARCHIVES)}"
        ) from error


def expected(records: Iterable[Record]) -> list[str]:
    """The distinct file names of the records that are asked with a figure, in order."""
    named = (r["filename"] for r in records if r["visual_input"] != NO_FIGURE)
    return list(dict.fromkeys(plain(name) for name in named if name))


def plain(filename: str) -> str:
    """`./VD/illusion/0_0.png` is `VD/illusion/0_0.png`. Raises `UsageError` on a way out."""
    path = PurePosixPath(filename)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"the file name {filename!r} leads out of the folder of images")
    return path.as_posix()


def _figures(place: Path, files: Mapping[str, Callable[[], bytes]]) -> Figures:
    by_name: dict[str, tuple[str, ...]] = {}
    for path in sorted(files):
        name = path.rpartition("/")[2]
        by_name[name] = (*by_name.get(name, ()), path)
    return Figures(place, files, by_name)


def _zip_members(place: Path) -> dict[str, Callable[[], bytes]]:
    archive = zipfile.ZipFile(place)
    inside = [entry for entry in archive.infolist() if not entry.is_dir()]
    return {entry.filename: _zip_reader(archive, entry) for entry in inside}


def _zip_reader(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], bytes]:
    return lambda: archive.read(entry)


def _tar_members(place: Path) -> dict[str, Callable[[], bytes]]:
    archive = tarfile.open(place)  # noqa: SIM115 - it stays open, members are read later
    inside = [member for member in archive.getmembers() if member.isfile()]
    return {
        PurePosixPath(member.name).as_posix(): _tar_reader(archive, member) for member in inside
    }


def _tar_reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        file = archive.extractfile(member)
        assert file is not None
        return file.read()

    return read
