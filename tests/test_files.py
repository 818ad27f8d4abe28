import errno

import pytest

from vividtalk_core.errors import OutputError
from vividtalk_core.files import check_writable, whole_file


def test_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "a.json"
    with whole_file(target) as part:
        part.write_text("new")
        assert not target.exists()
        assert part.parent == tmp_path and part.name.startswith("a.json.part-")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_remains_and_the_old_file_stays(tmp_path, error):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(error), whole_file(target) as part:
        part.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write '.*a\.json': the folder '.*missing' does not exist"):
        whole_file(tmp_path / "missing" / "a.json").__enter__()


def test_a_file_that_the_system_refuses_is_named(tmp_path):
    with (
        pytest.raises(OutputError, match=r"cannot write '.*\.json': File name too long"),
        whole_file(tmp_path / ("a" * 250 + ".json")) as part,
    ):
        part.write_text("new")


def test_a_full_disk_is_an_error_of_the_file(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write '.*a\.json': No space left"), whole_file(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_errors_of_other_files_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "a.json"):
        (tmp_path / "source.json").read_text()
    assert not isinstance(caught.value, OutputError)
    assert not list(tmp_path.iterdir())


def test_check_writable(tmp_path):
    assert check_writable(tmp_path / "a.MP4", (".mp4",)) == tmp_path / "a.MP4"
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match=r"a\.avi': its ending must be \.mp4 or \.mov"):
        check_writable(tmp_path / "a.avi", (".mp4", ".mov"))
    with pytest.raises(OutputError, match=r"the folder '.*missing' does not exist"):
        check_writable(tmp_path / "missing" / "a.mp4", (".mp4",))
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match=r"folder\.mp4': it is a folder"):
        check_writable(tmp_path / "folder.mp4", (".mp4",))


def test_check_writable_gives_the_reason_of_the_system(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write '.*': File name too long"):
        check_writable(tmp_path / ("a" * 300 + ".mp4"), (".mp4",))
