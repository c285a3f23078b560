"""The web server of the page: viser's, behind our rules of access."""

from collections.abc import Callable, Iterator
import contextlib
from http import HTTPStatus
import inspect
import socket
from typing import Any

import rich
import viser
from viser._messages import ShareUrlRequest
import websockets.asyncio.server as transport

from worldvla_ros.errors import ConfigError
from worldvla_ros.page.access import LOOPBACK, Access

MOST_PORTS = 20
"""How many ports after the wanted one are tried where that is taken."""


def serve(host: str, port: int, token: str) -> tuple[viser.ViserServer, str]:
    """Start a server and return it with the address of its page.

    Args:
        host: Address to listen at; other machines reach it where it is none of `LOOPBACK`.
        port: The first port to try.
        token: What the address must carry; empty asks for none.

    Raises:
        ConfigError: Other machines could connect without a token, or no port is free.
    """
    if host not in LOOPBACK and not token:
        raise ConfigError(
            f'the page at {host}',
            expected='a token, since other machines can connect there',
            got='none',
            remedy='Set the parameter token, or leave host at 127.0.0.1.',
        )
    rich.reconfigure(quiet=True)  # viser prints a banner, and that it stops
    free = _free_port(host, port)
    with _guarded(Access(token)):
        server = viser.ViserServer(host=host, port=free, verbose=False)
    # a browser could ask viser for a tunnel that opens the page to the internet
    server._websock_server.unregister_handler(ShareUrlRequest)
    query = f'/?token={token}' if token else '/'
    return server, f'http://{_shown(host)}:{server.get_port()}{query}'


def _free_port(host: str, port: int) -> int:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    for candidate in range(port, port + MOST_PORTS):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, candidate))
                return candidate
    raise ConfigError(
        f'the page at {host}',
        expected=f'a free port from {port} to {port + MOST_PORTS - 1}',
        got='none, or an address that is not of this machine',
        remedy='Choose another port or host.',
    )


def _shown(host: str) -> str:
    if host in ('0.0.0.0', '::'):
        return socket.gethostname()
    return f'[{host}]' if ':' in host else host


@contextlib.contextmanager
def _guarded(access: Access) -> Iterator[None]:
    """Have whatever server is started meanwhile ask `access` first: viser has no hook for it."""
    module: Any = transport
    plain = module.serve

    def guarded(*place: Any, process_request: Callable, **options: Any) -> Any:
        async def ask(connection: Any, request: Any) -> Any:
            refused = access.refusal(request.path, request.headers)
            if refused:
                return connection.respond(HTTPStatus.FORBIDDEN, f'{refused}\n')
            response = process_request(connection, request)
            if inspect.isawaitable(response):
                response = await response
            cookie = access.cookie(request.path)
            if response is not None and cookie:
                response.headers['Set-Cookie'] = cookie
            return response

        return plain(*place, process_request=ask, **options)

    module.serve = guarded
    try:
        yield
    finally:
        module.serve = plain
