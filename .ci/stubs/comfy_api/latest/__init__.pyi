# What nodes/ uses of ComfyUI's node API, so that mypy can check nodes/ without a ComfyUI.
from . import Input, InputImpl, Types, io, ui

__all__ = ["ComfyExtension", "Input", "InputImpl", "Types", "io", "ui"]

class ComfyExtension:
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...
