"""Who may use the page: no other site, and no other machine without the token."""

import pytest

from worldvla_ros.page.access import COOKIE, Access

HOST = '127.0.0.1:8080'
UPGRADE = {'Upgrade': 'websocket'}


def asks(access, path='/', host=HOST, **headers):
    named = {name.replace('_', '-'): value for name, value in headers.items()}
    return access.refusal(path, {'Host': host, **named})


@pytest.mark.parametrize('host', [HOST, 'localhost:8080', 'LOCALHOST', '[::1]:9000'])
def test_this_machine_may_open_the_page_and_connect(host):
    assert asks(Access(), host=host) == ''
    assert asks(Access(), host=host, Origin=f'http://{host}', **UPGRADE) == ''


@pytest.mark.parametrize(
    'origin',
    ['http://evil.example', 'http://127.0.0.1:9999', 'null', '', 'http://127.0.0.1:8080.evil.org',
     'http://localhost:8080'],
)  # fmt: skip
@pytest.mark.parametrize('token', ['', 'secret'])
def test_a_page_of_another_site_may_not_connect(origin, token):
    path = f'/?token={token}'
    refusal = asks(Access(token), path, Origin=origin, **UPGRADE)
    assert refusal.startswith('orders come from pages of this server only')


def test_a_connection_without_an_origin_is_refused():
    assert 'Origin' in asks(Access(), **UPGRADE)
    assert asks(Access('secret'), '/?token=secret', **UPGRADE)


@pytest.mark.parametrize('host', ['evil.example:8080', '10.0.0.3:8080', '', 'localhost.evil.org'])
def test_a_name_that_somebody_points_here_is_refused_without_a_token(host):
    assert 'only' in asks(Access(), host=host)
    assert asks(Access('secret'), '/?token=secret', host=host) == ''


class TestToken:
    ACCESS = Access('s3cret-token')

    @pytest.mark.parametrize(
        ('path', 'cookie', 'allowed'),
        [
            ('/?token=s3cret-token', '', True),
            ('/', f'{COOKIE}=s3cret-token', True),
            ('/', f'other=1; {COOKIE}=s3cret-token', True),
            ('/', '', False),
            ('/?token=', '', False),
            ('/?token=s3cret', '', False),
            ('/?token=s3cret-token0', '', False),
            ('/?token=\u00e4', '', False),
            ('/', f'{COOKIE}=wrong', False),
            ('/', f'{COOKIE}=', False),
            ('/', '=;=;', False),
        ],
    )
    def test_it_is_asked_for_on_every_request(self, path, cookie, allowed):
        for headers in ({}, {**UPGRADE, 'Origin': f'http://{HOST}'}):
            refusal = asks(self.ACCESS, path, **headers, **({'Cookie': cookie} if cookie else {}))
            assert (refusal == '') is allowed
            assert allowed or refusal == (
                'the token is missing or wrong: open the address that the viewer printed'
            )

    def test_the_right_one_is_kept_in_a_cookie_that_other_sites_cannot_send(self):
        assert self.ACCESS.cookie('/?token=s3cret-token') == (
            f'{COOKIE}=s3cret-token; HttpOnly; SameSite=Strict; Path=/'
        )
        assert self.ACCESS.cookie('/?token=wrong') == ''
        assert self.ACCESS.cookie('/') == ''
        assert Access().cookie('/?token=') == ''
