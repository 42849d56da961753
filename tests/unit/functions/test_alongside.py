import contextlib
import http.server
import io
import os
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import assume, given
from hypothesis import strategies as st

from layerdrop import alongside
from layerdrop.alongside import Neighbors, listed
from layerdrop.aws import TryLaterError
from layerdrop.errors import BuildError, ErrorCode

ARN = "arn:aws:lambda:us-east-1:111122223333:layer:otel:3"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\\"), min_size=1, max_size=30)


def zip_of(files: dict[str, bytes], comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.comment = comment
    return made.getvalue()


def listing(content: bytes) -> alongside.Files:
    return listed(lambda part: content[slice(*part)], len(content))


@given(st.dictionaries(NAMES, st.binary(max_size=100), max_size=8), st.binary(max_size=50))
def test_lists_what_is_in_a_zip(files: dict[str, bytes], comment: bytes) -> None:
    assume(b"PK\5\6" not in comment)  # which zipfile itself takes for the zip's end
    content = zip_of(files, comment)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    found = listing(content)
    assert found.by_path == {info.filename: (info.CRC, info.file_size) for info in infos}
    assert found.unzipped_bytes == sum(map(len, files.values()))


def test_reads_the_list_and_nothing_else() -> None:
    content = zip_of({f"python/{number}.bin": os.urandom(100_000) for number in range(30)})
    read: list[int] = []

    def part(wanted: tuple[int, int]) -> bytes:
        read.append(wanted[1] - wanted[0])
        return content[slice(*wanted)]

    assert len(listed(part, len(content)).by_path) == 30
    assert sum(read) < 10_000


GOOD = zip_of({"python/a.py": b"x" * 100, "python/b.py": b"y"})
END = GOOD.rfind(b"PK\5\6")


def with_end(**fields: int) -> bytes:
    """A zip whose end says something else."""
    values = list(struct.unpack("<4s4H2LH", GOOD[END:]))
    for name, value in fields.items():
        values[{"count": 4, "size": 5, "start": 6}[name]] = value
    return GOOD[:END] + struct.pack("<4s4H2LH", *values)


HOSTILE = {
    "nothing": b"",
    "no zip": b"x" * 1000,
    "cut off": GOOD[:END],
    "a list that is cut off": with_end(size=GOOD[END:].__len__() - 1),
    "a list before the beginning": with_end(size=0xFFFFFF, start=0),
    "a list of four gigabytes": with_end(size=0xFFFFFFF0, start=5),
    "a list that is none": GOOD[: END - 60] + b"\0" * 60 + GOOD[END:],
    "the end alone, of a large zip": b"\0" * 46 + with_end(size=0xFFFFFFFF, start=0xFFFFFFFF)[END:],
}


@pytest.mark.attack("somebody else's layer, named in the settings, is a zip that no reader should trust")
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_zip_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(alongside._UnreadableZipError):
        listing(content)


@pytest.mark.attack("somebody else's layer has a list of files that fills the function's memory")
def test_a_list_is_read_up_to_a_length() -> None:
    size = 300 << 20
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 200 << 20, size - (200 << 20) - 22, 0)
    longest = 0

    def part(wanted: tuple[int, int]) -> bytes:
        nonlocal longest
        longest = max(longest, wanted[1] - wanted[0])
        return bytes(wanted[1] - wanted[0] - 22) + end if wanted[1] == size else bytes(wanted[1] - wanted[0])

    with pytest.raises(alongside._UnreadableZipError, match="longer than 10,485,760"):
        listed(part, size)
    assert longest <= 10 << 20


@contextlib.contextmanager
def served(answer: Callable[[Any], None]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/layer?signature=x"
        server.shutdown()


def in_parts(content: bytes) -> Callable[[Any], None]:
    def answer(request: Any) -> None:
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1]
        request.send_response(206)
        request.send_header("Content-Length", str(len(part)))
        request.end_headers()
        request.wfile.write(part)

    return answer


def neighbors(address: str, size: int, ours: bytes = b"", endpoint: str = "http://127.0.0.1") -> Neighbors:
    def by_arn(Arn: str) -> Any:  # noqa: N803 (boto3's)
        if Arn != ARN:
            error = {"Error": {"Code": "AccessDeniedException", "Message": "not \x1b[31m allowed."}}
            raise ClientError(error, "GetLayerVersionByArn")
        return {"Content": {"Location": address, "CodeSize": size}}

    def get_object(Range: str, **_: Any) -> Any:  # noqa: N803 (boto3's)
        first, _, last = Range.removeprefix("bytes=").partition("-")
        return {"Body": contextlib.closing(io.BytesIO(ours[int(first) : int(last) + 1]))}

    client: Any = SimpleNamespace(
        get_layer_version_by_arn=by_arn, meta=SimpleNamespace(endpoint_url=endpoint)
    )
    bucket: Any = SimpleNamespace(get_object=get_object)
    return Neighbors(client, bucket)


def test_other_layers_leave_what_they_do_not_take() -> None:
    with served(in_parts(GOOD)) as address:
        found = neighbors(address, len(GOOD))
        assert found.room([]) == 262_144_000
        assert found.room([ARN]) == 262_144_000 - 101
        with pytest.raises(BuildError) as caught:
            found.room([ARN.replace("otel", "theirs")])
    problem = caught.value.problem
    assert problem.code == ErrorCode.SETTINGS_INVALID
    assert "layer:theirs:3" in problem.message
    assert "\x1b" not in problem.message


def test_nothing_is_left_beside_layers_that_take_all() -> None:
    large = zip_of({"python/a.bin": b"\0" * 262_144_000})
    with served(in_parts(large)) as address, pytest.raises(BuildError) as caught:
        neighbors(address, len(large)).room([ARN])
    assert "262,144,000 of the 262,144,000 bytes" in caught.value.problem.message


def test_paths_that_both_have_are_told_those_that_differ_first() -> None:
    same = {f"python/same{number:02}.py": b"same" for number in range(30)}
    theirs = zip_of({**same, "python/x.py": b"theirs", "python/theirs.py": b"", "python/d/": b""})
    ours = zip_of({**same, "python/x.py": b"ours", "python/ours.py": b"", "python/d/": b""})
    with served(in_parts(theirs)) as address:
        found = neighbors(address, len(theirs), ours)
        assert found.shared_paths([], "bucket", "layers/x.zip", len(ours)) == ()
        (shared,) = found.shared_paths([ARN], "bucket", "layers/x.zip", len(ours))
    assert shared["layer_version_arn"] == ARN
    assert shared["unzipped_bytes"] == 30 * 4 + 6
    assert (shared["same_paths"], shared["of_other_content"]) == (31, 1)
    assert shared["examples"][0] == "python/x.py"
    assert len(shared["examples"]) == 20


def test_what_does_not_come_is_asked_for_again_later() -> None:
    def whole(request: Any) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(GOOD)))
        request.end_headers()
        request.wfile.write(GOOD)

    def elsewhere(request: Any) -> None:
        request.send_response(302)
        request.send_header("Location", "http://127.0.0.1:1/")
        request.end_headers()

    for answer in (whole, elsewhere, lambda request: request.send_error(503)):
        with served(answer) as address, pytest.raises(TryLaterError):
            neighbors(address, len(GOOD)).room([ARN])
    with pytest.raises(ValueError, match="none"):
        neighbors("file:///etc/passwd", 5).room([ARN])
    with served(in_parts(GOOD)) as address, pytest.raises(ValueError, match="none"):
        neighbors(address, len(GOOD), endpoint="https://lambda.us-east-1.amazonaws.com").room([ARN])
    with served(in_parts(GOOD[:50])) as address, pytest.raises(BuildError, match="shorter than Lambda says"):
        neighbors(address, len(GOOD)).room([ARN])
