"""A file at an address, of which only the parts that are asked for are fetched."""

from __future__ import annotations

import io
import urllib.request


class RemoteFile(io.RawIOBase):
    """A file at an address that answers range requests, as S3 does.

    Args:
        address: Its address.
        size: Its length in bytes.
    """

    def __init__(self, address: str, size: int) -> None:
        super().__init__()
        self._address, self._size, self._at = address, size, 0

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere."""
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Fetch a part."""
        end = self._size if size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        request = urllib.request.Request(self._address, headers={"Range": f"bytes={self._at}-{end - 1}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 (Lambda's own address)
            content: bytes = response.read()
        self._at += len(content)
        return content
