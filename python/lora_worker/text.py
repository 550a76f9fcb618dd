"""Captions to what the UNet reads: CLIP's tokenizer and SDXL's two text encoders.

The vocabulary is the list of merges that open_clip ships; its package is only looked up, never imported. Texts are
normalized as the published tokenizers do it: NFC, white space to single spaces, lower case. Words in a caption never
become control tokens, not even "<|endoftext|>".

The encoders read 75 tokens at a time. A longer caption is cut into chunks that are encoded each by itself, with begin
and end of its own, and whose rows then stand side by side. What is behind the last chunk is cut off.

Shape letters: B captions, N chunks, T the 77 tokens of a chunk, W width.
"""

from __future__ import annotations

import gzip
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

from lora_worker.architecture import TOKENS, VOCABULARY
from lora_worker.errors import WorkerError

BEGIN = VOCABULARY - 2
END = VOCABULARY - 1
PAD_ONE = END
"""Text encoder 1 was trained with its end token as padding."""
PAD_TWO = 0
CHUNK = TOKENS - 2
"""So many tokens of a caption are encoded at once."""
MOST_CHUNKS = 3

_MERGES = VOCABULARY - 2 * 256 - 2


@dataclass(frozen=True)
class TextEncoders:
    """Both encoders. Differentiable with regard to whatever is attached to them; their own weights are frozen."""

    one: CLIPTextModel
    two: CLIPTextModelWithProjection

    def to(self, device: torch.device) -> None:
        self.one.to(device)
        self.two.to(device)

    def encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Context and pooled text of captions, in as many chunks as the longest needs; see `encode_ids`."""
        chunks = chunks_for(captions)
        one, two = (token_ids(captions, pad, chunks=chunks) for pad in (PAD_ONE, PAD_TWO))
        return self.encode_ids(one, two)

    def encode_ids(self, ids_one_BNT: Tensor, ids_two_BNT: Tensor) -> tuple[Tensor, Tensor]:
        """Context [B, 75 N + 2, width 1 + width 2] and pooled text [B, P] of token numbers, padded for each encoder.

        Both contexts are what enters the encoder's last layer, without the final norm. The pooled vector is the
        row of the first end token of the first chunk behind encoder 2's last layer and final norm, projected.
        """
        device = self.one.device
        one = self.one(input_ids=ids_one_BNT.flatten(0, 1).to(device), output_hidden_states=True)
        two = self.two(input_ids=ids_two_BNT.flatten(0, 1).to(device), output_hidden_states=True)
        states_XTW = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        chunks = ids_one_BNT.shape[1]
        return side_by_side(states_XTW, chunks), two.text_embeds[::chunks]


@dataclass(frozen=True)
class Tokens:
    """The numbers of one caption, padded for each encoder."""

    one_NT: Tensor
    two_NT: Tensor

    @property
    def key(self) -> bytes:
        """Equal for equal numbers."""
        return self.one_NT.numpy().tobytes() + self.two_NT.numpy().tobytes()


def tokens_of(captions: Sequence[str], *, chunks: int) -> list[Tokens]:
    """Of each caption."""
    one_BNT, two_BNT = (token_ids(captions, pad, chunks=chunks) for pad in (PAD_ONE, PAD_TWO))
    return [Tokens(one_NT, two_NT) for one_NT, two_NT in zip(one_BNT, two_BNT, strict=True)]


def side_by_side(states_XTW: Tensor, chunks: int) -> Tensor:
    """The rows of each caption's chunks [B N, 77, W] in one context [B, 75 N + 2, W].

    Only the first chunk keeps its begin, and only the last its last row.
    """
    if chunks == 1:
        return states_XTW
    states_BNTW = states_XTW.unflatten(0, (-1, chunks))
    begin, end = states_BNTW[:, 0, :1], states_BNTW[:, -1, -1:]
    return torch.cat([begin, states_BNTW[:, :, 1:-1].flatten(1, 2), end], dim=1)


def token_ids(captions: Sequence[str], pad: int, *, chunks: int = 1) -> Tensor:
    """Token numbers [B, N, 77], I64. Each chunk: begin, at most 75 tokens, end, padding.

    sd-scripts cuts one padded row and repairs the pieces, which comes to the same, except that it takes a "!" without
    a space behind it for the padding of encoder 2, whose number it shares.
    """
    rows = []
    for caption in captions:
        content = _content(caption)
        for start in range(0, chunks * CHUNK, CHUNK):
            part = content[start : start + CHUNK]
            rows.append([BEGIN, *part, END, *[pad] * (CHUNK - len(part))])
    return torch.tensor(rows, dtype=torch.int64).reshape(len(captions), chunks, TOKENS)


def chunks_for(captions: Sequence[str]) -> int:
    """How many chunks the longest of the captions fills, from 1 to as many as can be trained with."""
    longest = max((len(_content(caption)) for caption in captions), default=0)
    return min(max(1, math.ceil(longest / CHUNK)), MOST_CHUNKS)


def _content(caption: str) -> list[int]:
    return tokenizer().encode(without_lone_surrogates(caption)).ids


def without_lone_surrogates(text: str) -> str:
    """Halves of characters, which JSON can carry and no tokenizer takes, become replacement characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """CLIP's byte-pair encoding, without begin, end and padding."""
    symbols = list(_byte_symbols())
    merges = [tuple(line.split()) for line in _merge_lines()]
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(pair) for pair in merges)]
    made = Tokenizer(
        BPE(vocab={word: number for number, word in enumerate(words)}, merges=merges, end_of_word_suffix="</w>")
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    word = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(word), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return made


def _byte_symbols() -> list[str]:
    """One visible character for each byte, in the vocabulary's order: printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def _merge_lines() -> list[str]:
    with gzip.open(vocabulary_file(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    return lines[1 : 1 + _MERGES]


def vocabulary_file() -> Path:
    """Where open_clip keeps the merges. Finding a package does not run it."""
    spec = importlib.util.find_spec("open_clip")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "bpe_simple_vocab_16e6.txt.gz"
        if path.is_file():
            return path
    raise WorkerError(
        "internal",
        "The CLIP vocabulary is missing from the Python environment.",
        hint='It comes with the package "open_clip_torch". "lorac env" says how to make the environment again.',
    )
