"""The package as users get it: one file one name, a complete wheel, the tested set pinned."""

from __future__ import annotations

import configparser
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from importlib import import_module
from pathlib import Path, PurePosixPath

import lmmsae_eval
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    path.parent for path in sorted(ROOT.glob("*/__init__.py")) if path.parent.name != "tests"
]


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def _names(requirements: str) -> list[str]:
    lines = [line for line in requirements.splitlines() if line.strip() and "%(" not in line]
    return [re.split(r"[\s\[<>=~!;#]", line.strip())[0] for line in lines if line.strip()[0] != "#"]


def _tree() -> set[str]:
    """Every file that belongs into the wheel, as a path below `lmmsae_eval/`."""
    files = {f for package in PACKAGES for f in package.rglob("*") if f.is_file()}
    files |= {*ROOT.glob("*.py"), ROOT / "py.typed"}
    return {f.relative_to(ROOT).as_posix() for f in files if "__pycache__" not in f.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as setuptools leaves its droppings in the tree."""
    source = tmp_path_factory.mktemp("source") / "a clone of any name"
    unwanted = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "runs", "saes", "leaderboard", "tests"
    )
    shutil.copytree(ROOT, source, ignore=unwanted)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed into, without `-e` and without network."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True, capture_output=True)
    return folder


def _typed(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The installed command in an empty folder, with the wheel before the checkout on the path."""
    code = "import lmmsae_eval.cli.main as m; print(m.__file__); m.main()"
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
    )


def test_no_module_file_is_loaded_under_two_names() -> None:
    """But for the root's `__init__`: pytest also loads it as the folder's own; it has no state."""
    for module in pkgutil.walk_packages(lmmsae_eval.__path__, "lmmsae_eval."):
        try:
            import_module(module.name)
        except ModuleNotFoundError as error:
            if (module.name, error.name) != ("lmmsae_eval.sae.kernels", "triton"):
                raise

    names = defaultdict(set)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).resolve().is_relative_to(ROOT):
            names[Path(file).resolve()].add(name)
    names.pop(ROOT / "__init__.py")
    assert {file: found for file, found in names.items() if len(found) > 1} == {}


def test_every_public_name_is_there_and_typed() -> None:
    for name in lmmsae_eval.__all__:
        assert getattr(lmmsae_eval, name).__module__.startswith("lmmsae_eval.")
    assert (ROOT / "py.typed").is_file()


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lmmsae_eval.nothing  # noqa: B018


def test_the_wheel_holds_every_module_and_data_file_of_the_tree_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        paths = [PurePosixPath(name) for name in archive.namelist()]
    shipped = {
        p.relative_to("lmmsae_eval").as_posix() for p in paths if p.parts[0] == "lmmsae_eval"
    }

    assert shipped == _tree()
    assert {p.parts[0] for p in paths} == {
        "lmmsae_eval",
        f"{'-'.join(wheel.name.split('-')[:2])}.dist-info",
    }


def test_every_package_folder_is_named_in_setup_cfg() -> None:
    listed = _setup()["options"]["packages"].split()
    folders = {f.parent for package in PACKAGES for f in package.rglob("__init__.py")}

    assert sorted(listed) == sorted(
        ["lmmsae_eval", *(f"lmmsae_eval.{'.'.join(f.relative_to(ROOT).parts)}" for f in folders)]
    )


@pytest.mark.slow
def test_the_installed_wheel_runs_a_small_job_in_an_empty_folder(
    site: Path, tmp_path: Path
) -> None:
    """On the weights in the wheel, with an SAE that has seen next to nothing: training is slow."""
    trained = _typed(site, tmp_path, "train", "-l", "2", "--n-tokens", "2000", "--progress", "none")
    assert trained.returncode == 0, trained.stderr

    done = _typed(
        *(site, tmp_path, "run", "--tasks", "iou", "--sae", "saes", "--limit", "2"),
        *("--progress", "none"),
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "saes"}
    assert list(tmp_path.glob("runs/*/manifest.json"))
    assert list(tmp_path.glob("runs/*.html"))


def test_every_dependency_of_the_core_and_the_tests_is_pinned_in_the_tested_set() -> None:
    setup = _setup()
    wanted = _names(setup["options"]["install_requires"])
    wanted += _names(setup.get("options.extras_require", "test", raw=True))
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )

    normal = {re.sub("[-_.]+", "-", name).lower() for name in pinned}
    assert {name for name in wanted if re.sub("[-_.]+", "-", name).lower() not in normal} == set()
    assert (pinned["torch"], pinned["torchvision"]) == ("2.13.0", "0.28.0")


def test_the_default_path_needs_no_torchvision() -> None:
    assert "torchvision" not in _names(_setup()["options"]["install_requires"])
