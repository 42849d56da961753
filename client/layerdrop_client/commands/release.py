"""`layerdrop release`: a layer's name is made free for another file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from layerdrop_client import screen as shown
from layerdrop_client.answers import document
from layerdrop_client.problems import AGAIN, DONE, CommandError

if TYPE_CHECKING:
    from layerdrop_client.aws import Aws, Claim
    from layerdrop_client.screen import Screen


def release(aws: Aws, screen: Screen, name: str) -> int:
    """Give up a layer's name for the file that has claimed it.

    Raises:
        CommandError: LAYER_NOT_FOUND, nobody has the name; BUSY, a build of its owner is under way.
    """
    claim = _claimed(aws, name)
    is_there = claim.key is not None and aws.stored(claim.key) is not None
    if not aws.unclaim(name, claim):
        raise CommandError("BUSY", f"The claim of {name} has changed meanwhile.", "Run this again.", AGAIN)
    screen.document(document("release", name=name, owner=claim.key, owner_is_there=is_there))
    owner = f"belonged to {claim.key}" if claim.key else "had a claim that could not be read"
    screen.line(shown.good(f"{name} is free: the next upload that asks for it gets it. It {owner}."))
    if is_there:
        screen.hint(
            f"{claim.key} is still there, and claims it again with its next upload: delete or rename it."
        )
    return DONE


def _claimed(aws: Aws, name: str) -> Claim:
    claim = aws.claim(name)
    if claim is None:
        near = [one for one in aws.layer_names() if one.startswith(name)]
        hint = (
            f"There are: {', '.join(near)}."
            if near
            else "A layer's name ends in its target, as -py313-arm64."
        )
        raise CommandError("LAYER_NOT_FOUND", f"No file has claimed the name {name}.", hint)
    if claim.readable and claim.key is None:
        raise CommandError(
            "NAME_FREE", f"The name {name} is free already.", "The next upload that asks for it gets it."
        )
    if claim.until > time.time():
        raise CommandError(
            "BUSY",
            f"A build of {claim.key} is publishing {name} at this moment.",
            "Try again in a minute.",
            AGAIN,
        )
    if claim.key and (execution := aws.running(claim.key)):
        raise CommandError(
            "BUSY",
            f"A build of {claim.key} is under way ({execution}) and would take the name back.",
            f"Wait for it: {aws.place.command('watch', claim.key)}",
            AGAIN,
        )
    return claim
