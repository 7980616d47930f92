"""Select the targets of an export and the forms of their graphs."""

from __future__ import annotations

from collections.abc import Sequence

from multires_edge.base.errors import ConfigError
from multires_edge.format.targets import (
    FIRST_ONNXRUNTIME,
    TARGETS,
    GraphForm,
    Target,
    dotted,
    target_by_name,
)
from multires_edge.runtime.backends.providers import release


def targets_named(names: str | Sequence[str] | None) -> list[Target]:
    """The targets of names, or of one string with commas. The first is the main target of the bundle.

    None is the newest target that the installed ONNX Runtime runs. Raises ConfigError for an unknown name,
    with the nearest known one, and for graphs that the installed ONNX Runtime cannot prove.
    """
    installed = release()
    if names is None:
        return [TARGETS["cpu" if installed >= TARGETS["cpu"].onnxruntime else "portable"]]
    parts = [part.strip() for part in names.split(",")] if isinstance(names, str) else list(names)
    targets = [target_by_name(part) for part in dict.fromkeys(parts)]
    if not targets:
        raise ConfigError(f"no target given, expected some of {', '.join(TARGETS)}")
    for target in targets:
        for form in target.forms:
            first = FIRST_ONNXRUNTIME[form.form_name]
            if installed < first:
                raise ConfigError(
                    f"target {target.name} takes graphs of opset {form.opset}, which the installed "
                    f"onnxruntime {dotted(installed)} cannot run: install {dotted(first)} or later"
                )
    return targets


def forms_of(targets: Sequence[Target]) -> list[GraphForm]:
    """The forms of the targets, each once. Graphs in the first form are full.onnx and step.onnx."""
    return list(dict.fromkeys(form for target in targets for form in target.forms))
