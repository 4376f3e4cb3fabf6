"""Agreement of rewards with human preferences (arXiv:2510.16888, Section 3.5 and Appendix B)."""
