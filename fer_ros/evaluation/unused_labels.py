"""Labels that score nothing: outside of a recording, or of faces that are not in the results."""

from collections.abc import Collection, Sequence

from fer_ros.evaluation.ground_truth import LARGEST_FACE, Label, LabelClock

_DAY_S = 86400.0


def labels_without_image(
    unused: Sequence[Label], num_labels: int, first_s: float, duration_s: float
) -> list[str]:
    """A line when labels hold for no image of a recording that starts at ``first_s``."""
    if not unused:
        return []
    first = unused[0]
    start_s = first.start_s - (first_s if first.clock is LabelClock.STAMP else 0)
    line = (
        f"{len(unused)} of {num_labels} labels hold for no image of the recording, which lasts "
        f"{duration_s:.3f} s; the first starts at {start_s:.3f} s"
    )
    if first.clock is LabelClock.RELATIVE and start_s > duration_s + _DAY_S:
        line += "; for header stamps, add the column clock with the value stamp"
    return [line]


def labels_without_face(labels: Collection[Label], face_ids: Collection[str]) -> list[str]:
    """A line when labels name faces that are not among those of the results."""
    named = [label for label in labels if label.face != LARGEST_FACE and label.box_xyxy is None]
    missing = [label.face for label in named if label.face not in face_ids]
    if not missing:
        return []
    return [
        f"{len(missing)} of {len(labels)} labels name faces that are not in the results, the first "
        f"{missing[0]}; ids of faces differ between runs of a node: label positions (x, y) instead"
    ]
