"""The documentation site, for `make docs` and for rosdoc2.

Pages are the Markdown files of this folder, which read well without the site too. Where one has a
mark such as `<!-- generated: nodes -->`, tools/reference writes what the code says.
"""

from pathlib import Path
import re
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def repository() -> Path:
    """Return the repository.

    rosdoc2 copies this folder, and puts in the place of this file one that runs it by its path.
    """
    here = Path(__file__).resolve()
    if (here.parents[1] / 'package.xml').is_file():
        return here.parents[1]
    run_by = re.search(r'exec\(open\("(.+?)"\)', here.read_text())
    assert run_by, f'{here} lies neither in the repository nor in a copy of rosdoc2'
    return Path(run_by[1]).parents[1]


ROOT = repository()
sys.path.insert(0, str(ROOT))

from tools.reference.pages import generated  # noqa: E402, needs the path

_manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
project = _manifest.findtext('name')
release = version = _manifest.findtext('version')
author = _manifest.findtext('maintainer')
project_copyright = f'{author}, {_manifest.findtext("license")}'

# what rosdoc2 writes beside these pages: interfaces and modules, which the reference has
exclude_patterns = [
    'interfaces',
    'modules.rst',
    'standard*',
    'worldvla_ros*.rst',
    '__readme_include.rst',
]

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
default_role = 'code'  # of words in backticks in docstrings
myst_heading_anchors = 3

html_theme = 'sphinx_rtd_theme'
html_static_path = ['_static']
html_css_files = ['site.css']
html_show_sourcelink = False
html_theme_options = {'navigation_depth': 3, 'style_external_links': True}

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_class_signature = 'separated'
python_use_unqualified_type_names = True
OTHERS = 'collections|gymnasium|mujoco|np|numpy|pathlib|torch|typing|types'
"""Packages whose documentation would have to be fetched to link it."""
INSIDE = 'checkpoint.spec|inference|model|tokenizers'
"""Rooms whose classes are no part of the public interface."""
nitpick_ignore_regex = [
    ('py:class', 'rows|columns'),
    ('py:.*', rf'({OTHERS})\..*'),
    ('py:.*', rf'worldvla_ros\.({INSIDE})\..*'),
    ('py:.*', r'.*(float|int|uint8|Path|Tensor)\d*\[?.*'),  # shapes in docstrings
]

PAGES_OF = {
    '../SECURITY.md': '/project/security.md',
    '../../SECURITY.md': '/project/security.md',
    '../CONTRIBUTING.md': '/project/contributing.md',
    '../../QUALITY_DECLARATION.md': '/project/quality.md',
}


def write_generated(app: 'Sphinx', page: str, source: list[str]) -> None:
    """Put what is generated into a page, and let links to files of the repository be pages."""
    text = source[0]
    for target, there in PAGES_OF.items():
        text = text.replace(f']({target})', f']({there})')
    from sphinx.util import logging

    source[0], problems = generated(text)
    for problem in problems:
        logging.getLogger(__name__).warning('%s has no %s', page, problem)


def setup(app: 'Sphinx') -> None:
    """Write what is generated as each page is read."""
    app.connect('source-read', write_generated)
