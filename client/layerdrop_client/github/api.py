"""One comment on a pull request that is kept up to date, by GitHub's API.

https://docs.github.com/en/rest/issues/comments
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from layerdrop_client.problems import AGAIN, CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = 100
_MOST_PAGES = 30
_REFUSED = (401, 403, 404)


@dataclass(frozen=True)
class Discussion:
    """A pull request's comments.

    Attributes:
        address: The API's.
        repository: OWNER/NAME.
        number: The pull request's.
        token: May write comments, or not.
    """

    address: str
    repository: str
    number: int
    token: str

    def keep(self, body: str, marker: str, only_if_there: bool) -> str | None:
        """Write a comment, or replace what an earlier run wrote; return its address.

        Args:
            body: Begins with the marker.
            marker: Tells it from others.
            only_if_there: Nothing is written where there is none yet.

        Returns:
            None when there was nothing to write, or the token may not: forks have one that only reads.
        """
        try:
            earlier = next(self._earlier(marker), None)
            if earlier is None and only_if_there:
                return None
            if earlier is None:
                path = f"issues/{self.number}/comments"
                return str(self._ask("POST", path, {"body": body})["html_url"])
            return str(
                self._ask("PATCH", f"issues/comments/{int(earlier['id'])}", {"body": body})["html_url"]
            )
        except urllib.error.HTTPError as error:
            if error.code in _REFUSED:
                return None
            raise CommandError(
                "GITHUB_REFUSED", f"GitHub answered {error.code}.", "Try again.", AGAIN
            ) from error
        except OSError as error:
            raise CommandError("GITHUB_UNREACHABLE", f"GitHub: {error}", "Try again.", AGAIN) from error

    def _earlier(self, marker: str) -> Iterator[Any]:
        """Comments that a workflow wrote; a person may have quoted the marker."""
        for page in range(1, _MOST_PAGES + 1):
            found = self._ask("GET", f"issues/{self.number}/comments?per_page={_PAGE}&page={page}")
            for one in found:
                if one["user"]["type"] == "Bot" and (one.get("body") or "").startswith(marker):
                    yield one
            if len(found) < _PAGE:
                return

    def _ask(self, method: str, path: str, document: Any = None) -> Any:
        parts = urlsplit(self.address)
        if parts.scheme != "https" and parts.hostname != "127.0.0.1":
            raise CommandError("INPUT_INVALID", f"GITHUB_API_URL is {self.address}.", "Its scheme is https.")
        request = urllib.request.Request(  # noqa: S310 (https, as just looked at)
            f"{self.address.rstrip('/')}/repos/{quote(self.repository)}/{path}",
            data=None if document is None else json.dumps(document).encode(),
            method=method,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "User-Agent": "layerdrop",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return json.loads(response.read())
