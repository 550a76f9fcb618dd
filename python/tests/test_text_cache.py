"""Texts of frozen encoders: each encoded once, before the steps, and with the same bytes in the end."""

from __future__ import annotations

import pytest
import torch
from support import RecordingJob
from training_lab import CAPTION_SETTINGS, PROMPT, TrainingLab, digest, metrics, share_models

from lora_worker import text_cache
from lora_worker.errors import Cancelled
from lora_worker.models import Models
from lora_worker.network import create
from lora_worker.network_targets import chosen_targets
from lora_worker.text import TextEncoders
from lora_worker.text_cache import TextCache, row_bytes
from lora_worker.train_request import parse_train
from lora_worker.training import trained_components
from lora_worker.visits import Visits

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

FIXED = {**CAPTION_SETTINGS, "shuffle_caption": False}


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


@pytest.fixture
def passes(monkeypatch):
    """How many texts each pass of the encoders had."""
    counted = []
    encode_ids = TextEncoders.encode_ids

    def counting(self, ids_one_BNT, ids_two_BNT):
        counted.append(len(ids_one_BNT))
        return encode_ids(self, ids_one_BNT, ids_two_BNT)

    monkeypatch.setattr(TextEncoders, "encode_ids", counting)
    return counted


@pytest.fixture
def uncached(monkeypatch):
    """Ends the caching. Each text is then encoded at each visit, by itself: a batch has other last bits on a CPU."""

    def arrange():
        encode_ids = TextEncoders.encode_ids

        def each_by_itself(self, ids_one_BNT, ids_two_BNT):
            rows = [encode_ids(self, one[None], two[None]) for one, two in zip(ids_one_BNT, ids_two_BNT, strict=True)]
            return torch.cat([context for context, _ in rows]), torch.cat([pooled for _, pooled in rows])

        monkeypatch.setattr(TextEncoders, "encode_ids", each_by_itself)
        monkeypatch.setattr(TextCache, "is_worthwhile", lambda *_: False)

    return arrange


def request(lab, work="work", captions=FIXED, **changes):
    held_out = {"images": lab.images[:1], "timesteps": [200, 600], "steps": [2]}
    plan = {"steps": 3, "text_encoder_lr": 0, "captions": captions, "held_out": held_out}
    return lab.request(work, **{**plan, **changes})


def test_texts_that_stay_as_they_are_are_encoded_once_and_change_no_byte(lab, passes, uncached):
    job = RecordingJob()
    samples = {"steps": [1, 3], "prompts": [PROMPT]}
    cached = lab.life(request(lab, "cached", samples=samples), job)
    # The prompt with its negative, then every caption by itself, before the first step.
    assert passes == [2, 1, 1, 1]
    kinds = [kind for kind, fields in job.messages if kind == "step" or fields.get("unit") == "captions"]
    assert kinds == ["progress"] * 3 + ["step"] * 3

    passes.clear()
    uncached()
    plain = lab.life(request(lab, "plain"))
    assert len(passes) == 6 + 2
    assert digest(plain["lora"]) == digest(cached["lora"])
    assert metrics(plain["metrics"]) == metrics(cached["metrics"])


@pytest.fixture
def ahead(monkeypatch, toy_models):
    """As on a GPU, with room for so many texts."""

    def arrange(texts):
        most = texts * row_bytes(toy_models.architecture, torch.float32, 1)
        monkeypatch.setattr(text_cache, "MOST_BYTES", most)
        monkeypatch.setattr(TextCache, "is_worthwhile", lambda *_: True)

    return arrange


@pytest.mark.parametrize(("room", "captions"), [(1, CAPTION_SETTINGS), (2, FIXED)])
def test_texts_that_change_are_encoded_ahead_as_far_as_there_is_room(lab, passes, ahead, uncached, room, captions):
    work = request(lab, "ahead", captions, steps=4)
    visits = Visits(parse_train(work), prediction="epsilon", zero_terminal_snr=False)
    distinct = {tokens.key for step in range(4) for tokens in visits.texts(step)}
    ahead(room)
    cached = lab.life(work)
    assert len(distinct) <= sum(passes) <= 8 + 2
    uncached()
    assert digest(lab.life(request(lab, "plain", captions, steps=4))["lora"]) == digest(cached["lora"])


def test_a_cpu_encodes_texts_that_change_with_their_step(lab, passes):
    lab.life(request(lab, captions=CAPTION_SETTINGS, held_out=None, steps=2))
    assert max(passes) == 2


def test_what_is_trained_or_attached_is_not_cached(lab, toy_models):
    def is_worthwhile(**changes):
        work = parse_train(lab.request(captions=FIXED, **changes))
        visits = Visits(work, prediction="epsilon", zero_terminal_snr=False)
        targets = chosen_targets(toy_models.targets(), work.settings.network, trained_components(work.settings))
        return TextCache.is_worthwhile(toy_models, visits, create(toy_models, targets, work.settings.network, seed=0))

    assert not is_worthwhile()
    assert is_worthwhile(text_encoder_lr=0)
    assert not is_worthwhile(text_encoder_lr=1e-4, unet_lr=0)


def test_every_text_there_can_be(lab):
    def texts(**changes):
        captions = {**FIXED, "caption_prefix": "p", **changes}
        work = parse_train(lab.request(captions=captions, text_encoder_lr=0, steps=8))
        visits = Visits(work, prediction="epsilon", zero_terminal_snr=False)
        every = visits.every_text()
        met = {tokens.key for step in range(8) for tokens in visits.texts(step)}
        return every, met

    for changes, count in (({}, 3), ({"caption_dropout_rate": 0.5}, 4), ({"caption_dropout_every_n_epochs": 2}, 4)):
        every, met = texts(**changes)
        assert len(every) == count
        assert met == {tokens.key for tokens in every}
    for changes in ({"shuffle_caption": True}, {"wildcards": True}, {"caption_tag_dropout_rate": 0.1}):
        assert texts(**changes)[0] is None


def test_a_cancel_is_heard_while_texts_are_encoded(lab, passes):
    job = RecordingJob()
    job.cancel()
    with pytest.raises(Cancelled):
        lab.life(request(lab), job)
    assert passes == []


def test_the_encoders_leave_a_gpu_and_come_back_for_the_next_texts(lab, toy_models, monkeypatch):
    """Told by what is asked of them: there is none here."""
    asked = []
    monkeypatch.setattr(TextEncoders, "to", lambda self, device: asked.append(str(device)))
    monkeypatch.setattr(TextEncoders, "encode_ids", _on_cpu(asked, TextEncoders.encode_ids))
    monkeypatch.setattr(Models, "device", torch.device("cuda"))
    monkeypatch.setattr(text_cache, "MOST_BYTES", 1)
    work = parse_train(request(lab, captions=CAPTION_SETTINGS, steps=4))
    texts = TextCache(toy_models, Visits(work, prediction="epsilon", zero_terminal_snr=False), steps=4)
    for step in range(4):
        texts.make_ready(step, lambda done, total: None)
    assert asked == ["cuda", "encode", "cpu", "cuda", "encode", "cpu", "cuda", "encode", "cpu"]


def _on_cpu(asked, encode_ids):
    def encode(self, ids_one_BNT, ids_two_BNT):
        asked.append("encode")
        return encode_ids(self, ids_one_BNT, ids_two_BNT)

    return encode


def test_what_a_text_takes(toy_models):
    context, pooled = toy_models.text.encode(["fox"])
    assert row_bytes(toy_models.architecture, torch.float32, 1) == 4 * (context.numel() + pooled.numel())
