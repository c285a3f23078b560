"""Images of one instant and of earlier control steps: which are found, and what is forgotten."""

import pytest

from worldvla_ros.robot.pairing import CameraImages, ImageHistory

DT = 0.05


def filled(cameras=('front',), steps=1, stamps=(0.0, 0.02, 0.04, 0.06, 0.08, 0.10)):
    history = ImageHistory(cameras, steps, DT, 0.5)
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
    late = ImageHistory(('front', 'wrist'), 1, DT, 0.5)
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


def test_a_fast_camera_does_not_fill_the_memory():
    images = CameraImages(keep_s=60.0)
    for i in range(5000):
        images.put(i * 1e-3, i)
    assert images.newest_s - images.oldest_s < 1.0


def test_an_image_out_of_order_takes_its_place_and_drops_nothing():
    history = ImageHistory(('front',), 1, DT, 0.5)
    for stamp in (10.0, 10.1, 10.05):
        assert not history.put('front', stamp, stamp)
    instant = history.next()
    assert instant.images == {'front': 10.1}
    assert instant.history == ({'front': 10.05},)


@pytest.mark.parametrize(('back_s', 'dropped'), [(0.9, False), (1.1, True)])
def test_a_clock_that_was_set_back_drops_everything(back_s, dropped):
    history = ImageHistory(('front',), 1, DT, 0.5)
    history.put('front', 10.0, 'old')
    assert history.put('front', 10.0 - back_s, 'new') == dropped
    assert history.next().images == {'front': 'new' if dropped else 'old'}


def test_after_a_clock_was_set_back_its_images_are_answered():
    history = ImageHistory(('front',), 0, DT, 0.5)
    history.put('front', 10.0, 'old')
    assert history.next()
    history.put('front', 5.0, 'new')
    assert history.next().stamps_s == {'front': 5.0}
    history.put('front', 5.05, 'newer')
    assert history.next().stamps_s == {'front': 5.05}


def paired(arrivals, cameras=('front', 'wrist'), patience_s=0.5):
    """Return the stamps of front and wrist of each instant that is found."""
    history, found = ImageHistory(cameras, 0, DT, patience_s), []
    for camera, stamp in arrivals:
        history.put(camera, stamp, stamp)
        instant = history.next()
        if instant is not None:
            assert instant.stamps_s == instant.images
            found.append(tuple(instant.stamps_s[name] for name in cameras))
    return found


def alternating(periods, offset, duration):
    front, wrist = periods
    stamps = [('front', i * front) for i in range(round(duration / front))]
    stamps += [('wrist', i * wrist + offset) for i in range(round(duration / wrist))]
    return sorted(stamps, key=lambda arrival: (arrival[1], arrival[0]))


@pytest.mark.parametrize('offset', [0.0, 0.01, 0.04])
def test_images_of_one_instant_are_paired_and_never_with_those_before(offset):
    found = paired(alternating((0.1, 0.1), offset, 2.0))
    assert len(found) >= 19
    assert max(abs(f - w) for f, w in found) == pytest.approx(offset, abs=1e-9)


@pytest.mark.parametrize('early', [0.01, 0.024, 0.026, 0.04, 0.049])
def test_a_wrist_camera_with_early_stamps_is_paired_with_the_nearest_image(early):
    # both images arrive together each 50 ms, the wrist's stamped `early` before the front's
    arrivals = []
    for i in range(1, 121):
        arrivals += [('wrist', i * 0.05 - early), ('front', i * 0.05)]
    found = paired(arrivals)
    assert len(found) >= 118
    nearest = min(early, 0.05 - early)
    # the very first pair is taken as it is: no period is known yet
    assert max(abs(f - w) for f, w in found[1:]) == pytest.approx(nearest, abs=1e-9)


def test_the_slower_camera_sets_the_pace():
    found = paired(alternating((0.03, 0.1), 0.0, 0.9))
    assert all(abs(front - wrist) <= 0.05 + 1e-9 for front, wrist in found)
    assert len({wrist for _, wrist in found}) == 9


def test_cameras_that_never_agree_are_looked_at_in_the_end():
    arrivals = [('wrist', 0.0), ('wrist', 0.1), *(('front', 3.0 + 0.1 * i) for i in range(20))]
    found = paired(arrivals)
    assert len(found) > 2
    assert found[0][0] > 3.5  # patience first


def test_an_instant_is_returned_once():
    history = ImageHistory(('front',), 0, DT, 0.5)
    assert history.next() is None
    assert history.missing() == 'front'
    history.put('front', 1.0, 'a')
    assert history.next() is not None
    assert history.next() is None


def test_one_camera_needs_no_other():
    assert len(paired([('front', t) for t in (0.1, 0.2, 0.3)], ('front',))) == 3
