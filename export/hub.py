"""Checkpoints from a hub of models, and bundles to it: the addresses ``hf://ORG/NAME``.

huggingface_hub does the transfer, with its own cache, tokens and the address in ``HF_ENDPOINT``. Nothing that
was downloaded is run: the export reads it as it reads any file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from multires_edge.base.errors import CheckpointError, MultiresError, require_extra
from multires_edge.base.files import sha256_of
from multires_edge.base.names import listed
from multires_edge.format.fields import shortened
from multires_edge.format.figures import CARD_FILE
from multires_edge.format.signed_files import every_file_in
from multires_edge.runtime.bundle import Bundle

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[^\\]+))?")
_WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_BESIDE = ("args.txt", "config.json")  # what says how a checkpoint was trained
_README = "README.md"
_NOT_WRITABLE = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS)
# What the hub shows of a repository.
_FRONT_MATTER = "---\nlibrary_name: multires-edge\ntags:\n- multires-edge\n- onnx\n---\n\n"


class HubError(MultiresError, OSError):
    """A repository or file of the hub that is not there, not allowed, not reachable, or damaged."""


@dataclass(frozen=True)
class HubAddress:
    """``hf://ORG/NAME[@REVISION][/FILE]``."""

    repo: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Raises CheckpointError."""
        match = _ADDRESS.fullmatch(text)
        if match is None or ".." in text:
            raise CheckpointError(
                f"{shortened(text)}: is no address of the hub, expected hf://ORG/NAME[@REVISION][/FILE]"
            )
        return cls(match["repo"], match["revision"], match["file"])

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repo}{revision}{f'/{self.file}' if self.file else ''}"


def fetch_checkpoint(address: HubAddress, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Download a checkpoint, and what belongs to it: args.txt and config.json beside it, and its shards.

    Without a file in the address, the repository must have one checkpoint. Every file is compared with the
    digest that the hub names. Returns the path in the cache. Raises HubError.
    """
    require_extra("hub", "an address of the hub", "huggingface_hub")
    from huggingface_hub import hf_hub_download

    with _one_line(address):
        progress(f"asking for {address}")
        info = _api().model_info(address.repo, revision=address.revision, files_metadata=True)
        files = {file.rfilename: file for file in info.siblings or []}
        chosen = address.file or _only_checkpoint(address, list(files))
        if chosen not in files:
            has = listed([name for name in files if name.endswith(_WEIGHTS)]) or "no weights"
            raise HubError(f"{address}: no such file; the repository has {has}")
        wanted = [name for name in files if name == chosen or _belongs(name, chosen)]
        for name in wanted:
            progress(f"downloading {name}")
            path = Path(
                hf_hub_download(address.repo, name, revision=info.sha, endpoint=os.environ.get("HF_ENDPOINT"))
            )
            _check_digest(path, files[name], address)
            if name == chosen:
                found = path
    return found


def push_bundle(
    bundle: Bundle,
    address: HubAddress,
    *,
    private: bool = False,
    message: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> str:
    """Upload a bundle in one commit, with its model card as the README. Returns the commit's address.

    The repository is made if it is not there; its other files stay. Raises HubError, and BundleError for a
    bundle whose proof failed.
    """
    require_extra("hub", "an address of the hub", "huggingface_hub")
    from huggingface_hub import CommitOperationAdd

    if address.file is not None:
        raise HubError(f"{address}: names a file, but a bundle is a repository: leave the file out")
    bundle.check_proof("pushed")
    files = every_file_in(bundle.path)
    card = bundle.path / CARD_FILE
    readme = _FRONT_MATTER + (card.read_text(encoding="utf-8") if card.is_file() else "")
    with _one_line(address):
        additions = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        additions.append(CommitOperationAdd(_README, readme.encode()))
        progress(f"uploading {len(files)} files")
        api = _api()
        api.create_repo(address.repo, private=private, exist_ok=True)
        commit = api.create_commit(
            address.repo,
            additions,
            commit_message=message or f"Add the bundle {bundle.path.name}",
            revision=address.revision,
        )
    return str(commit.commit_url)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="multires-edge")


def _only_checkpoint(address: HubAddress, names: list[str]) -> str:
    found = [name for name in names if name.endswith(_WEIGHTS)]
    indices = [name for name in names if name.endswith(".index.json")]
    best = indices if len(indices) == 1 else found
    if len(best) != 1:
        has = listed(found) or listed(names) or "no files"
        raise HubError(f"{address}: expected one checkpoint, the repository has {has}; add /FILE")
    return best[0]


def _belongs(name: str, chosen: str) -> bool:
    """Whether a file belongs to the checkpoint ``chosen``."""
    path, checkpoint = PurePosixPath(name), PurePosixPath(chosen)
    if path.parent != checkpoint.parent:
        return False
    shards = chosen.endswith(".index.json") and name.endswith(_WEIGHTS)
    return path.name in _BESIDE or shards


def _check_digest(path: Path, file: Any, address: HubAddress) -> None:
    """Raise HubError unless a file has the digest of the hub: SHA-256 of large ones, Git's of others."""
    if file.lfs is not None:
        expected, found = file.lfs.sha256, sha256_of(path)
    elif file.blob_id is not None:
        content = path.read_bytes()
        expected = file.blob_id
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return
    if found != expected:
        raise HubError(
            f"{address}: {file.rfilename} was damaged on its way, its digest is {found[:16]}…, expected "
            f"{expected[:16]}…; delete {path.resolve()} and try again"
        )


@contextlib.contextmanager
def _one_line(address: HubAddress) -> Iterator[None]:
    """Errors of the hub as a HubError in one line, without warnings; progress bars only on a terminal."""
    from huggingface_hub import constants, errors

    # The base of all errors of its HTTP client, which is another package in each of its versions.
    of_client: type[Exception] = getattr(errors, "HTTPError", OSError)
    try:
        with _quiet():
            yield
    except MultiresError:
        raise
    except errors.GatedRepoError as error:
        raise HubError(f"{address}: its owner has to give you access first") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{address}: no such repository, or it is private and your token is missing; hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{address}: no such revision") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise HubError(f"{address}: needs a token that may do this; hf auth login") from error
        raise HubError(f"{address}: the hub answered {status}; try again later") from error
    except (of_client, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            raise HubError(
                f"{address}: {constants.HF_HUB_CACHE} cannot be written ({error.strerror}); set HF_HUB_CACHE"
            ) from error
        reason = shortened(str(error) or type(error).__name__)
        raise HubError(f"{address}: the transfer failed ({reason}); try again") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library: what it says in warnings is in its errors, and files want no progress bars."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    hide = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if hide:
            enable_progress_bars()
