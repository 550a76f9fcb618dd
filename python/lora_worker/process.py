"""What a program says of a checkpoint's diffusion process, where the file itself says nothing or something wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from lora_worker.models import Models
from lora_worker.protocol import Fields


@dataclass(frozen=True)
class Process:
    """`auto` is what the file says."""

    prediction: Literal["auto", "epsilon", "v"] = "auto"
    zero_terminal_snr: Literal["auto", "on", "off"] = "auto"

    @staticmethod
    def parse(value: Mapping[str, Any] | None, where: str) -> Process:
        """Raises ProtocolError. None: all as the file says."""
        if value is None:
            return Process()
        fields = Fields(dict(value), where)
        return Process(
            prediction=fields.one_of("prediction", ("auto", "epsilon", "v")),
            zero_terminal_snr=fields.one_of("zero_terminal_snr", ("auto", "on", "off")),
        )


def as_said(models: Models, process: Process) -> Models:
    """The same networks, taken for what the program says they are."""
    architecture = models.architecture
    if process.prediction != "auto":
        architecture = replace(architecture, prediction=process.prediction)
    if process.zero_terminal_snr != "auto":
        architecture = replace(architecture, zero_terminal_snr=process.zero_terminal_snr == "on")
    return replace(models, architecture=architecture)
