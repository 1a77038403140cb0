"""Predictions, latency, throughput, whole frames and memory of inference on a device."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_ros.inference.backends.torch import TorchBackend, is_cuda
from fer_ros.inference.devices import release_cuda_memory
from fer_ros.inference.model_store import (
    InputSpec,
    ModelError,
    ModelManifest,
    find_model,
    read_manifest,
)
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.complexity import complexity_of
from fer_ros.models.wrapper import FaceNetwork
from fer_ros.types import CROP_SIZE_PX
from training.gpu.clock import Budget, Scale, time_calls, time_stream

# Largest differences to the CPU in float32: probabilities, landmarks in pixels of the crop.
TOLERANCES = {"fp32": (5e-3, 0.1), "fp16": (2e-2, 0.5), "bf16": (8e-2, 2.0)}
_DETECTOR_TOLERANCE = 1e-2
_CHECKED_BATCHES = (1, 3, 17)


def prepare_models(scale: Scale, folder: Path) -> list[ModelManifest]:
    """Model folders of all networks: the installed model of this name, or random weights."""
    return [_prepare_model(name, folder) for name in (*scale.networks, *scale.compared)]


def _prepare_model(name: str, folder: Path) -> ModelManifest:
    try:
        return read_manifest(find_model(name))
    except ModelError:
        torch.manual_seed(0)
        net = build_model(name)
        spec = InputSpec(size_px=int(getattr(net, "side_px", CROP_SIZE_PX)))
        return save_model(FaceNetwork(net.eval(), spec), folder / name, name)


def precisions_of(device: str) -> list[str]:
    """Precisions that a device computes in."""
    if not is_cuda(device):
        return ["fp32"]
    capability = torch.cuda.get_device_capability(device)
    return ["fp32", "fp16", "bf16"] if capability >= (8, 0) else ["fp32", "fp16"]


def check_outputs(
    manifests: list[ModelManifest], device: str, crops_rgb: NDArray[np.uint8], budget: Budget
) -> Iterator[dict[str, Any]]:
    """Compare a device with the CPU: each network, precision, eagerly and by CUDA graphs."""
    for manifest in manifests:
        if not budget.allows(f"outputs of {manifest.name}"):
            return
        reference = TorchBackend(manifest, "cpu")
        batches = [crops_rgb[:count] for count in _CHECKED_BATCHES]
        expected = [reference.run(batch) for batch in batches]
        for precision in precisions_of(device):
            if not budget.allows(f"outputs of {manifest.name} in {precision}"):
                return
            backend = TorchBackend(manifest, device, precision=precision)
            for mode in ("eager", "graphs") if is_cuda(device) else ("eager",):
                if mode == "graphs":
                    backend.warm_up()
                errors = [
                    (
                        _largest_error(got.probabilities, want.probabilities),
                        _largest_error(got.points_xy, want.points_xy),
                    )
                    for got, want in zip(map(backend.run, batches), expected, strict=True)
                ]
                probability, landmark_px = np.max(errors, axis=0).tolist()
                limits = TOLERANCES[precision]
                yield {
                    "network": manifest.name,
                    "precision": precision,
                    "mode": mode,
                    "probability_error": probability,
                    "landmark_error_px": landmark_px,
                    "ok": probability <= limits[0] and landmark_px <= limits[1],
                }


def _largest_error(values: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference; NaN equals NaN only, as the landmarks of networks that have none."""
    if (np.isnan(values) != np.isnan(expected)).any():
        return np.inf
    return float(np.nan_to_num(np.abs(values - expected), nan=0.0, posinf=np.inf).max())


def check_detector(device: str, budget: Budget) -> Iterator[dict[str, Any]]:
    """Compare the maps of CenterFace on the device, as the pipeline opens it, with fp32 on the CPU.

    Twice: a GPU computes an image size eagerly at first, then by a CUDA graph.
    """
    try:
        from fer_ros.detectors.base import DetectorError
        from fer_ros.detectors.centerface import find_model, open_centerface
    except ImportError as error:
        budget.skipped["detector"] = str(error)
        return
    try:
        fp32_file = str(find_model(""))
        session = open_centerface("" if is_cuda(device) else fp32_file, 1, device)
        reference = open_centerface(fp32_file, 1)
    except (DetectorError, ImportError) as error:
        budget.skipped["detector"] = str(error)
        return
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 96, 160)).astype(np.float32)
    expected = reference.run(image)
    for mode in ("first image", "same size again"):
        pairs = zip(session.run(image), expected, strict=True)
        difference = max(float(np.abs(got - want).max()) for got, want in pairs)
        yield {
            "network": "centerface",
            "precision": "fp32",
            "mode": f"{session.device}, {mode}",
            "probability_error": difference,
            "landmark_error_px": 0.0,
            "ok": difference <= _DETECTOR_TOLERANCE and not session.fallback,
            "fallback": session.fallback,
        }


def measure_speed(
    manifests: list[ModelManifest],
    device: str,
    scale: Scale,
    ceilings: dict[str, float],
    budget: Budget,
) -> Iterator[dict[str, Any]]:
    """Latency of one face, eagerly and by graphs, and faces per second for all batch sizes."""
    for manifest in manifests:
        gflop = 2 * complexity_of(manifest.architecture, **manifest.config).macs / 1e9
        for precision in precisions_of(device):
            if not budget.allows(f"speed of {manifest.name} in {precision}"):
                return
            backend = TorchBackend(manifest, device, precision=precision)
            yield from _speed_rows(backend, manifest.name, gflop, scale, ceilings, budget)


@torch.inference_mode()
def _speed_rows(
    backend: TorchBackend,
    name: str,
    gflop: float,
    scale: Scale,
    ceilings: dict[str, float],
    budget: Budget,
) -> Iterator[dict[str, Any]]:
    device, precision = backend.device, backend.precision
    shape = (CROP_SIZE_PX, CROP_SIZE_PX, 3)
    one: NDArray[np.uint8] = np.zeros((1, *shape), np.uint8)
    for mode in ("eager", "graphs") if is_cuda(device) else ("eager",):
        if mode == "graphs":
            backend.warm_up()
        row = {"network": name, "precision": precision, "mode": mode}
        timing = time_calls(partial(backend.run, one), device, scale.repeats)
        yield row | {"batch": 1, **timing}
        for batch in scale.batches:
            if mode == "graphs" and batch > 16:
                continue  # larger batches run eagerly
            if not budget.allows(f"speed of {name} in {precision}, {mode}, batch {batch}"):
                return
            crops = torch.zeros(batch, *shape, dtype=torch.uint8, device=device)
            seconds = time_stream(partial(backend.predict, crops), device, scale.repeats)
            faces_s = batch / seconds
            yield row | {
                "batch": batch,
                "faces_s": faces_s,
                "share_of_matmul": faces_s * gflop / 1000 / ceilings[f"matmul_{precision}_tflops"],
                "share_of_copy": faces_s * crops[0].numel() / 1e9 / ceilings["copy_gb_s"],
            }


def measure_frames(device: str, scale: Scale, budget: Budget) -> Iterator[dict[str, Any]]:
    """Milliseconds of whole frames, detector included, with one, five and ten faces."""
    try:
        from fer_ros.config import ClassifierConfig, PipelineConfig
        from fer_ros.detectors.base import DetectorError
        from fer_ros.io.media import MediaError
        from fer_ros.io.synthetic import tiled_faces
        from fer_ros.pipeline import EmotionPipeline
        from fer_ros.types import Frame
    except ImportError as error:
        budget.skipped["frames"] = str(error)
        return
    try:
        config = PipelineConfig(classifier=ClassifierConfig(device=device))
        pipeline = EmotionPipeline(config)
        images_rgb = [tiled_faces(faces) for faces in scale.faces_per_frame]
    except (DetectorError, ModelError, MediaError, ImportError) as error:
        budget.skipped["frames"] = str(error)
        return
    pipeline.classifier.warm_up()
    for faces, image_rgb in zip(scale.faces_per_frame, images_rgb, strict=True):
        if not budget.allows(f"frames of {faces} faces"):
            return
        frames = map(partial(Frame, image_rgb), np.arange(1e6) / 30)
        timing = time_calls(
            partial(_read_next, pipeline, frames),
            device,
            scale.repeats,
        )
        yield {"faces": faces, "image": list(image_rgb.shape[:2]), **timing}


def measure_memory(manifest: ModelManifest, device: str, budget: Budget) -> dict[str, Any] | None:
    """MiB that PyTorch holds of the device with a warm model, and after it was released."""
    if not is_cuda(device):
        budget.skipped["memory"] = "no CUDA device"
        return None
    release_cuda_memory()
    before = torch.cuda.memory_reserved(device)
    backend = TorchBackend(manifest, device)
    backend.warm_up()
    loaded = torch.cuda.memory_reserved(device)
    del backend
    release_cuda_memory()
    after = torch.cuda.memory_reserved(device)
    return {
        "network": manifest.name,
        "loaded_mib": (loaded - before) / 2**20,
        "left_mib": (after - before) / 2**20,
    }


def _read_next(pipeline: Callable[[Any], Any], frames: Iterator[Any]) -> None:
    pipeline(next(frames))
