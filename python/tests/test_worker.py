"""The real process, spoken to over its pipes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from lora_worker.failures import output_folder
from lora_worker.safetensors_file import write_safetensors

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT.parent / "test" / "fixtures" / "golden" / "resize"

# Stages that only tests have: one that computes without end, one that misbehaves.
STAGES = """
import ctypes, errno, os, sys, time
def parse(work): return work
def run(work, job):
    how = work["how"]
    if how == "sleep":
        job.log("info", "begun")
        while True:
            job.check_cancelled()
            time.sleep(0.01)
    if how == "deaf":
        job.log("info", "begun")
        while True: time.sleep(0.01)
    if how == "print":
        print("stray text"); os.write(1, b"more stray text"); os.system("echo from a child")
        return {"file": work["file"]}
    if how == "full": raise OSError(errno.ENOSPC, "No space left on device")
    if how == "full-file": raise OSError(errno.ENOSPC, "No space left on device", work["file"])
    if how == "denied": raise PermissionError(errno.EACCES, "Permission denied", work["file"])
    if how == "memory": raise MemoryError
    if how == "cpu-memory":
        import torch
        torch.empty(1 << 60)
    if how == "bug": raise KeyError("oops")
    if how == "nan":
        job.step(1, 2, float("nan"), {"unet": 0.5}, float("inf"), 0.1)
        return {}
"""


def decompose_request(lora: str, factors: str, modules: str) -> dict:
    return {
        "op": "decompose",
        "lora": lora,
        "extract": None,
        "checkpoints": None,
        "factors": factors,
        "modules": modules,
    }


class Worker:
    def __init__(self, folder: Path, **env: str) -> None:
        stage = folder / "lora_worker_test_stage.py"
        stage.write_text(STAGES)
        start = (
            "import sys; from lora_worker import worker; import importlib;"
            "real = importlib.import_module;"
            "worker.importlib.import_module = lambda name: "
            "real('lora_worker_test_stage' if name.endswith('.train') else name);"
            "sys.exit(worker.main())"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "LORAC_THREADS": "1", **env},
            start_new_session=True,
        )
        self.stderr: list[bytes] = []
        self._listener = threading.Thread(target=lambda: self.stderr.extend(self.process.stderr), daemon=True)
        self._listener.start()

    def say(self, message: dict) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, how: str, number: int = 1, **fields: str) -> None:
        self.say({"type": "request", "id": number, "work": {"op": "train", "how": how, **fields}})

    def hear(self) -> dict:
        """The next message. Fails the test when there is none in a minute."""
        killer = threading.Timer(60, self.process.kill)
        killer.start()
        try:
            return json.loads(self.process.stdout.readline())
        finally:
            killer.cancel()

    def log(self) -> str:
        self.process.wait(10)
        self._listener.join(10)
        return b"".join(self.stderr).decode()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """One warm worker for the tests that leave it as it was."""
    worker = Worker(tmp_path_factory.mktemp("worker"))
    worker.hello = worker.hear()
    yield worker
    worker.end()


@pytest.fixture
def fresh(tmp_path: Path):
    worker = Worker(tmp_path)
    assert worker.hear()["type"] == "hello"
    yield worker
    worker.end()


def test_the_first_line_is_a_hello(worker: Worker):
    assert worker.hello["type"] == "hello"
    assert worker.hello["protocol"] == 1
    assert worker.hello["torch"] == torch.__version__
    assert worker.hello["device"] in ("cuda", "mps", "cpu")
    assert worker.hello["threads"] == 1


def test_a_request_of_a_real_stage_ends_with_its_files(worker: Worker, tmp_path: Path):
    factors, modules = str(tmp_path / "factors.safetensors"), str(tmp_path / "modules.json")
    lora = str(GOLDEN / "lora.safetensors")
    worker.say({"type": "request", "id": 3, "work": decompose_request(lora, factors, modules)})
    messages = []
    while not messages or messages[-1]["type"] == "progress":
        messages.append(worker.hear())
    assert messages[-1] == {"type": "result", "id": 3, "outputs": {"factors": factors, "modules": modules}}
    assert all(Path(path).exists() for path in (factors, modules))


def test_stray_output_never_reaches_the_pipe(worker: Worker):
    worker.ask("print", file="/x")
    assert worker.hear() == {"type": "result", "id": 1, "outputs": {"file": "/x"}}


def test_a_cancel_is_heard_while_a_stage_computes_and_the_worker_goes_on(worker: Worker):
    worker.ask("sleep", 7)
    assert worker.hear()["message"] == "begun"
    worker.say({"type": "cancel", "id": 7})
    answer = worker.hear()
    assert (answer["id"], answer["failure"]["kind"]) == (7, "cancelled")
    worker.ask("print", 8, file="/x")
    assert worker.hear()["type"] == "result"


def test_a_request_that_is_cancelled_while_it_waits_never_starts(worker: Worker):
    worker.ask("sleep", 11)
    assert worker.hear()["message"] == "begun"
    worker.ask("sleep", 12)
    worker.say({"type": "cancel", "id": 12})
    worker.say({"type": "cancel", "id": 11})
    assert [worker.hear()["type"] for _ in range(2)] == ["failure", "failure"]


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("full", "out-of-space", "The disk is full"),
        ("full-file", "out-of-space", "/somewhere/file"),
        ("denied", "bad-input", '"/somewhere/file": Permission denied.'),
        ("memory", "out-of-memory", "not enough memory"),
        ("cpu-memory", "out-of-memory", "not enough memory"),
        ("bug", "internal", "unexpected KeyError: 'oops'"),
    ],
)
def test_what_a_stage_raises_becomes_a_kind(worker: Worker, how: str, kind: str, text: str):
    worker.ask(how, file="/somewhere/file")
    failure = worker.hear()["failure"]
    assert failure["kind"] == kind
    assert text in failure["message"]
    assert failure["problems"] == []  # said once, in the message


def test_a_full_disk_names_the_folder_and_what_is_free(worker: Worker, tmp_path: Path):
    worker.ask("full", work=str(tmp_path))
    failure = worker.hear()["failure"]
    assert f'"{tmp_path}"' in failure["message"] and "MiB are free" in failure["message"]


def test_numbers_that_are_not_finite_travel_as_null(worker: Worker):
    worker.ask("nan")
    step = worker.hear()
    assert (step["loss"], step["grad_norm"], step["learning_rates"]) == (None, None, {"unet": 0.5})
    assert worker.hear()["type"] == "result"


def test_an_unknown_operation_is_an_internal_failure(worker: Worker):
    worker.say({"type": "request", "id": 1, "work": {"op": "fly"}})
    assert worker.hear()["failure"]["kind"] == "internal"


def test_only_an_unexpected_error_puts_a_traceback_into_the_log(fresh: Worker, tmp_path: Path):
    write_safetensors(tmp_path / "no.safetensors", {"x": torch.zeros(1)})
    lora = str(tmp_path / "no.safetensors")
    fresh.say({"type": "request", "id": 1, "work": decompose_request(lora, "f", "m")})
    assert fresh.hear()["failure"]["kind"] == "bad-input"
    fresh.ask("bug", 2)
    assert fresh.hear()["failure"]["kind"] == "internal"
    fresh.process.stdin.close()
    assert fresh.log().count("Traceback") == 1


@pytest.mark.parametrize("how", ["deaf", None])
def test_the_end_of_stdin_ends_the_process_within_a_second(fresh: Worker, how: str | None):
    if how:
        fresh.ask(how)
        assert fresh.hear()["message"] == "begun"
    fresh.process.stdin.close()
    start = time.monotonic()
    assert fresh.process.wait(5) == 0
    assert time.monotonic() - start < 1
    assert fresh.process.stdout.read() == b""


def test_an_interrupt_is_ignored_and_the_process_leads_its_own_group(fresh: Worker):
    assert os.getpgid(fresh.process.pid) == fresh.process.pid
    fresh.process.send_signal(signal.SIGINT)
    fresh.ask("print", file="/x")
    assert fresh.hear()["type"] == "result"


def test_a_line_that_is_no_message_ends_the_process_and_says_why(fresh: Worker):
    fresh.process.stdin.write(b"nonsense\n")
    fresh.process.stdin.flush()
    assert fresh.process.wait(5) == 2
    assert "a line is not JSON" in fresh.log()


def test_two_workers_never_write_to_one_folder_at_once(worker: Worker, fresh: Worker, tmp_path: Path):
    folder = str(tmp_path)
    worker.ask("sleep", 21, work=folder)
    assert worker.hear()["message"] == "begun"
    fresh.ask("sleep", 1, work=folder)
    assert fresh.hear()["message"] == f'Waiting for another worker that still writes to "{folder}".'
    worker.say({"type": "cancel", "id": 21})
    assert worker.hear()["failure"]["kind"] == "cancelled"
    assert fresh.hear()["message"] == "begun"


@pytest.mark.parametrize(
    "paths",
    [
        {"op": "encode_latents", "checkpoint": "c", "vae_precision": "fp32", "items": [{"output": "{}/a.safetensors"}]},
        {
            "op": "decompose",
            "lora": "l",
            "extract": None,
            "checkpoints": None,
            "factors": "{}/f.safetensors",
            "modules": "{}/m.json",
        },
        {"op": "frobenius", "checkpoints": ["c"], "modules": "m", "factors": None, "output": "{}/n.json"},
    ],
)
def test_every_operation_locks_the_folder_that_it_writes_to(paths: dict, tmp_path: Path):
    work = json.loads(json.dumps(paths).replace("{}", str(tmp_path)))
    assert output_folder(work) == str(tmp_path)


def test_a_worker_that_writes_single_files_waits_for_the_folder_too(worker: Worker, fresh: Worker, tmp_path: Path):
    worker.ask("sleep", 31, work=str(tmp_path))
    assert worker.hear()["message"] == "begun"
    lora, factors, modules = (str(GOLDEN / "lora.safetensors"), str(tmp_path / "f"), str(tmp_path / "m"))
    work = decompose_request(lora, factors, modules)
    fresh.say({"type": "request", "id": 1, "work": work})
    assert fresh.hear()["message"].startswith("Waiting for another worker")
    worker.say({"type": "cancel", "id": 31})
    assert worker.hear()["failure"]["kind"] == "cancelled"
    while (answer := fresh.hear())["type"] == "progress":
        pass
    assert answer["type"] == "result"


def test_the_surroundings_keep_libraries_offline_and_waiting_threads_quiet(tmp_path: Path):
    script = (
        "from lora_worker.devices import prepare_environment; import os; threads = prepare_environment();"
        "print(threads, os.environ['HF_HUB_OFFLINE'], os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])"
    )
    env = {**os.environ, "LORAC_THREADS": "3", "CUDA_VISIBLE_DEVICES": ""}
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["3", "1", "3", "passive"]
