"""The metrics of ``training.evaluate`` as one self-contained HTML page. It shows no face."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jinja2 import PackageLoader

from fer_ros.evaluation.report import plots
from fer_ros.evaluation.report.html import Image, Table, render
from training.metrics.classification import (
    RECALL_HEAD,
    RESAMPLES,
    SCORE_HEAD,
    recall_rows,
    score_cells,
)
from training.reports.plots import recall_png


def page(results: Mapping[str, Any]) -> str:
    """Render the results of ``training.evaluate.evaluate``."""
    scores = {name: metrics for name, metrics in results.items() if "accuracy" in metrics}
    landmarks = results.get("landmarks")
    return render(
        "model_evaluation.html",
        PackageLoader("training.reports"),
        model=results["model"],
        data=results["data"],
        landmarks=landmarks if landmarks and landmarks["mean_nme"] is not None else None,
        scores=Table(
            ["", *SCORE_HEAD], [[name, *score_cells(metrics)] for name, metrics in scores.items()]
        ),
        resamples=RESAMPLES,
        sections=[
            {
                "title": name,
                "plots": _plots(name, metrics),
                "recall": Table(RECALL_HEAD, recall_rows(metrics)),
            }
            for name, metrics in scores.items()
        ],
    )


def _plots(name: str, metrics: Mapping[str, Any]) -> list[Image]:
    pngs = {
        "confusion": plots.confusion(np.array(metrics["confusion"])),
        "calibration": plots.calibration(np.array(metrics["bins"])),
        "recall": recall_png(metrics["recall"], metrics["recall_interval"]),
    }
    return [Image(png, f"{title}, {name}") for title, png in pngs.items()]
