"""The loader under libFuzzer: any bytes give an error or a model that runs.

A busy machine does as many runs as another; MULTIRES_FUZZ_SECONDS sets a time instead. Findings stay in the
folder that the failure names.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_weights
from tests.runtime.cpp.programs import build, needs, run


def needs_libfuzzer(folder: Path) -> None:
    needs("clang++")
    source = folder / "empty.cpp"
    source.write_text('extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }')
    command = ["clang++", "-fsanitize=fuzzer,address", str(source), "-o", str(folder / "empty")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs Clang's sanitizer runtime (Debian: libclang-rt-dev)")


SECONDS = os.environ.get("MULTIRES_FUZZ_SECONDS")
LENGTH = "-runs=20000" if SECONDS is None else f"-max_total_time={SECONDS}"
LIMITS = (LENGTH, "-rss_limit_mb=2048", "-timeout=25", "-print_final_stats=1")
# Freed memory that the sanitizer holds back counts as resident: on a fast machine, more than all that lives.
HELD_BACK = {"ASAN_OPTIONS": "quarantine_size_mb=32"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_libfuzzer(tmp_path_factory.mktemp("libfuzzer"))
    options = ("-DMULTIRES_FUZZ=ON", "-DMULTIRES_SANITIZE=address,undefined", "-DCMAKE_CXX_COMPILER=clang++")
    return build("fuzz", tmp_path_factory, *options, targets=("fuzz_weights", "fuzz_snapshot")) / "tests"


def empty_folders(folder: Path) -> tuple[Path, Path]:
    corpus, findings = folder / "corpus", folder / "findings"
    corpus.mkdir()
    findings.mkdir()
    return corpus, findings


def statistic(output: str, name: str) -> int:
    found = re.search(rf"stat::{name}: +(\d+)", output)
    assert found, output[-2000:]
    return int(found[1])


def test_weights_files(programs: Path, tmp_path: Path) -> None:
    corpus, findings = empty_folders(tmp_path)
    for name in NETWORKS:
        write_weights(name, corpus)
    output = run(
        programs / "fuzz_weights",
        corpus,
        f"-dict={Path(__file__).with_name('sources') / 'fuzz_weights.dict'}",
        f"-artifact_prefix={findings}/",
        # Of a file of at most 64 KB, nothing may make more than a few MB, or take long.
        "-max_len=65536",
        "-malloc_limit_mb=64",
        *LIMITS,
        **HELD_BACK,
    )
    assert statistic(output, "number_of_executed_units") > 1000
    assert statistic(output, "new_units_added") > 100, "it found no way past the seeds"


def test_snapshots(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, findings = empty_folders(tmp_path)
    monkeypatch.setenv("MULTIRES_FUZZ_WEIGHTS", str(write_weights("fading", tmp_path)))
    output = run(
        programs / "fuzz_snapshot",
        corpus,
        f"-artifact_prefix={findings}/",
        "-max_len=1048576",
        *LIMITS,
        **HELD_BACK,
    )
    assert statistic(output, "number_of_executed_units") > 100
