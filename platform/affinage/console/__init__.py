"""The browser pages: plain HTML, CSS and JavaScript from this package, with no build step and nothing from outside.

`pages.py` serves them and opens sessions; everything else the page does goes through the gateway's own API. Mounted by
wiring; knows no database.
"""
