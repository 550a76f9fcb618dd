import json
import math
from pathlib import Path

import pytest

from lora_worker.protocol import Cancel, Fields, ProtocolError, Request, parse_message, to_line
from lora_worker.worker import PipeJob

# test/runtime/worker/protocol.test.ts reads the same file, and says what each message is.
FIXTURE = json.loads(
    (Path(__file__).parents[2] / "test" / "fixtures" / "protocol" / "messages.json").read_text(encoding="utf-8")
)


def test_what_the_cli_says_is_understood():
    messages = [parse_message(json.dumps(message)) for message in FIXTURE["toWorker"]]
    *requests, cancel = messages
    assert cancel == Cancel(2)
    assert [request.id for request in requests] == list(range(1, len(requests) + 1))
    assert [request.op for request in requests] == [message["work"]["op"] for message in FIXTURE["toWorker"][:-1]]
    assert all(isinstance(request, Request) for request in requests)


@pytest.mark.parametrize("message", FIXTURE["toWorker"][:-1], ids=lambda message: message["work"]["op"])
def test_each_kind_of_work_is_parsed_by_its_stage(message):
    import importlib

    from lora_worker.worker import _STAGES

    work = message["work"]
    parsed = importlib.import_module(f"lora_worker.stages.{_STAGES[work['op']]}").parse(work)
    with pytest.raises(AttributeError):  # frozen
        parsed.op = "another"


def test_what_the_worker_says_is_what_the_shared_fixture_holds():
    said = []
    one, two = PipeJob(1, said.append, set()), PipeJob(2, said.append, set())
    one.progress(3, 5, "images")
    one.progress(5, 5, "images", "käse 🧀")
    two.step(1, 80, 0.125, {"unet": 3e-4, "text_encoder": 1e-4}, 2.5, 1.5)
    two.step(2, 80, math.nan, {}, math.inf, 1.5)
    two.artifact("step.10", Path("/project/step-10.safetensors"))
    two.log("warning", "one line\nand another")
    assert [json.loads(to_line(message)) for message in said] == FIXTURE["fromWorker"][1:7]


def test_every_line_is_one_line_of_strict_ascii_json():
    line = to_line({"text": "a\nb\u2028c\udc80 é", "nan": math.nan, "nested": [{"inf": -math.inf}], "one": (1, 2.5)})
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and max(line) < 128

    def refuse(name):
        raise AssertionError(name)

    value = json.loads(line, parse_constant=refuse)
    assert value == {"text": "a\nb\u2028c\udc80 é", "nan": None, "nested": [{"inf": None}], "one": [1, 2.5]}


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"[]",
        b"\xff\xfe",
        b'{"type":"request","id":1}',
        b'{"type":"request","id":"1","work":{"op":"train"}}',
        b'{"type":"request","id":true,"work":{"op":"train"}}',
        b'{"type":"request","id":1,"work":{}}',
        b'{"type":"stop","id":1}',
    ],
)
def test_a_line_that_is_no_message_is_refused(line):
    with pytest.raises(ProtocolError):
        parse_message(line)


def test_a_field_of_the_wrong_type_is_named_with_what_was_found():
    fields = Fields({"count": "3", "size": [1, 2, 3], "list": [{"x": 1}]}, "work")
    with pytest.raises(ProtocolError, match=r'"work.count" must be a whole number, and is "3"'):
        fields.whole("count")
    with pytest.raises(ProtocolError, match=r'"work.size" must be two whole numbers, and is \[1, 2, 3\]'):
        fields.pair("size")
    with pytest.raises(ProtocolError, match=r'"work.list\[0\].x" must be a string'):
        fields.records("list", lambda item: item.text("x"))
    with pytest.raises(ProtocolError, match=r'"work.nothing" is missing'):
        fields.text("nothing")
