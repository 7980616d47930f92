"""The table of targets agrees with itself and with what TensorRT says."""

from __future__ import annotations

import pytest

from multires_edge.format.targets import (
    FIRST_ONNXRUNTIME,
    FIRST_TENSORRT,
    FIRST_TENSORRT_RTX,
    FORMS,
    PRECISIONS,
    TARGETS,
    Target,
)

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))


@every_target
def test_a_row_is_complete(target: Target) -> None:
    assert target.description and target.sources
    assert set(target.precisions) <= set(PRECISIONS)
    assert bool(target.package) == bool(target.versions)
    for form in target.forms:
        assert FORMS[form.form_name] == form


def test_every_form_has_its_first_releases() -> None:
    assert set(FORMS) == set(FIRST_ONNXRUNTIME) == set(FIRST_TENSORRT) == set(FIRST_TENSORRT_RTX)


@every_target
def test_every_release_of_a_target_reads_one_of_its_forms(target: Target) -> None:
    for version in target.versions:
        oldest = version if len(version) > 1 else (*version, 7 if target.package == "tensorrt_rtx" else 0)
        assert any(target.takes_form(form.form_name, oldest) for form in target.forms)


@pytest.mark.parametrize(
    ("name", "version", "takes", "best"),
    [
        ("jetpack6", (10, 3, 0), True, "opset17"),
        ("jetpack6", (10, 13, 0), False, None),
        ("jetpack7", (10, 13, 3), True, "opset17"),
        ("jetpack7", (10, 16, 1), True, "opset24"),
        ("tensorrt10", (10, 0, 1), True, "opset17"),
        ("tensorrt10", (11, 0, 0), False, None),
        ("tensorrt11", (11, 4, 1), True, "opset24"),
        ("rtx", (1, 7, 1, 116), True, "opset24"),
    ],
)
def test_releases(name: str, version: tuple[int, ...], takes: bool, best: str | None) -> None:
    target = TARGETS[name]
    assert target.takes_version(version) is takes
    if best is not None:
        names = [form.form_name for form in target.forms if target.takes_form(form.form_name, version)]
        assert names[0] == best


def test_rtx_capabilities_are_those_of_its_api() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra")
    known = {
        f"{member.removeprefix('SM')[:-1]}.{member[-1]}"
        for member in trt.ComputeCapability.__members__
        if member.startswith("SM")
    }
    assert set(TARGETS["rtx"].compute_capabilities) == known
