"""Small worlds on which the whole system runs on a laptop.

shapes  coloured shapes, the embedded default
"""
