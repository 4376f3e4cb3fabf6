"""API keys: surrounding white space is removed, and a key that no header can carry is refused without being printed."""

from __future__ import annotations

from edit_r1.shared.errors import ConfigError


def clean_key(key: str) -> str:
    """The key without surrounding white space; empty stands for none.

    Raises ValueError, whose message does not contain the key, when it is only white space or has white space, control
    or non-ASCII characters inside.
    """
    cleaned = key.strip()
    if key and not cleaned:
        raise ValueError("the key consists of white space only")
    for position, character in enumerate(cleaned, 1):
        if not "!" <= character <= "~":
            kind = "white space" if character.isspace() else "a control character" if character.isascii() else None
            raise ValueError(
                f"the key has {kind or 'a non-ASCII character'} at position {position} of {len(cleaned)}; a key must "
                "consist of printable ASCII characters without spaces (the key is not shown)"
            )
    return cleaned


def checked_key(key: str | None, source: str) -> str | None:
    """The clean key, None for none or an empty one. Raises ConfigError naming the source: an option or variable."""
    try:
        return clean_key(key or "") or None
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None


def bearer(key: str | None) -> dict[str, str]:
    """The headers that carry a key; none without one. Raises ConfigError for a key that cannot be sent."""
    cleaned = checked_key(key, "API key")
    return {"Authorization": f"Bearer {cleaned}"} if cleaned else {}
