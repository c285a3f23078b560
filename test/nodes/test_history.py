"""Images of one instant and of earlier control steps: which are found, and what is forgotten."""

import pytest

from worldvla_ros.nodes.history import ImageHistory, Pairing

DT = 0.05


def filled(cameras=('front',), steps=1, stamps=(0.0, 0.02, 0.04, 0.06, 0.08, 0.10)):
    history = ImageHistory(cameras, steps, DT)
    for stamp in stamps:
        for camera in cameras:
            history.put(camera, stamp, (camera, stamp))
    return history


def test_the_image_of_one_control_step_ago_is_found():
    assert filled().before(0.09) == ({'front': ('front', 0.04)},)


def test_it_is_the_previous_step_and_not_the_previous_chunk():
    stamps = [i * DT for i in range(20)]
    assert filled(stamps=stamps).before(stamps[-1]) == ({'front': ('front', stamps[-2])},)


def test_several_steps_come_oldest_first():
    found = filled(steps=3, stamps=[i * DT for i in range(6)]).before(5 * DT)
    assert [instant['front'][1] for instant in found] == pytest.approx([0.1, 0.15, 0.2])


def test_an_instant_holds_every_camera_or_is_left_out():
    history = filled(('front', 'wrist'))
    assert history.before(0.09) == ({'front': ('front', 0.04), 'wrist': ('wrist', 0.04)},)
    late = ImageHistory(('front', 'wrist'), 1, DT)
    late.put('front', 0.0, 'a')
    late.put('wrist', 0.05, 'b')
    assert late.before(0.05) == ()


@pytest.mark.parametrize('stamp', [0.0, 0.02, 0.5])
def test_where_there_was_no_image_there_is_no_history(stamp):
    assert filled().before(stamp) == ()


def test_the_first_image_of_an_episode_has_no_history():
    history = filled()
    history.clear()
    history.put('front', 0.12, 'new')
    assert history.before(0.12) == ()


def test_a_checkpoint_of_one_image_keeps_none():
    assert filled(steps=0).before(0.10) == ()


def test_old_images_are_forgotten():
    history = filled(stamps=[i * 0.01 for i in range(1000)])
    assert history.before(5.0) == ()
    assert len(history.before(9.99)) == 1


def paired(arrivals, cameras=('front', 'wrist'), patience_s=0.5):
    """Return the stamps of front and wrist each time that they are to be looked at."""
    pairing, newest, found = Pairing(cameras, patience_s), {}, []
    for camera, stamp in arrivals:
        newest[camera] = stamp
        if pairing.put(camera, stamp) and len(newest) == len(cameras):
            found.append(tuple(newest[name] for name in cameras))
    return found


def alternating(periods, offset, duration):
    front, wrist = periods
    stamps = [('front', i * front) for i in range(round(duration / front))]
    stamps += [('wrist', i * wrist + offset) for i in range(round(duration / wrist))]
    return sorted(stamps, key=lambda arrival: (arrival[1], arrival[0]))


@pytest.mark.parametrize('offset', [0.0, 0.01, 0.04])
def test_images_of_one_instant_are_paired_and_never_with_those_before(offset):
    found = paired(alternating((0.1, 0.1), offset, 2.0))
    assert len(found) == 20
    assert max(abs(front - wrist) for front, wrist in found) == pytest.approx(offset, abs=1e-9)


def test_the_slower_camera_sets_the_pace():
    found = paired(alternating((0.03, 0.1), 0.0, 0.9))
    assert all(abs(front - wrist) <= 0.05 for front, wrist in found)
    assert len({wrist for _, wrist in found}) == 9


def test_cameras_that_never_agree_are_looked_at_in_the_end():
    arrivals = [('wrist', 0.0), *(('front', 3.0 + 0.1 * i) for i in range(20))]
    assert len(paired(arrivals)) > 10


def test_one_camera_needs_no_other():
    arrivals = [('front', t) for t in (0.0, 0.1, 0.1, 0.05, 7.0)]
    assert len(paired(arrivals, ('front',))) == 5
