"""Image of the debug view for the documentation: annotations of a synthetic frame on plain gray.

    python examples/debug_view.py debug_view.png

The pipeline processes the synthetic frames; its results are drawn without the frame.
"""

import sys
from itertools import islice

import cv2
import numpy as np

from fer_ros import EmotionPipeline
from fer_ros.io.synthetic import synthetic_frames
from fer_ros.types import Frame
from fer_ros.visualization import draw

FRAME = 40  # with a large face near the center
GRAY = 90

pipeline = EmotionPipeline()
for image in islice(synthetic_frames(), FRAME + 1):
    faces = pipeline(Frame(image.image_rgb, image.stamp_s)).faces
drawn_rgb = draw(np.full_like(image.image_rgb, GRAY), faces)
if len(sys.argv) != 2 or not cv2.imwrite(sys.argv[1], cv2.cvtColor(drawn_rgb, cv2.COLOR_RGB2BGR)):
    sys.exit("debug_view: expected one argument, the PNG file to write")
