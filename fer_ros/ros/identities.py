"""The ids under which faces are published, and which of them are still in use."""

import math
import string
from dataclasses import replace
from random import SystemRandom

from fer_ros.types import FrameEmotions

_LETTERS = 5  # twelve million ids: a robot does not meet the same one twice


class Identities:
    """Gives every face that the tracker follows an id of its own, a valid name in ROS.

    The tracker counts faces and starts again with the process. Other nodes remember ids for longer,
    and there may be several cameras: therefore ids are ``prefix`` and random letters, or, where
    ``deterministic``, a number.
    """

    def __init__(self, prefix: str, deterministic: bool) -> None:
        self._prefix = prefix
        self._deterministic = deterministic
        self._count = 0
        self._random = SystemRandom()
        self.forget()

    @property
    def present(self) -> list[str]:
        """Ids of the faces that are there or may come back, the first one first."""
        return [*self._ids.values()]

    def forget(self) -> None:
        """All faces are gone for good."""
        self._ids: dict[str, str] = {}
        self._seen_s: dict[str, float] = {}
        self._newest_s = -math.inf

    def update(self, result: FrameEmotions, max_missed_s: float) -> FrameEmotions:
        """The same faces under their published ids.

        Faces unseen for ``max_missed_s`` are gone for good: the tracker has forgotten them.
        """
        # As in the tracker, those of the frame before stay, however slow it is.
        oldest_s = min(result.stamp_s - max_missed_s, self._newest_s)
        self._newest_s = result.stamp_s
        for face in result.faces:
            self._seen_s[face.id] = max(result.stamp_s, self._seen_s.get(face.id, -math.inf))
        for name in [name for name, seen_s in self._seen_s.items() if seen_s < oldest_s]:
            del self._seen_s[name]
            self._ids.pop(name)
        faces = [replace(face, id=self._id_of(face.id)) for face in result.faces]
        return replace(result, faces=faces)

    def _id_of(self, name: str) -> str:
        if name not in self._ids:
            self._ids[name] = self._new()
        return self._ids[name]

    def _new(self) -> str:
        if self._deterministic:
            self._count += 1
            return f"{self._prefix}{self._count:05d}"
        while True:
            letters = self._random.choices(string.ascii_lowercase, k=_LETTERS)
            new = self._prefix + "".join(letters)
            if new not in self._ids.values():
                return new
