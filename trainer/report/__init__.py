"""Turns a run directory into one self-contained HTML file and summary.json.

report  the report of a run
charts  line charts as SVG
grids   groups of images as one grid
pages   renders HTML templates
"""
