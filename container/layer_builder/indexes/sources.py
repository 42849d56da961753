"""Where packages come from in one build: the installation's indexes and what the requirements may add.

Sources are asked in order, and the first that has a project is the only one for it. So whoever uploads a
package of the same name to another index, the public one above all, changes nothing ("dependency confusion"):
what an earlier source has is never looked for in a later one, however much newer it may be there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from layer_builder.ground.errors import HashMismatchError
from layer_builder.indexes.access import Access
from layer_builder.requirements.origins import Origins, origin_of, why_not

if TYPE_CHECKING:
    from layer_builder.ground.settings import Settings
    from layer_builder.indexes.index import IndexedFile

_NOTHING = Origins()


@dataclass(frozen=True, eq=False)
class Sources:
    """The sources of one build.

    Attributes:
        indexes: simple pages of package indexes, in the order in which they are asked.
        origins: what the requirements said.
        access: what may be reached, and as whom.
        is_public: whether the public index, uv's own default, is the only one. uv may be left alone with it;
            with any other it might be led on to where no index is, and is not.
        ageless: beginnings of addresses to whose files no cooldown applies.
    """

    indexes: tuple[str, ...]
    origins: Origins
    access: Access
    is_public: bool = False
    ageless: tuple[str, ...] = ()

    def files_of(self, project: str, only: str = "") -> list[IndexedFile]:
        """List the files of a project in the first source that has it, in that one's order.

        Of a page that lists thousands, those of one name take less to read.

        Raises:
            IndexDeniedError, IndexUnreachableError, AddressRefusedError: a source cannot be asked; the next
                one is not asked in its place.
        """
        from layer_builder.indexes import index

        linked = [wheel for wheel in self.origins.wheels if wheel.project == project]
        if linked:
            files = {wheel.filename: wheel for wheel in linked}
            if len(files) != len({(wheel.filename, wheel.sha256) for wheel in linked}):
                raise HashMismatchError(
                    f"The requirements give {linked[0].filename} two different hashes.",
                    hint="Name it once.",
                    details={"package": project},
                )
            found = [index.IndexedFile(wheel.filename, wheel.url, wheel.sha256) for wheel in files.values()]
            return [replace(file, is_ageless=self._is_ageless(file.url)) for file in found]
        if files_there := [file for file in _linked(self) if index.project_of(file.filename) == project]:
            return files_there
        for url in self.indexes:
            if (files_here := index.files_of(project, url, self.access, only)) is not None:
                return self.aged(files_here, url)
        return []

    def aged(self, files: list[IndexedFile], place: str) -> list[IndexedFile]:
        """Mark the files of a place to which no cooldown applies."""
        if not self._is_ageless(place):
            return files
        return [replace(file, is_ageless=True) for file in files]

    def _is_ageless(self, place: str) -> bool:
        return bool(self.ageless) and not why_not(place, self.ageless)


@cache
def of(settings: Settings, origins: Origins = _NOTHING) -> Sources:
    """Put the sources together; asks AWS for credentials, if the installation has them there.

    The order: what the requirements name by address and what their pages link to, the installation's extra
    indexes, the requirements' extra indexes, the default index.

    Raises:
        IndexDeniedError, IndexUnreachableError: credentials cannot be had.
    """
    logins = dict(settings.logins)
    default = settings.index_url
    if settings.codeartifact:
        from layer_builder.indexes import credentials

        default, login = credentials.of_codeartifact(settings.codeartifact)
        logins[origin_of(default)] = login
    own = (*settings.extra_index_urls, *([default] if default else []))
    if settings.index_secret:
        from layer_builder.indexes import credentials

        without = [url for url in own if origin_of(url) not in logins]
        logins = {**credentials.of_secret(settings.index_secret, without), **logins}
    is_public = not own and not logins and origins == _NOTHING
    if not default and not origins.index_url:
        from layer_builder.indexes import public_index

        default = public_index.address(settings) or ""
    last = origins.index_url or default
    indexes = (*settings.extra_index_urls, *origins.extra_index_urls, *([last] if last else []))
    named = {*indexes, *own, *settings.allowed_indexes}
    access = Access(frozenset(map(origin_of, named)), logins)
    ageless = [default if one == settings.codeartifact else one for one in settings.ageless]
    return Sources(tuple(dict.fromkeys(indexes)), origins, access, is_public, tuple(ageless))


def forget() -> None:
    """Forget places, logins and connections, in a process that makes more than one build."""
    from layer_builder.indexes import public_index, web

    for known in (of, _linked, public_index.address, web.pool):
        known.cache_clear()


@cache
def _linked(sources: Sources) -> list[IndexedFile]:
    from layer_builder.indexes import index

    pages = sources.origins.find_links
    return [file for page in pages for file in sources.aged(index.files_linked(page, sources.access), page)]
