"""Own decoding of raw images against the real cv_bridge, where it is installed."""

import numpy as np
import pytest
from sensor_msgs.msg import Image

from fer_ros.io.image_decoding import decode_raw

cv_bridge = pytest.importorskip("cv_bridge", reason="PyPI has no cv_bridge of ROS 2")

SIZE_PX = 24


@pytest.mark.parametrize(
    ("encoding", "channels", "dtype"),
    [
        ("rgb8", 3, np.uint8),
        ("bgr8", 3, np.uint8),
        ("mono8", 1, np.uint8),
        ("mono16", 1, np.uint16),
        ("bayer_rggb8", 1, np.uint8),
    ],
)
def test_pixels_are_those_of_cv_bridge(encoding, channels, dtype):
    """Of noise: where channels or the colors of a pattern are exchanged, nearly all differ."""
    random = np.random.default_rng(5)
    largest = np.iinfo(dtype).max
    pixels = random.integers(0, largest, (SIZE_PX, SIZE_PX, channels), dtype, endpoint=True)
    pixels[0, 0] = largest  # no 16-bit range to stretch
    message = Image(
        height=SIZE_PX,
        width=SIZE_PX,
        encoding=encoding,
        step=pixels.strides[0],
        data=pixels.tobytes(),
    )
    expected = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
    np.testing.assert_array_equal(decode_raw(message), expected)
