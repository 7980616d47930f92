"""TensorRT's timing cache, one file per device and release: a second build does not measure again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multires_edge.base.files import disk_errors, write_file
from multires_edge.format.targets import dotted
from multires_edge.runtime.backends.device.gpu import Gpu
from multires_edge.runtime.backends.tensorrt.api import Api


@dataclass(frozen=True)
class TimingCache:
    """The cache file of one device and release."""

    path: Path

    @classmethod
    def of(cls, engines: Path, gpu: Gpu, api: Api) -> TimingCache:
        """The cache in a bundle's ``engines`` folder."""
        device = re.sub(r"[^A-Za-z0-9]+", "-", str(gpu)).strip("-")
        name = (
            f"{device}.sm{gpu.compute_capability.replace('.', '')}.{api.package}-{dotted(api.version)}.timing"
        )
        return cls(engines / name)

    def load(self, config: Any) -> None:
        """Give the builder the stored measurements. It starts empty if the file is missing or unusable."""
        try:
            content = self.path.read_bytes()
        except OSError:
            content = b""
        cache = config.create_timing_cache(content)
        if cache is None or not config.set_timing_cache(cache, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def save(self, config: Any) -> None:
        """Store the builder's measurements. Raises OutputError."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        with disk_errors(self.path):
            self.path.parent.mkdir(exist_ok=True)
        write_file(self.path, bytes(cache.serialize()), force=True)
