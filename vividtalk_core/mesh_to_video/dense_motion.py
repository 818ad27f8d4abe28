"""Dense motion from the two z-buffered meshes, which give the source of each face pixel; a motion-VAE may refine it.

The field has three layers. A flat card through the centre of the head moves what the mesh does not reach; its motion
fades out over the neck, and the background stands still behind it. The difference between the motion of the whole
head mesh and that of the card is spread smoothly, so that hair follows the scalp below it. On the face itself, wherever
the portrait shows the surface, the correspondence of the two meshes is used as it is. The motion-VAE adds a residual to
this closed form, or in the paper's own form replaces it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..filters import blur, smoothstep, upsample
from ..geometry import CAMERA_DISTANCE, fit_similarity, pixel_centres, project, unproject, warp
from ..nn import frame_batches, inference
from ..progress import Progress
from ..structures import CROP, Backdrop, DenseMotion, NccRender, SourceView
from .backdrop import uncover
from .gate import change_gate
from .mirror import mirror_fill
from .motion_vae import MotionVae, combine
from .ncc import reference_texture
from .rasterizer import interpolate

# The fields outside the mesh are smooth: a quarter of the resolution holds them.
COARSE = 64  # px
# The mesh's motion spreads over two scales: the near one decides beside the skin, the far one where it has faded out.
NEAR_PX, FAR_PX = 1.5, 6.0  # px of the coarse grid
FAR_SHARE = 0.05  # weight of the far scale beside the near one
# Weight of no difference to the card, in far shares: what remains where the spread has faded out.
STILL_SHARE = 0.1
# Motion below the first is set to 0, above the second it is kept: pixels without motion are copied, not sampled.
STILL_PX = (0.02, 0.10)  # px of the crop


def estimate_motion(
    render: NccRender,
    model: MotionVae | None = None,
    strength: float = 1.0,
    progress: Progress | None = None,
) -> DenseMotion:
    """Dense backward motion from the rendered meshes.

    Args:
        render: T frames of `render_ncc`.
        model: the motion-VAE that refines it; None leaves the closed form.
        strength: factor on the model's part, 0 = the closed form, 1 = as trained.
        progress: called after each frame, and again in the model's own pass.

    Returns:
        Flow [T, 256, 256, 2] in grid units and occlusion [T, 1, 256, 256]; the flow is exactly 0 where nothing moves.
    """
    flows, occlusions, uncovered = [], [], []
    total = render.frame_count
    for frame in range(total):
        flow, occlusion, open_background = _frame_motion(render.frames(slice(frame, frame + 1)))
        flows.append(flow)
        occlusions.append(occlusion)
        uncovered.append(open_background)
        if progress:
            progress(frame + 1, total, None)
    view = render.view
    backdrop = Backdrop(view.plate, view.hole[None, None], torch.stack(uncovered))
    motion = DenseMotion(torch.stack(flows), torch.stack(occlusions), mirror_fill(render), backdrop)
    # without the model's pass at strength 0: the closed form keeps its bits
    if model is None or strength == 0:
        return motion
    return refine_motion(model, render, motion, strength, progress)


def refine_motion(
    model: MotionVae,
    render: NccRender,
    motion: DenseMotion,
    strength: float = 1.0,
    progress: Progress | None = None,
) -> DenseMotion:
    """The closed form refined by the motion-VAE; still frames and the background stay still.

    Args:
        model: anchored or in the paper's own form.
        render: T frames of `render_ncc`.
        motion: T frames in closed form.
        strength: 0 = the closed form, 1 = as trained.
        progress: called after each batch of frames.

    Returns:
        Flow [T, 256, 256, 2] in grid units and occlusion [T, 1, 256, 256].
    """
    view, reference = render.view, reference_texture(render.view)
    gate = change_gate(motion.flow, view.follow * view.border)
    flows, occlusions = [], []
    for part in frame_batches(len(motion.flow), motion.flow.device):
        flow, occlusion = motion.flow[part], motion.occlusion[part]
        with inference(flow.device):
            pt_ref = reference.expand(len(flow), -1, -1, -1)
            output = model(pt_ref, render.projected_texture[part], render.lip_maps[part], flow, occlusion)
        # the paper's own form replaces the closed form: it starts from no motion and nothing occluded
        start = (flow, occlusion) if model.config.anchored else (torch.zeros_like(flow), torch.ones_like(occlusion))
        refined = combine(output, *start, gate[part])
        flows.append(torch.lerp(flow, refined[0], strength))
        occlusions.append(torch.lerp(occlusion, refined[1], strength))
        if progress:
            progress(part.stop, len(motion.flow), None)
    return replace(motion, flow=torch.cat(flows), occlusion=torch.cat(occlusions))


def _frame_motion(render: NccRender) -> tuple[Tensor, Tensor, Tensor]:
    """Flow [256, 256, 2], occlusion and uncovered background [1, 256, 256] of one rendered frame (T = 1)."""
    view = render.view
    card = _card_motion(view, render.mesh.vertices[0])  # [H, W, 2] px
    # a pixel above the shoulders whose motion would come from them stays still as well: else they would be torn up
    step = CROP // COARSE
    own = F.avg_pool2d(view.carry[None, None], step)  # [1, 1, h, w]
    coarse = F.avg_pool2d(rearrange(card, "h w c -> 1 c h w"), step) * (2 / CROP)
    there = warp(own, rearrange(coarse, "1 c h w -> 1 h w c"))
    carry = upsample(torch.minimum(own, there), CROP)[0, 0, ..., None]  # [H, W, 1]
    card = card * carry
    mesh, confidence, skin = _mesh_motion(render)  # [H, W, 2] px, [H, W], [H, W]
    # the whole skin is spread, ears and scalp too: from the face alone they would get the motion of the nose
    extra = _spread(mesh - card, skin)
    extra = extra * carry
    flow = (card + torch.lerp(extra, mesh - card, confidence[..., None])) * view.border[..., None]
    flow = flow * smoothstep(torch.hypot(flow[..., :1], flow[..., 1:]), *STILL_PX)
    uncovered = uncover(view, flow)
    # the background stays still: what is not seen of the motion is left out
    flow = flow * (uncovered < 1)[..., None]
    # a pixel of the face that the portrait does not show cannot be sampled: it is occluded, and the generator fills it
    triangle = render.fragments.triangle_index[0]
    hidden = (triangle >= 0) & (confidence < 0.05)
    inner = triangle.clamp(min=0)
    face_pixel = view.regions.inner_face[render.mesh.triangles[inner]].amin(-1) > 0
    return flow * (2 / CROP), 1 - (hidden & face_pixel).float()[None], uncovered[None]


def _mesh_motion(render: NccRender) -> tuple[Tensor, Tensor, Tensor]:
    """Displacement to the portrait's pixel [H, W, 2] px, its confidence on the face [H, W] and the skin [H, W]."""
    view, fragments = render.view, render.fragments
    # the mesh is bald: outside the inner face hair lies over it, and what moves there is not its surface
    trust = (view.confidence * view.regions.inner_face)[:, None]
    attributes = torch.cat((view.pixels[:, :2], trust), 1)  # [V, 3]
    maps = interpolate(attributes, render.mesh.triangles, fragments)[0]  # [H, W, 3]
    displacement = maps[..., :2] - pixel_centres(CROP, CROP, maps.device)
    triangle = fragments.triangle_index[0]
    covered, index = triangle >= 0, triangle.clamp(min=0)
    eyeball, mouth = view.regions.eyes[index] & covered, view.regions.interior[index] & covered
    # an eyeball lies behind an opening: it is known where the portrait's own opening shows it
    shown = warp(view.eyes, displacement[None] * (2 / CROP))[0, 0]
    confidence = torch.where(eyeball, shown, maps[..., 2] * covered)
    # at a silhouette single pixels change between surfaces: there the smooth field is used
    settled = -F.max_pool2d(-(maps[..., 2] * covered)[None, None], 3, 1, 1)
    edge = blur(settled, 1.0)[0, 0]
    # the inside of the mouth is painted: the warp would stretch the lips over it
    confidence = smoothstep(torch.where(eyeball, shown, torch.minimum(confidence, edge))) * ~mouth
    return torch.where(covered[..., None], displacement, 0), confidence, (covered & ~mouth).float()


def _spread(motion: Tensor, weight: Tensor) -> Tensor:
    """Continue the motion [H, W, 2] from where its weight [H, W] is 1 to all pixels, fading out with distance.

    Normalised convolution (Knutsson and Westin 1993) at two scales.
    """
    weighted = torch.cat((motion * weight[..., None], weight[..., None]), -1)  # [H, W, 3]
    coarse = F.avg_pool2d(rearrange(weighted, "h w c -> 1 c h w"), CROP // COARSE)
    near, far = blur(coarse, NEAR_PX), blur(coarse, FAR_PX)
    total = near + FAR_SHARE * far
    spread = total[:, :2] / (total[:, 2:] + STILL_SHARE * FAR_SHARE)
    return rearrange(upsample(spread, CROP), "1 c h w -> h w c")


def _card_motion(view: SourceView, driven: Tensor) -> Tensor:
    """Displacement [256, 256, 2] px of a flat card through the middle of the head, facing the camera in the portrait.

    Each pixel's ray is cut with the driven card, and the point found is moved back to the portrait's card.

    Args:
        view: the portrait.
        driven: [V, 3] camera space.
    """
    source = view.mesh.vertices[0]
    rigid = fit_similarity(source[view.regions.rigid], driven[view.regions.rigid], scaled=False)
    rotation, translation = rigid.rotation, rigid.translation
    # at the mean depth of the rigid part, the card is as near to hair and ears in front of it as behind it
    depth = CAMERA_DISTANCE - source[view.regions.rigid, 2].mean()  # of the card in the portrait
    step = CROP // COARSE
    centres = pixel_centres(COARSE, COARSE, source.device) * step
    ray = unproject(F.pad(centres, (0, 1), value=1.0)) - source.new_tensor((0.0, 0.0, CAMERA_DISTANCE))
    eye = source.new_tensor((0.0, 0.0, CAMERA_DISTANCE))
    normal = rotation[:, 2]
    through = rotation @ source.new_tensor((0.0, 0.0, float(CAMERA_DISTANCE - depth))) + translation
    reach = ((through - eye) @ normal) / (ray @ normal)  # [h, w]
    points = (eye + ray * reach[..., None] - translation) @ rotation  # back to the portrait's card
    coarse = project(points)[..., :2] - centres
    return rearrange(upsample(rearrange(coarse, "h w c -> 1 c h w"), CROP), "1 c h w -> h w c")
