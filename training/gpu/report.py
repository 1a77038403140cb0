"""The page of ``training.gpu_check`` in Markdown."""

from typing import Any


def page(results: dict[str, Any]) -> str:
    """Markdown of all results."""
    machine = results["machine"]
    lines = [
        "# GPU check",
        "",
        f"`{results['command']}` on {machine.get('gpu', 'the CPU')}, PyTorch {machine['torch']} "
        f"(CUDA {machine['cuda']}), ONNX Runtime {machine['onnxruntime']}; "
        f"{results['seconds']:.0f} s.",
        "",
        *_section("Ceilings of the device", _rows(results.get("ceilings"))),
        *_section("Outputs compared with the CPU in float32", results.get("outputs")),
        *_section("Speed", results.get("speed")),
        *_section("Whole frames, detector included", results.get("frames")),
        *_section("Memory of the GPU", _rows(results.get("memory"))),
        *_section("Training step", _rows(results.get("training_step"))),
        *_section("Training", results.get("train")),
        *_section("Not run", [{"what": k, "why": v} for k, v in results["skipped"].items()]),
    ]
    return "\n".join(lines) + "\n"


def _rows(values: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [values] if values else []


def _section(title: str, rows: list[dict[str, Any]] | None) -> list[str]:
    if not rows:
        return []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = [[_text(row.get(column, "")) for column in columns] for row in rows]
    return [
        f"## {title}",
        f"| {' | '.join(column.replace('_', ' ') for column in columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(cells)} |" for cells in table),
        "",
    ]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
