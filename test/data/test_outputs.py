"""Files and folders that will be written are checked, and left as they were."""

import pytest

from worldvla_ros.data.outputs import check_file, check_folder
from worldvla_ros.errors import ConfigError


@pytest.fixture
def blocked(tmp_path):
    """A path that no folder can have, since a file lies there."""
    (tmp_path / 'file').write_text('mine')
    return tmp_path / 'file'


def test_what_can_be_written_is_left_as_it_was(tmp_path):
    check_file(tmp_path / 'new/figures.json', '--json')
    check_folder(tmp_path / 'new/episodes', '--out')
    assert list((tmp_path / 'new').iterdir()) == []
    (tmp_path / 'old.json').write_text('[1]')
    check_file(tmp_path / 'old.json', '--json')
    assert (tmp_path / 'old.json').read_text() == '[1]'
    (tmp_path / 'folder').mkdir()
    check_folder(tmp_path / 'folder', '--out')
    assert list((tmp_path / 'folder').iterdir()) == []


def test_a_file_in_no_folder_is_refused(blocked):
    with pytest.raises(ConfigError, match=r'--json cannot be written.*got .*Name another place'):
        check_file(blocked / 'figures.json', '--json')
    assert blocked.read_text() == 'mine'


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match='expected a file that can be written'):
        check_file(tmp_path, '--json')


@pytest.mark.parametrize('name', ['', 'below'])
def test_a_file_is_no_folder(blocked, name):
    with pytest.raises(ConfigError, match='--out cannot be written: expected a folder'):
        check_folder(blocked / name, '--out')
