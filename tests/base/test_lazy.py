"""What the packages show of themselves before anything heavy is imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

PACKAGES = ("calibration", "export", "models", "runtime")


@pytest.mark.parametrize("name", PACKAGES)
def test_dir_shows_the_public_names_and_each_of_them_is_there(name: str) -> None:
    package = importlib.import_module(f"multires_edge.{name}")
    assert dir(package) == sorted(package.__all__)
    for public in package.__all__:
        assert getattr(package, public).__name__ == public


def test_an_unknown_name_is_an_attribute_error() -> None:
    import multires_edge.runtime

    with pytest.raises(AttributeError, match=r"'multires_edge.runtime' has no attribute 'open_bundel'"):
        multires_edge.runtime.open_bundel  # noqa: B018


@pytest.mark.parametrize("name", PACKAGES)
def test_importing_a_package_imports_nothing_heavy(name: str) -> None:
    code = (
        f"import sys, multires_edge.{name} as package\n"
        "dir(package)\n"
        "assert not {'numpy', 'torch', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_shows_its_packages_and_its_version() -> None:
    import multires_edge

    assert dir(multires_edge) == ["__version__", *PACKAGES]
    assert multires_edge.__version__ == importlib.metadata.version("multires-edge")
    code = "import multires_edge\nassert multires_edge.runtime.__name__ == 'multires_edge.runtime'\n"
    subprocess.run([sys.executable, "-c", code], check=True)
