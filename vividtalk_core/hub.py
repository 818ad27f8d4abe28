"""Weights: where they come from, what they must look like, and how they are written. Nothing is ever unpickled.

A weight set is embedded in the pack, a folder, or a repository of the Hugging Face Hub at a revision. A set may hold
only some of the files; the embedded ones are used for the rest.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from .errors import HubError, MissingFileError, SettingsError, WeightsError
from .files import existing_file, whole_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = logging.getLogger("vividtalk")

EMBEDDED = Path(__file__).parent / "assets"
FILE_NAMES = tuple(
    f"{part}.safetensors"
    for part in (
        "head", "detector", "landmarks", "segmentation", "speech_encoder", "expression", "expression_mel",
        "expression_causal", "pose", "motion", "generator", "sync",
    )
)  # fmt: skip
HUB_ID = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>\S+))?")

STEP = ".step"  # after the name of an int8 tensor: the name of its steps

Config = TypeVar("Config", bound="DataclassInstance")
# Class name in the header of a weight file → the class that reads it today, for files older than a renaming.
RENAMED_ARCHITECTURES = {"PoseCodebook": "HeadPoseVqVae"}

Module = TypeVar("Module", bound=nn.Module)
Config_contra = TypeVar("Config_contra", contravariant=True)
Module_co = TypeVar("Module_co", covariant=True)


class Architecture(Protocol[Config_contra, Module_co]):
    """The class of a network that is built from its config alone: `MotionVae` from a `MotionVaeConfig`."""

    __name__: str

    def __call__(self, config: Config_contra, /) -> Module_co:
        """The network, with weights that are not trained."""


@dataclasses.dataclass(frozen=True, slots=True)
class WeightSet:
    """Named weight files; the embedded ones are used for those that the set lacks."""

    source: str  # as the user wrote it: "embedded", a folder or "hub:ID@REVISION"
    files: Mapping[str, Path]  # file name → file, only what the set itself holds

    def __contains__(self, name: str) -> bool:
        return name in self.files or (EMBEDDED / name).is_file()

    def file(self, name: str) -> Path:
        """The path of a weight file by its name; MissingFileError if neither the set nor the pack has it."""
        if name in self.files:
            return self.files[name]
        if not (EMBEDDED / name).is_file():
            raise MissingFileError(f"the weights '{name}' are neither in the set '{self.source}' nor embedded")
        # no warning, because a set may hold some of the files only, on purpose
        if self.source != "embedded":
            log.info("'%s' has no %s: the embedded one is used", self.source, name)
        return EMBEDDED / name

    def checked(self) -> WeightSet:
        """The same set, with each of its own files checked for its size; WeightsError names the first damaged one."""
        for path in self.files.values():
            _check_whole(path)
        return self

    def describe(self) -> str:
        """One line: the source and, unless everything is embedded, the files that the set itself holds."""
        if self.source == "embedded":
            return self.source
        return f"{self.source} ({', '.join(sorted(self.files))})"


def resolve_weights(source: str | os.PathLike[str] = "embedded") -> WeightSet:
    """The weight set of "embedded", a folder, or "hub:ID@REVISION"; every file of a set is fetched here, once.

    Raises:
        MissingFileError: there is no such folder, repository or revision, or it holds no weight file.
        SettingsError: the name of a repository is not of the form "hub:OWNER/NAME@REVISION".
        HubError: the Hugging Face Hub cannot be reached, or refuses.
    """
    source = os.fspath(source)
    if source == "embedded":
        return WeightSet(source, _known_files(EMBEDDED))
    if source.startswith("hub:"):
        return WeightSet(source, _hub_files(source))
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise MissingFileError(
            f"weights '{source}': there is no such folder; give a folder, 'embedded' or 'hub:OWNER/NAME@REVISION'"
        )
    files = _known_files(folder)
    if not files:
        raise MissingFileError(f"weights '{source}': the folder holds none of {', '.join(FILE_NAMES)}")
    return WeightSet(source, files)


def _known_files(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in FILE_NAMES if (folder / name).is_file()}


def _hub_files(source: str) -> dict[str, Path]:
    match = HUB_ID.fullmatch(source)
    if match is None:
        raise SettingsError(f"weights '{source}' must look like hub:OWNER/NAME@REVISION")
    repo, revision = match["repo"], match["revision"]
    if revision is None:
        raise SettingsError(
            f"weights '{source}': add the revision, hub:{repo}@REVISION, so that the files cannot change"
        )
    files = _known_files(_snapshot(repo, revision))
    if not files:
        raise MissingFileError(f"weights '{source}': the repository holds none of {', '.join(FILE_NAMES)}")
    return files


def _snapshot(repo: str, revision: str) -> Path:
    """The folder in the local cache that holds what the repository has of `FILE_NAMES`, fetched once per revision."""
    from huggingface_hub import snapshot_download

    # documented names; `utils` has them in every version, but only newer ones export them in the sense of mypy
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"'{repo}' at revision '{revision}'"
    endpoint = os.environ.get("HF_ENDPOINT")
    try:
        # only files that are read here: a repository may hold videos and other formats too
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILE_NAMES), endpoint=endpoint))
    except LocalEntryNotFoundError as error:
        raise HubError(f"cannot reach the Hugging Face Hub for {where} and it is not in the local cache") from error
    except RevisionNotFoundError as error:
        raise MissingFileError(f"the Hugging Face Hub has '{repo}' but not its revision '{revision}'") from error
    except GatedRepoError as error:
        raise HubError(f"'{repo}' is gated: accept its terms on the Hugging Face Hub and log in") from error
    except RepositoryNotFoundError as error:
        raise MissingFileError(f"the Hugging Face Hub has no repository '{repo}', or it is private") from error
    except HfHubHTTPError as error:
        raise HubError(f"the Hugging Face Hub refused {where}: {error}") from error


def _check_whole(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file, if the file is one and has all its bytes."""
    existing_file(path, "weight file")
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0] if size >= 8 else 0
        # the limits of the format: "{}" is the shortest header, and readers refuse one above 100 MB
        if not 2 <= length <= 100_000_000:
            raise WeightsError(f"'{path}' is not a safetensors file")
        # no more than there is: a damaged length could ask for 100 MB
        raw = stream.read(min(length, size))
    if len(raw) < length:
        raise WeightsError(f"'{path}' is truncated: {size} bytes, its header alone needs {8 + length}")
    try:
        header: dict[str, Any] = json.loads(raw)
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        metadata = header.get("__metadata__", {})
        plain = all(isinstance(word, str) for pair in metadata.items() for word in pair)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise WeightsError(f"'{path}' is not a safetensors file") from error
    if not plain:
        raise WeightsError(f"'{path}' is not a safetensors file: its metadata are not all text")
    if size != 8 + length + end:
        raise WeightsError(f"'{path}' is truncated or damaged: {size} bytes, {8 + length + end} by its header")
    return header


def read_header(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a weight file.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: the file is truncated, or is not of this format.
    """
    metadata: dict[str, str] = _check_whole(Path(path)).get("__metadata__", {})
    return metadata


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All tensors of a safetensors file as they are stored, of any shape [...], on the CPU; raises as `read_header`."""
    _check_whole(Path(path))
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"'{path}' is damaged: {error}") from error


def load_finite_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """As `load_tensors`, for the values [...] of a model: WeightsError too if one is NaN or infinite."""
    tensors = load_tensors(path)
    for name, tensor in tensors.items():
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise WeightsError(f"'{path}' is damaged: {bad} of {tensor.numel()} values of '{name}' are NaN or infinite")
    return tensors


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors [...] as a safetensors file, whole or not at all; the same values always give the same bytes."""
    blob = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
    length = struct.unpack("<Q", blob[:8])[0]
    # safetensors writes metadata in random order, which would change the sha256: the header is written here instead
    header = {"__metadata__": dict(sorted((metadata or {}).items()))} | json.loads(blob[8 : 8 + length])
    text = json.dumps(header, separators=(",", ":")).encode()
    # the format pads its header so that the tensors begin at a multiple of 8 bytes
    text += b" " * (-len(text) % 8)
    with whole_file(path) as part, part.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)))
        stream.write(text)
        stream.write(memoryview(blob)[8 + length :])


def save_module(path: str | os.PathLike[str], module: nn.Module, config: Any, dtype: torch.dtype | None = None) -> None:
    """Write a module that `load_module` can read: its class and config (a dataclass) are written to the header.

    Args:
        path: of the file.
        module: what to write; its tensors keep their shapes [..., N].
        config: the dataclass that the module was built from.
        dtype: floating-point type of the file, e.g. float16; None keeps the module's own.
    """
    # integers keep their type: as indices and counts they must stay exact
    state = {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in module.state_dict().items()}
    header = {"architecture": type(module).__name__, "config": json.dumps(dataclasses.asdict(config))}
    save_tensors(path, state, header)


def quantise(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels [O, ...] as int8 with a step for each output channel; vectors [N] as float16.

    The steps of NAME are the tensor NAME.step [O] float16: a channel's largest weight is 127 of them.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            stored[name] = tensor.half()
            continue
        rows = tensor.float().flatten(1)
        # rounded to half precision first: the whole numbers must fit the step that is stored
        step = (rows.abs().amax(1) / 127).clamp(min=1e-7).half()
        stored[name] = (rows / step.float()[:, None]).round().clamp(-127, 127).to(torch.int8).view(tensor.shape)
        stored[f"{name}{STEP}"] = step
    return stored


def _dequantised(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `quantise`: tensors [O, ...] that have steps [O] become float32; all others stay as they are."""
    steps = {name.removesuffix(STEP): step for name, step in tensors.items() if name.endswith(STEP)}
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(STEP)}
    for name, step in steps.items():
        whole = found.get(name)
        if whole is not None and whole.dtype == torch.int8 and whole.shape[:1] == step.shape:
            found[name] = whole.float() * step.float().view(-1, *[1] * (whole.ndim - 1))
    return found


def load_module(cls: Architecture[Config, Module], config_cls: type[Config], path: str | os.PathLike[str]) -> Module:
    """Read a module that `save_module` wrote.

    Args:
        cls: its class, the one that the file names.
        config_cls: the dataclass that the module is built from.
        path: the .safetensors file.

    Returns:
        The module on the CPU, in eval mode; weights [..., N] have the module's own type, mostly float32.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: the file is damaged, holds another architecture, or its tensors do not fit exactly.
    """
    path = Path(path)
    header = read_header(path)
    architecture = header.get("architecture", cls.__name__)
    architecture = RENAMED_ARCHITECTURES.get(architecture, architecture)
    if architecture != cls.__name__:
        raise WeightsError(f"'{path}' holds a {architecture}, a {cls.__name__} is needed")
    config = _read_config(config_cls, header, path)
    try:
        with torch.device("meta"):  # no time and no random numbers are used for values that are replaced
            module = cls(config)
    # a config is data of a file: any value can stand in it, and the layers refuse wrong ones by various exceptions
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise WeightsError(
            f"'{path}': no {cls.__name__} can be made with the config in its header ({error})"
        ) from error
    expected = module.state_dict()
    tensors = _dequantised(load_finite_tensors(path))
    _compare_states(path, expected, tensors)
    # assigned, because tensors on the meta device have no memory to copy into
    module.load_state_dict({k: v.to(expected[k].dtype) for k, v in tensors.items()}, assign=True)
    return module.eval()


def _read_config(config_cls: type[Config], header: Mapping[str, str], path: Path) -> Config:
    """The config of a header; lists become tuples, because JSON has none."""
    if "config" not in header:
        raise WeightsError(f"'{path}' has no 'config' in its header: it is not a weight file of this pack")
    try:
        values = json.loads(header["config"])
    except ValueError as error:
        raise WeightsError(f"'{path}': the config in its header is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise WeightsError(f"'{path}': the config in its header is not a JSON object")
    names = {field.name for field in dataclasses.fields(config_cls)}
    # no field may be unknown or missing: with a default in its place another network would be built
    unknown, missing = sorted(values.keys() - names), sorted(names - values.keys())
    if unknown or missing:
        raise WeightsError(f"'{path}': its {config_cls.__name__} has unknown fields {unknown} and lacks {missing}")
    return config_cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _compare_states(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """WeightsError unless both have the same names and the tensors the same shape [..., N]."""
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    shapes = [
        f"{k} {list(found[k].shape)} instead of {list(expected[k].shape)}"
        for k in sorted(expected.keys() & found.keys())
        if found[k].shape != expected[k].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "other shapes": shapes}
    listed = [f"{what}: {', '.join(v[:5])}{' …' if len(v) > 5 else ''}" for what, v in problems.items() if v]
    if listed:
        raise WeightsError(f"'{path}' does not fit this architecture; {'; '.join(listed)}")
