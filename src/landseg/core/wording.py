"""Words of messages that several modules share."""

from collections.abc import Sequence


def first_and_others(names: Sequence[str]) -> str:
    """Return the first of some names, and how many others there are, such as 'a and 2 others'."""
    others = len(names) - 1
    return names[0] + (f" and {others:,} {'other' if others == 1 else 'others'}" if others else "")


def scenes_in_words(names: Sequence[str]) -> str:
    """Return the first of some scenes, and how many others there are, such as 'scene a and 2 others'."""
    return f"scene {first_and_others(names)}"
