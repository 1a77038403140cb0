"""A device that fails: no face is lost where a smaller batch or the CPU can read it."""

import logging
import re
from dataclasses import replace

import numpy as np
import pytest

from fer_ros.classifier import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.inference.backends import BackendSelection
from fer_ros.inference.backends.fallback import FallbackBackend
from fer_ros.inference.model_store import ModelError
from fer_ros.types import FacePredictions


class Device:
    """Has memory for so many crops and answers with the first pixel of each, plus ``error``."""

    def __init__(self, device="cuda", capacity=10, error=0.0):
        self.name, self.device, self.capacity, self.error = "Fake", device, capacity, error
        self.provider, self.precision, self.fallback = "Fake", "fp32", ""
        self.tried = []

    def warm_up(self):
        self.run(crops(1))

    def run(self, crops_rgb):
        self.tried.append(len(crops_rgb))
        if len(crops_rgb) > self.capacity:
            raise RuntimeError("CUDA out of memory.\nTried to allocate 2.00 GiB")
        first = crops_rgb[:, 0, 0, 0].astype(np.float32) + np.float32(self.error)
        return FacePredictions(
            np.tile(first[:, None, None], (1, 68, 2)), np.tile(first[:, None], (1, 8))
        )


class Clock:
    """A clock that advances only when it is set."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


def crops(count):
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


def wrap(device, fallback_device=None):
    clock = Clock()
    return FallbackBackend(
        device, (lambda: fallback_device) if fallback_device else None, clock
    ), clock


def check(result, count):
    np.testing.assert_array_equal(result.points_xy[:, 0, 0], np.arange(count))
    np.testing.assert_array_equal(result.probabilities[:, 0], np.arange(count))


# capacity of the device, crops, what it tries, what the spare gets
BATCHES = [
    (10, 1, [1], []),
    (10, 5, [5], []),
    (4, 5, [5, 2, 2, 1], []),
    (1, 5, [5, 2, 1, 1, 1, 1, 1], []),
    (0, 1, [1], [1]),
    (0, 5, [5, 2, 1], [5]),
]


@pytest.mark.parametrize(("capacity", "count", "tried", "spared"), BATCHES)
def test_every_crop_is_predicted_once_and_in_order(capacity, count, tried, spared):
    device, fallback_device = Device(capacity=capacity), Device("cpu")
    backend, _ = wrap(device, fallback_device)
    check(backend.run(crops(count)), count)
    assert (device.tried, fallback_device.tried) == (tried, spared)
    assert backend.active.device == ("cpu" if spared else "cuda")
    assert bool(backend.last_error) == (tried != [count] or bool(spared))


def test_the_reduced_batch_size_is_kept_for_the_next_frame():
    device = Device(capacity=2)
    backend, _ = wrap(device, Device("cpu"))
    backend.run(crops(4))
    device.tried.clear()
    check(backend.run(crops(5)), 5)
    assert device.tried == [2, 2, 1]


def test_whole_batches_return_when_memory_is_available_again(caplog):
    device = Device(capacity=0)
    backend, clock = wrap(device, Device("cpu"))
    backend.run(crops(3))
    assert (
        "CUDA out of memory. Tried to allocate 2.00 GiB; the cpu takes over" in backend.last_error
    )
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    device.capacity = 10
    clock.now_s += 1.0
    check(backend.run(crops(3)), 3)
    assert (backend.active.device, backend.last_error) == ("cuda", "")
    assert "works again" in caplog.text


def test_a_full_device_is_retried_at_growing_intervals(caplog):
    caplog.set_level(logging.CRITICAL)
    device, fallback_device = Device(capacity=0), Device("cpu")
    backend, clock = wrap(device, fallback_device)
    at_s = []
    for _ in range(200):
        device.tried.clear()
        check(backend.run(crops(1)), 1)
        if device.tried:
            at_s.append(clock.now_s)
        clock.now_s += 1.0
    assert np.diff(at_s).tolist() == [1, 2, 4, 8, 16, 32, 64, 64]


@pytest.mark.parametrize("fallback_device", [None, Device("cpu", capacity=0)])
def test_a_total_failure_is_one_line_and_the_next_frame_is_tried(fallback_device):
    device = Device("cpu" if fallback_device is None else "cuda", capacity=0)
    backend, _ = wrap(device, fallback_device)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^Fake on cpu: CUDA out of memory\. Tried.*GiB$"):
            backend.run(crops(2))
    (fallback_device or device).capacity = 10
    check(backend.run(crops(2)), 2)


def test_a_fallback_that_cannot_be_opened_is_reported():
    def missing():
        raise ModelError("PyTorch cannot be imported")

    backend = FallbackBackend(Device(capacity=0), missing, Clock())
    with pytest.raises(RuntimeError, match=r"out of memory.*; PyTorch cannot be imported$"):
        backend.run(crops(1))


def test_warm_up_opens_the_fallback():
    """A device that fails later costs no frame the time to load the model again."""
    device, opened = Device(), []

    def open_fallback():
        opened.append(Device("cpu"))
        return opened[-1]

    backend = FallbackBackend(device, open_fallback, Clock())
    backend.warm_up()
    assert (device.tried, len(opened), opened[0].tried) == ([1, 1], 1, [1, 1])  # and compared
    assert (backend.active, backend.last_error) == (device, "")
    device.capacity = 0
    check(backend.run(crops(2)), 2)
    assert len(opened) == 1


def test_a_device_that_fails_during_warm_up_is_replaced_and_retried():
    device, fallback_device = Device(capacity=0), Device("cpu")
    backend, clock = wrap(device, fallback_device)
    backend.warm_up()
    assert (backend.active, fallback_device.tried) == (fallback_device, [1])
    assert "the cpu takes over" in backend.last_error
    device.capacity = 10
    clock.now_s += 1.0
    check(backend.run(crops(3)), 3)
    assert (backend.active, backend.last_error) == (device, "")


@pytest.mark.parametrize("error", [0.5, -7.0, np.nan, np.inf])
def test_a_device_that_answers_wrongly_gives_way_until_it_agrees_with_the_cpu(caplog, error):
    """For example of a damaged engine that loads all the same."""
    device, fallback_device = Device(error=error), Device("cpu")
    backend, clock = wrap(device, fallback_device)
    backend.warm_up()
    assert backend.active is fallback_device
    assert re.search(
        r"^Fake on cuda: (its probabilities differ from the CPU's by more than 0\.2|"
        r"probabilities are not finite); the cpu takes over$",
        backend.last_error,
    )
    for _ in range(3):  # at each retry
        check(backend.run(crops(3)), 3)
        clock.now_s += 64.0
    assert (device.tried, backend.active) == ([1] * 4, fallback_device)
    device.error = 0.1  # rounding
    np.testing.assert_allclose(backend.run(crops(3)).probabilities[:, 0], np.arange(3) + 0.1)
    assert (device.tried[4:], backend.active, backend.last_error) == ([1, 3], device, "")
    assert "works again" in caplog.text


def test_points_that_differ_are_wrong_too_and_missing_ones_are_not():
    class Points(Device):
        def __init__(self, device, points):
            super().__init__(device)
            self.points = np.float32(points)

        def run(self, crops_rgb):
            answer = super().run(crops_rgb)
            return replace(answer, points_xy=np.full_like(answer.points_xy, self.points))

    for points, expected, is_wrong in [
        (10, 4, False),
        (11, 4, True),
        (np.nan, np.nan, False),
        (np.nan, 4, True),
    ]:
        backend, _ = wrap(Points("cuda", points), Points("cpu", expected))
        backend.warm_up()
        assert ("its points_xy differ from the CPU's" in backend.last_error) == is_wrong


def test_a_frame_that_a_device_answers_with_nan_is_answered_by_the_cpu():
    """In fp16 a value can overflow for some faces only."""
    device = Device()
    backend, _ = wrap(device, Device("cpu"))
    backend.warm_up()
    device.error = np.nan
    check(backend.run(crops(3)), 3)
    assert "probabilities are not finite; the cpu takes over" in backend.last_error


def test_a_device_that_failed_to_warm_up_is_compared_before_it_returns():
    device, fallback_device = Device(capacity=0, error=0.5), Device("cpu")
    backend, clock = wrap(device, fallback_device)
    backend.warm_up()
    device.capacity = 10
    clock.now_s += 1.0
    check(backend.run(crops(3)), 3)
    assert backend.active is fallback_device


def test_without_a_fallback_a_failed_warm_up_is_an_error():
    backend, _ = wrap(Device("cpu", capacity=0))
    with pytest.raises(RuntimeError, match=r"^Fake on cpu: CUDA out of memory"):
        backend.warm_up()


def test_a_fallback_that_cannot_be_opened_does_not_stop_the_start(caplog):
    def missing():
        raise ModelError("PyTorch cannot be imported")

    backend = FallbackBackend(Device(), missing, Clock())
    backend.warm_up()
    assert "has no CPU fallback: PyTorch cannot be imported" in caplog.text
    check(backend.run(crops(1)), 1)


def test_a_classifier_continues_when_its_device_fails(monkeypatch):
    device = Device(capacity=10)

    def opened(manifest, config):
        on_cpu = config.device == "cpu"
        return BackendSelection(Device("cpu") if on_cpu else device, "as the test says", "")

    monkeypatch.setattr("fer_ros.classifier.open_backend", opened)
    faces, classifier = crops(3), Classifier(ClassifierConfig(device="cuda"))
    np.testing.assert_array_equal(classifier.classify(faces).points_xy[:, 0, 0], np.arange(3))
    assert (classifier.device, classifier.fallback) == ("cuda", "")
    assert (classifier.provider, classifier.precision) == ("Fake", "fp32")
    device.capacity = 0
    np.testing.assert_array_equal(classifier.classify(faces).points_xy[:, 0, 0], np.arange(3))
    assert classifier.device == "cpu"
    assert "out of memory" in classifier.fallback
