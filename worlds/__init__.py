"""Small synthetic worlds on which the whole system runs on a laptop."""
