"""What a training adds to plain noise, and at which timesteps it trains."""

from __future__ import annotations

from dataclasses import dataclass

from lora_worker.diffusion import TIMESTEPS
from lora_worker.protocol import Fields, ProtocolError


@dataclass(frozen=True)
class NoiseSettings:
    """Nothing, and all timesteps, unless something is set. `max_timestep` is the one behind the last."""

    noise_offset: float = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float = 0.0
    ip_noise_gamma: float = 0.0
    ip_noise_gamma_random_strength: bool = False
    min_timestep: int = 0
    max_timestep: int = TIMESTEPS

    @staticmethod
    def parse(settings: Fields) -> NoiseSettings:
        """Raises ProtocolError."""
        parsed = NoiseSettings(
            noise_offset=settings.number("noise_offset"),
            noise_offset_random_strength=settings.flag("noise_offset_random_strength"),
            adaptive_noise_scale=settings.number("adaptive_noise_scale"),
            ip_noise_gamma=settings.number("ip_noise_gamma"),
            ip_noise_gamma_random_strength=settings.flag("ip_noise_gamma_random_strength"),
            min_timestep=settings.whole("min_timestep"),
            max_timestep=settings.whole("max_timestep"),
        )
        if not 0 <= parsed.min_timestep < parsed.max_timestep <= TIMESTEPS:
            raise ProtocolError(
                f'"{settings.where}.min_timestep" and "max_timestep" must be in this order within 0 and {TIMESTEPS}, '
                f"and are {parsed.min_timestep} and {parsed.max_timestep}"
            )
        return parsed
