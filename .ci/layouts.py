"""Places of the nodes, notes and groups of each shipped workflow, from left to right in the paper's order.

A layout is a list of stacks from left to right. A stack is a list of groups from top to bottom, a group a list of
columns, a column a list of nodes (their ids in `workflows/api`) and notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 340  # px, every node
GAP = 40  # px between columns, nodes of a column, groups
TITLE_BAR = 30  # px, the front end draws it above a node's position
GROUP_TITLE = 60  # px
PADDING = 30  # px between a group's frame and its nodes
FONT_SIZE = 32  # px, of a group's title: readable when the whole graph is shown
# px: these grow when they have something to show, and nodes that show a text or a player need it too
ROOM = {
    "LoadImage": 420,
    "LoadAudio": 180,
    "LoadVideo": 420,
    "PreviewImage": 380,
    "MaskPreview": 380,
    "SaveVideo": 460,
}
# px below nodes that show a frame while they run: the last frame stays visible and makes them taller
LIVE = dict.fromkeys(
    ("VividTalk_TalkingHead", "VividTalk_TalkingHeadVideo", "VividTalk_PasteBack", "VividTalk_RenderVideo"), 270
)
# px below the lowest node of a group: front ends that draw nodes as HTML make each one taller by a badge and wider rows
HTML_ROOM = 40
PORTRAIT, STAGE_1, STAGE_2, OUTPUT, PARKED = "#3f789e", "#8a8a3a", "#5a8a5a", "#a1634a", "#8a8a8a"


@dataclass(frozen=True)
class Note:
    """A text beside the nodes, in Markdown."""

    title: str
    text: str
    height: int  # px
    columns: int = 1  # how many it is wide


Item = int | Note


@dataclass(frozen=True)
class Group:
    """Nodes with a frame and a title around them; without a title there is no frame."""

    title: str
    colour: str
    columns: Sequence[Sequence[Item]]


Layout = Sequence[Sequence[Group]]

TALKING_HEAD: Layout = [
    [
        Group(
            "",
            "",
            [
                [
                    Note(
                        "Start here",
                        "**Press Run.** The demo portrait speaks the demo sentence. The video appears in *Save "
                        "Video*.\n\n"
                        "**Then change**\n"
                        "- the picture in *Load Image*: one clear face\n"
                        "- the sound in *Load Audio*: speech in any language\n"
                        "- `motion`: where head motion comes from: *codebook* (learned from people who talk), *idle* "
                        "(a small sway) or *still*\n"
                        "- `seed`: another number gives other head motion and blinks\n\n"
                        "For speech of more than a minute use *Talking Head (long video)*: the same inputs, and frames "
                        "go straight into the file.",
                        320,
                    )
                ]
            ],
        )
    ],
    [Group("Inputs", PORTRAIT, [[1, 2]])],
    [Group("Talking head", STAGE_2, [[3]])],
    [Group("Output", OUTPUT, [[4]])],
]

POSE_FROM_VIDEO: Layout = [
    [
        Group(
            "",
            "",
            [
                [
                    Note(
                        "Start here",
                        "**Press Run.** The head of the portrait moves as the head in the driving video does. The lips "
                        "follow the sound.\n\n"
                        "**Then change**\n"
                        "- the clip in *Load Video*: one face, which looks at the camera in the first frame\n"
                        "- `width` of *Smooth Pose*: seconds; more is calmer\n"
                        "- *Scale Pose*: 0 stops a direction, 2 doubles it\n\n"
                        "A clip that is shorter than the speech is played forwards and backwards. `motion` of *Talking "
                        "Head* has no effect while `head_pose` is connected.",
                        320,
                    )
                ]
            ],
        )
    ],
    [Group("Inputs", PORTRAIT, [[1, 2], [3, 4]])],
    [Group("Head motion of the video", STAGE_1, [[5, 6, 7], [10]])],
    [Group("Talking head", STAGE_2, [[8]])],
    [Group("Output", OUTPUT, [[9]])],
]

FULL_GRAPH: Layout = [
    [
        Group(
            "",
            "",
            [
                [
                    Note(
                        "Start here",
                        "**Press Run.** Each stage of the VividTalk paper is a node of its own, with a preview of what "
                        "it makes.\n\n"
                        "**Then change**\n"
                        "- the picture in *Load Image*, the sound in *Load Audio*\n"
                        "- *Generate Expression*: `lip_strength`, `blinks`, `mode`\n"
                        "- *Sample Head Pose*: `amplitude`, `seed`\n\n"
                        "Previews show every 5th frame (`preview_every`). ComfyUI keeps all frames in memory: for long "
                        "speech use *Render Video*, below stage 2.",
                        240,
                        columns=2,
                    )
                ],
                [],
            ],
        ),
        Group("Portrait → 3DMM", PORTRAIT, [[1, 3], [4, 5, 6]]),
    ],
    [
        Group("Stage 1: audio → mesh", STAGE_1, [[2, 7], [9, 8], [10, 22, 11], [23, 12]]),
        Group(
            "Other sources of head motion (not connected, they do not run)",
            PARKED,
            [
                [
                    Note(
                        "To use one of these",
                        "Drag its `head_pose` onto the `head_pose` input of *Drive Mesh* and of *Preview Motion*.\n\n"
                        "- **Still Pose**: the head of the portrait does not move\n"
                        "- **Idle Pose**: a small sway, with nods on the accents of the speech\n"
                        "- **Video Pose**: the head motion of the clip in *Load Video*, fitted to the speech's length",
                        260,
                    )
                ],
                [26, 27],
                [28],
                [29, 30],
            ],
        ),
    ],
    [
        Group("Stage 2: mesh → video", STAGE_2, [[13, 14, 15], [16, 17, 24], [18, 25]]),
        Group(
            "Stage 2 for long speech (not connected, it does not run)",
            PARKED,
            [
                [
                    Note(
                        "To use it",
                        "*Render Video* is the whole second stage in one node. It writes each frame into the file as "
                        "soon as it is made, so memory does not grow with the length.\n\n"
                        "1. Drag its `video` onto *Save Video*.\n"
                        "2. Select *Stage 2* and the previews, and press **Ctrl+M**: they no longer run.",
                        260,
                    )
                ],
                [31],
                [],
            ],
        ),
    ],
    [Group("Output", OUTPUT, [[19, 20, 21]])],
]

LAYOUTS: dict[str, Layout] = {
    "talking_head": TALKING_HEAD,
    "pose_from_video": POSE_FROM_VIDEO,
    "full_graph": FULL_GRAPH,
}


def arrange(workflow: dict[str, Any], layout: Layout) -> None:
    """Give every node of a UI-format workflow its place, and add the notes and groups.

    Raises:
        ValueError: the layout leaves out a node of the workflow, or names one that it does not have.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    items = [item for stack in layout for group in stack for column in group.columns for item in column]
    placed = sorted(item for item in items if isinstance(item, int))
    if placed != sorted(nodes):
        raise ValueError(f"the layout places the nodes {placed}, the workflow has {sorted(nodes)}")
    workflow["groups"] = []
    left = 0
    for stack in layout:
        top, columns = 0, max(len(group.columns) for group in stack)
        for group in stack:
            top = _arrange_group(workflow, nodes, group, left, top) + GAP
        left += columns * (WIDTH + GAP) - GAP + 2 * PADDING + GAP


def _arrange_group(workflow: dict[str, Any], nodes: dict[int, Any], group: Group, left: int, top: int) -> int:
    """Place one group with its upper left corner there, px; returns where it ends."""
    bottom = top
    for number, column in enumerate(group.columns):
        x, y = left + PADDING + number * (WIDTH + GAP), top + GROUP_TITLE + PADDING // 2
        for item in column:
            node = nodes[item] if isinstance(item, int) else _add_note(workflow, item)
            height = max(round(node["size"][1]), ROOM.get(node["type"], 0))
            width = round(node["size"][0]) if isinstance(item, Note) else WIDTH
            node["pos"], node["size"] = [x, y + TITLE_BAR], [width, height]
            y += TITLE_BAR + height + LIVE.get(node["type"], 0) + GAP
        bottom = max(bottom, y - GAP + PADDING + HTML_ROOM)
    if group.title:
        width = len(group.columns) * (WIDTH + GAP) - GAP + 2 * PADDING
        workflow["groups"].append(
            {
                "id": len(workflow["groups"]) + 1,
                "title": group.title,
                "bounding": [left, top, width, bottom - top],
                "color": group.colour,
                "font_size": FONT_SIZE,
                "flags": {},
            }
        )
    return bottom


def _add_note(workflow: dict[str, Any], note: Note) -> dict[str, Any]:
    """A MarkdownNote, which is a node of the front end alone."""
    workflow["last_node_id"] += 1
    node = {
        "id": workflow["last_node_id"],
        "type": "MarkdownNote",
        "pos": [0, 0],
        "size": [note.columns * (WIDTH + GAP) - GAP, note.height],
        "flags": {},
        "order": len(workflow["nodes"]),
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": note.title,
        "properties": {},
        "widgets_values": [note.text],
        "color": "#432",
        "bgcolor": "#653",
    }
    workflow["nodes"].append(node)
    return node
