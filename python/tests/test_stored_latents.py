"""Files of latents: read once where there is room, else at each visit."""

from __future__ import annotations

import pytest
import torch

from lora_worker import stored_latents
from lora_worker.errors import WorkerError
from lora_worker.safetensors_file import write_safetensors
from lora_worker.stored_latents import StoredLatents

SHAPES = {"mean": (4, 2, 3), "logvar": (4, 2, 3)}
SIZE = 2 * 4 * 24


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three files, and which were opened."""
    paths = []
    for number in range(3):
        paths.append(str(tmp_path / f"{number}.safetensors"))
        write_safetensors(paths[-1], {name: torch.full(shape, float(number)) for name, shape in SHAPES.items()})
    opened = []

    class Reader(stored_latents.SafetensorsReader):
        def __init__(self, path):
            opened.append(paths.index(path))
            super().__init__(path)

    monkeypatch.setattr(stored_latents, "SafetensorsReader", Reader)
    return paths, opened


def test_what_fits_is_read_once_and_the_rest_at_each_visit(files):
    paths, opened = files
    stored = StoredLatents(2 * SIZE)
    for place in (0, 1, 2, 2, 1, 0):
        mean, logvar = stored.tensors(paths[place], SHAPES)
        assert torch.equal(mean, torch.full((4, 2, 3), float(place)))
        assert torch.equal(logvar, mean)
    assert opened == [0, 1, 2, 2]


def test_another_tensor_of_a_file_is_read_when_it_is_needed(files):
    paths, opened = files
    stored = StoredLatents(SIZE)
    stored.tensors(paths[0], {"mean": (4, 2, 3)})
    stored.tensors(paths[0], SHAPES)
    assert opened == [0, 0]


def test_another_shape_is_refused(files):
    paths, _ = files
    with pytest.raises(WorkerError, match=r"has shape \[4, 2, 3\], and \[4, 2, 2\] is needed"):
        StoredLatents(SIZE).tensors(paths[0], {"mean": (4, 2, 2)})
