"""The server of the page: who gets it, who may connect, and which port it takes."""

import contextlib
from http.client import HTTPConnection
import socket

import pytest

pytest.importorskip('viser', reason='viser is not installed')
import viser
from viser._messages import ShareUrlRequest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from worldvla_ros.errors import ConfigError
from worldvla_ros.page.server import MOST_PORTS, serve

PORT = 18080
PROTOCOL = f'viser-v{viser.__version__}'


@contextlib.contextmanager
def served(token='', first=PORT):
    server, address = serve('127.0.0.1', first, token)
    try:
        yield server.get_port(), address
    finally:
        server.stop()


def fetched(port, path='/', **headers):
    connection = HTTPConnection('127.0.0.1', port, timeout=10)
    connection.request('GET', path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.getheader('Set-Cookie'), answer.read()


def connected(port, origin, **headers):
    """Return the status of the refusal, or 101 where the connection was taken."""
    try:
        with connect(
            f'ws://127.0.0.1:{port}', origin=origin, subprotocols=[PROTOCOL],
            additional_headers=headers,
        ):  # fmt: skip
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def test_the_page_is_one_file_of_less_than_10_mb():
    with served() as (port, address):
        assert address == f'http://127.0.0.1:{port}/'
        status, cookie, body = fetched(port)
        assert (status, cookie) == (200, None)
        assert b'<html' in body[:2000].lower()
        assert len(body) < 10e6


def test_its_own_page_may_connect_and_no_other():
    with served() as (port, _):
        assert connected(port, f'http://127.0.0.1:{port}') == 101
        for origin in ('http://evil.example', f'http://127.0.0.1:{port + 1}', None):
            assert connected(port, origin) == 403


def test_a_name_that_somebody_points_here_gets_nothing():
    with served() as (port, _):
        status, _, body = fetched(port, Host='evil.example')
        assert status == 403
        assert b'evil.example' in body
        assert len(body) < 300


def test_with_a_token_the_address_opens_it_and_a_cookie_keeps_it_open():
    with served('s3cret') as (port, address):
        assert address.endswith(f':{port}/?token=s3cret')
        assert fetched(port)[0] == 403
        assert fetched(port, '/?token=wrong')[0] == 403
        status, cookie, _ = fetched(port, '/?token=s3cret')
        assert status == 200
        kept = cookie.partition(';')[0]
        own = f'http://127.0.0.1:{port}'
        assert connected(port, own) == 403
        assert connected(port, own, Cookie=kept) == 101
        assert connected(port, 'http://evil.example', Cookie=kept) == 403


@pytest.mark.parametrize('host', ['0.0.0.0', '10.1.2.3', '::'])
def test_other_machines_need_a_token(host):
    with pytest.raises(ConfigError, match='a token, since other machines can connect there'):
        serve(host, PORT, '')


def test_a_port_that_is_taken_is_stepped_over():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        first = taken.getsockname()[1]
        with served(first=first) as (port, _):
            assert port > first
            assert fetched(port)[0] == 200


def test_an_address_that_is_not_of_this_machine_is_one_message():
    with pytest.raises(ConfigError) as refused:
        serve('192.0.2.1', PORT, 'token')
    assert f'a free port from {PORT} to {PORT + MOST_PORTS - 1}' in str(refused.value)


def test_a_browser_cannot_have_the_page_opened_to_the_internet():
    plain = viser.ViserServer(host='127.0.0.1', port=PORT + 100, verbose=False)
    assert ShareUrlRequest in plain._websock_server._incoming_handlers
    plain.stop()
    server, _ = serve('127.0.0.1', PORT, '')
    assert ShareUrlRequest not in server._websock_server._incoming_handlers
    server.stop()


def test_the_server_says_nothing_on_the_terminal(capfd):
    with served():
        pass
    assert capfd.readouterr().out == ''
