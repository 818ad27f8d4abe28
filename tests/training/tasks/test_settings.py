"""Settings that do not fit are refused in one sentence before anything is computed."""

import pytest

from vividtalk_core.errors import SettingsError
from vividtalk_core.training.prepare.av_offset import LagSettings
from vividtalk_core.training.prepare.image_pairs import PairSettings
from vividtalk_core.training.tasks.expression import ExpressionSettings
from vividtalk_core.training.tasks.generator import GeneratorSettings
from vividtalk_core.training.tasks.motion_vae import MotionSettings
from vividtalk_core.training.tasks.pose_sampler import PoseSettings
from vividtalk_core.training.tasks.pose_vqvae import PoseCodebookSettings
from vividtalk_core.training.tasks.registry import TASKS
from vividtalk_core.training.tasks.sync_expert import SyncSettings


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ExpressionSettings, {"width": 130}, "width must be a multiple of the 4 attention heads; got 130"),
        (ExpressionSettings, {"components": 0}, "components must be at least 1; got 0"),
        (ExpressionSettings, {"dropout": 1.0}, "dropout must be 0 or more and below 1; got 1.0"),
        (ExpressionSettings, {"voice_share": 1.0}, "voice_share must be 0 or more and below 1; got 1.0"),
        (ExpressionSettings, {"mesh": float("nan")}, "mesh must be 0 or more; got nan"),
        (SyncSettings, {"window": 14}, "window must be at least 15 frames, what one embedding depends on; got 14"),
        (SyncSettings, {"temperature": 0.0}, "temperature must be above 0; got 0.0"),
        (PoseCodebookSettings, {"codes": 1}, "codes must be at least 2; got 1"),
        (PoseCodebookSettings, {"stride": 0}, "stride must be at least 1; got 0"),
        (PoseCodebookSettings, {"least_gain": 0.0}, "least_gain must be above 0; got 0.0"),
        (PoseSettings, {"bands": 7}, "bands must be 0 or a divisor of 80, the bands of the mel; got 7"),
        (PoseSettings, {"audio_drop": 1.5}, "audio_drop must be between 0 and 1; got 1.5"),
        (PoseSettings, {"least_gain": -1.0}, "least_gain must be above 0; got -1.0"),
        (MotionSettings, {"portraits": 0}, "portraits must be at least 1; got 0"),
        (GeneratorSettings, {"temporal": -1.0}, "temporal must be 0 or more; got -1.0"),
        (PairSettings, {"runs": 0}, "sources and runs must be at least 1; got 4 and 0"),
        (LagSettings, {"reach": 3}, "far must be between 1 and reach; got far 4 and reach 3"),
    ],
)
def test_what_does_not_fit_is_refused(kind, values, message):
    with pytest.raises(SettingsError) as error:
        kind(**values)
    assert str(error.value) == message


@pytest.mark.parametrize("name", TASKS)
def test_the_defaults_of_every_task_fit(name):
    assert TASKS[name].load().settings
