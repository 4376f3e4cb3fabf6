"""A run directory comes in; one self-contained HTML file and summary.json go out.

report  the report of a run
charts  line charts as SVG
grids   groups of images as one grid
pages   renders HTML templates
"""
