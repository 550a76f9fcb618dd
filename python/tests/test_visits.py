"""What a visit becomes: independent of its company, and as the protocol's numbers say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_lab import CAPTION_SETTINGS, CAPTIONS, TrainingLab

from lora_worker import visits as module
from lora_worker.diffusion import alphas_cumprod
from lora_worker.errors import WorkerError
from lora_worker.protocol import ProtocolError
from lora_worker.safetensors_file import read_tensor, write_safetensors
from lora_worker.steps_ahead import StepsAhead
from lora_worker.text import PAD_ONE, PAD_TWO, token_ids
from lora_worker.train_request import parse_train
from lora_worker.visits import MicroBatch, Visits, sizes


@pytest.fixture
def lab(tmp_path):
    return TrainingLab(tmp_path, tmp_path / "no-checkpoint")


def visits_of(request, prediction="epsilon"):
    return Visits(parse_train(request), prediction=prediction, zero_terminal_snr=False)


def rows(visits, step):
    """By image digest, since the order within a step follows the buckets."""
    found = []
    for batch in visits.micro_batches(step):
        for place, image in enumerate(batch.images):
            found.append((image.digest, [getattr(batch, name)[place] for name in TENSORS]))
    return sorted(found, key=lambda row: (row[0], row[1][0].sum().item()))


TENSORS = ("noisy_B4HW", "target_B4HW", "timesteps_B", "sizes_B6", "ids_one_BNT", "ids_two_BNT", "weights_B")


def equal(left, right):
    return [digest for digest, _ in left] == [digest for digest, _ in right] and all(
        torch.equal(one, other)
        for (_, ours), (_, theirs) in zip(left, right, strict=True)
        for one, other in zip(ours, theirs, strict=True)
    )


def test_the_cut_into_micro_batches_changes_no_bit(lab):
    cuts = [(6, 1), (3, 2), (2, 3), (1, 6)]
    steps = [
        rows(visits_of(lab.request(batch_size=batch, gradient_accumulation_steps=accumulation)), 1)
        for batch, accumulation in cuts
    ]
    assert all(equal(steps[0], other) for other in steps[1:])


def test_listing_images_in_another_order_changes_no_bit(lab):
    request = lab.request(batch_size=6)
    mixed = {**request, "images": request["images"][::-1]}
    assert equal(rows(visits_of(request), 0), rows(visits_of(mixed), 0))


def test_any_step_can_be_made_first(lab):
    used = visits_of(lab.request())
    for step in range(4):
        used.micro_batches(step)
    assert equal(rows(visits_of(lab.request()), 4), rows(used, 4))


def test_micro_batches_hold_one_bucket_and_at_most_batch_size_images(lab):
    for batch in visits_of(lab.request(batch_size=2, gradient_accumulation_steps=3)).micro_batches(0):
        assert len(batch.images) <= 2
        assert len({image.bucket for image in batch.images}) == 1
        width, height = batch.images[0].bucket
        assert batch.noisy_B4HW.shape == (len(batch.images), 4, height // 8, width // 8)


def test_latents_are_fresh_draws_from_the_posterior_scaled_and_noised(lab):
    request = lab.request(noise={"kind": "plain"}, batch_size=3)
    write_flat(request["images"], mean=2.0, logvar=-1.0)
    visits = visits_of(request)
    alphas = alphas_cumprod()
    drawn = []
    for step in range(8):
        for batch in visits.micro_batches(step):
            alpha = alphas[batch.timesteps_B].reshape(-1, 1, 1, 1)
            clean = (batch.noisy_B4HW - (1 - alpha).sqrt() * batch.target_B4HW) / alpha.sqrt() / 0.13025
            drawn += [row for row, kept in zip(clean, alpha, strict=True) if kept.item() > 0.05]
    assert all(not torch.allclose(drawn[0], other) for other in drawn[1:] if other.shape == drawn[0].shape)
    values = torch.cat([row.flatten() for row in drawn])
    assert values.mean().item() == pytest.approx(2.0, abs=0.05)
    assert values.std().item() == pytest.approx(torch.tensor(-0.5).exp().item(), abs=0.05)


def write_flat(images, *, mean, logvar):
    for image in images:
        for name in ("latents", "latents_flipped"):
            shape = read_tensor(image[name], "mean").shape
            write_safetensors(image[name], {"mean": torch.full(shape, mean), "logvar": torch.full(shape, logvar)})


def test_mirrored_latents_come_with_the_mirrored_crop_half_of_the_time(lab):
    request = lab.request(noise={"kind": "plain"}, batch_size=3)
    for image in request["images"]:
        for name, mean in (("latents", 100.0), ("latents_flipped", -100.0)):
            shape = read_tensor(image[name], "mean").shape
            write_safetensors(image[name], {"mean": torch.full(shape, mean), "logvar": torch.full(shape, -30.0)})
    visits = visits_of(request)
    flipped = []
    for step in range(30):
        for batch in visits.micro_batches(step):
            for place in range(len(batch.images)):
                mirrored = batch.noisy_B4HW[place].mean() < 0
                assert batch.sizes_B6[place].tolist() == list(sizes(batch.images[place], bool(mirrored)))
                flipped.append(bool(mirrored))
    assert 0.3 < sum(flipped) / len(flipped) < 0.7


def test_without_mirrored_latents_nothing_is_flipped(lab):
    request = lab.request(batch_size=3)
    for image in request["images"]:
        image["latents_flipped"] = None
    crops = {tuple(row) for step in range(9) for batch in visits_of(request).micro_batches(step) for row in crop(batch)}
    assert crops == {(0.0, 3.0)}


def crop(batch):
    return batch.sizes_B6[:, 2:4].tolist()


def test_the_size_conditioning_is_heights_first_and_mirrors_the_crop(lab):
    image = parse_train(lab.request()).images[0]
    image = replace(image, original=(1000, 600), resized=(1312, 787), crop=(0, 9), bucket=(1312, 768))
    assert sizes(image, False) == (600, 1000, 9, 0, 768, 1312)
    image = replace(image, original=(768, 1024), resized=(888, 1184), crop=(11, 0), bucket=(864, 1184))
    assert sizes(image, False) == (1024, 768, 0, 11, 1184, 864)
    assert sizes(image, True) == (1024, 768, 0, 13, 1184, 864)


def test_multires_noise_is_one_sample_wide_and_plain_noise_is_not_touched(lab):
    multires = visits_of(lab.request(batch_size=3)).micro_batches(0)
    for batch in multires:
        torch.testing.assert_close(batch.target_B4HW.std(dim=(1, 2, 3)), torch.ones(len(batch.images)))
    plain = visits_of(lab.request(batch_size=3, noise={"kind": "plain"})).micro_batches(0)
    assert all((batch.target_B4HW.std(dim=(1, 2, 3)) - 1).abs().max() > 1e-3 for batch in plain)


def test_captions_are_shuffled_only_when_asked(lab):
    def captions(*, shuffle_caption):
        settings = {**CAPTION_SETTINGS, "shuffle_caption": shuffle_caption}
        visits = visits_of(lab.request(batch_size=3, captions=settings))
        batches = [batch for step in range(8) for batch in visits.micro_batches(step)]
        return {tuple(row) for batch in batches for row in batch.ids_one_BNT[:, 0].tolist()}

    as_written = {tuple(row) for row in token_ids(CAPTIONS, PAD_ONE)[:, 0].tolist()}
    assert captions(shuffle_caption=False) == as_written
    shuffled = captions(shuffle_caption=True)
    assert len(shuffled) > 6
    assert {tuple(sorted(row)) for row in shuffled} == {tuple(sorted(row)) for row in as_written}


def test_wildcards_reach_the_tokens(lab):
    settings = {**CAPTION_SETTINGS, "wildcards": True, "shuffle_caption": False}
    request = lab.request(batch_size=3, captions=settings)
    for image in request["images"]:
        image["caption"] = "a {red|blue} fox\na hill"
    batches = [batch for step in range(20) for batch in visits_of(request).micro_batches(step)]
    found = {tuple(row) for batch in batches for row in batch.ids_one_BNT[:, 0].tolist()}
    wanted = token_ids(["a red fox", "a blue fox", "a hill"], PAD_ONE)[:, 0].tolist()
    assert found == {tuple(row) for row in wanted}


def test_longer_captions_come_in_chunks(lab):
    request = lab.request(batch_size=3, max_token_length=225)
    for image in request["images"]:
        image["caption"] = "cat " * 100
    batch = visits_of(request).micro_batches(0)[0]
    assert torch.equal(batch.ids_two_BNT[0], token_ids(["cat " * 100], PAD_TWO, chunks=3)[0])


def test_a_warm_up_follows_the_step_exactly(lab):
    settings = {**CAPTION_SETTINGS, "shuffle_caption": False, "token_warmup_step": 0.5}
    request = lab.request(batch_size=3, steps=8, captions=settings)
    for image in request["images"]:
        image["caption"] = "a, b, c, d, e"
    visits = visits_of(request)
    found = [visits.micro_batches(step)[0].ids_one_BNT[0, 0].tolist() for step in range(6)]
    wanted = ["a", "a, b", "a, b, c", "a, b, c, d", "a, b, c, d, e", "a, b, c, d, e"]
    assert found == token_ids(wanted, PAD_ONE)[:, 0].tolist()


def test_velocity_is_the_target_of_a_v_prediction_model(lab):
    epsilon = visits_of(lab.request(batch_size=3)).micro_batches(0)[0]
    velocity = visits_of(lab.request(batch_size=3), prediction="v").micro_batches(0)[0]
    assert torch.equal(epsilon.noisy_B4HW, velocity.noisy_B4HW)
    alpha = alphas_cumprod()[epsilon.timesteps_B].reshape(-1, 1, 1, 1)
    clean = (epsilon.noisy_B4HW - (1 - alpha).sqrt() * epsilon.target_B4HW) / alpha.sqrt()
    wanted = alpha.sqrt() * epsilon.target_B4HW - (1 - alpha).sqrt() * clean
    torch.testing.assert_close(velocity.target_B4HW, wanted, rtol=1e-3, atol=1e-3)


def test_latents_of_another_shape_are_refused_by_name(lab):
    request = lab.request(batch_size=3)
    bad = request["images"][0]["latents"]
    request["images"][0]["latents_flipped"] = None
    write_safetensors(bad, {"mean": torch.zeros(4, 2, 2), "logvar": torch.zeros(4, 2, 2)})
    with pytest.raises(WorkerError, match="0-latents"):
        visits_of(request).micro_batches(0)


def test_parts_hold_the_same_rows():
    whole = MicroBatch(("a", "b", "c"), *(torch.arange(3) for _ in TENSORS))
    first, second = whole.parts([2, 1])
    assert first.images + second.images == ("a", "b", "c")
    assert torch.cat([first.noisy_B4HW, second.noisy_B4HW]).tolist() == [0, 1, 2]


def test_steps_made_ahead_are_the_steps_that_are_made_when_asked(lab):
    now = visits_of(lab.request())
    with StepsAhead(visits_of(lab.request()), torch.device("mps"), last=4) as ahead:
        for step in (1, 2, 3, 4):
            batches = ahead.micro_batches(step)
            assert all(
                torch.equal(getattr(one, name), getattr(other, name))
                for one, other in zip(batches, now.micro_batches(step), strict=True)
                for name in TENSORS
            )


def test_a_failure_ahead_is_heard_at_the_step_that_it_belongs_to(lab, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT_BYTES", 0)
    request = lab.request(batch_size=3)
    with StepsAhead(visits_of(request), torch.device("mps"), last=4) as ahead:
        ahead.micro_batches(0)
        for image in request["images"]:
            write_safetensors(image["latents"], {})
            write_safetensors(image["latents_flipped"], {})
        with pytest.raises(WorkerError, match="no tensor"):
            ahead.micro_batches(3)


def with_regularization(request, weight=0.5, **captions):
    """The last image becomes a regularization image."""
    request["images"][-1]["regularization"] = True
    request["settings"]["regularization"] = {
        "captions": {**request["settings"]["captions"], **captions},
        "prior_loss_weight": weight,
    }
    return request


def test_half_of_the_visits_are_of_regularization_images_with_their_own_weight_and_captions(lab):
    request = with_regularization(lab.request(batch_size=4), caption_prefix="photo", shuffle_caption=False)
    ids = {}
    for batch in visits_of(request).micro_batches(0):
        for place, image in enumerate(batch.images):
            assert batch.weights_B[place] == (0.5 if image.regularization else 1.0)
            ids.setdefault(image.regularization, []).append(batch.ids_one_BNT[place, 0].tolist())
    assert [len(ids[kind]) for kind in (False, True)] == [2, 2]
    photo = token_ids(["photo"], PAD_ONE)[0, 0, 1].item()
    assert all(row[1] == photo for row in ids[True])
    assert not any(photo in row for row in ids[False])


def test_without_regularization_images_every_weight_is_one(lab):
    for batch in visits_of(lab.request(batch_size=3)).micro_batches(0):
        assert batch.weights_B.tolist() == [1.0] * len(batch.images)


def test_regularization_images_need_their_settings(lab):
    request = lab.request()
    request["images"][0]["regularization"] = True
    with pytest.raises(ProtocolError, match="regularization"):
        parse_train(request)
