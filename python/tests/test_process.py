"""What a program says of a checkpoint overrides its file, in trainings and in pictures."""

from __future__ import annotations

import pytest
import torch
from support import RecordingJob
from training_lab import PROMPT, TrainingLab, digest, share_models

from lora_worker.errors import WorkerError
from lora_worker.process import Process, as_said
from lora_worker.protocol import ProtocolError
from lora_worker.safetensors_file import read_safetensors
from lora_worker.stages import sample

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
V = {"prediction": "v", "zero_terminal_snr": "on"}


@pytest.fixture
def lab(tmp_path, toy_checkpoint, toy_models, monkeypatch):
    share_models(monkeypatch, toy_models)
    return TrainingLab(tmp_path, toy_checkpoint)


@pytest.mark.parametrize("prediction", ["auto", "epsilon", "v"])
@pytest.mark.parametrize("snr", ["auto", "on", "off"])
def test_auto_is_what_the_file_says(toy_models, prediction, snr):
    said = as_said(toy_models, Process(prediction, snr)).architecture
    assert said.prediction == {"auto": toy_models.architecture.prediction}.get(prediction, prediction)
    assert said.zero_terminal_snr == (snr == "on")


def test_a_training_goes_by_the_word_of_the_program_and_its_file_tells_it(lab):
    usual = lab.life(lab.request("usual", steps=2))
    said = lab.life(lab.request("said", steps=2, process=V))
    assert digest(usual["lora"]) != digest(said["lora"])
    _, metadata = read_safetensors(said["lora"])
    assert (metadata["modelspec.prediction_type"], metadata["ss_zero_terminal_snr"]) == ("v", "True")
    as_the_file = lab.life(lab.request("auto", steps=2, process={"prediction": "auto", "zero_terminal_snr": "auto"}))
    assert digest(as_the_file["lora"]) == digest(usual["lora"])


def test_pictures_go_by_it_too(lab, tmp_path):
    def picture(name, **process):
        item = {"name": name, "lora": None, "prompt": PROMPT, "output": str(tmp_path / f"{name}.png")}
        work = {"checkpoint": str(lab.checkpoint), "mixed_precision": "fp32", "items": [item], **process}
        sample.run(sample.parse(work), RecordingJob())
        return digest(item["output"])

    usual = picture("usual")
    assert picture("v", process={"prediction": "v", "zero_terminal_snr": "off"}) != usual
    # The networks are kept from picture to picture, and what was said of them is not.
    assert picture("again") == usual


def test_a_loss_for_the_other_prediction_stops_before_the_first_step(lab):
    job = RecordingJob()
    with pytest.raises(WorkerError, match="this checkpoint predicts noise"):
        lab.life(lab.request(scale_v_pred_loss_like_noise_pred=True), job)
    assert not job.of_type("step")


def test_an_unknown_word_is_refused(lab):
    with pytest.raises(ProtocolError, match="prediction"):
        lab.life(lab.request(process={"prediction": "x0", "zero_terminal_snr": "auto"}))


def test_the_networks_are_the_same_ones(toy_models):
    said = as_said(toy_models, Process("v"))
    assert said.unet is toy_models.unet and said.dtype == torch.float32
