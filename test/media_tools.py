"""Reading of media files that may be incomplete."""

from pathlib import Path

from fer_ros.io.media import IncompleteMediaError, MediaImage, read_file


def partial(path: Path) -> tuple[list[MediaImage], str]:
    """The images of a file, and the error after them."""
    images = []
    try:
        for image in read_file(path):
            images.append(image)  # noqa: PERF402  (an error would take the list with it)
    except IncompleteMediaError as error:
        return images, str(error)
    return images, ""
