"""Draw docs/images/architecture.svg: ``python docs/architecture.py``."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

STAGES = (
    ("detector", "boxes, 5 points"),
    ("tracker", "stable ids"),
    ("alignment", "crops of 112 px"),
    ("classifier", "68 landmarks,\n8 probabilities"),
    ("smoother", "stable label"),
)
BLUE, ORANGE, GRAY = "#dbe9f6", "#fde3c8", "#eeeeee"


def box(
    axes, x: float, y: float, width: float, title: str, color: str, text: str = "", height=0.8
) -> None:
    """Draw a rounded box with a title and smaller text below it."""
    style = "round,pad=0.02,rounding_size=0.08"
    corner, shape = (x, y), {"facecolor": color, "edgecolor": "#555555"}
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, **shape))
    center_x, title_y = x + width / 2, y + (0.55 if text else height / 2)
    axes.text(center_x, title_y, title, ha="center", va="center", size=10)
    axes.text(center_x, y + 0.24, text, ha="center", va="center", size=7.5, color="#444444")


def arrow(axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow between two points."""
    properties = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=properties)


def main() -> None:
    """Write the diagram."""
    matplotlib.rcParams["svg.hashsalt"] = "fer_ros"
    figure, axes = plt.subplots(figsize=(10.4, 3.1))
    axes.set(xlim=(-0.1, 10.7), ylim=(-0.15, 3.2))
    axes.axis("off")
    axes.text(0, 2.98, "fer_ros.ros (emotion_node)", size=8.5, color="#8a5a1e")
    box(axes, 0.0, 2.05, 2.4, "image subscriber", ORANGE, "newest image, decoded to RGB")
    box(axes, 8.2, 2.05, 2.4, "publishers", ORANGE, "~/emotions, /humans,\n/diagnostics")
    axes.text(1.15, 1.62, "fer_ros (library, without ROS)", size=8.5, color="#1f5a94")
    for index, (name, product) in enumerate(STAGES):
        x = 2.15 * index
        box(axes, x, 0.7, 1.9, name, BLUE, product)
        if index:
            arrow(axes, (x - 0.24, 1.1), (x - 0.02, 1.1))
    arrow(axes, (1.0, 2.03), (1.0, 1.54))
    arrow(axes, (9.5, 1.54), (9.5, 2.03))
    for x, text in ((3.15, "gate: size, score"), (7.45, "gate: yaw, blur")):
        box(axes, x, -0.1, 2.0, text, GRAY, height=0.42)
        arrow(axes, (x + 1.0, 0.36), (x + 1.0, 1.06))
    figure.savefig(
        Path(__file__).parent / "images" / "architecture.svg",
        bbox_inches="tight",
        metadata={"Date": None},
    )


if __name__ == "__main__":
    main()
