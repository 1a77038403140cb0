"""A device that fails: no face is lost where a smaller batch or the CPU can read it."""

import logging

import numpy as np
import pytest

from fer_ros import classify
from fer_ros.backends import Choice
from fer_ros.backends.patient import PatientBackend
from fer_ros.classify import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.weights import ModelError


class Device:
    """Has memory for so many crops and answers with the first pixel of each."""

    def __init__(self, device="cuda", room=10):
        self.name, self.device, self.room = "Fake", device, room
        self.tried = []

    def run(self, crops_rgb):
        self.tried.append(len(crops_rgb))
        if len(crops_rgb) > self.room:
            raise RuntimeError("CUDA out of memory.\nTried to allocate 2.00 GiB")
        first = crops_rgb[:, 0, 0, 0].astype(np.float32)
        return np.tile(first[:, None, None], (1, 68, 2)), np.tile(first[:, None], (1, 8))


class Clock:
    """Stands still until it is told."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


def crops(count):
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


def patient(device, spare=None):
    clock = Clock()
    return PatientBackend(device, (lambda: spare) if spare else None, clock), clock


def check(answer, count):
    points_xy, probabilities = answer
    np.testing.assert_array_equal(points_xy[:, 0, 0], np.arange(count))
    np.testing.assert_array_equal(probabilities[:, 0], np.arange(count))


# room on the device, crops, what it tries, what the spare gets
BATCHES = [
    (10, 1, [1], []),
    (10, 5, [5], []),
    (4, 5, [5, 2, 2, 1], []),
    (1, 5, [5, 2, 1, 1, 1, 1, 1], []),
    (0, 1, [1], [1]),
    (0, 5, [5, 2, 1], [5]),
]


@pytest.mark.parametrize(("room", "count", "tried", "spared"), BATCHES)
def test_every_crop_is_answered_once_and_in_order(room, count, tried, spared):
    device, spare = Device(room=room), Device("cpu")
    backend, _ = patient(device, spare)
    check(backend.run(crops(count)), count)
    assert (device.tried, spare.tried) == (tried, spared)
    assert backend.device == ("cpu" if spared else "cuda")
    assert bool(backend.trouble) == (tried != [count] or bool(spared))


def test_the_next_frame_does_not_fail_first():
    device = Device(room=2)
    backend, _ = patient(device, Device("cpu"))
    backend.run(crops(4))
    device.tried.clear()
    check(backend.run(crops(5)), 5)
    assert device.tried == [2, 2, 1]


def test_whole_batches_come_back_when_there_is_room(caplog):
    device = Device(room=0)
    backend, clock = patient(device, Device("cpu"))
    backend.run(crops(3))
    assert "CUDA out of memory. Tried to allocate 2.00 GiB; cpu computes" in backend.trouble
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    device.room = 10
    clock.now_s += 1.0
    check(backend.run(crops(3)), 3)
    assert (backend.device, backend.trouble) == ("cuda", "")
    assert "computes whole batches again" in caplog.text


def test_a_device_that_stays_full_is_tried_less_and_less_but_never_forgotten(caplog):
    caplog.set_level(logging.CRITICAL)
    device, spare = Device(room=0), Device("cpu")
    backend, clock = patient(device, spare)
    at_s = []
    for _ in range(200):
        device.tried.clear()
        check(backend.run(crops(1)), 1)
        if device.tried:
            at_s.append(clock.now_s)
        clock.now_s += 1.0
    assert np.diff(at_s).tolist() == [1, 2, 4, 8, 16, 32, 64, 64]


@pytest.mark.parametrize("spare", [None, Device("cpu", room=0)])
def test_when_nothing_can_compute_the_error_is_one_line_and_the_next_frame_is_tried(spare):
    device = Device("cpu" if spare is None else "cuda", room=0)
    backend, _ = patient(device, spare)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^Fake on cpu: CUDA out of memory\. Tried.*GiB$"):
            backend.run(crops(2))
    (spare or device).room = 10
    check(backend.run(crops(2)), 2)


def test_a_spare_that_cannot_be_opened_is_told():
    def missing():
        raise ModelError("PyTorch cannot be imported")

    backend = PatientBackend(Device(room=0), missing, Clock())
    with pytest.raises(RuntimeError, match=r"out of memory.*; PyTorch cannot be imported$"):
        backend.run(crops(1))


def test_a_classifier_goes_on_where_its_device_fails(monkeypatch):
    device = Device(room=10)

    def opened(card, config):
        on_cpu = config.device == "cpu"
        return Choice(Device("cpu") if on_cpu else device, "as the test says", "")

    monkeypatch.setattr(classify, "open_backend", opened)
    classifier = Classifier(ClassifierConfig(device="cuda"))
    check(classifier.classify(crops(3)), 3)
    assert (classifier.device, classifier.fallback) == ("cuda", "")
    device.room = 0
    check(classifier.classify(crops(3)), 3)
    assert classifier.device == "cpu"
    assert "out of memory" in classifier.fallback
