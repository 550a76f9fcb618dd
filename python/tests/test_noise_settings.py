"""What is added to plain noise, by its formulas, and which timesteps are drawn."""

from __future__ import annotations

import pytest
import torch
from training_lab import TrainingLab, share_models

from lora_worker.diffusion import add_noise, alphas_cumprod
from lora_worker.noise import offset_noise
from lora_worker.protocol import ProtocolError
from lora_worker.safetensors_file import read_safetensors
from lora_worker.train_request import parse_train
from lora_worker.visits import Visits


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


def batches(lab, steps=4, **changes):
    """With plain noise, so that the target is what was added up."""
    work = parse_train(lab.request(batch_size=3, steps=steps, **{"noise": {"kind": "plain"}, **changes}))
    visits = Visits(work, prediction="epsilon", zero_terminal_snr=False)
    return [batch for step in range(steps) for batch in visits.micro_batches(step)]


def test_an_offset_is_one_number_per_channel():
    noise, latents = torch.zeros(4, 3, 5), torch.ones(4, 3, 5)
    latents[1] = -3.0
    drawn = torch.tensor([1.0, -1.0, 2.0, 0.5]).reshape(4, 1, 1)
    how = {"offset": 0.1, "normal": lambda shape: drawn.reshape(shape)}
    torch.testing.assert_close(offset_noise(noise, latents, adaptive_scale=0.0, **how), 0.1 * drawn.expand(4, 3, 5))
    adaptive = offset_noise(noise, latents, adaptive_scale=0.2, **how)
    # 0.1 + 0.2 · |mean|: 0.3, and 0.7 where the mean is -3.
    wanted = torch.tensor([0.3, 0.7, 0.3, 0.3]).reshape(4, 1, 1) * drawn
    torch.testing.assert_close(adaptive, wanted.expand(4, 3, 5))
    # 0.1 - 0.2 and 0.1 - 0.6 are below 0, and count as 0.
    assert offset_noise(noise, latents, adaptive_scale=-0.2, **how).abs().max() == 0


def test_the_target_holds_the_offset_and_nothing_else_changes(lab):
    for usual, offset in zip(batches(lab), batches(lab, noise_offset=0.5), strict=True):
        difference = offset.target_B4HW - usual.target_B4HW
        # The same all over a channel, and another in each.
        assert difference.std(dim=(2, 3)).max() < 1e-6
        assert difference.mean(dim=(2, 3)).unique().numel() == 4 * len(usual.images)
        assert torch.equal(offset.timesteps_B, usual.timesteps_B)
        assert torch.equal(offset.ids_one_BNT, usual.ids_one_BNT)


def test_a_random_strength_weakens_the_offset_of_each_image_by_itself(lab):
    factors = []
    plain, full, varied = (
        batches(lab, noise_offset=offset, noise_offset_random_strength=random)
        for offset, random in ((0, False), (0.5, False), (0.5, True))
    )
    for none, one, other in zip(plain, full, varied, strict=True):
        strength = (other.target_B4HW - none.target_B4HW).mean(dim=(2, 3)).abs().amax(dim=1)
        factors += strength.tolist()
        assert not torch.equal(one.target_B4HW, other.target_B4HW)
    assert len(set(factors)) == len(factors)


def test_perturbed_input_leaves_the_target_alone(lab):
    alphas = alphas_cumprod()
    spreads = []
    for usual, perturbed in zip(batches(lab, 8), batches(lab, 8, ip_noise_gamma=0.3), strict=True):
        assert torch.equal(usual.target_B4HW, perturbed.target_B4HW)
        zero = torch.zeros_like(usual.noisy_B4HW)
        scale = add_noise(zero, zero + 1, usual.timesteps_B, alphas)
        spreads.append(((perturbed.noisy_B4HW - usual.noisy_B4HW) / scale).flatten())
    spread = torch.cat(spreads)
    assert spread.std().item() == pytest.approx(0.3, rel=0.05)
    assert spread.mean().abs() < 0.02


def test_perturbation_of_random_strength_is_weaker(lab):
    usual, full, varied = (
        torch.cat([batch.noisy_B4HW.flatten() for batch in batches(lab, **changes)])
        for changes in ({}, {"ip_noise_gamma": 0.3}, {"ip_noise_gamma": 0.3, "ip_noise_gamma_random_strength": True})
    )
    assert 0 < (varied - usual).norm() < (full - usual).norm()


@pytest.mark.parametrize(("first", "end"), [(0, 1000), (200, 210), (999, 1000), (0, 1)])
def test_timesteps_stay_in_their_range_and_reach_its_ends(lab, first, end):
    work = parse_train(lab.request(batch_size=100, steps=3, min_timestep=first, max_timestep=end))
    visits = Visits(work, prediction="epsilon", zero_terminal_snr=False)
    drawn = {t for step in range(3) for batch in visits.micro_batches(step) for t in batch.timesteps_B.tolist()}
    assert drawn <= set(range(first, end))
    if end - first <= 10:
        assert drawn == set(range(first, end))


def test_noise_of_its_usual_kind_is_what_it_was(lab):
    """Settings that are off draw nothing."""
    explicit = {"noise_offset": 0, "adaptive_noise_scale": 0.5, "noise_offset_random_strength": True}
    for usual, other in zip(batches(lab), batches(lab, **explicit), strict=True):
        assert torch.equal(usual.noisy_B4HW, other.noisy_B4HW)


@pytest.mark.parametrize(("first", "end"), [(-1, 5), (5, 5), (0, 1001)])
def test_timesteps_that_do_not_exist_are_refused(lab, first, end):
    with pytest.raises(ProtocolError, match="min_timestep"):
        parse_train(lab.request(min_timestep=first, max_timestep=end))


NOISES = {
    "noise_offset": {"noise_offset": 0.05, "adaptive_noise_scale": 0.01, "noise_offset_random_strength": True},
    "ip_noise_gamma": {"ip_noise_gamma": 0.1, "ip_noise_gamma_random_strength": True},
    "some timesteps": {"min_timestep": 200, "max_timestep": 900},
}


@pytest.mark.parametrize("changes", NOISES.values(), ids=NOISES)
def test_the_file_tells_its_noise(lab, changes):
    _, metadata = read_safetensors(lab.life(lab.request(steps=1, **changes))["lora"])
    assert all(metadata[f"ss_{name}"] == str(value) for name, value in changes.items())
