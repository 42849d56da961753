"""Requirements files: what is taken, what is refused, and that nothing else gets through."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from layer_builder.ground.errors import RequirementsError
from layer_builder.requirements import parser

A, B = "a" * 64, "b" * 64

names = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}([-_.][A-Za-z0-9]{1,5})?", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}((a|rc)[0-9])?", fullmatch=True)
specifiers = st.lists(
    st.tuples(st.sampled_from(["==", ">=", "<=", "!=", "<", ">"]), versions), max_size=3
).map(lambda pairs: ",".join(operator + version for operator, version in pairs))
extras = st.lists(names, max_size=2).map(lambda found: f"[{','.join(found)}]" if found else "")
markers = st.sampled_from(["", " ; python_version < '3.13'", '; sys_platform == "linux" and extra == "x"'])
lines = st.tuples(names, extras, specifiers, markers).map("".join)
comments = st.text(string.ascii_letters + " -=#@$[]", max_size=20).map(lambda text: f" # {text}")


@given(
    st.lists(
        st.tuples(lines, st.just("") | comments, st.sampled_from(["\n", "\r\n", "\n\n", "\n# x\n"])),
        min_size=1,
    )
)
def test_every_plain_requirement_is_taken_and_means_the_same(rows: list[tuple[str, str, str]]) -> None:
    parsed = parser.parse("".join(line + comment + end for line, comment, end in rows))
    assert [Requirement(text) for text in parsed.texts] == [Requirement(line) for line, _, _ in rows]


@given(st.text(string.printable, max_size=120))
@example("a \\\n--no-binary :all:")
@example("a; os_name == 'x\" --no-binary \"'")
@example("a===1\u2028--no-binary\u2028evil")
@example("requests\x0b-r /etc/passwd")
def test_what_is_written_anew_is_only_requirements(text: str) -> None:
    try:
        parsed = parser.parse(text)
    except RequirementsError as error:
        assert error.message
        assert error.code == "REQUIREMENTS_INVALID"
        return
    for written in parsed.texts:
        assert written.isprintable()
        assert not written.startswith("-")
        assert Requirement(written).url is None
    assert parser.parse("\n".join(parsed.texts)).texts == parsed.texts


@settings(deadline=None)  # the first example imports pip
@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "b==1",
                "c ",
                " d",
                "# e",
                "f # g",
                "\\",
                "h\\",
                "i \\",
                "j # k \\",
                "# l\\",
                "",
                " ",
                " #\\",
            ]
        )
    ).map("\n".join)
)
def test_lines_are_joined_as_pip_joins_them(text: str) -> None:
    req_file = pytest.importorskip("pip._internal.req.req_file")
    ours = list(parser._logical_lines(text))
    assert ours == [(number, line.strip()) for number, line in req_file.preprocess(text) if line.strip()]


@pytest.mark.attack("uploader: a line that a server must not follow")
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-e .", "editable"),
        ("--editable=git+ssh://example.com/x#egg=x", "editable"),
        ("-r other.txt", "another file"),
        ("-rother.txt", "another file"),
        ("--requirement other.txt", "another file"),
        ("-c constraints.txt", "another file"),
        ("--index-url https://example.com/simple", "where packages come from"),
        ("-i https://${HOME}.example.com", "where packages come from"),
        ("--extra-index-url=https://example.com", "where packages come from"),
        ("--find-links /etc", "where packages come from"),
        ("--trusted-host example.com", "where packages come from"),
        ("--no-binary evil", "wheels"),
        ("--only-binary=:none:", "wheels"),
        ("--pre", "no option"),
        ("evil --config-settings=x=y", "nothing is built"),
        ("evil --global-option=build_ext", "nothing is built"),
        ("evil --no-binary=evil", "wheels"),
        ("evil @ https://example.com/evil-1.0-py3-none-any.whl", "package index"),
        ("evil@file:///etc/passwd", "package index"),
        ("https://example.com/evil.whl", "package index"),
        ("git+https://example.com/evil.git", "package index"),
        ("./evil", "path"),
        ("../evil", "path"),
        ("/etc/passwd", "path"),
        ("~/evil", "path"),
        (r"C:\evil", "path"),
        ("evil-1.0-py3-none-any.whl", "path"),
        ("requests=2.32", ""),
        ("requests >= ", ""),
        ("requests==2.32; python_versoin < '3'", ""),
        ("${EVIL}", ""),
        ("requests --hash=md5:" + "a" * 32, "md5"),
        ("requests --hash=sha256:abc", "64 digits"),
        ("requests --hash=sha512:" + "a" * 128, "sha256"),
        ("requests --hash", "no option"),
    ],
)
def test_everything_else_is_refused_with_its_line_and_the_reason(line: str, reason: str) -> None:
    with pytest.raises(RequirementsError) as caught:
        parser.parse(f"# first\n\nidna==3.10\n{line}\n")
    assert caught.value.details["line"] == 4
    assert caught.value.message.startswith("Line 4 ")
    assert line.split()[0].strip("'") in caught.value.message.replace("\\\\", "\\")
    assert reason in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_status == 2


def test_a_line_is_numbered_by_where_it_begins() -> None:
    with pytest.raises(RequirementsError) as caught:
        parser.parse("a\nb \\\n  --hash=sha256:" + A + " \\\n  --evil\nc\n")
    assert caught.value.details["line"] == 2


def test_hashes_belong_to_their_project() -> None:
    parsed = parser.parse(
        f"Foo.Bar==1 --hash=sha256:{A} \\\n --hash=sha256:{B.upper()}\nfoo-bar>0 --hash sha256:{A}\nx"
    )
    assert parsed.sha256 == {"foo-bar": {A, B}}
    assert parsed.hashes_required


def test_require_hashes_needs_no_hash_to_be_meant() -> None:
    assert parser.parse("--require-hashes\nx\n").hashes_required
    assert not parser.parse("x\n").hashes_required


def test_other_digests_of_a_line_do_no_harm() -> None:
    parsed = parser.parse(f"x --hash=sha512:{'c' * 128} --hash=sha256:{A}")
    assert parsed.sha256 == {"x": {A}}


def test_a_settings_block_is_only_comments() -> None:
    block = '# /// layer\n# name = "web"\n# ///\nrequests==2.32.3\n'
    assert parser.parse(block).texts == ["requests==2.32.3"]


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n# comments", "--require-hashes\n", "\\\n"])
def test_no_package_is_an_error(text: str) -> None:
    with pytest.raises(RequirementsError, match="names no package"):
        parser.parse(text)


@pytest.mark.long
def test_too_many_lines_are_an_error() -> None:
    text = "\n".join(f"p{number}" for number in range(10_000))
    with pytest.raises(RequirementsError, match="more than"):
        parser.parse(text)


@pytest.mark.attack("uploader: a file that is no text")
@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\0\0",
        b"a\0b",
        b"PK\3\4\xff\xfe",
        "requests".encode("utf-16"),
        b"#" * (1 << 20) + b"\n",
    ],
)
def test_what_is_no_text_file_is_an_error(content: bytes) -> None:
    with pytest.raises(RequirementsError):
        parser.decode(content)


def test_a_byte_order_mark_and_windows_lines_are_fine() -> None:
    text = parser.decode("\ufeffrequests==2.32.3\r\nidna\r\n".encode())
    assert parser.parse(text).texts == ["requests==2.32.3", "idna"]
