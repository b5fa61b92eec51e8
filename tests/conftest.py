"""A random LLaVA of the testbed's classes (real plumbing, no knowledge); a browser for pages."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lmmsae_eval.sae.lmm import LMM

WORDS = "is there a boat house in the sea ? what colour scene yes no red blue it this".split()
TEMPLATE = (
    "<s> {% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<answer> {% endif %}"
)


def _processor() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<answer>"]
    vocabulary = {word: i for i, word in enumerate(special + WORDS)}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>", "<answer>"],
    )
    images = CLIPImageProcessorPil(
        size={"height": 96, "width": 96},
        do_center_crop=False,
        crop_size={"height": 96, "width": 96},
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def _model(tokenizer: Any) -> Any:
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=96,
        patch_size=8,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=144,
    )
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """Started in the background, a shell has the tests, and what they start, ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_lmm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random LLaVA saved with `save_pretrained`: 6 layers as deep as its vision tower, d_model
    64.
    """
    folder = tmp_path_factory.mktemp("tiny-llava")
    processor = _processor()
    _model(processor.tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_lmm(tiny_lmm_folder: Path) -> LMM:
    """The same, reloaded as a user would load it."""
    from lmmsae_eval.sae.load import load_lmm

    return load_lmm(tiny_lmm_folder)


@pytest.fixture(scope="session")
def tiny_families() -> Any:
    """Small random models of every family, see `sae/tiny_families.py`."""
    script = Path(__file__).parent / "sae" / "tiny_families.py"
    return SimpleNamespace(**runpy.run_path(str(script)))


@dataclass(frozen=True, slots=True)
class Page:
    """What a browser made of a page."""

    dom: str
    """After its scripts have run."""
    console: list[str]
    """Errors and warnings, blocked content included."""


class Browser:
    """Headless Chromium, a fresh profile for every page."""

    def __init__(self, program: str, profiles: Path) -> None:
        self.program = program
        self.profiles = profiles

    def open(self, page: Path, state: str = "") -> Page:
        """Open a file; `state` is appended to its URL, such as `#concept=object`."""
        url = page.resolve().as_uri() + state
        for _ in range(_STARTS - 1):
            try:
                return self._dump(url)
            except subprocess.TimeoutExpired:
                continue  # on a busy machine Chromium now and then never gets to the page
        return self._dump(url)

    def _dump(self, url: str) -> Page:
        profile = tempfile.mkdtemp(dir=self.profiles)
        command = [self.program, *_CHROMIUM, f"--user-data-dir={profile}", "--dump-dom", url]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as chromium:
            try:
                dom, log = chromium.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(chromium.pid, signal.SIGKILL)  # its children hold the pipes open
                raise
        assert chromium.returncode == 0, log
        return Page(dom, [line for line in log.splitlines() if "CONSOLE" in line])


_STARTS = 4


_CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)


def _chromium() -> str:
    """Skips where there is no Chromium, but fails in CI, where there must be one."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None and os.environ.get("CI") == "true":
        pytest.fail("no Chromium in CI: pages would go untested")
    if program is None:
        pytest.skip("no Chromium: install it to test pages")
    return program


@pytest.fixture
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page under the keyboard, see `chromium.Tab`."""
    spec = spec_from_file_location("chromium", Path(__file__).with_name("chromium.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    opened = module.Tab(_chromium(), tmp_path_factory.mktemp("tab"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Opens a file and gives what a browser makes of it."""
    return Browser(_chromium(), tmp_path_factory.mktemp("profiles"))
