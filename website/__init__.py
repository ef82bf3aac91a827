"""docs/ as a site, with an explorer of the ladder on its front page: make site

build        puts the pages together and has Sphinx build them
conf         Sphinx's settings
explorer     the front page: its tables, and what _static/explorer.js works with
"""
