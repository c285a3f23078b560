"""A recording is replayed without ROS: the same tokens, or the first difference."""

from dataclasses import replace
import io
import json

import numpy as np
from PIL import Image as Picture
import pytest
from recorded import (
    ARM,
    FIRST_S,
    HOME,
    JOINTS,
    PERIOD_S,
    ROBOT,
    Tape,
    answer,
    images,
    reach,
    record,
)

from worldvla_ros.cli import main
from worldvla_ros.data.bags import Recording
from worldvla_ros.errors import ConfigError
from worldvla_ros.evaluate.heard import origin
from worldvla_ros.evaluate.replay import replay
from worldvla_ros.policy import Policy


@pytest.fixture
def file(tmp_path):
    return tmp_path / 'bag/bag_0.mcap'


def again(file, checkpoint, **options):
    recording = Recording(file)
    told = origin(recording, options.get('names'))
    return replay(recording, Policy(checkpoint), ARM, told, progress=False, **options)


def test_every_chunk_of_a_recording_is_answered_the_same(file, tiny_checkpoint):
    record(file, tiny_checkpoint)
    report = again(file, tiny_checkpoint)
    assert [c.outcome for c in report.chunks] == ['same'] * 4
    assert [c.chunk_id for c in report.chunks] == [1, 2, 3, 4]
    assert report.holds
    assert report.first_difference is None
    assert report.origin.model_id == tiny_checkpoint.model_id


def byte_that_matters(policy, pixels):
    """Return the image with one byte changed, so that the policy answers otherwise."""
    right = answer(policy, pixels, reach(2), 1.0).actions
    for row, column, channel in np.ndindex(pixels.shape):
        changed = pixels.copy()
        changed[row, column, channel] ^= 0x80
        if (answer(policy, changed, reach(2), 1.0).actions != right).any():
            return changed
    raise AssertionError('no byte matters')


def test_one_changed_byte_of_one_image_is_found(file, tiny_checkpoint):
    policy, shown = Policy(tiny_checkpoint), images(4)
    shown[2] = byte_that_matters(policy, shown[2])
    assert (shown[2] != images(4)[2]).sum() == 1
    record(file, tiny_checkpoint, seen=shown)
    report = again(file, tiny_checkpoint)
    assert [c.outcome for c in report.chunks] == ['same', 'same', 'different', 'same']
    assert not report.holds
    found = report.first_difference
    assert (found.chunk_id, found.differing > 0) == (3, True)
    recorded = answer(policy, images(4)[2], reach(2), 1.0).actions
    index = recorded[found.action].tolist().index(np.float32(found.recorded))
    assert found.recorded != found.replayed
    assert ROBOT.action.names[index] == found.name
    assert f'first action {found.action} {found.name}: recorded' in str(found)


@pytest.mark.parametrize('late', [1, 2])
def test_the_joint_state_that_the_node_had_is_found_among_those_near(file, tiny_checkpoint, late):
    record(file, tiny_checkpoint, joints_late=late)
    assert again(file, tiny_checkpoint).count('same') == 4


def test_arm_and_gripper_may_have_publishers_of_their_own(file, tiny_checkpoint):
    policy, [pixels] = Policy(tiny_checkpoint), images(1)
    with Tape(file) as tape:
        tape.joints(HOME[:7], FIRST_S, JOINTS[:7])
        tape.joints(HOME[7:], FIRST_S + 0.01, JOINTS[7:])
        tape.joints([1.0], FIRST_S + 0.02, ['wheel'])
        tape.image(pixels, FIRST_S + 0.02)
        tape.chunk(answer(policy, pixels, HOME, FIRST_S + 0.02), FIRST_S + 0.05)
    assert again(file, tiny_checkpoint).count('same') == 1


def test_what_was_not_recorded_is_not_compared_and_named(file, tiny_checkpoint):
    policy, [pixels, other] = Policy(tiny_checkpoint), images(2)
    with Tape(file) as tape:
        tape.chunk(answer(policy, pixels, HOME, FIRST_S), FIRST_S + 0.05)  # before any image
        tape.image(pixels, FIRST_S + 5)
        tape.chunk(answer(policy, pixels, HOME, FIRST_S + 5), FIRST_S + 5.1)  # without joints
        tape.joints(HOME, FIRST_S + 7)
        tape.chunk(answer(policy, other, HOME, FIRST_S + 7), FIRST_S + 7.1)  # without its image
        tape.image(pixels[:0], FIRST_S + 8)
        tape.joints(HOME, FIRST_S + 8)
        tape.chunk(answer(policy, other, HOME, FIRST_S + 8), FIRST_S + 8.1)  # of an empty image
    report = again(file, tiny_checkpoint)
    assert [c.outcome for c in report.chunks] == ['not compared'] * 4
    whys = [c.why for c in report.chunks]
    assert whys[:3] == [
        'its image was not recorded', 'no joint state was recorded then',
        'its image was not recorded',
    ]  # fmt: skip
    assert 'image without pixels' in whys[3]
    assert not report.holds, 'nothing compared proves nothing'


def test_a_difference_that_joints_from_before_the_recording_may_explain_is_none(
    file, tiny_checkpoint
):
    policy, [pixels] = Policy(tiny_checkpoint), images(1)
    with Tape(file) as tape:
        tape.joints(reach(3), FIRST_S - 0.1)
        tape.image(pixels, FIRST_S)
        tape.chunk(answer(policy, pixels, reach(0), FIRST_S), FIRST_S + 0.05)
    [found] = again(file, tiny_checkpoint).chunks
    assert found.outcome == 'not compared'
    assert found.why == 'joint states of the time before were not recorded'


def test_a_recording_that_was_cut_off_is_replayed_up_to_there(file, tiny_checkpoint):
    record(file, tiny_checkpoint, 60)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    report = again(file, tiny_checkpoint, most=10)
    assert report.count('same') == len(report.chunks) == 10
    report = again(file, tiny_checkpoint)
    assert report.problems == [f'bag_0.mcap: cut off after {len(whole) // 2} bytes']
    assert not report.count('different')


@pytest.mark.parametrize(
    ('told', 'words'),
    [
        ({'arithmetic': 'bfloat16, H100, PyTorch 2.13.0'}, 'arithmetic: recorded bfloat16, H100'),
        ({'model': 'other@123'}, 'model: recorded other@123, replayed tiny'),
    ],
)
def test_another_device_or_model_is_said_and_not_asserted(file, tiny_checkpoint, told, words):
    record(file, tiny_checkpoint, seen=images(4, seed=1), **told)
    report = again(file, tiny_checkpoint)
    assert report.count('different') == 4
    [unlike] = report.unlike
    assert unlike.startswith(words)
    assert report.holds


def test_the_same_arithmetic_is_asserted(file, tiny_checkpoint):
    record(file, tiny_checkpoint, seen=images(4, seed=1))
    there = again(file, tiny_checkpoint).arithmetic
    assert there.startswith('float32, cpu ')
    record(file, tiny_checkpoint, seen=images(4, seed=1), arithmetic=there)
    report = again(file, tiny_checkpoint)
    assert report.unlike == []
    assert not report.holds


def test_numbers_of_an_action_head_are_compared_as_numbers(file, head_checkpoint):
    record(file, head_checkpoint, decoding='continuous')
    assert again(file, head_checkpoint).count('same') == 4
    record(file, head_checkpoint, seen=images(4, seed=1))
    assert again(file, head_checkpoint).count('different') == 4


def test_topics_of_a_namespace_are_found_and_remapped_ones_named(file, tiny_checkpoint):
    record(file, tiny_checkpoint, ns='/left')
    assert again(file, tiny_checkpoint).count('same') == 4
    policy, [pixels] = Policy(tiny_checkpoint), images(1)
    with Tape(file) as tape:
        tape.joints(HOME, FIRST_S)
        tape.image(pixels, FIRST_S, topic='camera/color')
        tape.chunk(answer(policy, pixels, HOME, FIRST_S), FIRST_S + 0.05)
    with pytest.raises(ConfigError, match='lacks camera front.*topic /image.*--topic image=NAME'):
        again(file, tiny_checkpoint)
    assert again(file, tiny_checkpoint, names={'image': '/camera/color'}).count('same') == 1


def test_two_policies_in_one_recording_are_told_apart_by_topic(file, tiny_checkpoint):
    policy, [pixels] = Policy(tiny_checkpoint), images(1)
    with Tape(file) as tape:
        for ns in ('left', 'right'):
            made = answer(policy, pixels, HOME, FIRST_S)
            tape._ns = f'/{ns}'
            tape.joints(HOME, FIRST_S)
            tape.image(pixels, FIRST_S)
            tape.chunk(made, FIRST_S + 0.05)
    with pytest.raises(ConfigError, match='expected one, got /left/action_chunk, /right'):
        again(file, tiny_checkpoint)
    assert again(file, tiny_checkpoint, names={'action_chunk': '/left/action_chunk'}).holds


def test_a_recording_without_chunks_is_refused(file, tiny_checkpoint):
    with Tape(file) as tape:
        tape.joints(HOME, FIRST_S)
    with pytest.raises(ConfigError, match='got none among /joint_states'):
        again(file, tiny_checkpoint)


def test_compressed_images_are_read(file, tiny_checkpoint):
    policy, [pixels] = Policy(tiny_checkpoint), images(1)
    packed = io.BytesIO()
    Picture.fromarray(pixels).save(packed, 'PNG')
    with Tape(file) as tape:
        tape.joints(HOME, FIRST_S)
        content = {'format': 'png', 'data': packed.getvalue()}
        tape.add('image', 'sensor_msgs/msg/CompressedImage', content, FIRST_S)
        tape.chunk(answer(policy, pixels, HOME, FIRST_S), FIRST_S + PERIOD_S)
    assert again(file, tiny_checkpoint).count('same') == 1


def test_a_chunk_of_another_shape_is_a_difference(file, tiny_checkpoint):
    policy, [pixels] = Policy(tiny_checkpoint), images(1)
    made = answer(policy, pixels, HOME, FIRST_S)
    with Tape(file) as tape:
        tape.joints(HOME, FIRST_S - 1)
        tape.joints(HOME, FIRST_S)
        tape.image(pixels, FIRST_S)
        longer = replace(made, actions=np.vstack([made.actions, made.actions]))
        tape.chunk(longer, FIRST_S + 0.05)
    assert again(file, tiny_checkpoint).first_difference.differing == 8 * 7


# ---- the command


def run(file, folder, *flags):
    return main(['replay', str(file), '--checkpoint', str(folder), *flags])


def test_the_command_asserts_and_writes_json(file, tiny_checkpoint, tiny_folder, tmp_path, capsys):
    record(file, tiny_checkpoint)
    assert run(file.parent, tiny_folder, '--assert', '--json', str(tmp_path / 'r.json')) == 0
    report = json.loads((tmp_path / 'r.json').read_text())
    assert report['counts'] == {'same': 4, 'different': 0, 'not compared': 0}
    assert report['holds'] is True
    assert '4        4          0' in capsys.readouterr().out
    record(file, tiny_checkpoint, seen=images(4, seed=1))
    assert run(file, tiny_folder) == 0
    assert run(file, tiny_folder, '--assert') == 1
    assert 'chunk 1, stamp 1000.000 s: ' in capsys.readouterr().out


def test_the_command_names_the_checkpoint_that_is_needed(file, tiny_checkpoint, capsys):
    record(file, tiny_checkpoint)
    assert main(['replay', str(file)]) == 2
    assert f'Name the folder of {tiny_checkpoint.model_id}' in capsys.readouterr().err


def test_a_topic_without_its_recorded_name_is_refused(file, tiny_checkpoint, tiny_folder, capsys):
    record(file, tiny_checkpoint)
    assert run(file, tiny_folder, '--topic', 'image') == 2
    assert "--topic: expected NAME=/RECORDED, got 'image'" in capsys.readouterr().err
