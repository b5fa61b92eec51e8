"""From a reference to an LMM."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..digests import known_sha256
from ..errors import UsageError
from .loading import LoadIn, Loading

if TYPE_CHECKING:
    import torch

    from .inputs import ImageView
    from .lmm import LMM

_BY_NAME = {"testbed": "..testbed.provider", "testbed:planted": "..testbed.planted"}
EMBEDDED = frozenset(_BY_NAME)
"""References that mean a model within the package, whatever folders there are."""
_HASHED = (".safetensors", ".bin", ".pt", ".json", ".jinja", ".model", ".txt")


def load_lmm(
    ref: str | Path,
    device: str | torch.device | Mapping[str, Any] | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    load_in: LoadIn | None = None,
    image_tokens: ImageView = "all",
) -> LMM:
    """`testbed`, `testbed:planted`, a folder, or a hub id `owner/name[@revision]`.

    Args:
        device: where to; `auto`, or a mapping from modules to devices, spreads it over what there
            is and needs accelerate.
        dtype: `float32`, `bfloat16`, `float16` or torch's. On a CPU the default is float32: half
            precision is slower there; elsewhere bfloat16.
        load_in: `4bit` or `8bit` weights, which need bitsandbytes.
        image_tokens: which of them count as such, see `ImageView`.

    Raises `UsageError` in one line for a missing folder or package, an unknown id and weights that
    can't be read.
    """
    options = Loading(device, dtype, load_in, image_tokens)
    if str(ref) in _BY_NAME:
        options.refuse_any(str(ref))
        lmm: LMM = import_module(_BY_NAME[str(ref)], __package__).load_lmm()
        return lmm
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return _load(str(folder), None, folder.name, folder_identity(folder), options)
    model_id, revision = hub_id(ref)
    return _load(model_id, revision, str(ref), None, options)


def hub_id(ref: str | Path) -> tuple[str, str | None]:
    """`owner/name` and the revision, if any. Raises `UsageError` for what is no hub id."""
    model_id, _, revision = str(ref).partition("@")
    if model_id.count("/") != 1 or model_id.startswith((".", "/", "~")):
        raise UsageError(
            f"no model folder at {ref}; give a folder, a hub id owner/name[@revision], or 'testbed'"
        )
    return model_id, revision or None


def _load(
    source: str, revision: str | None, name: str, identity: str | None, options: Loading
) -> LMM:
    from transformers import AutoModelForImageTextToText

    from .hf import TransformersLMM
    from .processors import load_processor

    settings = options.settings()
    model_config(source, revision)
    with readable(source):
        processor = load_processor(source, revision)
        model, found = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **settings,
        )
    _refuse_made_up_weights(source, found)
    commit = getattr(model.config, "_commit_hash", None)
    identity = identity or (str(commit) if commit else hub_identity(source, revision))
    if "device_map" not in settings:
        model = model.to(options.one_device)
    return TransformersLMM(model, processor, name, identity + options.suffix, options.image_tokens)


def model_config(source: str, revision: str | None) -> Any:
    """The config of a model that reads pictures and answers in words. Raises `UsageError` for any
    other.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    with readable(source):
        config = AutoConfig.from_pretrained(source, revision=revision)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UsageError(
            f"{source} is a {config.model_type!r}, which does not answer in words about pictures; "
            "give a model that transformers' AutoModelForImageTextToText loads"
        )
    return config


@contextmanager
def readable(source: str) -> Iterator[None]:
    """What transformers says about files that it can't read, in one line."""
    from safetensors import SafetensorError

    try:
        with no_chatter():
            yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        # ImportError and RuntimeError: a processor that needs torchvision, weights beyond memory.
        raise UsageError(f"can't load a model from {source}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What transformers said, without its advice for whoever calls it from Python."""
    text = " ".join(str(error).split())
    if "couldn't connect to" in text.lower():
        return "the hub can't be reached, and it is not in the cache; go online, or give a folder"
    return text.split(" If you were trying to load it", 1)[0][:200]


def weights_identity(ref: str) -> str:
    """Of a model folder its content's digest, of a hub id the commit. Raises `UsageError`."""
    folder = Path(ref).expanduser()
    return folder_identity(folder) if folder.is_dir() else hub_identity(ref)


def hub_identity(source: str, revision: str | None = None) -> str:
    """The commit that a hub id stands for here and now; where that is unknown, what lies there."""
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    try:
        with no_chatter():
            config = cached_file(source, "config.json", revision=revision)
    except (OSError, ValueError) as error:
        raise UsageError(f"can't tell which {source} is meant: {_reason(error)}") from error
    if config is None:
        raise UsageError(f"can't tell which {source} is meant; download it and give its folder")
    return extract_commit_hash(config, None) or folder_identity(Path(config).parent)


def _refuse_made_up_weights(source: str, found: Mapping[str, Any]) -> None:
    """transformers fills what a checkpoint lacks with random numbers and only logs it."""
    lacking = sorted(found["missing_keys"]) + sorted(
        str(key[0]) for key in found["mismatched_keys"]
    )
    if lacking:
        raise UsageError(
            f"the weights in {source} don't fit its config: {len(lacking)} are missing or of "
            f"another shape, the first is {lacking[0]}; get the checkpoint again"
        )


@contextmanager
def no_chatter() -> Iterator[None]:
    """Without transformers' and the hub's own progress bars and reports; what matters of them is
    raised.
    """
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    of_hub = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity(ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(of_hub)
        if bars:
            logging.enable_progress_bar()


def folder_identity(folder: Path) -> str:
    """sha256 over the weights, configs, tokenizer files and templates of a model folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _HASHED and file.is_file():
            digest.update(f"{file.name} {known_sha256(file)}\n".encode())
    return digest.hexdigest()
