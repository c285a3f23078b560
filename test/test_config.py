"""Configuration: mappings become frozen dataclasses, and errors name the field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from worldvla_ros.config import from_mapping, load_yaml
from worldvla_ros.errors import ConfigError


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
    with pytest.raises(ConfigError, match='bad.yaml is not YAML'):
        load_yaml(file)


@pytest.mark.parametrize(
    ('content', 'kind'), [('', 'NoneType'), ('- 1', 'list'), ('word', 'str'), ('3', 'int')]
)
def test_file_without_a_mapping_is_refused(tmp_path, content, kind):
    file = tmp_path / 'bad.yaml'
    file.write_text(content)
    with pytest.raises(ConfigError, match=f'bad.yaml: expected a mapping, got {kind}'):
        load_yaml(file)
