from typing import Any

import numpy.typing as npt

class Image: ...

def fromarray(obj: npt.NDArray[Any]) -> Image: ...
