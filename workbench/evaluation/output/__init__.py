"""Writes results as tables for terminals and papers, HTML galleries and the authors' own file formats.

tables   reports of paragraphs and tables, as Markdown and for galleries
gallery  self-contained HTML pages of thumbnails
writing  writes all output files of an evaluation
"""
