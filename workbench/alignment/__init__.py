"""Can a reward be trusted: its scores beside what people chose (arXiv:2510.16888, Section 3.5 and Appendix B)."""
