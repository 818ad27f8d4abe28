"""The networks that metrics are computed with."""

from __future__ import annotations

from dataclasses import dataclass

from ..critics.face_embedder import FaceEmbedder
from ..critics.perceptual import Backbone
from ..critics.sync_expert import SyncExpert
from ..face.models import FaceModels


@dataclass(frozen=True, eq=False, slots=True)
class Evaluators:
    """A face tracker and optional critics; a metric whose critic is None is left out."""

    face: FaceModels
    sync: SyncExpert | None = None  # for LSE-C, LSE-D and the offset
    embedder: FaceEmbedder | None = None  # for CSIM
    perceptual: Backbone | None = None  # for the perceptual distance, of `load_perceptual`
