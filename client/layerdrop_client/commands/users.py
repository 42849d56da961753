"""`layerdrop users`: which functions use a layer, and which of its versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdrop_client import screen as shown
from layerdrop_client.answers import document
from layerdrop_client.lookup import number_in, resolve
from layerdrop_client.problems import DONE

if TYPE_CHECKING:
    from layerdrop_client.aws import Aws
    from layerdrop_client.screen import Screen


def users(aws: Aws, screen: Screen, word: str) -> int:
    """Tell which functions of this account and region have a layer, and whether in the version pointed to.

    Raises:
        CommandError: LAYER_NOT_FOUND.
    """
    name = resolve(aws, word)
    arn, newest = _layer(aws, name)
    using = sorted((one.name, one.layers[arn]) for one in aws.functions() if arn in one.layers)
    told = [
        {"function": function, "version": number, "newest": number == newest} for function, number in using
    ]
    screen.document(document("users", name=name, pointer=newest, functions=told))
    if not using:
        screen.line(f"No function of this account has {name} in this region.")
        return DONE
    rows = [(function, str(number), _state(number, newest)) for function, number in using]
    screen.table(["Function", "Version", "State"], rows, right=["Version"])
    behind = sum(number != newest for _, number in using)
    screen.line(
        f"\n{shown.count(len(using), 'function')}, {behind} behind version {newest}"
        if behind
        else "\nAll have the newest."
    )
    return DONE


def _layer(aws: Aws, name: str) -> tuple[str, int | None]:
    """The layer's ARN, which tells it from others' of the same name, and the version pointed to."""
    pointer = aws.pointer(name)
    known = [pointer] if pointer else [item["LayerVersionArn"] for item in aws.versions(name)[:1]]
    return (known[0].rpartition(":")[0] if known else ""), number_in(pointer)


def _state(number: int, newest: int | None) -> shown.Cell:
    if number == newest:
        return shown.good("newest")
    return shown.bad("behind") if newest is not None and number < newest else "ahead of the pointer"
