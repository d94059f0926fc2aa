"""A fake Kubernetes API: real HTTP on loopback, made-up objects.

It implements the lists, watches and failures that the worker, its observer, the reaper, the
commands, kubectl and helm depend on. The tests in tests/cluster run against a real API server.
"""

import json
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

NAMESPACE = "default"  # where the worker creates Jobs by default
_KINDS = {
    "pods": ("/api/v1", "Pod"),
    "events": ("/api/v1", "Event"),
    "secrets": ("/api/v1", "Secret"),
    "nodes": ("/api/v1", "Node"),
    "deployments": ("/apis/apps/v1", "Deployment"),
    "statefulsets": ("/apis/apps/v1", "StatefulSet"),
    "jobs": ("/apis/batch/v1", "Job"),
}
# The paths for one namespace and for all namespaces, which are the same: there is only one.
_COLLECTIONS = {
    f"{group}/{within}{plural}": plural
    for plural, (group, _) in _KINDS.items()
    for within in ("", f"namespaces/{NAMESPACE}/")
}
_REQUIREMENT = re.compile(r"(!?)([^!=, ]+)(?:(==?|!=)([^,]*)| (in|notin) \(([^)]*)\))?(?:,|$)")

_QUERY = ("labelSelector", "continue", "fieldSelector")


def _resource(plural: str, kind: str, *, namespaced: bool = True) -> dict[str, Any]:
    return {
        "name": plural,
        "singularName": kind.lower(),
        "kind": kind,
        "namespaced": namespaced,
        "verbs": ["create", "get", "list", "watch", "update", "delete"],
    }


def _matches(selector: str, labels: dict[str, str]) -> bool:
    """Return whether `labels` meet every requirement of a label selector."""
    for absent, key, sign, one, operator, several in _REQUIREMENT.findall(selector):
        found = labels.get(key)
        if sign or operator:
            values = [each.strip() for each in several.split(",")] if operator else [one]
            wanted = (found in values) is (operator != "notin" and sign != "!=")
        else:
            wanted = (found is None) is bool(absent)
        if not wanted:
            return False
    return True


def _field(item: dict[str, Any], path: str) -> object:
    """Return the field of an object at a path such as metadata.name, or None."""
    found: Any = item
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _discovery(group: str, *more: dict[str, Any]) -> dict[str, Any]:
    served = [_resource(plural, kind) for plural, (of, kind) in _KINDS.items() if of == group]
    version = group.removeprefix("/apis/").removeprefix("/api/")
    resources = [*served, *more]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


_DISCOVERY: dict[str, dict[str, Any]] = {
    "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
    "/api": {"versions": ["v1"]},
    "/api/v1": _discovery("/api/v1", _resource("namespaces", "Namespace", namespaced=False)),
    "/apis": {"groups": [_group("apps"), _group("batch")]},
    "/apis/apps/v1": _discovery("/apis/apps/v1"),
    "/apis/batch/v1": _discovery("/apis/batch/v1"),
}


@dataclass
class KubernetesApi:
    """The objects of one namespace, by plural and name, and how the next requests are answered."""

    kubeconfig: Path
    objects: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {plural: {} for plural in _KINDS}
    )
    # The error status for each collection; None closes the connection instead of answering.
    refusals: dict[str, HTTPStatus | None] = field(default_factory=dict)
    # The error statuses of the next create requests, before one succeeds.
    failing_creations: list[HTTPStatus] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    deletions: list[dict[str, Any]] = field(default_factory=list)  # the options of each request
    # The number of objects on each page of a list, regardless of the requested limit.
    page: int = 500
    # While it is clear, requests for the API's resource types wait for their answer.
    discovery: threading.Event = field(default_factory=threading.Event)
    _streams: dict[str, list["queue.Queue[dict[str, Any] | None]"]] = field(
        default_factory=lambda: {plural: [] for plural in _KINDS}
    )
    _pages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _version: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, plural: str, item: dict[str, Any]) -> dict[str, Any]:
        """Create or replace an object, and notify all watches."""
        with self._lock:
            self._version += 1
            metadata = item["metadata"]
            metadata.setdefault("name", f"{metadata.get('generateName', '')}{self._version}")
            metadata.setdefault("uid", f"uid-of-{metadata['name']}")
            metadata |= {"namespace": NAMESPACE, "resourceVersion": str(self._version)}
            known = metadata["name"] in self.objects[plural]
            self.objects[plural][metadata["name"]] = item
            event = {"type": "MODIFIED" if known else "ADDED", "object": item}
            for stream in self._streams[plural]:
                stream.put(event)
        return item

    def refuse(self, *plurals: str, status: HTTPStatus | None) -> None:
        """End the watches of `plurals`, then answer `status`, or nothing at all if it is None."""
        with self._lock:
            for plural in plurals:
                self.refusals[plural] = status
                for stream in self._streams[plural]:
                    stream.put(None)

    def accept(self) -> None:
        """Answer all requests normally again."""
        with self._lock:
            self.refusals.clear()

    def watches(self, plural: str) -> int:
        """Return how many watches of `plural` are open."""
        with self._lock:
            return len(self._streams[plural])

    def delete(self, plural: str, name: str, preconditions: dict[str, str]) -> HTTPStatus:
        """Delete an object if it meets the preconditions, and notify all watches."""
        with self._lock:
            if (item := self.objects[plural].get(name)) is None:
                return HTTPStatus.NOT_FOUND
            if any(item["metadata"][key] != value for key, value in preconditions.items()):
                return HTTPStatus.CONFLICT
            del self.objects[plural][name]
            for stream in self._streams[plural]:
                stream.put({"type": "DELETED", "object": item})
        return HTTPStatus.OK

    def listing(
        self, plural: str, selector: str = "", token: str = "", fields: str = ""
    ) -> dict[str, Any]:
        """Return a page of the list of `plural`: the first one, or the one that `token` refers to.

        All pages show the state at the time of the first. `fields` is a field selector, such as
        metadata.name=NAME.
        """
        wanted = [each.split("=", 1) for each in fields.split(",") if each]

        def selected(item: dict[str, Any]) -> bool:
            labels = item["metadata"].get("labels", {})
            return _matches(selector, labels) and all(
                _field(item, path) == value for path, value in wanted
            )

        with self._lock:
            items = (
                self._pages.pop(token)
                if token
                else [item for item in self.objects[plural].values() if selected(item)]
            )
            metadata = {"resourceVersion": str(self._version)}
            if rest := items[self.page :]:
                metadata["continue"] = f"after-{len(self._pages)}-{len(rest)}"
                self._pages[metadata["continue"]] = rest
            group, kind = _KINDS[plural]
            return {
                "kind": f"{kind}List",
                "apiVersion": group.removeprefix("/apis/").removeprefix("/api/"),
                "metadata": metadata,
                "items": items[: self.page],
            }

    def stream(self, plural: str) -> Iterator[dict[str, Any]]:
        """Yield each change of `plural` from now on, until the watch is ended."""
        changes: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with self._lock:
            self._streams[plural].append(changes)
        try:
            while (change := changes.get()) is not None:
                yield change
        finally:
            with self._lock:
                self._streams[plural].remove(changes)


class _Handler(BaseHTTPRequestHandler):
    api: KubernetesApi

    def do_GET(self) -> None:
        self.api.requests.append(f"GET {self.path}")
        url = urlsplit(self.path)
        collection, _, name = url.path.rpartition("/")
        if url.path in _DISCOVERY:
            self.api.discovery.wait()
            self._answer(HTTPStatus.OK, _DISCOVERY[url.path])
        elif (plural := _COLLECTIONS.get(url.path)) is not None:
            if plural in self.api.refusals:
                self._refuse(self.api.refusals[plural])
            elif "watch" in parse_qs(url.query):
                self._stream(plural)
            else:
                query = {key: value[0] for key, value in parse_qs(url.query).items()}
                wanted = (query.get(key, "") for key in _QUERY)
                self._answer(HTTPStatus.OK, self.api.listing(plural, *wanted))
        elif name in (items := self.api.objects.get(_COLLECTIONS.get(collection, ""), {})):
            self._answer(HTTPStatus.OK, items[name])
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        self.api.requests.append(f"POST {self.path}")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.api.failing_creations:
            self._refuse(self.api.failing_creations.pop(0))
        else:
            created = self.api.put(_COLLECTIONS[urlsplit(self.path).path], body)
            self._answer(HTTPStatus.CREATED, created)

    def do_PUT(self) -> None:
        self.api.requests.append(f"PUT {self.path}")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        collection, _, _ = urlsplit(self.path).path.rpartition("/")
        self._answer(HTTPStatus.OK, self.api.put(_COLLECTIONS[collection], body))

    def do_DELETE(self) -> None:
        self.api.requests.append(f"DELETE {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        options = json.loads(body or "{}")
        self.api.deletions.append(options)
        collection, _, name = urlsplit(self.path).path.rpartition("/")
        plural = _COLLECTIONS[collection]
        pod = self.api.objects["pods"].get(name) if plural == "pods" else None
        status = self.api.delete(plural, name, options.get("preconditions", {}))
        if status == HTTPStatus.OK:  # deleting a pod returns the pod
            self._answer(status, pod or {"kind": "Status", "status": "Success"})
        else:
            self._refuse(status)

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: HTTPStatus | None) -> None:
        if status is None:
            self.close_connection = True
            return
        body = {"kind": "Status", "message": f"fake: {status.phrase}", "code": status}
        self._answer(status, body)

    def _stream(self, plural: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            for change in self.api.stream(plural):
                self.wfile.write(json.dumps(change).encode() + b"\n")
                self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - upstream's name
        pass


@contextmanager
def fake_kubernetes(kubeconfig: Path) -> Iterator[KubernetesApi]:
    """Serve a fake API, and write the file `kubeconfig` that leads to it."""
    api = KubernetesApi(kubeconfig)
    api.discovery.set()
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "fake",
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                "clusters": [
                    {
                        "name": "fake",
                        "cluster": {"server": f"http://127.0.0.1:{server.server_port}"},
                    }
                ],
                "users": [{"name": "fake", "user": {"token": "made-up"}}],
            }
        )
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield api
    finally:
        api.discovery.set()
        api.refuse(*_KINDS, status=None)
        server.shutdown()
        server.server_close()
