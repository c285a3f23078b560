"""A headless Chromium that shows the page, for tests and studies."""

import contextlib
from importlib.util import find_spec
import os
import shutil

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
ARGUMENTS = ['--no-sandbox', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist']
"""Without a sandbox, since tests may run as root; 3D is drawn by the processor."""
SIZE = {'width': 1000, 'height': 760}


def program():
    """Return the path of a browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def lack():
    """Return what is missing, or ''."""
    if find_spec('playwright') is None:
        return 'no playwright: make test-browser installs it'
    return '' if program() else 'no Chromium: apt install chromium'


LACK = lack()
if LACK and os.environ.get('WORLDVLA_BROWSER') == 'needed':
    raise RuntimeError(LACK)


@contextlib.contextmanager
def shown(address):
    """Yield a tab that shows an address, and the addresses that it asked for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=program(), args=ARGUMENTS)
        tab, asked = browser.new_page(viewport=SIZE), []
        tab.on('request', lambda request: asked.append(request.url))
        tab.on('websocket', lambda socket: asked.append(socket.url))
        tab.goto(address)
        tab.get_by_role('button', name='HOLD').wait_for(timeout=60_000)
        yield tab, asked
        browser.close()
