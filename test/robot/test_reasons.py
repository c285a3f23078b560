"""Reasons: one type, a table of codes that the documents hold too, and their order."""

import math
from pathlib import Path
import re

import pytest

from worldvla_ros.robot.notes import ENDED, NO_CHUNK, Notes
from worldvla_ros.robot.reasons import CODES, QUIET, Reason, by_importance, refusal

PAGE = Path(__file__).parents[2] / 'docs/real-arm.md'


def test_a_reason_reads_as_what_was_found_and_what_to_do():
    reason = Reason('tip_lag', 'tip 0.1 m away (at most 0.05 m)', 'Look.', 0.1, 0.05, 'm', 7.0)
    assert str(reason) == 'tip 0.1 m away (at most 0.05 m). Look.'
    assert reason.at(8.0).stamp_s == 8.0
    assert reason.at(8.0).text == reason.text


def test_a_refusal_has_words_and_a_stamp_but_no_numbers():
    reason = refusal('moving', 'the arm moves', 'at rest', 7.0, 'Stop it first.')
    assert (reason.code, reason.stamp_s, reason.unit) == ('moving', 7.0, '')
    assert str(reason) == 'the arm moves (at rest). Stop it first.'
    assert math.isnan(reason.value)
    assert math.isnan(reason.limit)


class TestNotes:
    def test_at_first_no_chunk_has_come(self):
        notes = Notes()
        assert notes.get('idle') is NO_CHUNK
        assert notes.all() == (NO_CHUNK,)
        assert notes.get('joints') is None
        assert 'joints' not in notes

    def test_a_slot_holds_one_reason_or_none(self):
        notes = Notes()
        lag = Reason('tip_lag', 'far', 'Look.')
        notes.put('gate', lag)
        assert 'gate' in notes
        assert notes.all(Reason('operator_stop', 'stop', 'Wait.'))[1:] == (lag, NO_CHUNK)
        notes.put('gate', None)
        notes.put('idle', ENDED)
        assert notes.all() == (ENDED,)

    def test_another_code_is_news_and_other_words_are_not(self):
        notes, versions = Notes(), []
        for reason in (
            Reason('tip_lag', 'far', 'Look.'), Reason('tip_lag', 'further', 'Look.'),
            Reason('joint_lag', 'far', 'Look.'), None, None,
        ):  # fmt: skip
            notes.put('gate', reason)
            versions.append(notes.version)
        assert versions[0] == versions[1] < versions[2] < versions[3] == versions[4]
        notes.put('gate', Reason('tip_lag', 'far', 'Look.'))
        notes.put('gate', Reason('tip_lag', 'further', 'Look.'))
        assert notes.get('gate').text == 'further'


def test_a_code_that_no_table_explains_is_refused():
    with pytest.raises(ValueError, match="unknown code 'tip lag': add it to CODES"):
        Reason('tip lag', 'x', 'y')


def test_the_most_important_comes_first_and_each_code_once():
    codes = ['no_chunk', 'joint_lag', 'operator_stop', 'joint_lag', 'joints_old']
    found = by_importance([None, *(Reason(c, f'{i}', '') for i, c in enumerate(codes)), None])
    assert [(r.code, r.text) for r in found] == [
        ('operator_stop', '2'), ('joints_old', '4'), ('joint_lag', '1'), ('no_chunk', '0'),
    ]  # fmt: skip


def test_what_the_operator_did_or_waits_for_is_no_warning():
    assert set(CODES) >= QUIET
    assert Reason('no_chunk', '', '').quiet
    assert Reason('operator_hold', '', '').quiet
    assert Reason('paused', '', '').quiet
    assert not Reason('chunk_ended', '', '').quiet
    assert not Reason('operator_stop', '', '').quiet


def test_codes_are_names_for_programs():
    assert all(re.fullmatch('[a-z]+(_[a-z]+)*', code) for code in CODES)


def test_the_page_explains_every_code_in_order_of_importance():
    table = PAGE.read_text().split('| code | means | what to do |')[1]
    rows = re.findall(r'^\| `([a-z_]+)` \| ([^|]+) \| ([^|]+) \|$', table, re.M)
    assert [code for code, _, _ in rows] == list(CODES)
    assert {code: meaning for code, meaning, _ in rows} == CODES
    assert all(len(remedy) > 3 for _, _, remedy in rows)
