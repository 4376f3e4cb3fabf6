"""Results come in; tables for terminals and papers, HTML galleries and the authors' own file formats go out.

tables   reports of paragraphs and tables, as Markdown and for galleries
gallery  self-contained HTML pages of thumbnails
writing  writes everything an evaluation leaves
"""
