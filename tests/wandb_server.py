"""What W&B runs of tests leave: a server that takes what they send, and a reader of what they write offline."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def offline_records(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The records in the file of an offline run, by kind, as W&B's own tool reads them."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)]
    records: dict[str, list[dict[str, Any]]] = {}
    for line in subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines():
        record = json.loads(line)
        records.setdefault(record["type"], []).append(record[record["type"]])
    return records


def wandb_environment(**variables: str) -> dict[str, str]:
    """An environment for a script that imports this package and finds no W&B of its parent's, nor any key."""
    root = Path(__file__).parents[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    paths = os.pathsep.join([str(root), str(root / "callbacks")])
    return {
        **clean,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": paths,
        "NETRC": os.devnull,
        "WANDB_CONSOLE": "off",
        **variables,
    }


class WandbServer(ThreadingHTTPServer):
    """Speaks as much of the protocol as runs, their files, tables and alerts need.

    Attributes:
        runs: By id, what was sent when a run was made and when its configuration changed.
        streams: By id, the lines of every streamed file, such as wandb-history.jsonl.
        files: The contents of uploaded files, by their paths.
        alerts: Title, text and more of each.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs: dict[str, list[dict[str, Any]]] = {}
        self.streams: dict[str, dict[str, dict[int, str]]] = {}
        self.files: dict[str, bytes] = {}
        self.alerts: list[dict[str, Any]] = []

    def history(self, run: str) -> list[dict[str, Any]]:
        """The rows of a run, without what W&B adds to each."""
        lines = self.streams[run]["wandb-history.jsonl"]
        rows = [json.loads(lines[number]) for number in sorted(lines)]
        return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]

    def config(self, run: str) -> dict[str, Any]:
        """The last configuration of a run."""
        sent = [json.loads(variables["config"]) for variables in self.runs[run] if variables.get("config")]
        return {name: item["value"] for name, item in sent[-1].items() if name != "_wandb"}

    def summary(self, run: str) -> dict[str, Any]:
        """The last summary of a run."""
        lines = self.streams[run]["wandb-summary.json"]
        summary: dict[str, Any] = json.loads(lines[max(lines)])
        return summary

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What a GraphQL operation returns."""
        if operation == "Viewer":
            return {"viewer": {"id": "user", "entity": "us", "username": "us", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertBucket":
            self.runs.setdefault(variables["name"], []).append(variables)
            project = {"name": variables["project"], "entity": {"name": "us"}}
            bucket = {"id": "bucket", "name": variables["name"], "displayName": "run", "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True}}
        if operation == "NotifyScriptableRunAlert":
            self.alerts.append(variables)
            return {"notifyScriptableRunAlert": {"success": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": self._upload(name)} for name in variables["files"]]
            return {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": files}}
        if operation == "ArtifactType":
            return {"project": None}
        if operation == "CreateArtifact":
            sequence = {"latestArtifact": None}
            return {"createArtifact": {"artifact": {"id": "id", "state": "PENDING", "artifactSequence": sequence}}}
        if operation == "CreateArtifactManifest":
            file = {"uploadUrl": self._upload("manifest"), "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": "manifest", "file": file}}}
        if operation == "CreateArtifactFiles":
            files = [{"node": self._artifact_file(file["name"])} for file in variables["input"]["artifactFiles"]]
            return {"createArtifactFiles": {"files": {"edges": files}}}
        if operation == "CommitArtifact":
            return {"commitArtifact": {"artifact": {"id": "id", "digest": "digest"}}}
        return {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let W&B hang up in the middle of a connection, as it does when a run is finished."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def _artifact_file(self, name: str) -> dict[str, Any]:
        upload: dict[str, Any] = {"uploadUrl": self._upload(name), "uploadHeaders": [], "uploadMultipartUrls": None}
        return {**upload, "storagePath": name, "artifact": {"id": "id"}}

    def _upload(self, name: str) -> str:
        return f"{self.url}/upload/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            request = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
            assert operation is not None
            answer = {"data": self.server.answer(operation[1], request.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            streams = self.server.streams.setdefault(self.path.split("/")[-2], {})
            for name, chunk in (json.loads(body).get("files") or {}).items():
                lines = streams.setdefault(name, {})
                lines.update(enumerate(chunk["content"], chunk["offset"]))
        elif self.path.startswith("/upload/"):
            self.server.files[self.path.removeprefix("/upload/")] = body
        payload = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_HEAD = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Runs a server on a port of its own."""
    server = WandbServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
