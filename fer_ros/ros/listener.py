"""For behaviour nodes: who is there and what do the faces show, as objects and as events.

Events are debounced by the stamps of the images: a face that flashes up, or an emotion that does,
is not told, and a face that is covered for a moment is not gone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from vision_msgs.msg import Detection2D, Detection2DArray

from fer_ros.ros.convert import stamp_s

_LOOK_S = 0.5  # how often it looks whether the emotion node has fallen silent
_BACK_S = 1.0  # stamps that run back by more are of another time: a bag that starts again


@dataclass(frozen=True, eq=False)
class SeenFace:
    """One face of one image.

    ``emotion`` is None, and ``probabilities`` empty, when the face cannot be read; else they hold
    the eight emotions, as they were published. ``box_xyxy`` (4,) in pixels of the image,
    ``stamp_s`` of the image, ``age_s`` since the image that showed the face first.
    """

    id: str
    emotion: str | None
    probabilities: dict[str, float]
    box_xyxy: NDArray[np.float32]
    stamp_s: float
    age_s: float = 0.0

    @property
    def score(self) -> float:
        """Probability of the emotion, 0..1; 0 without one."""
        return self.probabilities.get(self.emotion or "", 0.0)


def _ignore(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """``appear(face)``, ``change(face, before)`` and ``gone(face)``."""

    appear: Callable[[SeenFace], Any] = _ignore
    change: Callable[[SeenFace, str | None], Any] = _ignore
    gone: Callable[[SeenFace], Any] = _ignore


class EmotionListener:
    """Subscribes to the emotions of a node; its callbacks run where ``node`` is spun.

    ``on_faces(faces)`` hears of every image, the others of events: ``on_appear(face)``,
    ``on_change(face, before)`` when a face shows another emotion than was told, ``before`` None for
    its first one, and ``on_gone(face)``. In events and in ``faces``, the emotion of a face is the
    one that was told. A face and an emotion are told once they lasted ``hold_s``; a face is gone
    ``gone_s`` after it was seen last, and all are when nothing came for ``silence_s`` of real time.
    ``topic`` can be remapped.
    """

    def __init__(
        self,
        node: Node,
        *,
        on_faces: Callable[[list[SeenFace]], Any] = _ignore,
        on_appear: Callable[[SeenFace], Any] = _ignore,
        on_change: Callable[[SeenFace, str | None], Any] = _ignore,
        on_gone: Callable[[SeenFace], Any] = _ignore,
        topic: str = "emotion_node/emotions",
        hold_s: float = 0.5,
        gone_s: float = 1.0,
        silence_s: float = 5.0,
    ) -> None:
        self._on_faces = on_faces
        self._silence_s = silence_s
        self._company = Company(Callbacks(on_appear, on_change, on_gone), hold_s, gone_s)
        self._heard_s = monotonic()
        node.create_subscription(Detection2DArray, topic, self._hear, 10)
        # Not the clock of ROS: it may stand still, or not be there at all.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(_LOOK_S, self._look, clock=steady)

    @property
    def faces(self) -> list[SeenFace]:
        """Who has appeared and is not gone, the first one first."""
        return self._company.faces

    def _hear(self, message: Detection2DArray) -> None:
        self._heard_s = monotonic()
        now_s = stamp_s(message.header)
        seen = [to_seen(detection, now_s) for detection in message.detections]
        self._on_faces(self._company.update(now_s, seen))

    def _look(self) -> None:
        if monotonic() - self._heard_s >= self._silence_s:
            self._company.leave()


class Company:
    """Faces over time to events; knows no ROS. The limits are those of EmotionListener."""

    def __init__(self, callbacks: Callbacks, hold_s: float, gone_s: float) -> None:
        self._callbacks = callbacks
        self._hold_s = hold_s
        self._gone_s = gone_s
        self._newest_s = -math.inf
        self._guests: dict[str, _Guest] = {}

    @property
    def faces(self) -> list[SeenFace]:
        """Those who appeared, with the emotion that was told."""
        return [guest.told for guest in self._guests.values() if guest.has_appeared]

    def update(self, now_s: float, faces: list[SeenFace]) -> list[SeenFace]:
        """Takes the faces of one image, tells the events, and gives the faces their ages."""
        if now_s < self._newest_s - _BACK_S:
            self.leave()
        self._newest_s = now_s
        aged = [self._see(face) for face in faces]
        for guest in [*self._guests.values()]:
            if now_s - guest.face.stamp_s >= self._gone_s:
                self._see_off(guest)
        return aged

    def leave(self) -> None:
        """All are gone."""
        for guest in [*self._guests.values()]:
            self._see_off(guest)

    def _see(self, face: SeenFace) -> SeenFace:
        guest = self._guests.setdefault(face.id, _Guest(face, face.stamp_s, face.stamp_s))
        guest.face = face = replace(face, age_s=face.stamp_s - guest.since_s)
        if face.emotion and face.emotion != guest.shown:
            guest.shown, guest.shown_since_s = face.emotion, face.stamp_s
        has_settled = face.stamp_s - guest.shown_since_s >= self._hold_s
        if not guest.has_appeared and face.age_s >= self._hold_s:
            guest.has_appeared = True
            guest.emotion = guest.shown if has_settled else None
            self._callbacks.appear(guest.told)
        elif guest.has_appeared and has_settled and guest.shown != guest.emotion:
            before, guest.emotion = guest.emotion, guest.shown
            self._callbacks.change(guest.told, before)
        return face

    def _see_off(self, guest: "_Guest") -> None:
        del self._guests[guest.face.id]
        if guest.has_appeared:
            self._callbacks.gone(guest.told)


@dataclass
class _Guest:
    """What is known of one face: since when it is there, and since when it shows what it shows."""

    face: SeenFace
    since_s: float
    shown_since_s: float
    shown: str | None = None
    emotion: str | None = None  # that was told
    has_appeared: bool = False

    @property
    def told(self) -> SeenFace:
        return replace(self.face, emotion=self.emotion)


def to_seen(detection: Detection2D, at_s: float) -> SeenFace:
    """The face of a detection in an image of this stamp."""
    box = detection.bbox
    middle = np.array([box.center.position.x, box.center.position.y])
    half = np.array([box.size_x, box.size_y]) / 2
    shares = {each.hypothesis.class_id: each.hypothesis.score for each in detection.results}
    return SeenFace(
        id=detection.id,
        emotion=next(iter(shares), None),
        probabilities=shares,
        box_xyxy=np.concatenate([middle - half, middle + half]).astype(np.float32),
        stamp_s=at_s,
    )
