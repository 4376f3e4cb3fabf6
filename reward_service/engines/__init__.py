"""Engines run the judge: they answer conversations and know no prompt. vLLM is imported only when it is built."""
