"""The picture of the debug view in README.md: what is drawn on a sample frame, without the frame.

    python examples/debug_view.py debug_view.png

The pipeline reads the made-up camera frames as they are; its answers are drawn on plain grey.
"""

import sys
from itertools import islice

import cv2
import numpy as np

from fer_ros import EmotionPipeline
from fer_ros.draw import draw
from fer_ros.sample import sample_frames
from fer_ros.types import Frame

SHOWN = 40  # the portrait is large here, and near the middle
GREY = 90

pipeline = EmotionPipeline()
for image in islice(sample_frames(), SHOWN + 1):
    faces = pipeline(Frame(image.image_rgb, image.stamp_s)).faces
drawn_rgb = draw(np.full_like(image.image_rgb, GREY), faces)
if len(sys.argv) != 2 or not cv2.imwrite(sys.argv[1], cv2.cvtColor(drawn_rgb, cv2.COLOR_RGB2BGR)):
    sys.exit("debug_view: expected one argument, the PNG file to write")
