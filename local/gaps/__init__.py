"""Every replacement inside moto 5.2.5, a module a service: what AWS does and moto does not, or otherwise.

moto is pinned to this version because of them. Each replacement says in a line or two why it is there; all of
them are put back when the embedded AWS stops.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Replacements:
    """Attributes of moto's classes and modules and items of its dictionaries, until they are put back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, owner: Any, name: str, replacement: object) -> None:
        """Replace an attribute, or an item.

        Raises:
            AttributeError: There is none of this name: moto is not the version this was written for.
            KeyError: Likewise.
        """
        if isinstance(owner, dict):
            self._undo.append(partial(owner.__setitem__, name, owner[name]))
            owner[name] = replacement
        else:
            inherited = name not in vars(owner)
            original = getattr(owner, name) if inherited else vars(owner)[name]
            undo = partial(delattr, owner, name) if inherited else partial(setattr, owner, name, original)
            self._undo.append(undo)
            setattr(owner, name, replacement)

    def add(self, owner: type, name: str, addition: object) -> None:
        """Give a class a method that it does not have."""
        self._undo.append(partial(delattr, owner, name))
        setattr(owner, name, addition)

    def put_back(self) -> None:
        """Undo everything, the last first."""
        while self._undo:
            self._undo.pop()()
