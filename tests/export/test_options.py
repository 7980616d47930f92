"""What an export refuses before it imports torch, and what it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from multires_edge.base.errors import MultiresError
from multires_edge.export import ExportOptions, Int8Options, export_bundle
from tests.conftest import DEMO

INT8 = ("int8",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ExportOptions(precisions=("fp8",)), "unknown precision 'fp8', expected one of fp32, fp16, int8"),
        (ExportOptions(pool="window:0"), "window:N for the last N, 1 to"),
        (ExportOptions(target="cpuu"), "did you mean cpu"),
        (ExportOptions(card="none.json"), "none.json: no such file; expected a card"),
        (ExportOptions(verify_data="none.npz"), "none.npz: no such file"),
        (ExportOptions(precisions=INT8, int8=Int8Options("none.json")), "expected a calibration table"),
        (ExportOptions(precisions=INT8, int8=Int8Options(data="none.npz")), "none.npz: no such file"),
        (
            ExportOptions(precisions=INT8, int8=Int8Options("t", parts=("tail",))),
            "unknown part to quantize 'tail'",
        ),
        (ExportOptions(precisions=INT8, int8=Int8Options("t", max_drop=-1.0)), "max drop is -1.0"),
        (ExportOptions(precisions=INT8, int8=Int8Options("t", max_drop=0.1)), "give --budget-data"),
        (ExportOptions(precisions=INT8, int8=Int8Options("t", budget_data="d")), "give --max-drop too"),
        (ExportOptions(int8=Int8Options(parts=("head",))), "add int8 to the precisions"),
    ],
)
def test_what_is_wrong_is_known_at_once(options: ExportOptions, words: str, tmp_path: Path) -> None:
    with pytest.raises(MultiresError) as caught:
        options.check(DEMO / "ckpt.pth", tmp_path / "out", force=False)
    assert words in str(caught.value)


def test_a_missing_checkpoint_an_existing_folder_and_the_options_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from multires_edge.base.errors import MultiresError\n"
        "from multires_edge.export.options import ExportOptions, Int8Options\n"
        "checkpoint, folder = map(Path, sys.argv[1:])\n"
        "out = folder / 'b'\n"
        "for options, *paths in (\n"
        "    (ExportOptions(), folder / 'none.pth', out),\n"
        "    (ExportOptions(), checkpoint, folder / 'out'),\n"
        "    (ExportOptions(card=checkpoint), checkpoint, out),\n"
        "    (ExportOptions(precisions=['int8'], int8=Int8Options(checkpoint)), checkpoint, out),\n"
        "    (ExportOptions(target='mars'), checkpoint, out),\n"
        "):\n"
        "    try:\n"
        "        options.check(*paths, force=False)\n"
        "    except MultiresError:\n"
        "        continue\n"
        "    raise AssertionError(options)\n"
        "assert not {'torch', 'onnx', 'matplotlib'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(DEMO / "ckpt.pth"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_keywords_win_over_options(checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions(pool="window:3", target="portable")
    manifest = export_bundle(checkpoint, tmp_path / "out", options, pool="window:7").manifest
    assert (str(manifest.pooling), manifest.target) == ("window:7", "portable")


def test_a_keyword_that_is_no_option_is_a_programmers_error(checkpoint: Path) -> None:
    with pytest.raises(TypeError, match="precision"):
        export_bundle(checkpoint, precision="fp32")


def test_the_hosts_threads_stay_as_they_were(checkpoint: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        export_bundle(checkpoint, tmp_path / "out")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
