"""A small Hugging Face Hub on loopback, spoken to by the real client: repositories, commits, and every way to fail.

It answers the requests that huggingface_hub makes for a listing (`/api/models/...`, with its tree), a file
(`/{repo}/resolve/...`, large ones redirected to another origin as the Hub does), an account, and a commit (create,
validate-yaml, preupload, LFS batch with upload and verification, commit), for models and for Spaces, which have
hardware, variables and secrets as well. Data sets can be read. It also lets somebody log in to an app, as OpenID
Connect has it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import huggingface_hub
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

Files = dict[str, bytes]

MAX_IN_GIT = 10 * 2**20  # bytes


@dataclass
class Repository:
    """Its commits, oldest first, each with all of its files. writers: tokens that may commit."""

    commits: list[tuple[str, Files]] = field(default_factory=list)
    private: bool = False
    gated: bool = False
    writers: set[str] = field(default_factory=set)

    def commit(self, files: Files, deleted: Iterable[str] = ()) -> str:
        """Add, replace or delete files; the new commit's hash."""
        files = {**(self.commits[-1][1] if self.commits else {}), **files}
        files = {path: data for path, data in files.items() if path not in set(deleted)}
        history = [sorted((path, git_hash(data)) for path, data in files.items()), [c for c, _ in self.commits]]
        self.commits.append((hashlib.sha1(json.dumps(history).encode()).hexdigest(), files))
        return self.commits[-1][0]

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, Files] | None:
        """A commit by its hash, or the last one by the name of the only branch."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


@dataclass
class Space(Repository):
    """A repository with an app in it. hardware: what was asked for, all of it, oldest first."""

    sdk: str = "gradio"
    hardware: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    host: str
    token: str | None
    byte_range: str | None


@dataclass
class StandIn:
    """The Hub. Faults are switched on by setting them.

    accounts: token -> name. status: answered to everything but a sign of life (429, 503, ...). cut: bytes after which
    the connection is closed while a file is sent; `cuts` times. lies: the file that is sent instead of every other.
    grants: the token that whoever logs in to an app grants it. asked_for: what the app asked for.
    """

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    spaces: dict[str, Space] = field(default_factory=dict)
    datasets: dict[str, Repository] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    uploads: Files = field(default_factory=dict)
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    cuts: int = 0
    lies: bytes | None = None
    ranges: bool = True
    grants: str | None = None
    asked_for: dict[str, str] = field(default_factory=dict)

    def repository(self, name: str, files: Files | None = None, **values: Any) -> Repository:
        """Make a repository with one commit."""
        self.repositories[name] = Repository(**values)
        self.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n", **(files or {})})
        return self.repositories[name]

    def space(self, name: str, files: Files | None = None, **values: Any) -> Space:
        """Make a Space with one commit."""
        self.spaces[name] = Space(**values)
        self.spaces[name].commit({".gitattributes": b"*.safetensors filter=lfs\n", **(files or {})})
        return self.spaces[name]

    def dataset(self, name: str, files: Files, **values: Any) -> Repository:
        """Make a data set with one commit."""
        self.datasets[name] = Repository(**values)
        self.datasets[name].commit(files)
        return self.datasets[name]

    def asked(self, *parts: str) -> list[Request]:
        """The requests whose path contains all of `parts`."""
        return [request for request in self.requests if all(part in request.path for part in parts)]


@cache
def signing_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "1"})


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_large(path: str, size: int = 0) -> bool:
    """What the Hub's default .gitattributes keeps outside git, and whatever is too large for it."""
    return path.endswith((".safetensors", ".bin")) or size > MAX_IN_GIT


@contextlib.contextmanager
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The Hub, running, and the client of this process pointed at it."""
    with running() as hub:
        point_client_at(hub.address, monkeypatch)
        try:
            yield hub
        finally:
            huggingface_hub.utils.close_session()


@contextlib.contextmanager
def running(hub: StandIn | None = None) -> Iterator[StandIn]:
    """The Hub, running: a new one, or one that was stopped, at the address that it had."""
    hub = hub or StandIn()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", urlsplit(hub.address).port or 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()


def point_client_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT and HF_HUB_DISABLE_XET do, which the client reads at import. (Xet is a protocol of its own.)"""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", address)


class _Server(ThreadingHTTPServer):
    """Knows its connections: a client that keeps one would be answered on it after the server has stopped."""

    def __init__(self, *arguments: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    hub: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    # ------------------------------------------------------------------------------------------------- answering

    def _answer(self, status: int, body: bytes | Any = b"", headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._answer(status, {"error": message}, {name: value for name, value in headers.items() if value})

    def _send_file(self, data: bytes, headers: dict[str, str]) -> None:
        """A file, or the part of it that is asked for; cut off where a test wants it."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.hub.ranges else None
        first = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1, len(data)) if asked and asked[2] else len(data)
        if asked and first >= len(data):
            return self._answer(416, headers={"Content-Range": f"bytes */{len(data)}"})
        part = data[first:end]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        for name, value in {"Content-Length": str(len(part)), "Accept-Ranges": "bytes", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if self.hub.cut is not None and self.hub.cuts > 0 and len(part) > self.hub.cut:
            self.hub.cuts -= 1
            self.wfile.write(part[: self.hub.cut])
            self.close_connection = True
            return None
        with contextlib.suppress(ConnectionError):
            self.wfile.write(part)
        return None

    # --------------------------------------------------------------------------------------------------- routing

    def _route(self) -> None:
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        authorization = self.headers.get("Authorization", "")
        self.token = authorization.removeprefix("Bearer ") if authorization.startswith("Bearer ") else None
        host = (self.headers.get("Host") or "").split(":")[0]
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(Request(self.command, self.path, host, self.token, self.headers.get("Range")))
        if path == "/":
            return self._answer(200, b"A stand-in for the Hub")
        if self.hub.status is not None:
            return self._answer(self.hub.status, headers=self.hub.headers)
        if self.token is not None and self.token not in self.hub.accounts:
            return self._refuse(401, message="Invalid credentials in Authorization header")
        routes = (
            (r"/api/whoami-v2", self._whoami),
            (r"/api/validate-yaml", self._validate_yaml),
            (r"/api/repos/create", self._create),
            (r"/cdn/(\w+)", self._cdn),
            (r"/upload/(\w+)", self._upload),
            (r"/verify", self._verify),
            (r"/\.well-known/openid-configuration", self._openid),
            (r"/oauth/jwks", self._keys),
            (r"/oauth/authorize", self._authorize),
            (r"/oauth/token", self._grant),
            (r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", self._lfs_batch),
            (r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(.+)", self._preupload),
            (r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(.+)", self._commit),
            (r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"/api/models/(?P<repo>[^/]+/[^/]+)/revision/(.+)", self._info),
            (r"/api/models/(?P<repo>[^/]+/[^/]+)", self._info),
            (r"/(?P<repo>[^/]+/[^/]+)/resolve/(.+?)/(.+)", self._resolve),
        )
        space_routes = (
            (r"/spaces/(?P<space>[^/]+/[^/]+)\.git/info/lfs/objects/batch", self._lfs_batch),
            (r"/api/spaces/(?P<space>[^/]+/[^/]+)/preupload/(.+)", self._preupload),
            (r"/api/spaces/(?P<space>[^/]+/[^/]+)/commit/(.+)", self._commit),
            (r"/api/spaces/(?P<space>[^/]+/[^/]+)/(variables|secrets)", self._set_variable),
            (r"/api/spaces/(?P<space>[^/]+/[^/]+)/hardware", self._request_hardware),
            (r"/api/spaces/(?P<space>[^/]+/[^/]+)/revision/(.+)", self._info),
            (r"/api/spaces/(?P<space>[^/]+/[^/]+)", self._info),
        )
        dataset_routes = (
            (r"/api/datasets/(?P<dataset>[^/]+/[^/]+)/revision/(.+)", self._info),
            (r"/api/datasets/(?P<dataset>[^/]+/[^/]+)", self._info),
            (r"/datasets/(?P<dataset>[^/]+/[^/]+)/resolve/(.+?)/(.+)", self._resolve),
        )
        for pattern, handle in (*routes, *space_routes, *dataset_routes):
            if match := re.fullmatch(pattern, path):
                if not match.groupdict():
                    return handle(*match.groups())
                named = match.groupdict()
                kept = {"repo": self.hub.repositories, "space": self.hub.spaces, "dataset": self.hub.datasets}
                repository = kept[next(iter(named))].get(match[1])
                if repository is None or (repository.private and self.token is None):
                    return self._refuse(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
                return handle(match[1], repository, *match.groups()[1:])
        return self._refuse(404, message=f"no such route: {path}")

    # --------------------------------------------------------------------------------------------------- reading

    def _whoami(self) -> None:
        if self.token is None:
            return self._refuse(401, message="Invalid username or password.")
        return self._answer(200, {"type": "user", "name": self.hub.accounts[self.token], "orgs": []})

    def _info(self, name: str, repository: Repository, revision: str = "main") -> None:
        found = repository.at(revision)
        if found is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = found
        siblings = [{"rfilename": path} for path in files]
        if "blobs" in self.query:
            siblings = [self._about(path, data) for path, data in files.items()]
        about = {"id": name, "sha": commit, "private": repository.private, "siblings": siblings}
        if isinstance(repository, Space):
            hardware = {"current": None, "requested": repository.hardware[-1] if repository.hardware else None}
            about["runtime"] = {"stage": "BUILDING", "hardware": hardware}
        return self._answer(200, about)

    def _about(self, path: str, data: bytes) -> dict[str, Any]:
        about: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_hash(data)}
        if is_large(path):
            about["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 134}
        return about

    def _tree(self, name: str, repository: Repository, revision: str) -> None:
        found = repository.at(revision)
        if found is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        tree = []
        for path, data in found[1].items():
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
            if is_large(path):
                entry["lfs"] = {"size": len(data), "oid": hashlib.sha256(data).hexdigest(), "pointerSize": 134}
            tree.append(entry)
        return self._answer(200, tree)

    def _resolve(self, name: str, repository: Repository, revision: str, path: str) -> None:
        found = repository.at(revision)
        if found is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if repository.gated and self.token not in repository.writers:
            return self._refuse(403 if self.token else 401, "GatedRepo", "Access to this repository is restricted")
        commit, files = found
        if path not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        data = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_hash(data)}"'}
        if not is_large(path):
            return self._send_file(data, headers)
        oid = hashlib.sha256(data).hexdigest()
        elsewhere = self.hub.address.replace("127.0.0.1", "localhost") + f"/cdn/{oid}?signature=secret"
        headers |= {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(data)), "Location": elsewhere}
        return self._answer(302, headers=headers)

    def _cdn(self, oid: str) -> None:
        for repository in self.hub.repositories.values():
            for _, files in repository.commits:
                for data in files.values():
                    if hashlib.sha256(data).hexdigest() == oid:
                        return self._send_file(self.hub.lies or data, {"ETag": f'"{oid}"'})
        return self._refuse(404)

    # --------------------------------------------------------------------------------------------------- writing

    def _create(self) -> None:
        asked = json.loads(self.body)
        if self.token is None:
            return self._refuse(401, message="Invalid username or password.")
        account = self.hub.accounts[self.token]
        if asked["organization"] != account:
            return self._refuse(403, message="You don't have the rights to create a model under this namespace")
        name = f"{account}/{asked['name']}"
        if asked.get("type") == "space":
            return self._create_space(name, asked)
        url = f"{self.hub.address}/{name}"
        if name in self.hub.repositories:
            return self._answer(409, {"error": "You already created this model repo", "url": url})
        self.hub.repository(name, writers={self.token}, private=asked.get("visibility") == "private")
        return self._answer(200, {"url": url})

    def _create_space(self, name: str, asked: dict[str, Any]) -> None:
        url = f"{self.hub.address}/spaces/{name}"
        if name in self.hub.spaces:
            return self._answer(409, {"error": "You already created this space repo", "url": url})
        values = {"writers": {self.token}, "private": asked.get("visibility") == "private", "sdk": asked["sdk"]}
        for kind in ("variables", "secrets"):
            values[kind] = {entry["key"]: entry["value"] for entry in asked.get(kind, [])}
        self.hub.space(name, **values, hardware=[asked["hardware"]] if "hardware" in asked else [])
        return self._answer(200, {"url": url})

    def _set_variable(self, name: str, space: Space, kind: str) -> None:
        if self._may_write(space):
            asked = json.loads(self.body)
            variables = getattr(space, kind)
            variables[asked["key"]] = asked["value"]
            self._answer(200, {key: {"value": value} for key, value in variables.items()})

    def _request_hardware(self, name: str, space: Space) -> None:
        if self._may_write(space):
            space.hardware.append(json.loads(self.body)["flavor"])
            self._answer(200, {"stage": "BUILDING", "hardware": {"current": None, "requested": space.hardware[-1]}})

    def _validate_yaml(self) -> None:
        content = json.loads(self.body)["content"]
        if not content.startswith("---\n"):
            return self._answer(200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]})
        good = re.search(r"^license: [a-z0-9.-]+$", content, re.MULTILINE)
        errors = [] if good else [{"message": '"license" must be one of a list'}]
        return self._answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def _may_write(self, repository: Repository) -> bool:
        if self.token in repository.writers:
            return True
        self._refuse(403, message="You have read access but not the required permissions for this operation")
        return False

    def _preupload(self, name: str, repository: Repository, revision: str) -> None:
        if not self._may_write(repository):
            return
        files = []
        for file in json.loads(self.body)["files"]:
            mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
            data = repository.commits[-1][1].get(file["path"])
            if data is not None:
                files[-1]["oid"] = hashlib.sha256(data).hexdigest() if mode == "lfs" else git_hash(data)
        self._answer(200, {"files": files})

    def _lfs_batch(self, name: str, repository: Repository) -> None:
        if not self._may_write(repository):
            return
        objects = []
        for known in json.loads(self.body)["objects"]:
            if known["oid"] in self.hub.uploads:
                objects.append(known)
                continue
            upload = {"href": f"{self.hub.address}/upload/{known['oid']}"}
            verify = {"href": f"{self.hub.address}/verify"}
            objects.append({**known, "actions": {"upload": upload, "verify": verify}})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._refuse(400)
        self.hub.uploads[oid] = self.body
        return self._answer(200)

    def _verify(self) -> None:
        asked = json.loads(self.body)
        kept = self.hub.uploads.get(asked["oid"])
        return self._answer(200 if kept is not None and len(kept) == asked["size"] else 404, {})

    def _commit(self, name: str, repository: Repository, revision: str) -> None:
        if not self._may_write(repository):
            return
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", repository.head) != repository.head:
            return self._refuse(412, message="A commit has happened since. Please refresh and try again.")
        files: Files = {}
        deleted = [line["value"]["path"] for line in lines if line["key"] == "deletedFile"]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                if len(files[value["path"]]) > MAX_IN_GIT:
                    return self._refuse(400, message="Files above 10 MB have to go up as large files")
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        commit = repository.commit(files, deleted)
        return self._answer(
            200, {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.address}/{name}/commit/{commit}"}
        )

    # ------------------------------------------------------------------------------------------------ logging in

    def _openid(self) -> None:
        endpoints = {
            "authorization_endpoint": "/oauth/authorize",
            "token_endpoint": "/oauth/token",
            "jwks_uri": "/oauth/jwks",
        }
        addresses = {name: self.hub.address + path for name, path in endpoints.items()}
        methods = {"id_token_signing_alg_values_supported": ["RS256"], "issuer": self.hub.address}
        return self._answer(200, addresses | methods)

    def _keys(self) -> None:
        return self._answer(200, {"keys": [signing_key().as_dict(private=False)]})

    def _authorize(self) -> None:
        """The visitor consents at once."""
        self.hub.asked_for = {name: values[0] for name, values in self.query.items()}
        back = self.hub.asked_for["redirect_uri"]
        answer = urlencode({"code": "consent", "state": self.hub.asked_for["state"]})
        return self._answer(302, headers={"Location": f"{back}{'&' if '?' in back else '?'}{answer}"})

    def _grant(self) -> None:
        name, now = self.hub.accounts[self.hub.grants], int(time.time())
        about = {"sub": "1", "name": name, "preferred_username": name, "profile": f"{self.hub.address}/{name}"}
        about |= {"picture": "", "iss": self.hub.address, "aud": self.hub.asked_for["client_id"]}
        about |= {"nonce": self.hub.asked_for["nonce"], "iat": now, "exp": now + 3600}
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, about, signing_key())
        granted = {"access_token": self.hub.grants, "token_type": "bearer", "expires_in": 3600, "id_token": signed}
        return self._answer(200, granted | {"scope": self.hub.asked_for["scope"]})
