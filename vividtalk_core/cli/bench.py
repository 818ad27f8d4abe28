"""`vividtalk bench`: the speed of every stage and the memory of a run, on the shipped portrait and speech."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..audio.waveform import read_audio
from ..errors import SettingsError, VividTalkError
from ..files import check_writable
from ..hub import EMBEDDED
from ..nn import inference
from ..pipeline import load_models, talk
from ..settings import TalkSettings
from ..structures import Audio
from ..threads import single_threaded
from ..timing import StageTimer
from ..video.reader import read_image
from ..video.writer import write_video
from .options import given
from .progress import ProgressBar
from .render import scale_portrait
from .report import STAGES, write_json

PORTRAIT, SPEECH = EMBEDDED / "demo" / "portrait.jpg", EMBEDDED / "demo" / "speech.flac"
SIZES = ("256", "512")
CLIP_S = 2.0  # of speech in each timed run
MEMORY_S = 10.0  # of video in the run whose memory is measured
# The first run loads the networks, which a user waits for once.
WARM_UP = 1  # runs that do not count
NETWORK_RUNS = 20  # of one frame, their median counts


def run(args: argparse.Namespace) -> None:
    """Measure, print the table, and write the metrics to `--json`."""
    if args.repeats < 1:
        raise SettingsError(f"--repeats must be at least 1; got {args.repeats}")
    settings = given(TalkSettings(), vars(args))
    if args.json:
        check_writable(args.json, (".json",))
    metrics: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "ms_per_frame": {}}
    metrics |= {"strength": settings.strength, "precision": precision(), "networks": network_costs(args.weights)}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            metrics["ms_per_frame"][size] = time_size(args, settings, size, Path(folder))
        metrics |= measure_process(args.weights, settings.strength, Path(folder))
    sys.stdout.write(table(metrics))
    if args.json:
        write_json(args.json, metrics)


def time_size(args: argparse.Namespace, settings: TalkSettings, size: str, folder: Path) -> dict[str, float]:
    """Median milliseconds per frame of each stage, and of the whole run without loading and fitting."""
    models = load_models(args.weights)
    portrait = scale_portrait(read_image(PORTRAIT), size)
    waveform, rate = read_audio(SPEECH)
    audio = Audio(waveform[:, : round(CLIP_S * rate)], rate)
    progress = ProgressBar(f"{size} px", args.progress)
    rows = []
    for number in range(WARM_UP + args.repeats):
        timer, start = StageTimer(), time.perf_counter()
        stream = talk(portrait, audio, settings, models=models, timer=timer)
        with timer("encode"):
            write_video(folder / "bench.mp4", stream, audio)
        # a face is fitted once, whatever the length of the video
        total_s = time.perf_counter() - start - timer.seconds["fit"]
        seconds = {stage: timer.seconds.get(stage, 0.0) for stage in STAGES[2:]} | {"total": total_s}
        rows.append({stage: 1000 * s / stream.frame_count for stage, s in seconds.items()})
        progress(number + 1, WARM_UP + args.repeats)
    # the median: another program on the machine may slow single runs down
    return {stage: round(statistics.median(row[stage] for row in rows[WARM_UP:]), 3) for stage in rows[0]}


def precision() -> str:
    """The number format of the networks on this machine's CPU: bfloat16 where the CPU multiplies it in hardware."""
    with inference(torch.device("cpu")):
        return "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"


def network_costs(weights: str) -> dict[str, dict[str, float]]:
    """Cost of each network of stage 2 that the weight set has, for one frame: gmac, 10⁹ multiply-adds, and ms.

    The generator's encoding of the portrait, made once for a clip, is not counted.
    """
    models = load_models(weights)
    stage_2 = models.mesh_to_video
    networks: dict[str, nn.Module] = {
        name: network
        for name, network in (("motion", stage_2.motion), ("generator", stage_2.generator))
        if network is not None
    }
    # the pipeline itself calls the networks once, so that shapes and number types are those of real use
    inputs: dict[str, tuple[Tensor, ...]] = {}
    hooks = [
        network.register_forward_pre_hook(lambda _, values, name=name: inputs.__setitem__(name, values))
        for name, network in networks.items()
    ]
    portrait = scale_portrait(read_image(PORTRAIT), SIZES[0])
    waveform, rate = read_audio(SPEECH)
    next(iter(talk(portrait, (waveform[:, : rate // 5], rate), TalkSettings(chunk=1), models=models)))
    for hook in hooks:
        hook.remove()
    return {name: network_cost(network, inputs[name]) for name, network in networks.items()}


def network_cost(network: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, float]:
    """Cost of a network as the pipeline runs it: gmac, 10⁹ multiply-adds, and ms, the median of several runs.

    The inputs are those of one frame, [1, ...].
    """
    times = []
    with single_threaded(), inference(inputs[0].device):
        with FlopCounterMode(display=False) as counter:
            network(*inputs)
        for _ in range(NETWORK_RUNS):
            start = time.perf_counter()
            network(*inputs)
            times.append(time.perf_counter() - start)
    gmac = counter.get_total_flops() / 2e9  # a multiplication and an addition are two
    return {"gmac": round(gmac, 4), "ms": round(1000 * statistics.median(times), 3)}


def measure_process(weights: str, strength: float, folder: Path) -> dict[str, float]:
    """Memory and start-up of a fresh process that makes 10 s of video at 512 px."""
    speech, report = folder / "speech.wav", folder / "report.json"
    write_wave(speech, *read_audio(SPEECH), MEMORY_S)
    words: list[str | Path] = [
        "talk",
        "--portrait",
        PORTRAIT,
        "--audio",
        speech,
        "--out",
        folder / "memory.mp4",
        "--size",
        "512",
    ]
    words += ["--weights", weights, "--strength", str(strength), "--report", report, "--no-progress"]
    # in another process: peak memory never falls, and this one has held more
    run_command(words)
    values = json.loads(report.read_text(encoding="utf-8"))
    keys = {"load_s": values["seconds"]["load"], "fit_s": values["seconds"]["fit"]}
    return keys | {"peak_rss_mb": values["peak_rss_mb"], "process_ms_per_frame": values["ms_per_frame"]}


def run_command(words: Sequence[str | Path]) -> None:
    """Run `python -m vividtalk_core` with these words; VividTalkError with its last line if it fails."""
    command = [sys.executable, "-m", __package__.rpartition(".")[0], *map(str, words)]
    path = os.pathsep.join(filter(None, (str(EMBEDDED.parents[1]), os.environ.get("PYTHONPATH"))))
    # the process must find this package wherever the command was started
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VividTalkError(f"the measured run failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def write_wave(path: Path, waveform: Tensor, rate: int, seconds: float) -> None:
    """Write [C, N] as mono 16-bit sound of a given length, repeated to fill it."""
    mono = waveform.mean(0)
    index = torch.arange(round(seconds * rate)) % len(mono)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((mono[index].clamp(-1, 1) * 32767).short().numpy().tobytes())


def table(metrics: dict[str, Any]) -> str:
    """The metrics as text."""
    columns = metrics["ms_per_frame"]
    lines = [f"{'ms per frame':12}" + "".join(f"{size + ' px':>10}" for size in columns)]
    for stage in next(iter(columns.values())):
        lines.append(f"{stage:12}" + "".join(f"{column[stage]:10.2f}" for column in columns.values()))
    lines += [
        f"{name} network: {cost['gmac']:.2f} GMAC, {cost['ms']:.1f} ms per frame in {metrics['precision']}"
        for name, cost in metrics["networks"].items()
    ] or ["no networks of stage 2: frames come from the closed form"]
    peak = metrics["peak_rss_mb"]
    lines.append(f"peak memory, {MEMORY_S:g} s of 512 px video: {'unknown' if peak is None else f'{peak:.0f} MB'}")
    lines.append(f"load {metrics['load_s']:.2f} s, fit {metrics['fit_s']:.2f} s in a fresh process")
    lines.append(f"torch {metrics['torch']}, {metrics['threads']} threads")
    return "\n".join(lines) + "\n"
