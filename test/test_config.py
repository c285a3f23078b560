"""Configuration: mappings become frozen dataclasses, and errors name the field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import json
import math
from pathlib import Path

import pytest

from worldvla_ros import config
from worldvla_ros.config import from_mapping, load_json, load_yaml
from worldvla_ros.errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class Wheel:
    radius: float
    name: str = 'front'


@dataclass(frozen=True)
class Cart:
    count: int
    wheel: Wheel
    speed: float = 1.5
    loud: bool = False
    label: str | None = None
    sizes: tuple[float, ...] = ()
    pair: tuple[int, str] = (1, 'a')
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    limits: dict[str, float] = field(default_factory=dict)
    gains: Mapping[str, int] = field(default_factory=dict)
    folder: Path = Path('.')
    fixed: int = field(default=7, init=False)


MINIMAL = {'count': 3, 'wheel': {'radius': 0.5}}


def build(**changes):
    return from_mapping(Cart, {**MINIMAL, **changes}, where='cart.yaml')


def test_omitted_fields_take_their_defaults():
    assert build() == Cart(3, Wheel(0.5))


def test_whole_numbers_become_floats_where_asked():
    speed = build(speed=2).speed
    assert (speed, type(speed)) == (2.0, float)


def test_lists_become_tuples():
    cart = build(sizes=[1, 2.5], pair=[2, 'b'])
    assert cart.sizes == (1.0, 2.5)
    assert [type(s) for s in cart.sizes] == [float, float]
    assert cart.pair == (2, 'b')
    assert build(sizes=[]).sizes == ()


def test_mappings_become_nested_dataclasses():
    cart = build(wheels=[{'radius': 1}, {'radius': 2, 'name': 'b'}], spare={'radius': 3})
    assert cart.wheels == (Wheel(1.0), Wheel(2.0, 'b'))
    assert cart.spare == Wheel(3.0)


def test_mappings_of_numbers_keep_their_keys():
    assert build(limits={'x': 1}, gains={'y': 2}).limits == {'x': 1.0}
    assert build(gains={'y': 2}).gains == {'y': 2}


def test_strings_become_paths_where_asked():
    assert build(folder='a/b').folder == Path('a/b')


def test_optional_fields_take_none():
    assert build(label=None, spare=None) == build()
    assert build(label='x').label == 'x'


def test_unknown_key_names_near_matches():
    with pytest.raises(
        ConfigError, match="cart.yaml: unknown key 'sped'.*mean speed or "
    ) as caught:
        build(sped=2)
    assert 'count' in caught.value.expected
    assert 'fixed' not in caught.value.expected


def test_unknown_key_without_near_match_is_to_be_removed():
    with pytest.raises(ConfigError, match=r"unknown key 'zzz'.*Remove it\."):
        build(zzz=2)


@pytest.mark.parametrize('key', ['fixed', 1, None])
def test_key_that_is_no_field_is_refused(key):
    with pytest.raises(ConfigError, match=f'unknown key {key!r}'):
        from_mapping(Cart, {**MINIMAL, key: 7}, where='cart.yaml')


@pytest.mark.parametrize('name', ['count', 'wheel'])
def test_missing_field_is_named(name):
    mapping = {k: v for k, v in MINIMAL.items() if k != name}
    with pytest.raises(ConfigError, match=f"cart.yaml: '{name}' is missing. Add {name}."):
        from_mapping(Cart, mapping, where='cart.yaml')


@pytest.mark.parametrize(
    ('name', 'value', 'place'),
    [
        ('count', '3', 'count'),
        ('count', 3.0, 'count'),
        ('count', True, 'count'),
        ('count', None, 'count'),
        ('count', [3], 'count'),
        ('speed', '1.5', 'speed'),
        ('speed', False, 'speed'),
        ('loud', 1, 'loud'),
        ('loud', 'yes', 'loud'),
        ('label', 4, 'label'),
        ('folder', 4, 'folder'),
        ('sizes', 'abc', 'sizes'),
        ('sizes', 1.0, 'sizes'),
        ('sizes', {'a': 1}, 'sizes'),
        ('sizes', [1.0, 'b'], r'sizes\[1\]'),
        ('pair', [1], 'pair'),
        ('pair', [1, 'a', 2], 'pair'),
        ('pair', ['a', 1], r'pair\[0\]'),
        ('limits', [1], 'limits'),
        ('limits', {'x': 'far'}, 'limits.x'),
        ('gains', {'x': 1.0}, 'gains.x'),
        ('wheel', 3, 'wheel'),
        ('wheel', {'radius': 'big'}, 'wheel.radius'),
        ('wheels', [{'radius': 1}, {'radius': None}], r'wheels\[1\].radius'),
    ],
)
def test_wrong_type_is_refused_at_its_place(name, value, place):
    with pytest.raises(ConfigError, match=rf'^cart\.yaml\.{place}: expected .*, got '):
        build(**{name: value})


def test_errors_inside_nested_mappings_name_the_path():
    with pytest.raises(ConfigError, match=r"cart.yaml.wheel: unknown key 'radios'.*radius\?"):
        build(wheel={'radios': 1})
    with pytest.raises(ConfigError, match=r"cart.yaml.spare: 'radius' is missing"):
        build(spare={})


@pytest.mark.parametrize('mapping', [None, [], 'count: 3', 3])
def test_no_mapping_is_refused(mapping):
    with pytest.raises(ConfigError, match='cart.yaml: expected a mapping'):
        from_mapping(Cart, mapping, where='cart.yaml')


def test_yaml_file_becomes_a_mapping(tmp_path):
    file = tmp_path / 'cart.yaml'
    file.write_text('count: 3  # three\nwheel: {radius: 0.5}\n')
    assert load_yaml(file) == load_yaml(str(file)) == MINIMAL


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match='no configuration file .*absent.yaml') as caught:
        load_yaml(tmp_path / 'absent.yaml')
    assert caught.value.remedy


def test_folder_is_no_configuration_file(tmp_path):
    with pytest.raises(ConfigError, match='no configuration file'):
        load_yaml(tmp_path)


@pytest.mark.parametrize('content', [b'a: [1', b'a: b: c', b'\xff\xfe\xfa', b'!!python/none x: 1'])
def test_file_that_is_no_yaml_is_refused(tmp_path, content):
    file = tmp_path / 'bad.yaml'
    file.write_bytes(content)
    with pytest.raises(ConfigError, match='bad.yaml is (not YAML|damaged)'):
        load_yaml(file)


@pytest.mark.parametrize(
    ('content', 'kind'), [('', 'NoneType'), ('- 1', 'list'), ('word', 'str'), ('3', 'int')]
)
def test_file_without_a_mapping_is_refused(tmp_path, content, kind):
    file = tmp_path / 'bad.yaml'
    file.write_text(content)
    with pytest.raises(ConfigError, match=f'bad.yaml: expected a mapping, got {kind}'):
        load_yaml(file)


BILLION = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'a{i + 1}: &a{i + 1} [{", ".join([f"*a{i}"] * 10)}]\n' for i in range(9)
)
"""Ten aliases of ten aliases, nine times: a billion values when written out."""


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('a: !!timestamp x', "the tag 'tag:yaml.org,2002:timestamp' is not taken"),
        ('a: !!bool x', "the tag 'tag:yaml.org,2002:bool' is not taken"),
        ('a: !!float x', "the tag 'tag:yaml.org,2002:float' is not taken"),
        ('a: !mine x', "the tag '!mine' is not taken"),
        ('a: ' + '[' * 5000, 'nested more than 50 deep'),
        ('\n'.join(' ' * i + 'a:' for i in range(200)), 'nested more than 50 deep'),
        (BILLION + 'name: *a9', 'aliases counted in full'),
        (BILLION + 'name: {<<: *a9}', 'aliases counted in full'),
        ('a: &a [*a]', 'an alias inside what it stands for'),
        ('limits: {speed: 1}\nlimits: {speed: 99}', "the key 'limits' stands twice"),
        ('limits: {speed: 1, "speed": 99}', "the key 'speed' stands twice"),
        ('a: ' + '9' * 5000, '4300 digits'),
        ('? [1]\n: 2', 'unhashable key'),
    ],
)
def test_yaml_beyond_what_a_configuration_needs_is_refused(tmp_path, content, words):
    file = tmp_path / 'bad.yaml'
    file.write_text(content)
    with pytest.raises(ConfigError, match='bad.yaml is not YAML') as caught:
        load_yaml(file)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('word', ['1:30.5', '1:30', '2020-13-45', '2020-01-01'])
def test_times_and_dates_are_strings(tmp_path, word):
    file = tmp_path / 'a.yaml'
    file.write_text(f'speed: {word}')
    assert load_yaml(file) == {'speed': word}
    with pytest.raises(ConfigError, match=r'speed: expected float, got '):
        build(**load_yaml(file))


def test_aliases_and_merges_are_read(tmp_path):
    file = tmp_path / 'a.yaml'
    file.write_text('a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]')
    first = {'x': 1, 'y': 2}
    assert load_yaml(file) == {'a': first, 'b': {'x': 1, 'y': 3}, 'c': [first, first]}


def test_a_file_larger_than_any_configuration_is_not_read(tmp_path):
    file = tmp_path / 'a.yaml'
    file.write_text('a: 1\n#' + 'x' * config.MAX_YAML_BYTES)
    with pytest.raises(ConfigError, match='a.yaml is too large: expected at most 1048576 bytes'):
        load_yaml(file)


def test_a_path_that_no_file_can_have_is_no_file():
    with pytest.raises(ConfigError, match='no configuration file') as caught:
        load_yaml('x' * 10_000)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, 10**400])
@pytest.mark.parametrize('name', ['speed', 'sizes', 'limits', 'wheel'])
def test_numbers_that_are_not_finite_are_refused(name, value):
    given = {
        'speed': value, 'sizes': [1.0, value], 'limits': {'x': value}, 'wheel': {'radius': value},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=rf'cart.yaml.{name}.*expected a finite number'):
        build(**{name: given[name]})


@pytest.mark.parametrize(
    ('name', 'value'),
    [('count', 'x' * 10**6), ('sizes', 'x' * 10**6), ('limits', ['x' * 100] * 10**5)],
)
def test_messages_stay_short_whatever_the_value_is(name, value):
    with pytest.raises(ConfigError) as caught:
        build(**{name: value})
    assert len(str(caught.value)) < 1000


def test_a_key_of_a_million_letters_is_cut_off():
    with pytest.raises(ConfigError, match='unknown key') as caught:
        build(**{'x' * 10**6: 1})
    assert len(str(caught.value)) < 1000
    with pytest.raises(ConfigError, match='limits.xxx') as caught:
        build(limits={'x' * 10**6: 'far'})
    assert len(str(caught.value)) < 1000


def test_json_file_becomes_a_mapping(tmp_path):
    file = tmp_path / 'cart.json'
    file.write_text(json.dumps(MINIMAL))
    assert load_json(file) == load_json(str(file)) == MINIMAL


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'Expecting value'),
        (b'{"a": ', 'Expecting value'),
        (b'\xff\xfe', "can't decode"),
        (b'[]', 'expected a mapping, got list'),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice"),
        (b'[' * 200_000, 'recursion'),
        (b'{"a":' * 200_000, 'recursion'),
        (b'{"a": ' + b'9' * 5000 + b'}', '4300 digits'),
    ],
)
def test_json_that_is_damaged_is_named(tmp_path, content, words):
    file = tmp_path / 'bad.json'
    file.write_bytes(content)
    for kind in (ConfigError, CheckpointError):
        with pytest.raises(kind, match='bad.json is damaged') as caught:
            load_json(file, kind)
        assert words in str(caught.value)
        assert caught.value.remedy


def test_json_that_is_absent_or_too_large_is_named(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match='none.json is damaged'):
        load_json(tmp_path / 'none.json')
    monkeypatch.setattr(config, 'MAX_JSON_BYTES', 10)
    (tmp_path / 'a.json').write_text('{"abcdef": 1}')
    with pytest.raises(ConfigError, match='too large: expected at most 10 bytes'):
        load_json(tmp_path / 'a.json')


@pytest.mark.parametrize('load', [load_yaml, load_json])
def test_a_pointer_of_git_lfs_is_named_as_such(tmp_path, load):
    file = tmp_path / 'a.yaml'
    file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n')
    with pytest.raises(ConfigError, match='is a git-lfs pointer') as caught:
        load(file)
    assert 'git lfs pull' in caught.value.remedy


def test_a_value_without_a_remedy_of_its_own_is_to_be_corrected():
    with pytest.raises(ConfigError, match=r'Correct this value\.$'):
        build(count='3')
