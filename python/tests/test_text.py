"""Token numbers against known ones, and the encoders' outputs against a plain CLIP written out here."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lora_worker import text
from lora_worker.errors import WorkerError
from lora_worker.text import BEGIN, END, PAD_ONE, PAD_TWO, token_ids, tokenizer


def test_a_known_sentence_has_the_published_numbers():
    assert tokenizer().encode("a photo of a cat").ids == [320, 1125, 539, 320, 2368]


@pytest.mark.parametrize(("pad", "padding"), [(PAD_ONE, 49407), (PAD_TWO, 0)])
def test_rows_begin_end_and_are_padded_as_each_encoder_was_trained(pad, padding):
    ((row,),) = token_ids(["a photo of a cat"], pad).tolist()
    assert row == [49406, 320, 1125, 539, 320, 2368, 49407, *[padding] * 70]


@pytest.mark.parametrize(
    ("caption", "same_as"),
    [
        ("A Photo OF a CAT", "a photo of a cat"),
        ("a  photo\tof\na cat ", "a photo of a cat"),
        ("cafe\u0301", "caf\u00e9"),
        ("cat,dog", "cat , dog"),
    ],
)
def test_case_white_space_and_composition_do_not_matter(caption, same_as):
    assert tokenizer().encode(caption).ids == tokenizer().encode(same_as).ids


def test_digits_stand_alone_and_words_end_at_apostrophes():
    assert tokenizer().encode("1girl 2024's").tokens == [
        "1</w>",
        "girl</w>",
        "2</w>",
        "0</w>",
        "2</w>",
        "4</w>",
        "'s</w>",
    ]


def test_a_long_caption_keeps_its_first_75_tokens_and_its_end():
    ((row,),) = token_ids(["cat " * 200], PAD_TWO).tolist()
    assert row == [BEGIN, *[2368] * 75, END]


def test_an_empty_caption_is_begin_and_end():
    ((row,),) = token_ids([""], PAD_TWO).tolist()
    assert row[:3] == [BEGIN, END, 0]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=120) | st.just("<|endoftext|> <|startoftext|>"))
def test_no_caption_can_forge_control_tokens_or_leave_the_vocabulary(caption):
    ((row,),) = token_ids([caption], PAD_TWO).tolist()
    assert len(row) == 77
    assert row[0] == BEGIN and row.count(BEGIN) == 1 and row.count(END) == 1
    assert all(0 <= number <= END for number in row)


def test_the_vocabulary_is_read_without_importing_its_package():
    tokenizer.cache_clear()
    assert tokenizer().get_vocab_size() == 49406
    assert "open_clip" not in sys.modules


def test_a_missing_vocabulary_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WorkerError, match="CLIP vocabulary is missing") as caught:
        text.vocabulary_file()
    assert "open_clip_torch" in caught.value.hint


# Long captions.

CAT = 2368


def cut_and_repaired(content, pad, length):
    """sd-scripts' way: one row, padded; pieces of 75 between its first and its last token; then the repairs."""
    content = content[:length]
    row = [BEGIN, *content, END, *[pad] * (length - len(content))]
    chunks = []
    for start in range(1, length, 75):
        chunk = [row[0], *row[start : start + 75], row[-1]]
        if pad != END:
            if chunk[-2] not in (END, pad):
                chunk[-1] = END
            if chunk[1] == pad:
                chunk[1] = END
        chunks.append(chunk)
    return chunks


@pytest.mark.parametrize("pad", [PAD_ONE, PAD_TWO])
@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize("tokens", [0, 1, 74, 75, 76, 149, 150, 151, 224, 225, 226, 400])
def test_chunks_are_those_of_sd_scripts(tokens, chunks, pad):
    found = token_ids(["cat " * tokens], pad, chunks=chunks)
    assert found.tolist() == [cut_and_repaired([CAT] * tokens, pad, 75 * chunks)]


@pytest.mark.parametrize(
    ("tokens", "pad", "wanted"),
    [
        (0, PAD_ONE, [[BEGIN, *[END] * 76], [BEGIN, *[END] * 76]]),
        (0, PAD_TWO, [[BEGIN, END, *[0] * 75], [BEGIN, END, *[0] * 75]]),
        (75, PAD_ONE, [[BEGIN, *[CAT] * 75, END], [BEGIN, *[END] * 76]]),
        (75, PAD_TWO, [[BEGIN, *[CAT] * 75, END], [BEGIN, END, *[0] * 75]]),
        (76, PAD_TWO, [[BEGIN, *[CAT] * 75, END], [BEGIN, CAT, END, *[0] * 74]]),
        (150, PAD_TWO, [[BEGIN, *[CAT] * 75, END]] * 2),
        (151, PAD_TWO, [[BEGIN, *[CAT] * 75, END]] * 2),
    ],
)
def test_chunks_by_hand(tokens, pad, wanted):
    assert token_ids(["cat " * tokens], pad, chunks=2).tolist() == [wanted]


def test_an_exclamation_mark_at_the_edge_of_a_chunk_is_a_word_and_no_padding():
    """Its number is 0, with which encoder 2 is padded."""
    mark, tilde = tokenizer().encode("!~").ids
    assert mark == PAD_TWO
    begins, ends = [CAT] * 75 + [mark, tilde], [CAT] * 74 + [mark, tilde]
    wanted = {
        "cat " * 75 + "!~": [[BEGIN, *[CAT] * 75, END], [BEGIN, mark, tilde, END, *[0] * 73]],
        "cat " * 74 + "!~": [[BEGIN, *[CAT] * 74, mark, END], [BEGIN, tilde, END, *[0] * 74]],
    }
    for content, (caption, chunks) in zip((begins, ends), wanted.items(), strict=True):
        assert token_ids([caption], PAD_TWO, chunks=2).tolist() == [chunks]
        assert cut_and_repaired(content, PAD_TWO, 150) != chunks


@pytest.mark.parametrize(("tokens", "chunks"), [(0, 1), (75, 1), (76, 2), (150, 2), (151, 3), (225, 3), (900, 3)])
def test_captions_that_are_shown_have_the_chunks_that_the_longest_needs(toy_models, tokens, chunks):
    context, _ = toy_models.text.encode(["fox", "cat " * tokens])
    assert context.shape[1] == 75 * chunks + 2
    ids = (token_ids(["fox", "cat " * tokens], pad, chunks=chunks) for pad in (PAD_ONE, PAD_TWO))
    assert torch.equal(context, toy_models.text.encode_ids(*ids)[0])


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_chunks_are_encoded_by_themselves_and_stand_side_by_side(toy_models, chunks):
    captions = ["cat " * 80 + "dog", "fox"]
    ids_one, ids_two = (token_ids(captions, pad, chunks=chunks) for pad in (PAD_ONE, PAD_TWO))
    context, pooled = toy_models.text.encode_ids(ids_one, ids_two)
    assert context.shape[:2] == (2, 75 * chunks + 2)
    alone = [toy_models.text.encode_ids(ids_one[:, n : n + 1], ids_two[:, n : n + 1]) for n in range(chunks)]
    inner = torch.cat([each[:, 1:-1] for each, _ in alone], dim=1)
    wanted = torch.cat([alone[0][0][:, :1], inner, alone[-1][0][:, -1:]], dim=1)
    torch.testing.assert_close(context, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled, alone[0][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "caption", ["\0", "a\0b", "\ud800 fox", "fox \udc00", "\ud83e\udd8a", "{" * 10**6, "fox, " * 200_000]
)
def test_hostile_captions_have_tokens_like_any_other(caption):
    ((first, second),) = token_ids([caption], PAD_TWO, chunks=2).tolist()
    for row in (first, second):
        assert len(row) == 77 and row[0] == BEGIN and row.count(END) == 1


def test_halves_of_a_character_count_as_one_when_they_belong_together():
    assert torch.equal(token_ids(["\ud83e\udd8a"], PAD_ONE), token_ids(["\U0001f98a"], PAD_ONE))
    assert torch.equal(token_ids(["\ud83e"], PAD_ONE), token_ids(["\ufffd"], PAD_ONE))


# A slow, obvious CLIP text encoder over the same weights.


def reference_states(weights, ids_BT, activation):
    """Hidden states before each layer and behind the last."""
    x_BTW = weights["embeddings.token_embedding.weight"][ids_BT] + weights["embeddings.position_embedding.weight"]
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layers."))
    heads = max(1, x_BTW.shape[-1] // 64)
    causal_TT = torch.full((77, 77), float("-inf")).triu(1)
    states = [x_BTW]

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name, x):
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    for layer in range(layers):
        prefix = f"encoder.layers.{layer}"
        y_BTW = norm(f"{prefix}.layer_norm1", x_BTW)
        q, k, v = (
            linear(f"{prefix}.self_attn.{letter}_proj", y_BTW).unflatten(-1, (heads, -1)).transpose(1, 2)
            for letter in "qkv"
        )
        attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + causal_TT).softmax(-1)
        x_BTW = x_BTW + linear(f"{prefix}.self_attn.out_proj", (attention @ v).transpose(1, 2).flatten(2))
        y_BTW = norm(f"{prefix}.layer_norm2", x_BTW)
        x_BTW = x_BTW + linear(f"{prefix}.mlp.fc2", activation(linear(f"{prefix}.mlp.fc1", y_BTW)))
        states.append(x_BTW)
    return states, norm("final_layer_norm", x_BTW)


def test_encode_equals_a_plain_clip(toy_models):
    captions = ["a photo of a cat", "roundling, solo, red scarf, smile", ""]
    context, pooled = toy_models.text.encode(captions)

    def weights(model):
        return {name.removeprefix("text_model."): value for name, value in model.state_dict().items()}

    one, _ = reference_states(
        weights(toy_models.text.one), token_ids(captions, PAD_ONE)[:, 0], lambda x: x * torch.sigmoid(1.702 * x)
    )
    ids_two = token_ids(captions, PAD_TWO)[:, 0]
    two, final = reference_states(weights(toy_models.text.two), ids_two, functional.gelu)
    ends = [row.tolist().index(END) for row in ids_two]
    projected = final[torch.arange(3), ends] @ toy_models.text.two.text_projection.weight.T

    architecture = toy_models.architecture
    assert context.shape == (3, 77, architecture.unet.context_width)
    assert pooled.shape == (3, architecture.pooled_width)
    torch.testing.assert_close(context, torch.cat([one[-2], two[-2]], -1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled, projected, rtol=1e-4, atol=1e-5)


def test_captions_of_a_batch_do_not_touch_each_other(toy_models):
    both, pooled = toy_models.text.encode(["red cat", "a long caption, about, many things"])
    alone, pooled_alone = toy_models.text.encode(["red cat"])
    torch.testing.assert_close(both[:1], alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pooled[:1], pooled_alone, rtol=1e-5, atol=1e-6)


def test_gradients_reach_all_layers_but_the_last_of_encoder_1(toy_models):
    layers = [*toy_models.text.one.encoder.layers, *toy_models.text.two.text_model.encoder.layers]
    biases = [layer.mlp.fc1.bias for layer in layers]
    try:
        for bias in biases:
            bias.requires_grad_(True)
        context, pooled = toy_models.text.encode(["cat"])
        (context.sum() + pooled.sum()).backward()
        assert [bias.grad is not None for bias in biases] == [True, False, True, True]
    finally:
        for bias in biases:
            bias.requires_grad_(False)
            bias.grad = None
