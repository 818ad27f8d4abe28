"""A real ComfyUI server (CPU) on a free loopback port with a throw-away base folder, and a client that runs prompts."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

START_S = 240  # longest wait for the server to answer
RUN_S = 900  # longest wait for the next event of a running prompt
FAILURES = ("IMPORT FAILED", "Cannot import")
ENDS = ("execution_success", "execution_error", "execution_interrupted")
PACK_NAME = "ComfyUI-VividTalk"


class PromptError(RuntimeError):
    """The server refused a prompt or a node failed; `details` is the server's message."""

    def __init__(self, message: str, details: dict[str, Any]):
        super().__init__(message)
        self.details = details


@dataclass
class Run:
    """The result of one prompt."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)  # node id → its ui output
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    previews: int = 0  # pictures that came while it ran

    @property
    def end(self) -> str:
        """The last event: execution_success, execution_error or execution_interrupted."""
        return self.events[-1][0]

    def progress(self, node: str) -> list[tuple[int, int]]:
        """(value, max) of each step that the node reported."""
        return [(d["value"], d["max"]) for kind, d in self.events if kind == "progress" and d["node"] == node]


class ComfyServer:
    """Starts with `with`, and is always stopped at its end."""

    def __init__(
        self,
        folder: Path,
        pack: Path,
        prepare: Callable[[Path], object] = lambda inputs: None,
        launcher: Sequence[str] = (),
    ):
        """Set up a server that is like a fresh install: nothing is in its input folder.

        Args:
            folder: where ComfyUI and its environment are installed.
            pack: the custom node pack, linked into its custom_nodes.
            prepare: called with the empty input folder before the server starts.
            launcher: a command that starts the server as its arguments, e.g. with fewer rights.
        """
        self.folder, self.pack, self.prepare, self.launcher = folder, pack, prepare, launcher
        self.base = Path(tempfile.mkdtemp(prefix="comfyui-"))
        self.port = _free_port()
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> ComfyServer:
        """Start and wait until it answers; raise if it dies or the pack did not load."""
        try:
            self._start()
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and remove its base folder."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.base, ignore_errors=True)

    @property
    def log(self) -> str:
        """Everything that the server has printed."""
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """The JSON that a GET answers."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def run(self, prompt: dict[str, Any], on_event: Callable[[str, dict[str, Any]], None] | None = None) -> Run:
        """Execute an API-format prompt to its end, and raise PromptError unless it succeeds or is interrupted."""
        run = asyncio.run(self._run(prompt, on_event))
        if run.end == "execution_error":
            details = run.events[-1][1]
            raise PromptError(f"{details['node_type']}: {details['exception_message'].strip()}", details)
        run.outputs = self._outputs(run.prompt_id)
        return run

    def interrupt(self) -> None:
        """Press Cancel."""
        request = urllib.request.Request(self.url + "/interrupt", data=b"{}", method="POST")
        urllib.request.urlopen(request, timeout=60).close()

    def files(self, run: Run, node: str) -> list[Path]:
        """The files that a node saved or previewed."""
        items = [item for value in run.outputs[node].values() for item in value if isinstance(item, dict)]
        return [self.base / item["type"] / item["subfolder"] / item["filename"] for item in items]

    def _start(self) -> None:
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (self.base / name).mkdir()
        (self.base / "custom_nodes" / PACK_NAME).symlink_to(self.pack, target_is_directory=True)
        self.prepare(self.base / "input")
        arguments = ["--cpu", "--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base)]
        arguments += ["--database-url", f"sqlite:///{self.base}/comfyui.db"]
        arguments += ["--disable-api-nodes", "--disable-auto-launch", "--log-stdout"]
        settings = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        settings["OMP_NUM_THREADS"] = "1"  # two threads take ten times as long when anything else uses a core
        with (self.base / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*self.launcher, self.folder / "venv/bin/python", "main.py", *arguments],
                cwd=self.folder / "ComfyUI",
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"ComfyUI did not start:\n{self.log[-4000:]}")
            time.sleep(0.3)
        failed = [line for line in self.log.splitlines() if any(word in line for word in FAILURES)]
        if failed:
            raise RuntimeError("ComfyUI could not load the pack:\n" + self.log[-6000:])

    def _outputs(self, prompt_id: str) -> dict[str, dict[str, Any]]:
        for _ in range(100):  # the history is written a moment after the last event
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]["outputs"]
            time.sleep(0.05)
        raise RuntimeError(f"ComfyUI has no history of the prompt:\n{self.log[-4000:]}")

    def _answers(self) -> bool:
        try:
            self.get("/system_stats")
        except OSError:
            return False
        return True

    async def _run(self, prompt: dict[str, Any], on_event: Callable[[str, dict[str, Any]], None] | None) -> Run:
        client = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=64 << 20) as ws,
        ):
            async with session.post(f"{self.url}/prompt", json={"prompt": prompt, "client_id": client}) as answer:
                body = await answer.json()
                if answer.status != 200:
                    raise PromptError(f"the server refused the prompt: {json.dumps(body)[:2000]}", body)
            run = Run(body["prompt_id"])
            while not run.events or run.end not in ENDS:
                message = await ws.receive(timeout=RUN_S)
                if message.type == aiohttp.WSMsgType.BINARY:
                    run.previews += 1
                elif message.type == aiohttp.WSMsgType.TEXT:
                    event = json.loads(message.data)
                    run.events.append((event["type"], event.get("data", {})))
                    if on_event is not None:
                        await asyncio.to_thread(on_event, *run.events[-1])
                else:
                    raise RuntimeError(f"ComfyUI closed the connection:\n{self.log[-4000:]}")
            return run


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
