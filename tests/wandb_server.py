"""A stand-in for W&B's server on this machine: takes what it is sent and remembers each run's history."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Listens on a free port of this machine.

    Attributes:
        history: rows of each run, by its id.
        runs: variables of the requests that described each run, by its id.
        artifacts: names of what was kept.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away is no failure of a test."""

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that a GraphQL operation gets."""
        run_id, project = variables.get("name"), {"name": variables.get("project"), "entity": {"name": "me"}}
        if operation == "RunResumeStatus":
            return {"model": project | {"id": "p", "bucket": self._resumed(run_id)}}
        if operation == "UpsertBucket":
            known = {key: value for key, value in variables.items() if value is not None}
            self.runs.setdefault(run_id, {}).update(known)
            rows = len(self.history.setdefault(run_id, []))
            bucket = {
                "id": run_id,
                "name": run_id,
                "displayName": run_id,
                "config": "{}",
                "historyLineCount": rows,
            }
            return {"upsertBucket": {"bucket": bucket | {"project": project}, "inserted": True}}
        if operation == "Viewer":
            return {
                "viewer": {"id": "v", "username": "me", "entity": "me", "flags": "{}", "teams": {"edges": []}}
            }
        if operation == "ArtifactType":
            return {"project": {"artifact": None}}
        if operation == "CreateArtifact":  # as if its files were there already
            collection = variables["input"]["artifactCollectionName"]
            self.artifacts.append(collection)
            artifact = {
                "id": "a",
                "state": "COMMITTED",
                "artifactSequence": {"id": "s", "latestArtifact": None},
            }
            return {"createArtifact": {"artifact": artifact}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {}

    def _resumed(self, run_id: Any) -> dict[str, Any] | None:
        rows = self.history.get(run_id)
        if rows is None:
            return None
        counts = {"logLineCount": 0, "historyLineCount": len(rows), "eventsLineCount": 0}
        tails = {"historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]), "eventsTail": "[]"}
        rest = {"id": run_id, "name": run_id, "summaryMetrics": "{}", "config": "{}", "tags": []}
        return counts | tails | rest | {"wandbConfig": '{"t": 1}'}

    def store(self, run_id: str, history: dict[str, Any]) -> None:
        """Puts lines of a run's history where the client says that they belong."""
        rows, first = self.history.setdefault(run_id, []), history["offset"]
        rows[first : first + len(history["content"])] = [json.loads(line) for line in history["content"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        if self.path == "/graphql":
            request = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
            name = operation[1] if operation else ""
            self._reply({"data": self.server.answer(name, request.get("variables") or {})})
            return
        if stream:
            history = (json.loads(body).get("files") or {}).get("wandb-history.jsonl")
            if history:
                self.server.store(stream[1], history)
        self._reply({"exitcode": None, "limits": {}})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server that listens until the end of the block, or until its ``shutdown``."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
