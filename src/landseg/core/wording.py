"""Words of messages that several stages print."""

from collections.abc import Sequence


def scenes_in_words(names: Sequence[str]) -> str:
    """Return the first of some scenes, and how many others there are, such as 'scene a and 2 others'."""
    return f"scene {names[0]}" + (f" and {len(names) - 1:,} others" if len(names) > 1 else "")
