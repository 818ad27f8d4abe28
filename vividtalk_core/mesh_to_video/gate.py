"""Where networks may change the image: only where the head moves, never in a background without motion.

What is painted in closed form stays as it is painted: teeth are rigid, and networks made them darker and blurred.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import blur, smoothstep, upsample
from ..structures import CROP

# Around what moves or is painted networks may change the image too, because jaw and cheek move a little with the lips.
REACH_PX = 12  # px of the crop
MOVING_PX = (0.05, 0.8)  # px of the crop; below the first nothing is changed, above the second all may be
COARSE = 64  # px; the gate is smooth


def change_gate(flow: Tensor, follow: Tensor, painted: Tensor | None = None) -> Tensor:
    """Weight of a network's output at each pixel.

    Args:
        flow: [T, 256, 256, 2] grid units, closed form.
        follow: [256, 256] or [T, 1, 256, 256] 0..1, what belongs to the head, 0 on background and border.
        painted: [T, 1, 256, 256] 0..1, alpha of what is painted in closed form; around it the image may be changed.

    Returns:
        [T, 1, 256, 256] 0..1; exactly 0 in a frame without motion and paint, and where all is paint.
    """
    moving = smoothstep(torch.hypot(flow[..., 0], flow[..., 1])[:, None] * (CROP / 2), *MOVING_PX)
    if painted is not None:
        moving = moving.maximum(painted)
    step = CROP // COARSE
    reach = 2 * round(REACH_PX / step) + 1
    # maxima and not means: a mouth that is small in the crop must open the gate completely
    coarse = F.max_pool2d(F.max_pool2d(moving, step), reach, 1, reach // 2)  # [T, 1, 64, 64]
    # blurred, because an edge of the gate would be an edge in the image
    gate = upsample(blur(coarse, 1.5), CROP) * follow
    return gate if painted is None else gate * (1 - painted)
