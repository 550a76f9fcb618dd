"""Which packages the bench needs and lacks: on a machine without a network they have to be brought along."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

# By the name that is imported, what installs it: all that is imported on the way to a step, the parts of torch aside.
_NEEDED = {
    "torch": "torch",
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "open_clip": "open_clip_torch",
    "huggingface_hub": "huggingface_hub",
    "packaging": "packaging",
    "yaml": "PyYAML",
    "regex": "regex",
    "requests": "requests",
    "httpx": "httpx",
    "tqdm": "tqdm",
    "filelock": "filelock",
    "typing_extensions": "typing_extensions",
    "anyio": "anyio",
    "certifi": "certifi",
    "charset_normalizer": "charset-normalizer",
    "h11": "h11",
    "httpcore": "httpcore",
    "idna": "idna",
    "urllib3": "urllib3",
}


_ADVICE = (
    "Install what python/requirements.lock pins, without torch where you have your own:\n"
    "  grep -v '^torch==' python/requirements.lock > without-torch.txt\n"
    f"  {sys.executable} -m pip install --no-deps -r without-torch.txt\n"
    "bench/README.md says how to bring wheels to a machine without a network."
)


def missing_packages() -> list[str]:
    """By the names that install them. Finding a package does not run it."""
    return [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]


def say_missing(packages: Sequence[str]) -> str:
    what = "a package that is" if len(packages) == 1 else "packages that are"
    return f"The bench needs {what} not installed for {sys.executable}: {', '.join(packages)}.\n{_ADVICE}"


def say_broken(error: ImportError) -> str:
    """Of a package that is there and does not suit the others."""
    return f"The bench cannot import what it needs: {error}\n{_ADVICE}"
