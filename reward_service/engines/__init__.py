"""Engines run the judge: they answer conversations, whatever the prompt. vLLM is imported only when it is used."""
