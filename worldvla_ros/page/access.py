"""Who may open the page and give orders: its own pages, on this machine or with the token.

Any web page in the same browser may open a connection to this machine, and no browser stops it.
So a connection must come from a page that was served here (`Origin`), under a name of this machine
(`Host`, against names that somebody else points here). Where other machines may connect, the
token that the address carries is asked for, and kept in a cookie that other sites cannot send.

Knows headers. Must not know what is served.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

LOOPBACK = ('127.0.0.1', '::1', 'localhost')
COOKIE = 'worldvla_token'


@dataclass(frozen=True)
class Access:
    """The rules of one server.

    Attributes:
        token: What the address must carry as `?token=…`; empty asks for none.
    """

    token: str = ''

    def refusal(self, path: str, headers: Mapping[str, str]) -> str:
        """Return why a request is refused, or ''.

        Args:
            path: With its query, as requested.
            headers: Of the request; names in any case.
        """
        host = headers.get('Host', '')
        if not self.token and _name(host) not in LOOPBACK:
            return f'this page is served to {", ".join(LOOPBACK)} only, not as {host!r}'
        origin = headers.get('Origin')
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f'orders come from pages of this server only, not from {origin!r}'
        if _upgrades(headers) and origin is None:
            return 'a connection must say which page it comes from (Origin)'
        if self.token and not self._has_token(path, headers):
            return 'the token is missing or wrong: open the address that the viewer printed'
        return ''

    def cookie(self, path: str) -> str:
        """Return the cookie to set for a request that carries the token, or ''."""
        if not (self.token and self._in_query(path)):
            return ''
        return f'{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/'

    def _has_token(self, path: str, headers: Mapping[str, str]) -> bool:
        return self._in_query(path) or self._is(_cookies(headers).get(COOKIE, ''))

    def _in_query(self, path: str) -> bool:
        return any(map(self._is, parse_qs(urlsplit(path).query).get('token', [])))

    def _is(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


def _upgrades(headers: Mapping[str, str]) -> bool:
    return headers.get('Upgrade', '').lower() == 'websocket'


def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    return urlsplit(f'//{host}').hostname or ''


def _cookies(headers: Mapping[str, str]) -> dict[str, str]:
    try:
        parsed = SimpleCookie(headers.get('Cookie', ''))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in parsed.items()}
