"""Toolkit for HTML reports: templates, tables and images in one self-contained file.

Templates extend ``base.html`` and import the macros ``table`` and ``image`` of ``macros.html``.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from jinja2.loaders import BaseLoader

from fer_ros.io.errors import encodable

_UNITS = {"share": "{:.1%}", "number": "{:.2f}", "seconds": "{:.2f} s", "count": "{:.0f}"}


@dataclass(frozen=True)
class Table:
    """Cells of text. The first column is aligned to the left, the others to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Image:
    """An embedded image; ``kind`` is ``png`` or ``jpeg``."""

    data: bytes
    alt: str
    kind: str = "png"

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"


def format_value(value: float | None, unit: str) -> str:
    """Format a metric. ``unit``: ``share``, ``number``, ``seconds`` or ``count``; None is "-"."""
    return "-" if value is None else _UNITS[unit].format(value)


def render(template: str, extra_loader: BaseLoader | None = None, **values: Any) -> str:
    """Render a template. Values are escaped, and a missing one is an error.

    ``extra_loader`` finds templates of other packages, which may extend those of this one.
    """
    own = PackageLoader("fer_ros.evaluation.report")
    environment = Environment(
        loader=ChoiceLoader([extra_loader, own]) if extra_loader else own,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # emotions keep their order
    return encodable(environment.get_template(template).render(values))
