"""The loader under libFuzzer: any bytes give an error or a model that runs.

MULTIRES_FUZZ_SECONDS (20) is how long; findings stay in the folder that the failure names.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.runtime.cpp.networks import NETWORKS, write_weights
from tests.runtime.cpp.programs import SOURCE, build, needs, run


def needs_libfuzzer(folder: Path) -> None:
    needs("clang++")
    source = folder / "empty.cpp"
    source.write_text('extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }')
    command = ["clang++", "-fsanitize=fuzzer,address", str(source), "-o", str(folder / "empty")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs Clang's sanitizer runtime (Debian: libclang-rt-dev)")


def test_weights_files(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    needs_libfuzzer(tmp_path)
    options = ("-DMULTIRES_FUZZ=ON", "-DMULTIRES_SANITIZE=address,undefined", "-DCMAKE_CXX_COMPILER=clang++")
    program = build("fuzz", tmp_path_factory, *options) / "tests" / "fuzz_weights"
    corpus, findings = tmp_path / "corpus", tmp_path / "findings"
    corpus.mkdir()
    findings.mkdir()
    for name in NETWORKS:
        write_weights(name, corpus)
    output = run(
        program,
        corpus,
        f"-dict={SOURCE / 'tests' / 'fuzz_weights.dict'}",
        f"-max_total_time={os.environ.get('MULTIRES_FUZZ_SECONDS', '20')}",
        f"-artifact_prefix={findings}/",
        # Of a file of at most 64 KB, nothing may make more than a few MB, or take long.
        "-max_len=65536",
        "-malloc_limit_mb=64",
        "-rss_limit_mb=1024",
        "-timeout=10",
        "-print_final_stats=1",
    )
    executed = re.search(r"stat::number_of_executed_units: (\d+)", output)
    added = re.search(r"stat::new_units_added: +(\d+)", output)
    assert executed and int(executed[1]) > 1000, output[-2000:]
    assert added and int(added[1]) > 100, "it found no way past the seeds"
