"""Compiles modules out of a wheel. A script for the target's interpreter, so it imports nothing of ours.

Standard input: JSON, `{"wheel": its path, "level": zlib's, "seconds": of processor time in all, "modules":
[[bytes of memory for it, path to show in tracebacks, compression method, offset, compressed bytes, bytes,
CRC-32], ...]}`, numbers as in the wheel's directory.

Standard output, a file: the compiled modules, deflated, back to back; then JSON, a row for each module,
`[CRC-32, compressed bytes, bytes]`, or null if it does not compile, or `"memory"` if there is not enough of
that; then the length of that JSON in 8 bytes.
"""

import importlib.util
import json
import marshal
import resource
import sys
import zlib
from typing import BinaryIO

_DEFLATED = 8
# PEP 552: the pyc has its source's hash, and import is not to look at the source.
_UNCHECKED_HASH = (1).to_bytes(4, "little")


def main() -> None:
    """Compile what standard input names."""
    job = json.load(sys.stdin.buffer)
    resource.setrlimit(resource.RLIMIT_CPU, (job["seconds"], job["seconds"]))
    rows: list[tuple[int, int, int] | str | None] = []
    with open(job["wheel"], "rb") as wheel:  # noqa: PTH123 (once a process, pathlib is not worth its import)
        for memory, shown, *member in job["modules"]:
            _limit_memory(memory)
            try:
                compiled = _compiled(_content(wheel, *member), shown)
                deflated = zlib.compress(compiled, job["level"], wbits=-15) if compiled is not None else b""
            except MemoryError:  # which the parser raises of deep nesting, too
                rows.append("memory" if _peak() > memory // 3 else None)
                continue
            if compiled is None:
                rows.append(None)
                continue
            sys.stdout.buffer.write(deflated)
            rows.append((zlib.crc32(compiled), len(deflated), len(compiled)))
            del compiled, deflated
    _limit_memory(resource.RLIM_INFINITY)
    index = json.dumps(rows, separators=(",", ":")).encode()
    sys.stdout.buffer.write(index + len(index).to_bytes(8, "big"))
    sys.stdout.buffer.flush()


def _limit_memory(count: int) -> None:
    """Bound the memory of this process: getrlimit(2), RLIMIT_DATA, which counts all that is allocated."""
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if count == resource.RLIM_INFINITY or (most != resource.RLIM_INFINITY and count > most):
        count = most
    resource.setrlimit(resource.RLIMIT_DATA, (count, most))


def _peak() -> int:
    """Tell how many bytes of memory this process has had at most: proc_pid_status(5), VmHWM; 0 if unknown."""
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123
            return next(int(line.split()[1]) << 10 for line in status if line.startswith(b"VmHWM:"))
    except (OSError, StopIteration):
        return 0


def _content(wheel: BinaryIO, method: int, offset: int, compressed: int, size: int, crc: int) -> bytes:
    wheel.seek(offset)
    content = wheel.read(compressed)
    if method == _DEFLATED:
        content = zlib.decompress(content, wbits=-15, bufsize=size or 1)
    if (len(content), zlib.crc32(content)) != (size, crc):
        raise ValueError("the wheel is not the one that was verified")
    return content


def _compiled(source: bytes, shown: str) -> bytes | None:
    """Return what import expects in `__pycache__`; None for what is no Python (templates, test data).

    Raises:
        MemoryError: it takes more than it may.
    """
    try:
        # Held by a name, as importlib does: marshal writes how often the object is referred to.
        code = compile(source, shown, "exec", dont_inherit=True, optimize=0)
        content = marshal.dumps(code)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (as py_compile does: the parser raises more than SyntaxError)
        return None
    return importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source) + content


if __name__ == "__main__":
    main()
