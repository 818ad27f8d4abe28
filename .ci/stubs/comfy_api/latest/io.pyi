from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

class Input:
    id: str

class Output: ...

class _Ui(Protocol):
    def as_dict(self) -> dict[str, Any]: ...

class NodeOutput:
    args: tuple[Any, ...]
    ui: _Ui | dict[str, Any] | None
    def __init__(self, *args: Any, ui: _Ui | dict[str, Any] | None = None) -> None: ...

@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = ...
    inputs: Sequence[Input] = ...
    outputs: Sequence[Output] = ...
    description: str = ...
    is_output_node: bool = ...
    search_aliases: list[str] = ...

class ComfyNode:
    @classmethod
    def define_schema(cls) -> Schema: ...
    @classmethod
    def execute(cls, *args: Any, **kwargs: Any) -> NodeOutput: ...
    @classmethod
    def validate_inputs(cls, *args: Any, **kwargs: Any) -> bool | str: ...
    @classmethod
    def fingerprint_inputs(cls, *args: Any, **kwargs: Any) -> Any: ...

class _Socket:
    class Input(Input):
        def __init__(self, id: str, *, optional: bool = ..., tooltip: str = ...) -> None: ...

    class Output(Output):
        def __init__(self, *, display_name: str = ..., tooltip: str = ...) -> None: ...

Image = _Socket
Mask = _Socket
Audio = _Socket
Video = _Socket

def Custom(io_type: str) -> type[_Socket]: ...

class Int(_Socket):
    class Input(Input):
        def __init__(
            self,
            id: str,
            *,
            default: int = ...,
            min: int = ...,
            max: int = ...,
            step: int = ...,
            optional: bool = ...,
            tooltip: str = ...,
        ) -> None: ...

class Float(_Socket):
    class Input(Input):
        def __init__(
            self,
            id: str,
            *,
            default: float = ...,
            min: float = ...,
            max: float = ...,
            step: float = ...,
            optional: bool = ...,
            tooltip: str = ...,
        ) -> None: ...

class Boolean(_Socket):
    class Input(Input):
        def __init__(self, id: str, *, default: bool = ..., optional: bool = ..., tooltip: str = ...) -> None: ...

class String(_Socket):
    class Input(Input):
        def __init__(
            self,
            id: str,
            *,
            default: str = ...,
            placeholder: str = ...,
            optional: bool = ...,
            tooltip: str = ...,
        ) -> None: ...

class Combo(_Socket):
    class Input(Input):
        def __init__(
            self,
            id: str,
            *,
            options: list[str],
            default: str = ...,
            optional: bool = ...,
            tooltip: str = ...,
        ) -> None: ...
