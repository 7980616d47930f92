"""The files and folders in which people keep weights: which kind it is, and its content."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from multires_edge.base.errors import CheckpointError, require_extra
from multires_edge.base.files import read_regular, sha256_of
from multires_edge.base.names import listed
from multires_edge.format.fields import shortened
from multires_edge.models.unpickling import load_pickle

# What frameworks call the weights in a folder: whole, or the index of their shards.
_WHOLE = ("model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors")
# An index; transformers puts the name of a variant before "json", and into names of whole files too.
_INDEX = re.compile(r".*\.(?:safetensors|bin)\.index\.(?:[^.]+\.)?json")
_VARIANT = re.compile(r"(?:model\.[^.]+\.safetensors|pytorch_model\.[^.]+\.bin)")
_LONGEST_HEADER = 100_000_000  # bytes, by the definition of safetensors

# The first bytes of files that have no weights we can read, what the file is, and what helps.
_OTHERS = (
    (b"\x1f\x8b", "compressed by gzip; unpack it by gunzip"),
    (b"BZh", "compressed by bzip2; unpack it by bunzip2"),
    (b"\xfd7zXZ", "compressed by xz; unpack it by unxz"),
    (b"(\xb5/\xfd", "compressed by zstd; unpack it by unzstd"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it; only the weights of a PyTorch network are read"),
    (b"\x93NUMPY", "a numpy array; expected the state dict of a network"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file; fetch the file by git lfs pull"),
    (b"<", "a page of text, perhaps of a failed download; fetch the checkpoint again"),
)  # fmt: skip


def check_file(path: Path) -> None:
    """Raise CheckpointError for a missing or empty file, or one of another kind. Needs no torch."""
    if path.is_dir() or _INDEX.fullmatch(path.name):
        weights_files(path)
        if path.is_dir() or path.is_file():
            return
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint such as ckpt.pth")
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise CheckpointError(f"{path}: the file is empty; was its copy interrupted?")
    for magic, what in _OTHERS:
        if start.startswith(magic):
            raise CheckpointError(f"{path}: {what}")
    if start[257:262] == b"ustar":
        raise CheckpointError(f"{path}: a tar archive; unpack it, and give the checkpoint in it")
    if start.startswith(b"PK"):
        _check_zip(path)


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # torch says what is wrong
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        raise CheckpointError(
            f"{path}: a TorchScript archive; save its weights: "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'ckpt.pth')"
        )
    if "archive_format" in inside or "serialized_exported_program.json" in {*inside, *names}:
        raise CheckpointError(
            f"{path}: an archive of torch.export; save its weights: "
            f"torch.save(torch.export.load({path.name!r}).state_dict, 'ckpt.pth')"
        )
    if "data.pkl" not in inside:
        raise CheckpointError(f"{path}: not a PyTorch checkpoint: torch.save did not write this zip archive")


def weights_files(path: Path) -> list[Path]:
    """The file, or the files of a folder or an index that a framework wrote. Raises CheckpointError."""
    if _INDEX.fullmatch(path.name) and path.is_file():
        return _shards(path)
    if not path.is_dir():
        return [path]
    for name in _WHOLE:
        if (path / name).is_file():
            return [path / name]
        if (path / f"{name}.index.json").is_file():
            return _shards(path / f"{name}.index.json")
    names = sorted(file.name for file in path.iterdir() if file.is_file())
    variants = [name for name in names if _INDEX.fullmatch(name)]
    # Some names of shards look like those of variants.
    variants = variants or [name for name in names if _VARIANT.fullmatch(name)]
    if len(variants) > 1:
        raise CheckpointError(f"{path}: has several weights: {listed(variants, 8)}; give one of these files")
    if variants:
        return weights_files(path / variants[0])
    if (path / ".metadata").is_file():
        raise CheckpointError(
            f"{path}: a distributed checkpoint; convert it: python -m torch.distributed.checkpoint."
            f"format_utils dcp_to_torch {path} ckpt.pth"
        )
    if (path / "zero_to_fp32.py").is_file():
        raise CheckpointError(
            f"{path}: a checkpoint of DeepSpeed; convert it by the folder's own program: "
            f"python {path / 'zero_to_fp32.py'} {path} pytorch_model.bin"
        )
    raise CheckpointError(
        f"{path}: a folder without {_WHOLE[0]} or {_WHOLE[1]}; expected a checkpoint such as ckpt.pth"
    )


def _shards(index: Path) -> list[Path]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index}: not an index of shards ({error})") from error
    for name in names:
        # A shard is beside its index, so that nothing else of the disk is read.
        if not isinstance(name, str) or name != Path(name).name or not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: names the shard {name!r}, which is not in the folder")
    if not names:
        raise CheckpointError(f"{index}: names no shards")
    return [index.parent / name for name in names]


def digest_of_files(files: list[Path]) -> str:
    """The SHA-256 of a file, or of the digests of several files."""
    if len(files) == 1:
        return sha256_of(files[0])
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


def read_content(path: Path) -> Any:
    """The content of a checkpoint: for a folder or an index, the tensors of all files, and ``config.json``.

    Raises CheckpointError.
    """
    files = weights_files(path)
    if files == [path]:
        return _read_file(path)
    tensors: dict[str, Any] = {}
    for file in files:
        part = _read_file(file)
        if not isinstance(part, dict):
            raise CheckpointError(f"{file}: contains a {type(part).__name__}, expected a state dict")
        if twice := sorted(str(name) for name in tensors.keys() & part.keys()):
            raise CheckpointError(f"{file}: has {twice[0]} too, which is in another shard")
        tensors |= part
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        options = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else None
    except (OSError, ValueError, RecursionError):
        options = None  # of no use, and of no harm
    return {"": tensors, "config": options}


def _read_file(path: Path) -> Any:
    check_file(path)
    return _load_safetensors(path) if _is_safetensors(path) else load_pickle(path)


def _is_safetensors(path: Path) -> bool:
    """Whether a file is of safetensors, whatever its suffix: a length, then a JSON object."""
    with path.open("rb") as file:
        start = file.read(9)
    looks = len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER
    return looks or path.suffix == ".safetensors"


def _load_safetensors(path: Path) -> dict[str, Any]:
    require_extra("export", "reading a safetensors file", "torch", "safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return dict(load(read_regular(path)))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({shortened(str(error))})") from error
