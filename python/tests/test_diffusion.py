"""The noise schedule against published numbers, and the algebra of noising."""

from __future__ import annotations

import pytest
import torch

from lora_worker.diffusion import add_noise, alphas_cumprod, posterior_sample, training_target


@pytest.mark.parametrize(
    ("timestep", "alpha", "snr"),
    [
        (0, 0.99914998, 1175.440),
        (1, 0.99829602, 585.862),
        (100, 0.89422315, 8.453865),
        (250, 0.67379230, 2.0655315),
        (500, 0.27633247, 0.3818500),
        (750, 0.05616980, 0.0595126),
        (998, 0.00471670, 0.0047390),
        (999, 0.00466010, 0.0046819),
    ],
)
def test_the_schedule_has_the_published_values(timestep, alpha, snr):
    found = alphas_cumprod()[timestep].item()
    assert found == pytest.approx(alpha, rel=2e-6)
    assert found / (1 - found) == pytest.approx(snr, rel=1e-3)


@pytest.mark.parametrize(("timestep", "alpha"), [(0, 0.99915), (500, 0.24102), (998, 1.968e-7)])
def test_zero_terminal_snr_rescales_the_schedule(timestep, alpha):
    assert alphas_cumprod(zero_terminal_snr=True)[timestep].item() == pytest.approx(alpha, rel=1e-3)


def test_zero_terminal_snr_ends_in_pure_noise():
    assert alphas_cumprod(zero_terminal_snr=True)[-1].item() == 0


def test_latents_and_noise_mix_by_the_timestep_of_each_image():
    latents, noise = torch.full((2, 4, 2, 2), 3.0), torch.full((2, 4, 2, 2), -1.0)
    mixed = add_noise(latents, noise, torch.tensor([0, 999]), alphas_cumprod())
    assert mixed[0].mean().item() == pytest.approx(3 * 0.99914998**0.5 - (1 - 0.99914998) ** 0.5, rel=1e-5)
    assert mixed[1].mean().item() == pytest.approx(3 * 0.00466010**0.5 - (1 - 0.00466010) ** 0.5, rel=1e-5)


def test_the_target_of_epsilon_prediction_is_the_noise():
    noise = torch.randn(1, 4, 2, 2)
    assert training_target("epsilon", torch.zeros_like(noise), noise, torch.tensor([5]), alphas_cumprod()) is noise


def test_noised_latents_and_velocity_give_the_latents_back():
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 4, 3, 3, generator=generator), torch.randn(2, 4, 3, 3, generator=generator)
    timesteps, alphas = torch.tensor([10, 700]), alphas_cumprod()
    mixed = add_noise(latents, noise, timesteps, alphas)
    velocity = training_target("v", latents, noise, timesteps, alphas)
    signal = alphas[timesteps].sqrt().reshape(2, 1, 1, 1)
    spread = (1 - alphas[timesteps]).sqrt().reshape(2, 1, 1, 1)
    torch.testing.assert_close(signal * mixed - spread * velocity, latents)


def test_a_posterior_draw_has_the_posteriors_mean_and_spread():
    mean, logvar = torch.tensor([2.0, 2.0]), torch.tensor([0.0, -100.0])
    drawn = posterior_sample(mean, logvar, torch.ones(2))
    torch.testing.assert_close(drawn, torch.tensor([3.0, 2.0 + 3.0590232e-07]))
