"""Reasons: one type, a table of codes that the documents hold too, and their order."""

from pathlib import Path
import re

import pytest

from worldvla_ros.robot.reasons import CODES, QUIET, Reason, by_importance

PAGE = Path(__file__).parents[2] / 'docs/real-arm.md'


def test_a_reason_reads_as_what_was_found_and_what_to_do():
    reason = Reason('tip_lag', 'tip 0.1 m away (at most 0.05 m)', 'Look.', 0.1, 0.05, 'm', 7.0)
    assert str(reason) == 'tip 0.1 m away (at most 0.05 m). Look.'
    assert reason.at(8.0).stamp_s == 8.0
    assert reason.at(8.0).text == reason.text


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
