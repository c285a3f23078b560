"""The live page: what a browser shows of a running arm, and what a person may order there.

    server.py   the web server, and who may use it (access.py)
    page.py     what is on the page; hands values in, calls back with orders
    drawing.py  the arm in 3D        speeds.py  the chart of the tip's speed

Knows viser, and values: joints, images, words. Must not know ROS, models or the simulation. Read
`page` first.
"""
