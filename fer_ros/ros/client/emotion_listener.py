"""Client for behavior nodes: which faces are present and what they show, as objects and events.

Events are debounced by image stamps: a face or an emotion that lasts only a moment is not reported,
and a face that is occluded for a moment is not lost.
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
from rclpy.subscription import Subscription
from vision_msgs.msg import Detection2D, Detection2DArray

from fer_ros.message_fields import corners_xyxy
from fer_ros.ros.client.facial_actions import EYES_CLOSED_AU, JAW_DROP_AU, FacialActions
from fer_ros.ros.convert import stamp_s
from fer_ros.stream_clock import MAX_GAP_S, StreamClock

_POLL_INTERVAL_S = 0.5


@dataclass(frozen=True, eq=False)
class ObservedFace:
    """One face in one image.

    ``emotion`` is None and ``probabilities`` is empty when the face is not readable; otherwise
    ``probabilities`` maps the published name of each of the eight emotions to 0..1. ``box_xyxy``
    (4,) is in pixels of the image, ``stamp_s`` its stamp, ``age_s`` the time since the first image
    with this face. ``eyes_closed``, ``mouth_open`` and ``speaking`` are None without action units.
    """

    id: str
    emotion: str | None
    probabilities: dict[str, float]
    box_xyxy: NDArray[np.float32]
    stamp_s: float
    age_s: float = 0.0
    eyes_closed: bool | None = None
    mouth_open: bool | None = None
    speaking: bool | None = None

    @property
    def confidence(self) -> float:
        """Probability of the emotion, 0..1; 0 without an emotion."""
        return self.probabilities.get(self.emotion or "", 0.0)


def _ignore(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class FaceCallbacks:
    """``on_appear(face)``, ``on_change(face, previous)`` and ``on_gone(face)``."""

    on_appear: Callable[[ObservedFace], Any] = _ignore
    on_change: Callable[[ObservedFace, str | None], Any] = _ignore
    on_gone: Callable[[ObservedFace], Any] = _ignore


class EmotionListener:
    """Subscribes to the results of an emotion node; callbacks run where ``node`` is spun.

    Args:
        node: the behavior node.
        on_faces: called as ``on_faces(faces)`` for each image, without debouncing.
        on_appear: called as ``on_appear(face)`` when a face was present for ``debounce_s``.
        on_change: called as ``on_change(face, previous)`` when a face shows another emotion for
            ``debounce_s``; ``previous`` is None for its first one.
        on_gone: called as ``on_gone(face)`` when a face was absent for ``lost_timeout_s``, or when
            no result arrived for ``stream_timeout_s`` of real time.
        topic: results of the node; it can be remapped.
        debounce_s: how long a face or an emotion must last before it is reported, in seconds of
            image stamps; 0: at once.
        lost_timeout_s: how long a face must be absent before it is gone, in seconds of image
            stamps; above 0.
        stream_timeout_s: seconds of real time without a result after which all faces are gone;
            checked every half second.
        action_units: subscribe to the REP-155 topic ``facs`` of each face, which gives its
            ``eyes_closed``, ``mouth_open`` and ``speaking``. Needs hri_msgs and a model with
            blendshapes.
        hri_namespace: as the parameter of the emotion node.

    In events and in ``faces``, the emotion of a face is the last one that was reported.
    """

    def __init__(
        self,
        node: Node,
        *,
        on_faces: Callable[[list[ObservedFace]], Any] = _ignore,
        on_appear: Callable[[ObservedFace], Any] = _ignore,
        on_change: Callable[[ObservedFace, str | None], Any] = _ignore,
        on_gone: Callable[[ObservedFace], Any] = _ignore,
        topic: str = "emotion_node/emotions",
        debounce_s: float = 0.5,
        lost_timeout_s: float = 1.0,
        stream_timeout_s: float = 5.0,
        action_units: bool = False,
        hri_namespace: str = "/humans",
    ) -> None:
        self._on_faces = on_faces
        self._actions = FacialActionsSubscriber(node, hri_namespace) if action_units else None
        self._stream_timeout_s = stream_timeout_s
        callbacks = FaceCallbacks(on_appear, on_change, on_gone)
        self._tracker = FaceEventTracker(callbacks, debounce_s, lost_timeout_s)
        self._last_message_s = monotonic()
        self._node = node
        self._subscription = node.create_subscription(
            Detection2DArray, topic, self._on_detections, 10
        )
        # The ROS clock may stand still in a simulation.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_POLL_INTERVAL_S, self._check_timeout, clock=steady)

    @property
    def faces(self) -> list[ObservedFace]:
        """Faces that have appeared and are not gone, in order of appearance."""
        return self._tracker.faces

    def close(self) -> None:
        """Unsubscribe; no callback is called any more."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)
        if self._actions:
            self._actions.set_ids(set())

    def _on_detections(self, message: Detection2DArray) -> None:
        self._last_message_s = monotonic()
        image_stamp_s = stamp_s(message.header)
        faces = [to_observed_face(detection, image_stamp_s) for detection in message.detections]
        if self._actions:
            self._actions.set_ids({*self._tracker.ids, *(face.id for face in faces)})
            faces = [self._actions.add_to(face) for face in faces]
        self._on_faces(self._tracker.update(image_stamp_s, faces, self._last_message_s))

    def _check_timeout(self) -> None:
        if monotonic() - self._last_message_s >= self._stream_timeout_s:
            self._tracker.clear()
            if self._actions:
                self._actions.set_ids(set())


class FacialActionsSubscriber:
    """Subscribes to the action units of faces and keeps the state of each."""

    def __init__(self, node: Node, hri_namespace: str) -> None:
        from hri_msgs.msg import FacialActionUnits  # optional

        self._message_type = FacialActionUnits
        self._node = node
        self._hri_namespace = hri_namespace
        self._states: dict[str, _ReceivedActions] = {}
        self._subscriptions: dict[str, Subscription] = {}

    def set_ids(self, ids: set[str]) -> None:
        """Subscribe for new ids and unsubscribe for all that are not in ``ids``."""
        for id in self._subscriptions.keys() - ids:
            self._node.destroy_subscription(self._subscriptions.pop(id))
            del self._states[id]
        for id in ids - self._subscriptions.keys():
            self._states[id] = state = _ReceivedActions()
            topic = f"{self._hri_namespace}/faces/{id}/facs"
            self._subscriptions[id] = self._node.create_subscription(
                self._message_type, topic, state.update, 10
            )

    def add_to(self, face: ObservedFace) -> ObservedFace:
        """The face with the latest state, if that is not too old: no face, no action units."""
        state = self._states[face.id]
        if monotonic() - state.arrival_s > MAX_GAP_S:
            return face
        return replace(
            face,
            eyes_closed=state.actions.eyes_closed,
            mouth_open=state.actions.mouth_open,
            speaking=state.actions.speaking,
        )


class _ReceivedActions:
    """Actions of one face, and the steady time of its last message in seconds."""

    def __init__(self) -> None:
        self.actions = FacialActions()
        self.arrival_s = -math.inf
        self._clock = StreamClock()

    def update(self, message: Any) -> None:
        """Callback for ``hri_msgs/FacialActionUnits``."""
        self.arrival_s = monotonic()
        time_s = self._clock.update(stamp_s(message.header), self.arrival_s).time_s
        eyes_closed, jaw_drop = message.intensity[EYES_CLOSED_AU], message.intensity[JAW_DROP_AU]
        self.actions.update(time_s, float(eyes_closed), float(jaw_drop))


class FaceEventTracker:
    """Turns faces over time into events, without ROS. Limits as in EmotionListener."""

    def __init__(self, callbacks: FaceCallbacks, debounce_s: float, lost_timeout_s: float) -> None:
        self._callbacks = callbacks
        self._debounce_s = debounce_s
        self._lost_timeout_s = lost_timeout_s
        self._clock = StreamClock(max_gap_s=max(MAX_GAP_S, lost_timeout_s))
        self._states: dict[str, _FaceState] = {}

    @property
    def faces(self) -> list[ObservedFace]:
        """Faces that have appeared, with their reported emotion."""
        # a copy: another thread may poll while the node is spun
        return [state.reported for state in [*self._states.values()] if state.has_appeared]

    @property
    def ids(self) -> list[str]:
        """Ids of all faces that are not gone, also of those that have not appeared yet."""
        return [*self._states]

    def update(
        self, image_stamp_s: float, faces: list[ObservedFace], arrival_s: float | None = None
    ) -> list[ObservedFace]:
        """Process the faces of one image, call the callbacks, and return the faces with ages.

        A stamp of 0 is replaced by an estimate from ``arrival_s``, seconds of a steady clock. A
        step back, as when a recording starts again, removes all faces.
        """
        time = self._clock.update(image_stamp_s, arrival_s)
        if time.event.starts_stream:
            self.clear()
        aged = [self._update_face(replace(face, stamp_s=time.time_s)) for face in faces]
        for state in [*self._states.values()]:
            if time.time_s - state.face.stamp_s >= self._lost_timeout_s:
                self._remove(state)
        return aged

    def clear(self) -> None:
        """Report all faces as gone."""
        for state in [*self._states.values()]:
            self._remove(state)

    def _update_face(self, face: ObservedFace) -> ObservedFace:
        state = self._states.setdefault(face.id, _FaceState(face, face.stamp_s, face.stamp_s))
        state.face = face = replace(face, age_s=face.stamp_s - state.first_seen_s)
        if face.emotion and face.emotion != state.current_emotion:
            state.current_emotion, state.current_since_s = face.emotion, face.stamp_s
        is_stable = face.stamp_s - state.current_since_s >= self._debounce_s
        if not state.has_appeared and face.age_s >= self._debounce_s:
            state.has_appeared = True
            state.reported_emotion = state.current_emotion if is_stable else None
            self._callbacks.on_appear(state.reported)
        elif state.has_appeared and is_stable and state.current_emotion != state.reported_emotion:
            previous, state.reported_emotion = state.reported_emotion, state.current_emotion
            self._callbacks.on_change(state.reported, previous)
        return face

    def _remove(self, state: "_FaceState") -> None:
        del self._states[state.face.id]
        if state.has_appeared:
            self._callbacks.on_gone(state.reported)


@dataclass
class _FaceState:
    """One face: when it was first seen, and its emotions as seen and as reported."""

    face: ObservedFace
    first_seen_s: float
    current_since_s: float
    current_emotion: str | None = None
    reported_emotion: str | None = None
    has_appeared: bool = False

    @property
    def reported(self) -> ObservedFace:
        return replace(self.face, emotion=self.reported_emotion)


def to_observed_face(detection: Detection2D, image_stamp_s: float) -> ObservedFace:
    """Convert a detection in an image with this stamp."""
    probabilities = {
        result.hypothesis.class_id: result.hypothesis.score for result in detection.results
    }
    return ObservedFace(
        id=detection.id,
        emotion=next(iter(probabilities), None),
        probabilities=probabilities,
        box_xyxy=np.array(corners_xyxy(detection.bbox), np.float32),
        stamp_s=image_stamp_s,
    )
