"""The order of one key's events."""

from __future__ import annotations


def is_newer(sequencer: str, than: str) -> bool:
    """Whether an event came after another of the same key.

    Sequencers are hexadecimal strings of unlike lengths; the shorter one is padded on the right with zeros:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    length = max(len(sequencer), len(than))
    return sequencer.upper().ljust(length, "0") > than.upper().ljust(length, "0")
