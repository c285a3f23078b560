"""Reference pages read off the code: nodes, interfaces, commands; Markdown for docs/conf.py.

Nothing here is written by hand, so that no page can differ from the code. Must not know Sphinx.
Read `pages` first.
"""
