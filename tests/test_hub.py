import hashlib
import json
import logging
import re
import struct
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vividtalk_core import hub
from vividtalk_core.errors import HubError, MissingFileError, WeightsError
from vividtalk_core.hub import WeightSet, load_module, load_tensors, read_header, resolve_weights, save_module

COMMIT = "a" * 40


@dataclass(frozen=True)
class TinyConfig:
    width: int = 3
    sizes: tuple[int, ...] = (2, 4)


class Tiny(nn.Module):
    def __init__(self, config: TinyConfig):
        super().__init__()
        self.layer = nn.Linear(config.width, config.sizes[-1])
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))


class Other(Tiny):
    pass


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "generator.safetensors"
    torch.manual_seed(0)
    module = Tiny(TinyConfig())
    save_module(path, module, TinyConfig())
    return path, module


def edit_header(path, change):
    """Rewrite the JSON header of a safetensors file."""
    blob = path.read_bytes()
    length = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob[8 + length :])


# ---- sets


def test_embedded_set_is_whole():
    weights = resolve_weights()
    assert weights.describe() == weights.source == "embedded"
    for name in ("detector.safetensors", "landmarks.safetensors", "segmentation.safetensors"):
        assert weights.file(name).parent == hub.EMBEDDED
        assert name in weights


def test_folder_falls_back_to_embedded(tiny, tmp_path, caplog):
    weights = resolve_weights(str(tmp_path))
    assert weights.file("generator.safetensors") == tiny[0]
    assert weights.describe() == f"{tmp_path} (generator.safetensors)"
    with caplog.at_level(logging.INFO, "vividtalk"):
        assert weights.file("detector.safetensors") == hub.EMBEDDED / "detector.safetensors"
    assert "has no detector.safetensors: the embedded one is used" in caplog.text


def test_folder_errors(tmp_path):
    with pytest.raises(MissingFileError, match="no such folder"):
        resolve_weights(str(tmp_path / "nowhere"))
    (tmp_path / "model.bin").write_bytes(b"pickle")
    with pytest.raises(MissingFileError, match=r"holds none of head\.safetensors, detector.safetensors"):
        resolve_weights(str(tmp_path))
    with pytest.raises(MissingFileError, match=r"'nothing\.safetensors' are neither in the set 'x' nor embedded"):
        WeightSet("x", {}).file("nothing.safetensors")
    assert "nothing.safetensors" not in WeightSet("x", {})


# ---- files


def test_module_round_trip(tiny):
    path, module = tiny
    random_state = torch.get_rng_state()
    loaded = load_module(Tiny, TinyConfig, path)
    assert torch.equal(random_state, torch.get_rng_state())
    assert not loaded.training
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    assert json.loads(read_header(path)["config"]) == {"width": 3, "sizes": [2, 4]}


def test_half_precision_file_becomes_a_float_module(tmp_path):
    module, path = Tiny(TinyConfig()), tmp_path / "a.safetensors"
    save_module(path, module, TinyConfig(), torch.float16)
    assert load_tensors(path)["layer.weight"].dtype == torch.float16
    loaded = load_module(Tiny, TinyConfig, path)
    assert loaded.layer.weight.dtype == torch.float32 and loaded.steps.dtype == torch.int64
    torch.testing.assert_close(loaded.layer.weight, module.layer.weight, atol=1e-3, rtol=1e-3)


def test_same_values_give_the_same_bytes(tmp_path):
    tensors = {"b": torch.ones(2), "a": torch.arange(6).view(2, 3).T}
    digests = set()
    for order in (("z", "a", "k"), ("k", "z", "a"), ("a", "k", "z")):
        hub.save_tensors(tmp_path / "a.safetensors", tensors, dict.fromkeys(order, "1"))
        digests.add(hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest())
    assert len(digests) == 1
    assert torch.equal(load_tensors(tmp_path / "a.safetensors")["a"], tensors["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_reads_what_the_library_wrote(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors", {"config": "{}"})
    assert read_header(tmp_path / "a.safetensors") == {"config": "{}"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-5], "is truncated or damaged: .* bytes, .* by its header"),
        (lambda b: b[:40], "is truncated: 40 bytes, its header alone needs"),
        (lambda b: b"", "is not a safetensors file"),
        (lambda b: b"PK\x03\x04" * 50, "is not a safetensors file"),
        (lambda b: struct.pack("<Q", 8) + b"not json", "is not a safetensors file"),
        (lambda b: struct.pack("<Q", 9) + b'{"a": 12}', "is not a safetensors file"),
        (lambda b: struct.pack("<Q", 4) + b"[12]", "is not a safetensors file"),
        (lambda b: struct.pack("<Q", 21) + b'{"__metadata__":null}', "is not a safetensors file"),
        (lambda b: struct.pack("<Q", 26) + b'{"__metadata__":{"a": 12}}', "is not a safetensors file: its metadata"),
    ],
)
def test_damaged_files(tiny, damage, message):
    path = tiny[0]
    path.write_bytes(damage(path.read_bytes()))
    for read in (read_header, load_tensors, lambda p: load_module(Tiny, TinyConfig, p)):
        with pytest.raises(WeightsError, match=f"generator.safetensors' {message}"):
            read(path)


def test_a_type_of_number_that_the_library_does_not_know(tiny):
    edit_header(tiny[0], lambda header: next(v for k, v in header.items() if k != "__metadata__").update(dtype="X8"))
    with pytest.raises(WeightsError, match=r"generator.safetensors' is damaged: .*X8"):
        load_tensors(tiny[0])


def test_weights_that_are_no_numbers(tiny):
    path, module = tiny
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state["layer.weight"][0, 0] = torch.nan
    hub.save_tensors(path, state, read_header(path))
    # other files of this format, e.g. training data, may mark missing values with NaN
    assert load_tensors(path)["layer.weight"].isnan().sum() == 1
    with pytest.raises(WeightsError, match=r"1 of .* values of 'layer.weight' are NaN or infinite"):
        load_module(Tiny, TinyConfig, path)


def test_another_architecture(tiny):
    with pytest.raises(WeightsError, match="holds a Tiny, a Other is needed"):
        load_module(Other, TinyConfig, tiny[0])


def test_a_file_from_before_a_class_was_renamed(tiny, monkeypatch):
    path, module = tiny[0], tiny[1]
    edit_header(path, lambda header: header["__metadata__"].update(architecture="Small"))
    with pytest.raises(WeightsError, match="holds a Small, a Tiny is needed"):
        load_module(Tiny, TinyConfig, path)
    monkeypatch.setitem(hub.RENAMED_ARCHITECTURES, "Small", "Tiny")
    assert torch.equal(load_module(Tiny, TinyConfig, path).layer.weight, module.layer.weight)


def test_config_is_strict(tiny):
    path = tiny[0]
    for config, message in (
        ({"width": 3, "depth": 1}, r"unknown fields \['depth'\] and lacks \['sizes'\]"),
        ({"width": 3}, r"unknown fields \[\] and lacks \['sizes'\]"),
    ):
        edit_header(path, lambda header, config=config: header["__metadata__"].update(config=json.dumps(config)))
        with pytest.raises(WeightsError, match=f"its TinyConfig has {message}"):
            load_module(Tiny, TinyConfig, path)
    for text, message in (
        ("{", "the config in its header is not JSON"),
        ("[1]", "the config in its header is not a JSON object"),
        ('{"width": -3, "sizes": [1]}', "no Tiny can be made with the config in its header"),
        ('{"width": "wide", "sizes": [1]}', "no Tiny can be made with the config in its header"),
    ):
        edit_header(path, lambda header, text=text: header["__metadata__"].update(config=text))
        with pytest.raises(WeightsError, match=message):
            load_module(Tiny, TinyConfig, path)
    edit_header(path, lambda header: header["__metadata__"].pop("config"))
    with pytest.raises(WeightsError, match="has no 'config' in its header"):
        load_module(Tiny, TinyConfig, path)


def test_tensors_are_strict(tiny):
    path, module = tiny
    header = {"config": json.dumps(asdict(TinyConfig(width=5)))}
    state = module.state_dict() | {"extra": torch.ones(1)}
    del state["steps"]
    hub.save_tensors(path, state, header)
    with pytest.raises(WeightsError) as error:
        load_module(Tiny, TinyConfig, path)
    assert str(error.value) == (
        f"'{path}' does not fit this architecture; missing: steps; unexpected: extra; "
        "other shapes: layer.weight [4, 3] instead of [4, 5]"
    )


# ---- the Hub


class HubHandler(BaseHTTPRequestHandler):
    """What a download asks a Hugging Face Hub for: the revision, its list of files, and the files."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    def answer(self, with_body):
        api = re.match(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/?]+)", self.path)
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if api:
            repo, what, revision = api.groups()
        if repo == "team/gated":
            return self.refuse(403, "GatedRepo")
        if repo == "team/broken":
            return self.refuse(400, "Nonsense")
        if repo not in ("team/set", "team/empty"):
            return self.refuse(404, "RepoNotFound")
        if revision not in ("v1", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        files = {} if repo == "team/empty" else self.files
        if api:
            listed = [{"type": "file", "path": name, "size": len(b), "oid": "0"} for name, b in files.items()]
            siblings = [{"rfilename": name} for name in files]
            return self.send(
                json.dumps(listed if what == "tree" else {"id": repo, "sha": COMMIT, "siblings": siblings})
            )
        blob = files.get(name)
        if blob is None:
            return self.refuse(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(blob).hexdigest()}"')
        self.send_header("Content-Length", str(len(blob)))
        self.end_headers()
        if with_body:
            self.wfile.write(blob)
        return None

    def send(self, text):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub_server(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(HubHandler, "files", {"generator.safetensors": tiny[0].read_bytes(), "x.bin": b"pickle"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_hub_set(hub_server, revision):
    weights = resolve_weights(f"hub:team/set@{revision}")
    assert set(weights.files) == {"generator.safetensors"}
    assert COMMIT in str(weights.file("generator.safetensors"))
    assert load_module(Tiny, TinyConfig, weights.file("generator.safetensors")).layer.in_features == 3
    assert weights.file("detector.safetensors").parent == hub.EMBEDDED


def test_hub_set_is_found_again_without_a_network(hub_server, monkeypatch):
    first = resolve_weights("hub:team/set@v1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the library waits between its attempts
    assert resolve_weights("hub:team/set@v1") == first
    with pytest.raises(HubError, match="cannot reach the Hugging Face Hub for 'team/new' at"):
        resolve_weights("hub:team/new@v1")


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("hub:team/set", ValueError, "add the revision, hub:team/set@REVISION"),
        ("hub:set@v1", ValueError, "must look like hub:OWNER/NAME@REVISION"),
        ("hub:team/nothing@v1", FileNotFoundError, "has no repository 'team/nothing', or it is private"),
        ("hub:team/set@v9", FileNotFoundError, "has 'team/set' but not its revision 'v9'"),
        ("hub:team/empty@v1", FileNotFoundError, "the repository holds none of head.safetensors"),
        ("hub:team/gated@v1", ConnectionError, "'team/gated' is gated"),
        ("hub:team/broken@v1", OSError, "'team/broken' at revision 'v1'"),
    ],
)
def test_hub_errors(hub_server, source, kind, message):
    with pytest.raises(kind, match=message):
        resolve_weights(source)


# --- whole numbers


def test_quantised_weights_come_back_within_half_a_step():
    tensors = {"weight": torch.randn(6, 4, 3) * torch.logspace(-1, 2, 6)[:, None, None], "bias": torch.randn(6)}
    stored = hub.quantise(tensors)
    assert {name: t.dtype for name, t in stored.items()} == {
        "weight": torch.int8,
        "weight.step": torch.float16,
        "bias": torch.float16,
    }
    found = hub._dequantised(stored)
    assert found.keys() == tensors.keys()
    error = (found["weight"] - tensors["weight"]).abs().amax((1, 2))
    assert bool((error <= 0.51 * stored["weight.step"].float() + 1e-9).all())


def test_a_quantised_file_becomes_a_float_module(tmp_path):
    module = Tiny(TinyConfig())
    header = {"architecture": "Tiny", "config": json.dumps(asdict(TinyConfig()))}
    hub.save_tensors(tmp_path / "small.safetensors", hub.quantise(module.state_dict()), header)
    found = load_module(Tiny, TinyConfig, tmp_path / "small.safetensors")
    for name, tensor in module.state_dict().items():
        assert found.state_dict()[name].dtype == tensor.dtype
        torch.testing.assert_close(found.state_dict()[name], tensor, atol=0.02, rtol=0.02)
