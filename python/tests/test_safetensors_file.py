from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from lora_worker.errors import WorkerError
from lora_worker.safetensors_file import (
    SafetensorsReader,
    data_digest,
    read_header,
    read_safetensors,
    read_tensor,
    write_safetensors,
)

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.dictionaries(
        st.text(min_size=1, max_size=12, alphabet=st.characters(exclude_categories=["Cs"])),
        st.tuples(st.lists(st.integers(0, 5), max_size=4), st.sampled_from(DTYPES)),
        max_size=6,
    ),
    metadata=st.dictionaries(
        st.text(max_size=8, alphabet='abcé\n"'), st.text(max_size=8, alphabet="xyz\\ü"), max_size=3
    ),
)
def test_what_is_written_is_read_back_and_the_library_agrees(shapes, metadata, tmp_path_factory):
    path = tmp_path_factory.mktemp("round") / "file.safetensors"
    tensors = {
        name: (torch.arange(torch.Size(shape).numel()) % 2).reshape(shape).to(dtype)
        for name, (shape, dtype) in shapes.items()
    }
    write_safetensors(path, tensors, metadata)
    ours, our_metadata = read_safetensors(path)
    assert our_metadata == metadata
    assert ours.keys() == tensors.keys()
    with safe_open(path, "pt") as theirs:
        assert sorted(theirs.keys()) == sorted(tensors)
        for name, tensor in tensors.items():
            assert torch.equal(ours[name], tensor) and ours[name].dtype == tensor.dtype
            assert torch.equal(theirs.get_tensor(name), tensor)


def test_the_bytes_equal_those_of_the_reference_writer(tmp_path: Path):
    tensors = {
        "m.alpha": torch.tensor(4.0),
        "m.lora_up.weight": torch.randn(3, 2).half(),
        "m.lora_down.weight": torch.randn(2, 5).half(),
        "n": torch.zeros(0, 4, dtype=torch.int64),
    }
    write_safetensors(tmp_path / "ours", tensors, {"only": "one"})
    save_file(tensors, tmp_path / "theirs", {"only": "one"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_the_order_in_which_things_are_given_does_not_show(tmp_path: Path):
    tensors = {name: torch.full((2, 3), float(index)) for index, name in enumerate("qwerty")}
    metadata = {"b": "1", "a": "2", "c": "3"}
    write_safetensors(tmp_path / "one", tensors, metadata)
    write_safetensors(tmp_path / "two", dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_view_into_a_larger_tensor_is_written_as_it_looks(tmp_path: Path):
    whole = torch.arange(12.0).reshape(3, 4)
    write_safetensors(tmp_path / "file", {"view": whole.T[1:3]})
    assert torch.equal(read_tensor(tmp_path / "file", "view"), whole.T[1:3])


def test_rows_are_read_without_the_others(tmp_path: Path):
    tensor = torch.arange(24).reshape(6, 2, 2)
    write_safetensors(tmp_path / "file", {"t": tensor})
    with SafetensorsReader(tmp_path / "file") as reader:
        assert torch.equal(reader.rows("t", 2, 5), tensor[2:5])


def test_the_digest_is_that_of_everything_behind_the_header(tmp_path: Path):
    import hashlib

    tensors = {"b": torch.randn(4), "a": torch.randn(2, 2).half(), "z": torch.tensor(1.0)}
    write_safetensors(tmp_path / "file", tensors, {"key": "value"})
    content = (tmp_path / "file").read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    assert data_digest(tensors) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"\xff" * 16,
        (9).to_bytes(8, "little") + b"{}",
        (8).to_bytes(8, "little") + b"[1,2,3] ",
        (8).to_bytes(8, "little") + b"\xff\xfe{}    ",
        (2).to_bytes(8, "little") + b"{}" + b"left over",
    ],
)
def test_a_damaged_beginning_is_refused_by_name(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WorkerError, match="bad.safetensors") as caught:
        read_header(path)
    assert caught.value.kind == "bad-input"


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype":"F32","shape":[2],"data_offsets":[0,4]}',
        '{"dtype":"F32","shape":[2],"data_offsets":[4,12]}',
        '{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}',
        '{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}',
        '{"dtype":"F99","shape":[2],"data_offsets":[0,8]}',
        '{"shape":[2],"data_offsets":[0,8]}',
        "7",
    ],
)
def test_a_tensor_in_an_impossible_place_is_refused(tmp_path: Path, entry: str):
    path = tmp_path / "bad.safetensors"
    header = f'{{"x":{entry}}}'.encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(WorkerError, match="bad.safetensors"):
        read_header(path)


def test_a_truncated_file_says_so(tmp_path: Path):
    path = tmp_path / "cut.safetensors"
    write_safetensors(path, {"x": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WorkerError, match="describes") as caught:
        read_header(path)
    assert "truncated" in caught.value.hint


def test_nothing_half_written_bears_the_final_name(tmp_path: Path, monkeypatch):
    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError):
        write_safetensors(tmp_path / "file", {"x": torch.zeros(2)})
    assert not (tmp_path / "file").exists()
