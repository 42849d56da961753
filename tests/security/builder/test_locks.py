"""Hostile locks: whatever is in one, it is taken, or refused as the fault of whoever uploaded it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import layer_builder
from layer_builder.ground.errors import BuildError
from layer_builder.ground.target import Target
from layer_builder.resolution import lock, lock_bounds
from tests.unit.builder.wheel_maker import make_wheel, pick_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.security.builder.conftest import Build
    from tests.unit.builder.wheel_maker import Index

TARGET = Target.of("python3.13", "arm64")
WHEEL = "app-1.0-py3-none-any.whl"

# TOML by key, of a lock that is taken.
LOCK = {
    "lock-version": '"1.0"',
    "created-by": '"someone"',
    "requires-python": '">=3.8"',
    "environments": "[\"sys_platform == 'linux'\"]",
    "default-groups": '["all"]',
    "dependency-groups": '["all"]',
    "extras": '["all"]',
    "tool": '{layerdrop = {requirements = ["app"]}}',
    "packages": "[]",
}
PACKAGE = {
    "name": '"app"',
    "version": '"1.0"',
    "marker": "\"python_version > '3'\"",
    "requires-python": '">=3.8"',
    "index": '"https://index.invalid/"',
    "dependencies": '[{name = "app"}]',
    "attestation-identities": '[{kind = "x"}]',
    "tool": "{x = 1}",
    "vcs": "",
    "directory": "",
    "archive": "",
    "sdist": "",
    "wheels": "[]",
}
FILE = {
    "name": f'"{WHEEL}"',
    "url": f'"https://files.invalid/{WHEEL}"',
    "path": f'"{WHEEL}"',
    "size": "5",
    "upload-time": "2024-01-01T00:00:00Z",
    "hashes": f'{{sha256 = "{"a" * 64}"}}',
}
ODD = {
    **{name: name for name in ("1", "-1", "nan", "-inf", "1e999", "true", '""', '"x"', "[]", "{}")},
    **{name: name for name in ("[1]", "[[]]", "[{}]", "{a = 1}", '[""]')},
    **{name: name for name in ("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "2024-13-45")},
    "an integer of 4,000 digits": "9" * 4_000,
    "an integer of 10,000 digits": "9" * 10_000,
    "an integer of 10,000 hexadecimal digits": "0x" + "f" * 10_000,
    "a string of 10,000 digits": f'"{"9" * 10_000}"',
    "a version of 5,000 digits": f'"1.{"9" * 5_000}"',
    "a string of 100 kB": f'"{"a" * 100_000}"',
    "a NUL": r'"app\u0000"',
    "a terminal's escape": r'"\u001b]52;c;eA==\u0007app"',
    "a surrogate": r'"\uD800"',
    "a surrogate in bytes": '"\udcff"',
    "beyond the planes": r'"\U00110000"',
    "an emoji": r'"\U0001F4A9"',
    "brackets open": f'"https://[::1/{WHEEL}"',
    "brackets that are no IPv6": f'"https://[zz]/{WHEEL}"',
    "brackets closed": f'"https://::1]/{WHEEL}"',
    "a port of 8 digits": f'"https://host:99999999/{WHEEL}"',
    "a port of letters": f'"https://host:port/{WHEEL}"',
    "a host that NFKC makes a path": rf'"https://host\u2100/{WHEEL}"',
    "a file": '"file:///etc/passwd"',
    "no host": f'"//[/{WHEEL}"',
    "a path": '"../../etc/passwd"',
    "a marker of an extra": "\"extra == 'x'\"",
    "a marker that compares in vain": "\"python_version ~= 'x'\"",
    "a marker of sets": "\"dependency_groups == 'x'\"",
    "a marker of nothing known": "\"evil == 'x'\"",
    "a marker in 3,000 brackets": '"' + "(" * 3_000 + "os_name == 'a'" + ")" * 3_000 + '"',
    "a marker of 3,000 parts": '"' + " and ".join(["os_name == 'a'"] * 3_000) + '"',
    "markers that compare in vain": "[\"python_version ~= 'x'\"]",
    "markers of sets": "[\"dependency_groups == 'x'\"]",
    "markers of extras": "[\"extra == 'x'\"]",
    "a specifier": '"~=x"',
    "a large specifier": '">=3.8,<99999999999999999999999"',
    "no table for a tool": "{layerdrop = 1}",
    "no list of requirements": "{layerdrop = {requirements = 1}}",
    "a requirement with a NUL": r'{layerdrop = {requirements = ["app\u0000"]}}',
    "a requirement that compares in vain": "{layerdrop = {requirements = [\"app; python_version ~= 'x'\"]}}",
    "a requirement in 3,000 brackets": '{layerdrop = {requirements = ["app; ' + "(" * 3_000 + '"]}}',
    "a hash that is a number": "{sha256 = 1}",
    "a hash that is a table": "{sha256 = {}}",
    "a hash of another alphabet": f'{{sha256 = "{"A" * 64}"}}',
    "5,000 arrays in each other": "[" * 5_000,
    "5,000 tables in each other": "{a = " * 5_000,
    "a wheel of a huge version": f'"app-{"9" * 5_000}-py3-none-any.whl"',
    "a wheel of a huge build": f'"app-1.0-{"9" * 5_000}-py3-none-any.whl"',
    "a wheel with a NUL": '"app-1.0-py3-none-any.whl\\u0000"',
    "a wheel of a package": '[{name = "app-1.0-py3-none-any.whl"}]',
    "a repository": '{type = "git", url = "https://[", commit-id = "a"}',
    "a folder": '{path = "/etc"}',
    "an archive": '{url = "https://[", hashes = {sha256 = "a"}}',
    "a source": '{name = "app-1.0.tar.gz", url = "https://[", hashes = {sha256 = "a"}}',
}


def toml(values: dict[str, str], separator: str = "\n") -> str:
    return separator.join(f"{key} = {value}" for key, value in values.items() if value)


def text(lock_: dict[str, str], package: dict[str, str], file: dict[str, str]) -> bytes:
    package = {
        **package,
        "wheels": f"[{{{toml(file, ', ')}}}]" if package["wheels"] == "[]" else package["wheels"],
    }
    packages = f"[{{{toml(package, ', ')}}}]" if lock_["packages"] == "[]" else lock_["packages"]
    return toml({**lock_, "packages": packages}).encode("utf-8", "surrogateescape")


def taken_or_refused(content: bytes) -> bool:
    """Read a lock as a build does, and write it again as the build's own."""
    try:
        read = lock.read(content, TARGET, allow_sdist=["app"])
    except BuildError as error:
        assert error.exit_status == 2, error
        assert error.code in ("REQUIREMENTS_INVALID", "NO_WHEEL_FOR_TARGET", "HASH_MISMATCH")
        assert error.hint
        assert len(error.message) <= 2_000
        return False
    assert json.dumps([pick.size for pick in read.picks])
    assert lock.read(lock.text(read.requirements, read.picks, TARGET).encode(), TARGET, ["app"])
    return True


def test_the_lock_that_is_made_odd_is_taken() -> None:
    assert taken_or_refused(text(LOCK, PACKAGE, FILE))


@pytest.mark.attack("a lock with a value of a wrong type, size or form in each of its places")
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_value_in_every_place(odd: str) -> None:
    for key in LOCK:
        taken_or_refused(text({**LOCK, key: odd}, PACKAGE, FILE))
    for key in PACKAGE:
        taken_or_refused(text(LOCK, {**PACKAGE, key: odd}, FILE))
        taken_or_refused(text({**LOCK, "tool": ""}, {**PACKAGE, key: odd, "wheels": ""}, FILE))
    for key in FILE:
        taken_or_refused(text(LOCK, PACKAGE, {**FILE, key: odd}))
        alone = dict.fromkeys({"name", "url", "path"} - {key}, "")  # then what it names comes from it
        taken_or_refused(text({**LOCK, "tool": ""}, PACKAGE, {**FILE, **alone, key: odd}))
    taken_or_refused(odd.encode("utf-8", "surrogateescape"))


@pytest.mark.attack("a lock without any of its parts")
@pytest.mark.parametrize("key", [*LOCK, *PACKAGE, *FILE])
def test_a_missing_part(key: str) -> None:
    content = [{**part, key: ""} if key in part else part for part in (LOCK, PACKAGE, FILE)]
    taken_or_refused(text(*content))


scalars = (
    st.sampled_from(list(ODD.values()))
    | st.integers().map(str)
    | st.floats().map(str)
    | st.text(st.characters(codec="utf-8"), max_size=20).map(json.dumps)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from([*PACKAGE, *FILE, "a.b"]), inner, max_size=3).map(
            lambda items: f"{{{toml(items, ', ')}}}"
        )
    ),
    max_leaves=6,
)


def changed(part: dict[str, str]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(list(part)), values, max_size=2).map(lambda some: {**part, **some})


@pytest.mark.attack("a lock of values of any kind, in and below any of its places")
@hypothesis_settings(deadline=None, max_examples=400)
@given(changed(LOCK), changed(PACKAGE), changed(FILE))
@example(LOCK, PACKAGE, {**FILE, "url": f'"https://[::1/{WHEEL}"'})
@example(LOCK, PACKAGE, {**FILE, "size": "0x" + "f" * 10_000})
def test_any_values(lock_: dict[str, str], package: dict[str, str], file: dict[str, str]) -> None:
    taken_or_refused(text(lock_, package, file))


DEEP = {
    "a key of 50,000 parts": b"a" + b".a" * 50_000 + b" = 1",
    "a key of 4 million parts": b"a" + b".a" * 4_000_000 + b" = 1",
    "a table of 50,000 parts": b"[" + b"a . " * 50_000 + b"a]",
    "a list of tables of 50,000 parts": b"[[" + b"a." * 50_000 + b"a]]",
    "a quoted key of 50,000 parts": b"x = {y = 1, " + b"\"a\".'b'." * 25_000 + b'"a" = 1}',
    "8 MB of quotes": b',"' * 4_000_000,
    "8 MB of commas": b"{ , " * 2_000_000,
}


@pytest.mark.attack("a lock with a key of 50,000 dots, for which a TOML reader takes minutes")
@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_deep_keys(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not taken_or_refused(content)
    if b'"' * 2 not in content and b"," not in content[:3] and b"{ ," not in content:
        monkeypatch.setattr("tomllib.loads", lambda _: pytest.fail("the reader was asked"))
        assert not taken_or_refused(content)


def test_no_lock_that_tools_write_has_a_deep_key() -> None:
    keys = (b"[tool.uv.sources.x]\n", b"[[packages.wheels]]\n", b'a."b.c.d.e.f.g.h.i.j" = 1\n')
    url = b'x = ["https://a.b.c.d.e.f.g.h.i.j.k/", "1.2.3.4.5.6.7.8.9.10", {u = "a.b.c.d.e.f.g.h.i.j"}]\n'
    assert not lock_bounds.LONG_KEY.search(b"".join(keys) + url)


# ---------------------------------------------------------------- what costs

HEAD = 'lock-version = "1.0"\ncreated-by = "x"\n'
SHA256 = "a" * 64
TAGS = "-".join(".".join("abcdefghij") for _ in range(3))  # stands for 1,000
BOMB = "-".join(".".join(f"{part}{number}" for number in range(300)) for part in "xyz")  # for 27 million
ROOM = lock.MAX_BYTES - 1_000


def numbered(line: str, most: int = ROOM) -> str:
    """Repeat a line, with a number of its own each, until there is no more room."""
    return "".join(line.replace("#", str(number)) for number in range(most // (len(line) + 5)))


def of_wheels(*wheels: str, package: str = "") -> str:
    return f'[[packages]]\nname = "a"\nversion = "1"\n{package}wheels = [{", ".join(wheels)}]\n'


COSTLY: dict[str, Callable[[], str]] = {
    "one name of a wheel that stands for 27 million tags": lambda: of_wheels(
        f'{{name = "a-1-{BOMB}.whl", url = "u", hashes = {{sha256 = "{SHA256}"}}}}'
    ),
    "the same in a path": lambda: of_wheels(
        f"{{path = 'x\\a-1-{BOMB}.whl', hashes = {{sha256 = \"{SHA256}\"}}}}"
    ),
    "the same in an address": lambda: of_wheels(
        f'{{url = "https://e.example/a-1-{BOMB}.wh%6c?x#y", hashes = {{sha256 = "{SHA256}"}}}}'
    ),
    "40,000 names of wheels, each for 1,000 tags": lambda: of_wheels(
        *[
            f'{{name = "a-1-{n}-{TAGS}.whl", url = "u", hashes = {{sha256 = "{SHA256}"}}}}'
            for n in range(40_000)
        ]
    ),
    "8 MB of keys of eight parts": lambda: numbered("a#.b.c.d.e.f.g.h = 1\n"),
    "8 MB of keys of three parts": lambda: numbered("a#.b.c = 1\n"),
    "8 MB of tables": lambda: numbered("[k#]\n"),
    "8 MB of tables of three parts": lambda: numbered("[k#.b.c]\n"),
    "8 MB of tables in tables": lambda: numbered("k# = {a = {b = {c = {}}}}\n"),
    "8 MB of numbers": lambda: "x = [" + "1," * (ROOM // 2) + "]",
    "a hexadecimal number of 8 MB": lambda: "x = 0x" + "f" * ROOM,
    "a number of 8 MB": lambda: "x = 1" + "0" * ROOM + ".5",
    "8 MB of markers": lambda: "environments = [" + "\"os_name<'x'\"," * (ROOM // 14) + "]",
    "a marker of 8 MB": lambda: 'environments = ["' + " or ".join(["os_name<'x'"] * (ROOM // 15)) + '"]',
    "a specifier of 8 MB": lambda: 'requires-python = "' + ",".join([">3"] * (ROOM // 3)) + '"',
    "a name of 8 MB": lambda: '[[packages]]\nname = "' + "a-" * (ROOM // 2) + 'a"',
    "a name of 8 MB in words": lambda: '[[packages]]\nname = "' + "a- " * (ROOM // 3) + 'a"',
    "a version of 8 MB": lambda: '[[packages]]\nname = "a"\nversion = "1+' + "a." * (ROOM // 2) + 'a"',
    "30,000 packages": lambda: (
        "[tool.layerdrop]\nrequirements = ['a']\n"
        + numbered(
            of_wheels(f'{{name = "a-1-py3-none-any.whl", url = "u", hashes = {{sha256 = "{SHA256}"}}}}')
        )
    ),
    "8 MB of empty lines": lambda: "\n" * ROOM,
    "8 MB of a comment": lambda: "#" * ROOM,
}
# What is just about taken by the reader.
HEAVY: dict[str, Callable[[], str]] = {
    "tables of three parts with keys of two": lambda: "".join(
        f"[k{number}.b.c]\nx.y = 1\n" for number in range(49_000)
    ),
    "values of two parts": lambda: "".join(f"k{number}.b = 1\n" for number in range(235_000)),
    "environments and values": lambda: (
        "environments = [" + "\"os_name<'x'\"," * 80_000 + "]\n" + numbered("k#.b = 1\n", 2_900_000)
    ),
    "names for as many tags as may be": lambda: of_wheels(
        *[f'{{name = "a-1-{n}-{TAGS}.whl", url = "u", hashes = {{sha256 = "{SHA256}"}}}}' for n in range(200)]
    ),
}
READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from pathlib import Path
from layer_builder.ground.errors import BuildError
from layer_builder.ground.target import Target
from layer_builder.resolution import lock
try:
    lock.read(sys.stdin.buffer.read(), Target.of("python3.13", "arm64"))
    code = "taken"
except BuildError as error:
    code = error.code
usage = resource.getrusage(resource.RUSAGE_SELF)
# ru_maxrss would have the memory of the process that started it, too.
memory = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10
print(code, usage.ru_utime + usage.ru_stime, memory)
"""


def read_apart(text: str) -> tuple[str, float, int]:
    """Read a lock in a process of its own; return the error's code, CPU seconds, and its peak in bytes."""
    content = (HEAD + text).encode()
    assert len(content) <= lock.MAX_BYTES
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=content,
        capture_output=True,
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(layer_builder.__file__).parents[1])},
    )
    code, seconds, size = done.stdout.decode().split()
    return code, float(seconds), int(size)


@pytest.mark.sample(6)
@pytest.mark.attack("a lock of up to 8 MB that takes minutes or gigabytes to read")
@pytest.mark.parametrize("make", COSTLY.values(), ids=COSTLY)
def test_a_lock_is_refused_soon(make: Callable[[], str]) -> None:
    code, seconds, size = read_apart(make())
    assert code == "REQUIREMENTS_INVALID"
    assert seconds < 5
    assert size < 300_000_000


@pytest.mark.long
@pytest.mark.attack("a lock of as much as may be of what costs most")
@pytest.mark.parametrize("make", HEAVY.values(), ids=HEAVY)
def test_a_lock_within_the_bounds_is_read_soon(make: Callable[[], str]) -> None:
    text = make()
    assert lock_bounds.fault_of_text((HEAD + text).encode()) is None
    _, seconds, size = read_apart(text)
    assert seconds < 5
    assert size < 300_000_000


def test_a_lock_of_eight_megabytes_of_wheels_is_taken() -> None:
    """One that uv writes for many platforms, of hundreds of packages with forty wheels each."""
    wheel = (
        '    {{ name = "{0}", url = "https://files.example/packages/aa/bb/' + "c" * 60 + '/{0}", '
        'upload-time = 2024-01-01T00:00:00Z, size = 12345, hashes = {{ sha256 = "' + SHA256 + '" }} }},\n'
    )
    packages = []
    for number in range(490):
        names = [
            f"a{number}-1-cp3{minor}-cp3{minor}-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
            for minor in range(11, 51)
        ]
        wheels = "".join(wheel.format(name) for name in names)
        marker = "marker = \"python_full_version >= '3.9' and sys_platform != 'win32'\"\n"
        packages.append(f'[[packages]]\nname = "a{number}"\nversion = "1"\n{marker}wheels = [\n{wheels}]\n')
    content = (HEAD + "".join(packages)).encode()
    assert 0.85 * lock.MAX_BYTES < len(content) <= lock.MAX_BYTES
    assert len(lock.read(content, TARGET).picks) == 490


@pytest.mark.sample(2)
@pytest.mark.attack("a hostile lock comes in by the command: no bug of ours, no second try, a report")
@pytest.mark.parametrize(
    ("part", "key", "odd"),
    [
        ("lock", "environments", "a marker that compares in vain"),
        ("lock", "environments", "markers that compare in vain"),
        ("package", "marker", "a marker of an extra"),
        ("package", "version", "an integer of 10,000 digits"),
        ("package", "name", "a surrogate"),
        ("file", "size", "an integer of 10,000 hexadecimal digits"),
        ("file", "url", "brackets open"),
        ("file", "url", "a host that NFKC makes a path"),
        ("file", "size", "nan"),
        ("file", "size", "-1"),
    ],
)
def test_hostile_locks_end_as_the_uploaders_fault(
    index: Index, build: Build, tmp_path: Path, part: str, key: str, odd: str
) -> None:
    file = make_wheel(index.folder, "app")
    content = {
        "lock": LOCK,
        "package": PACKAGE,
        "file": {**FILE, "size": "", "hashes": f'{{sha256 = "{pick_of(file).sha256}"}}'},
    }
    place = tmp_path / "pylock.toml"
    place.write_bytes(text(*content.values()))
    answer = build("-p", str(place))
    assert answer.status == 0, answer.stderr  # so the file is in the cache
    (answer.layer).unlink()
    place.write_bytes(text(*{**content, part: {**content[part], key: ODD[odd]}}.values()))
    answer = build("-p", str(place))
    assert (answer.status, answer.code) == (2, "REQUIREMENTS_INVALID"), answer.stderr
