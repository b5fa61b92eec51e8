"""How a model's weights are loaded: where to, at which precision, and what of it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import UsageError

if TYPE_CHECKING:
    import torch

    from .inputs import ImageView

LoadIn = Literal["4bit", "8bit"]
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Loading:
    """What was asked for; None is the default for the device."""

    device: str | torch.device | Mapping[str, Any] | None = None
    dtype: str | torch.dtype | None = None
    load_in: LoadIn | None = None
    image_tokens: ImageView = "all"

    def refuse_any(self, ref: str) -> None:
        """An embedded model is what it is."""
        if self != Loading():
            raise UsageError(
                f"{ref} is loaded in one way only; leave out device, dtype, load_in and "
                "image_tokens"
            )

    @property
    def one_device(self) -> torch.device:
        """Where the whole model goes when it isn't spread."""
        import torch

        if isinstance(self.device, str | torch.device):
            try:
                return torch.device(self.device)
            except RuntimeError as error:
                raise UsageError(
                    f"no device {self.device!r}; write cpu, cuda, cuda:1 or auto"
                ) from error
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def suffix(self) -> str:
        """What of this an output could depend on, for a model's identity."""
        said = []
        if self._dtype != self._default_dtype:
            said.append(self.dtype_name)
        if self.load_in:
            said.append(self.load_in)
        if self.image_tokens != "all":
            said.append(self.image_tokens)
        return "".join(f"+{word}" for word in said)

    def settings(self) -> dict[str, Any]:
        """For `from_pretrained`. Raises `UsageError` for a package that is missing."""
        settings: dict[str, Any] = {"dtype": self._dtype}
        if self.spread:
            _need("accelerate", "spreading a model over devices")
            settings["device_map"] = self.device
        if self.load_in:
            self._known_width()
            _need("bitsandbytes", f"loading in {self.load_in}")
            _need("accelerate", f"loading in {self.load_in}")
            settings["quantization_config"] = self._quantized()
            settings.setdefault("device_map", {"": self.one_device})
        return settings

    def _known_width(self) -> None:
        if self.load_in not in get_args(LoadIn):
            raise UsageError(f"can't load in {self.load_in!r}; choose 4bit or 8bit")

    @property
    def dtype_name(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def spread(self) -> bool:
        """Over whatever devices there are."""
        return self.device == "auto" or isinstance(self.device, Mapping)

    @property
    def _default_dtype(self) -> torch.dtype:
        import torch

        spread = self.spread and torch.cuda.is_available()
        on_cpu = not spread and (self.spread or self.one_device.type == "cpu")
        return torch.float32 if on_cpu else torch.bfloat16

    @property
    def _dtype(self) -> torch.dtype:
        import torch

        if self.dtype is None:
            return self._default_dtype
        if isinstance(self.dtype, torch.dtype):
            return self.dtype
        if self.dtype not in DTYPES:
            raise UsageError(f"no dtype {self.dtype!r}; choose {', '.join(DTYPES)}")
        return getattr(torch, self.dtype)  # type: ignore[no-any-return]

    def _quantized(self) -> Any:
        from transformers import BitsAndBytesConfig

        if self.load_in == "8bit":
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=self._dtype)


def _need(package: str, what: str) -> None:
    if find_spec(package) is None:
        raise UsageError(f"{what} needs {package}; pip install {package}")
