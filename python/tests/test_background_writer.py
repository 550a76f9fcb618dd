"""Files behind a training: in their order, bounded, whole, and no failure goes unheard."""

from __future__ import annotations

import errno
import threading

import pytest

from lora_worker.background_writer import BackgroundWriter


def test_what_is_put_first_is_written_first_and_the_end_waits_for_all():
    written = []
    hold = threading.Event()
    with BackgroundWriter(100) as writer:
        writer.put(hold.wait, 10)
        for number in range(5):
            writer.put(lambda number=number: written.append(number), 10)
        assert written == []
        hold.set()
    assert written == [0, 1, 2, 3, 4]


def test_putting_waits_only_when_too_much_is_waiting():
    hold = threading.Event()
    with BackgroundWriter(100) as writer:
        writer.put(hold.wait, 60)
        assert writer.has_room(40)
        assert not writer.has_room(41)
        threading.Timer(0.05, hold.set).start()
        writer.put(lambda: None, 41)
        assert hold.is_set()


def test_what_is_larger_than_the_bound_goes_alone():
    with BackgroundWriter(100) as writer:
        writer.put(lambda: None, 1000)
        writer.drain()
        assert writer.has_room(1000)


def test_a_failure_is_raised_at_the_next_look_and_nothing_is_written_after_it():
    written = []

    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "here")

    with pytest.raises(OSError, match="here"), BackgroundWriter(100) as writer:
        hold = threading.Event()
        writer.put(hold.wait, 1)
        writer.put(full, 1)
        writer.put(lambda: written.append("after"), 1)
        hold.set()
        writer.drain()
    assert written == []


def test_an_error_elsewhere_ends_it_when_all_is_written_and_is_not_hidden():
    written = []

    def fail():
        written.append(1)
        raise OSError("disk")

    with pytest.raises(KeyError), BackgroundWriter(100) as writer:
        writer.put(fail, 1)
        raise KeyError
    assert written == [1]
