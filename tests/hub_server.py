"""A hub of models on this machine: the part of its protocol that downloads and commits need."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
TOKEN = "hf_test"


@dataclass
class Hub:
    """Repositories by name, each of files by name; ``large`` ones have SHA-256, the others Git's digest.

    ``cut`` is the number of bytes after which a download breaks off; ``damaged`` changes a byte of each.
    """

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: tuple[str, ...] = (".safetensors", ".pth", ".onnx")
    cut: int | None = None
    damaged: bool = False
    commits: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)  # large files that were uploaded, by digest

    def entry(self, name: str, content: bytes) -> dict[str, Any]:
        """What the hub says of a file."""
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
        if name.endswith(self.large):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
        return entry


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve an empty hub."""
    hub = Hub()

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file(unquote(urlsplit(self.path).path), with_content=False)

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not path.startswith("/api/models/"):
            self._file(path, with_content=True)
            return
        repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        files = self.served.repositories.get(repo)
        if files is None:
            self._json(401, {"error": "Repository not found"}, "RepoNotFound")
        elif revision not in ("", "main", COMMIT):
            self._json(404, {"error": "Revision not found"}, "RevisionNotFound")
        else:
            siblings = [self.served.entry(*file) for file in files.items()]
            self._json(200, {"id": repo, "sha": COMMIT, "siblings": siblings})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            self._json(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            entry = json.loads(body)
            repo = "/".join(filter(None, (entry.get("organization"), entry["name"])))
            self.served.repositories.setdefault(repo, {})
            self._json(200, {"url": f"{self.served.url}/{repo}", "name": repo})
        elif "/preupload/" in path:
            files = []
            for file in json.loads(body)["files"]:
                mode = "lfs" if file["path"].endswith(self.served.large) else "regular"
                files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
            self._json(200, {"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                each | {"actions": {"upload": {"href": f"{self.served.url}/objects/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._json(200, {"transfer": "basic", "objects": objects})
        else:
            self._commit(path, [json.loads(line) for line in body.splitlines()])

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.served.objects[hashlib.sha256(content).hexdigest()] = content
        self._json(200, {})

    def _commit(self, path: str, lines: list[dict[str, Any]]) -> None:
        repo, _, revision = path.removeprefix("/api/models/").partition("/commit/")
        files = self.served.repositories[repo]
        for line in lines[1:]:
            file = line["value"]
            if line["key"] == "lfsFile":
                files[file["path"]] = self.served.objects[file["oid"]]
            else:
                files[file["path"]] = base64.b64decode(file["content"])
        self.served.commits.append(lines[0]["value"] | {"revision": revision})
        url = f"{self.served.url}/{repo}/commit/{COMMIT}"
        self._json(200, {"success": True, "commitUrl": url, "commitOid": COMMIT})

    def _file(self, path: str, *, with_content: bool) -> None:
        repo, _, rest = path[1:].partition("/resolve/")
        name = rest.partition("/")[2]
        content = self.served.repositories.get(repo, {}).get(name)
        if content is None:
            self._json(404, {"error": "Entry not found"}, "EntryNotFound")
            return
        entry = self.served.entry(name, content)
        if self.served.damaged:
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response(200)
        self.send_header("ETag", f'"{entry["lfs"]["sha256"] if "lfs" in entry else entry["blobId"]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content[: self.served.cut])

    def _json(self, status: int, entry: Any, code: str | None = None) -> None:
        content = json.dumps(entry).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(content)
