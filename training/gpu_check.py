"""``python -m training.gpu_check [OUT]``: is the GPU path right, and how fast is it?

Compares the outputs of a GPU with those of the CPU, measures latency, throughput, whole frames,
memory and the training step, and with ``--train`` trains a model. Needs PyTorch, torchvision, timm,
safetensors, NumPy and PyYAML only; what needs more, such as ONNX Runtime or OpenCV, is left out and
reported. OUT gets ``gpu_check.json`` and ``gpu_check.md`` after each section, so a run that ends
early keeps what it has. The exit code is 1 when an output is out of tolerance or a section fails.
``--export-faces DATA`` writes the file that ``--faces`` takes.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.command_line import report_error
from training.datasets.shards import CROP_SLICE, gray_to_rgb
from training.gpu import inference, training
from training.gpu.clock import DRY_RUN, Budget, Scale, describe_machine, measure_ceilings
from training.gpu.report import page

_RANDOM_FACES = 4096
_FAILED = "failed: "


class Report:
    """Results that are written to disk after each section."""

    def __init__(self, out: Path, budget: Budget, device: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out, self._budget = out, budget
        command = f"python -m training.gpu_check {' '.join(sys.argv[1:])}".rstrip()
        self.results: dict[str, Any] = {"command": command, "machine": describe_machine(device)}
        self.write()

    def add(self, name: str, values: Any) -> None:
        """Store a section; rows of an iterator are stored one by one."""
        if isinstance(values, dict):
            self.results[name] = values
            self.write()
        elif isinstance(values, Iterable):
            rows = self.results.setdefault(name, [])
            for row in values:
                rows.append(row)
                print(f"{name}: {json.dumps(row)}", flush=True)
                self.write()

    def run(self, name: str, section: Callable[[], Any], what: str = "") -> None:
        """Run a section, or the part ``what`` of it, if there is time.

        A failure of the device, or a missing package or file, is reported, not raised.
        """
        what = what or name
        if not self._budget.allows(what):
            self.write()
            return
        try:
            self.add(name, section())
        except (RuntimeError, ValueError, ImportError, OSError) as error:
            self._budget.skipped[what] = f"{_FAILED}{error}"
        self.write()

    def write(self) -> None:
        """Write both files."""
        self.results["seconds"] = self._budget.seconds - self._budget.left_s
        self.results["skipped"] = self._budget.skipped
        text = json.dumps(self.results, indent=1)
        (self._out / "gpu_check.json").write_text(text, encoding="utf-8")
        (self._out / "gpu_check.md").write_text(page(self.results), encoding="utf-8")


def run_checks(arguments: argparse.Namespace, device: str, scale: Scale) -> dict[str, Any]:
    """All sections; returns the results."""
    budget = Budget(arguments.minutes * 60)
    report = Report(arguments.out, budget, device)
    count = 16 if arguments.dry_run else _RANDOM_FACES
    faces = training.load_faces(arguments.faces, device, count)
    crops_rgb = crops_of(faces)
    report.run("ceilings", lambda: measure_ceilings(device, scale))
    ceilings = report.results.get("ceilings")
    if ceilings is None:
        return report.results
    with tempfile.TemporaryDirectory() as folder:
        manifests = inference.prepare_models(scale, Path(folder))
        small = manifests[0]
        report.run("outputs", lambda: inference.check_outputs(manifests, device, crops_rgb, budget))
        report.run("outputs", lambda: inference.check_detector(device, budget), "detector")
        report.run("memory", lambda: inference.measure_memory(small, device, budget))
        report.run("training_step", lambda: training.measure_step(faces, device, scale, ceilings))
        report.run("frames", lambda: inference.measure_frames(device, scale, budget))
        report.run(
            "speed",
            lambda: inference.measure_speed(manifests, device, scale, ceilings, budget),
        )
    if arguments.train is not None:
        minutes = min(arguments.train, max(0.0, budget.left_s / 60))
        report.run(
            "train",
            lambda: training.train(faces, device, minutes, scale, arguments.out),
        )
    return report.results


def crops_of(faces: training.FaceFile) -> NDArray[np.uint8]:
    """Crops (N, 112, 112, 3) of the first faces."""
    return gray_to_rgb(faces.padded_crops[:32, CROP_SLICE, CROP_SLICE].cpu().numpy())


def _export_faces(data: Path, out: Path) -> int:
    try:
        exported = training.export_faces(data, out)
    except (ValueError, OSError) as error:
        return report_error("gpu_check", error)
    print(f"{out}: {len(exported)} faces, {out.stat().st_size / 2**20:.1f} MiB")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.gpu_check", description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path("runs/gpu_check"))
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit of all measurements")
    parser.add_argument(
        "--dry-run", action="store_true", help="run every step on the CPU, with small sizes"
    )
    parser.add_argument(
        "--faces", type=Path, metavar="FILE", help="file with faces, written by --export-faces"
    )
    parser.add_argument(
        "--train", type=float, metavar="MINUTES", help="also train a model, for this time"
    )
    parser.add_argument(
        "--export-faces", type=Path, metavar="DATA", help="write faces of DATA to OUT and stop"
    )
    options = parser.parse_args(argv)
    if options.export_faces:
        return _export_faces(options.export_faces, options.out)
    if not options.dry_run and not torch.cuda.is_available():
        reason = "PyTorch can use no CUDA device; --dry-run tries the program on the CPU"
        return report_error("gpu_check", reason)
    device = "cpu" if options.dry_run else "cuda"
    try:
        results = run_checks(options, device, DRY_RUN if options.dry_run else Scale())
    except (ValueError, OSError) as error:
        return report_error("gpu_check", error)
    wrong = [row for row in results.get("outputs", []) if not row["ok"]]
    for row in wrong:
        print(f"out of tolerance: {json.dumps(row)}", file=sys.stderr)
    skipped = results["skipped"]
    print(f"{options.out / 'gpu_check.md'}; not run: {', '.join(skipped) or 'nothing'}")
    has_failed = any(reason.startswith(_FAILED) for reason in skipped.values())
    return 1 if wrong or has_failed or "ceilings" not in results else 0


if __name__ == "__main__":
    raise SystemExit(main())
