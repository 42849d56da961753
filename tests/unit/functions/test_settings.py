import json
import re
import tomllib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from layerdrop import settings
from layerdrop.errors import BuildError, ErrorCode, Problem

# The regular expression that PEP 723 gives as the canonical one.
REFERENCE = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")

RUNTIMES = ["python3.11", "python3.12", "python3.13", "python3.14"]
lines = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp", "Zs")) | st.just(" "), min_size=1, max_size=40
)
packages = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", fullmatch=True)
system_packages = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}", fullmatch=True)
system_libraries = st.sampled_from(["check", "auto"]) | st.lists(
    system_packages.filter(lambda name: name not in ("check", "auto")), min_size=1, unique=True, max_size=3
)
constraints = st.tuples(packages, st.sampled_from(["<2", " >= 1, != 1.5", "==2; python_version < '3'"])).map(
    "".join
)
LAYER_VERSION = (
    r"arn:aws(-cn|-us-gov)?:lambda:[a-z0-9-]{1,30}:[0-9]{12}:layer:[A-Za-z0-9_-]{1,140}:[1-9][0-9]{0,9}"
)
blocks = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"[A-Za-z0-9_-]{1,127}", fullmatch=True),
        "runtimes": st.lists(st.sampled_from(RUNTIMES), unique=True),
        "description": lines,
        "license": lines,
        "share-with": st.lists(
            st.from_regex(r"[0-9]{12}|o-[a-z0-9]{10,32}", fullmatch=True), unique=True, max_size=3
        ),
        "allow-sdist": st.lists(packages, unique=True, max_size=3),
        "bytecode": st.booleans(),
        "constraints": st.lists(constraints, unique=True, max_size=3),
        "system-libraries": system_libraries,
        "fit": st.booleans(),
        "slim": st.booleans(),
        "exclude": st.lists(packages, unique=True, max_size=3),
        "size-limit": st.integers(1, 262_144_000),
        "alongside": st.lists(
            st.from_regex(LAYER_VERSION, fullmatch=True), unique=True, max_size=4
        ),
        "cooldown": st.builds("{} {}{}".format, st.integers(1, 52),
                              st.sampled_from(["hour", "day", "week"]), st.sampled_from(["", "s"])),
        "cooldown-exempt": st.lists(packages, unique=True, max_size=3),
        "refresh": st.booleans(),
        "rebuild": st.just("fixed"),
        "vulnerability-ignore": st.lists(
            st.builds("{}:{}{}".format, st.from_regex(r"(GHSA|CVE|PYSEC)(-[0-9a-z]{4}){1,3}", fullmatch=True),
                      st.sampled_from(["", " "]), lines.map(str.strip).filter(bool)), unique=True, max_size=3
        ),
    },
)  # fmt: skip


def block(values: dict[str, Any]) -> str:
    """Values as a settings block; strings of JSON are strings of TOML."""
    toml = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["# /// layer", *(f"# {line}" for line in toml), "# ///"])


def refusal(text: str) -> Problem:
    with pytest.raises(BuildError) as caught:
        settings.parse(text)
    assert caught.value.problem.code == ErrorCode.SETTINGS_INVALID
    return caught.value.problem


@given(blocks, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "# by me\n\n", "six\n"]))
def test_reads_back_what_was_written(values: dict[str, Any], newline: str, before: str) -> None:
    text = (before + block(values) + "\nrequests==2.32.3\n").replace("\n", newline)
    parsed = settings.parse(text)
    assert {
        "name": parsed.name,
        "runtimes": list(parsed.runtimes),
        "description": parsed.description,
        "license": parsed.license,
        "share-with": list(parsed.share_with),
        "allow-sdist": list(parsed.allow_sdist),
        "bytecode": parsed.bytecode,
        "constraints": list(parsed.constraints),
        "system-libraries": list(parsed.system_libraries),
        "fit": parsed.fit,
        "slim": parsed.slim,
        "exclude": list(parsed.exclude),
        "size-limit": parsed.size_limit,
        "alongside": list(parsed.alongside),
        "cooldown": parsed.cooldown,
        "cooldown-exempt": list(parsed.cooldown_exempt),
        "refresh": parsed.refresh,
        "rebuild": parsed.rebuild,
        "vulnerability-ignore": list(parsed.vulnerability_ignore),
    } == {
        "name": None,
        "runtimes": [],
        "description": None,
        "license": None,
        "share-with": [],
        "allow-sdist": [],
        "bytecode": True,
        "constraints": [],
        "system-libraries": [],
        "fit": True,
        "slim": False,
        "exclude": [],
        "size-limit": None,
        "alongside": [],
        "cooldown": None,
        "cooldown-exempt": [],
        "refresh": True,
        "rebuild": None,
        "vulnerability-ignore": [],
    } | {
        key: [value] if key == "system-libraries" and isinstance(value, str) else value
        for key, value in values.items()
    }


pieces = st.sampled_from(
    [
        "# /// layer",
        "# ///",
        "#",
        '# name = "a"',
        "# bytecode = false",
        "",
        "requests",
        "#no",
        "## x",
    ]
)


@given(st.lists(pieces, max_size=8))
@example(["# /// layer", '# name = "a"', "# ///", "# ///"])
@example(["# /// layer", '# name = "a"', "# ///", "# said after it", "requests"])
def test_finds_the_block_that_the_standard_finds(chosen: list[str]) -> None:
    text = "\n".join(chosen) + "\n"
    # The standard's block has at least one line; an empty comment adds nothing, and lets it see empty ones.
    padded = text.replace("# /// layer\n", "# /// layer\n#\n")
    found = [match for match in REFERENCE.finditer(padded) if match["type"] == "layer"]
    openings = chosen.count("# /// layer")
    if len(found) != 1 or openings != 1:
        # The standard calls an unclosed block none, and wants an error for two; silence helps nobody here.
        if openings:
            refusal(text)
        else:
            assert settings.parse(text) == settings.Settings()
        return
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:]
        for line in found[0]["content"].splitlines(keepends=True)
    )
    try:
        expected = tomllib.loads(content)
    except tomllib.TOMLDecodeError:
        assert "not valid TOML" in refusal(text).message
        return
    parsed = settings.parse(text)
    assert (parsed.name, parsed.bytecode) == (expected.get("name"), expected.get("bytecode", True))


@pytest.mark.parametrize(
    "text", ["", "requests==2.32.3\n", "# a comment\nrequests\n", "# /// script\n# ///\n"]
)
def test_without_a_block_all_is_default(text: str) -> None:
    assert settings.parse(text) == settings.Settings()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('runtime = "python3.13"', ['"runtime"', '"runtimes"']),
        ('colour = "red"', ['"colour"', "share-with"]),
        ("[tool]", ['"tool"', "name"]),
        ('share_with = ["111122223333"]', ['"share_with"', '"share-with"']),
        ("name = 5", ["name", "5", "quotes"]),
        ('name = "a b"', ["name", '"a b"', "hyphens"]),
        ('name = ""', ["name", "127"]),
        (f'name = "{"a" * 128}"', ["name", "127"]),
        ('runtimes = "python3.13"', ["runtimes", "list", "python3.14"]),
        ('runtimes = ["python3.9"]', ["runtimes", '"python3.9"', "python3.11"]),
        ("runtimes = [3.13]", ["runtimes", "list"]),
        (f'description = "{"d" * 257}"', ["description", "256"]),
        ('description = "a\\nb"', ["description", "one line"]),
        (f'license = "{"d" * 513}"', ["license", "512"]),
        ('share-with = ["*"]', ["share-with", '"*"', "12 digits"]),
        ('share-with = ["1111"]', ["share-with", '"1111"']),
        ("share-with = [111122223333]", ["share-with", "111122223333", "list of texts"]),
        ('share-with = ["o-short"]', ["share-with", '"o-short"', "organization"]),
        ('allow-sdist = ["--evil"]', ["allow-sdist", '"--evil"', "package"]),
        (f"allow-sdist = {['a'] * 51}", ["allow-sdist", "51", "50"]),
        ('bytecode = "yes"', ["bytecode", '"yes"', "true or false"]),
        ('constraints = "six<2"', ["constraints", "list of texts"]),
        ('constraints = ["-r other.txt"]', ["constraints", '"-r other.txt"', "urllib3<2"]),
        ('constraints = ["six @ https://x"]', ["constraints", "six @ https://x"]),
        ('constraints = ["six"]', ["constraints", '"six"']),
        (f'constraints = ["six<{"1" * 130}"]', ["constraints", "120"]),
        ("bytecode = 1", ["bytecode", "1", "true or false"]),
        ('system-libraries = "all"', ["system-libraries", '"all"', '"check" or "auto"', "list"]),
        ("system-libraries = true", ["system-libraries", "true", '"check" or "auto"']),
        ("system-libraries = []", ["system-libraries", "[]", '"check" or "auto"']),
        ('system-libraries = ["auto"]', ["system-libraries", '"auto"', "unixODBC"]),
        ('system-libraries = ["--root=/"]', ["system-libraries", '"--root=/"', "package"]),
        ('system-libraries = ["lib*"]', ["system-libraries", '"lib*"', "package"]),
        ("system-libraries = [1]", ["system-libraries", "list of texts"]),
        ('fit = "no"', ["fit", '"no"', "true or false"]),
        ("slim = 1", ["slim", "1", "true or false"]),
        ('exclude = "boto3"', ["exclude", "list of texts"]),
        ('exclude = ["boto3<2"]', ["exclude", '"boto3<2"', "package"]),
        ('exclude = ["--slim"]', ["exclude", '"--slim"', "package"]),
        ("size-limit = 0", ["size-limit", "0", "262_144_000"]),
        ("size-limit = -5", ["size-limit", "-5", "262_144_000"]),
        ("size-limit = 262_144_001", ["size-limit", "262144001", "262_144_000"]),
        ("size-limit = 1e6", ["size-limit", "number of bytes"]),
        ("size-limit = true", ["size-limit", "true", "number of bytes"]),
        ('size-limit = "200 MB"', ["size-limit", '"200 MB"', "without quotes"]),
        ('alongside = "arn:aws:lambda:us-east-1:111122223333:layer:otel:3"', ["alongside", "list of texts"]),
        ('alongside = ["arn:aws:lambda:us-east-1:111122223333:layer:otel"]', ["alongside", "VERSION"]),
        ('alongside = ["arn:aws:lambda:us-east-1:1:layer:otel:1"]', ["alongside", "VERSION"]),
        ('alongside = ["arn:aws:s3:us-east-1:111122223333:layer:otel:1"]', ["alongside", "lambda"]),
        ('alongside = ["otel:3"]', ["alongside", '"otel:3"', "arn:aws:lambda:"]),
        (
            f"alongside = {['arn:aws:lambda:r:111122223333:layer:x:1'] * 5}",
            ["alongside", "5 entries", "most 4"],
        ),
        ("cooldown = 7", ["cooldown", "7", "a text such as 7 days"]),
        ('cooldown = "0 days"', ["cooldown", '"0 days"', "from 1 hour to 365 days"]),
        ('cooldown = "53 weeks"', ["cooldown", '"53 weeks"', "365 days"]),
        ('cooldown = "99999 weeks"', ["cooldown", "365 days"]),
        ('cooldown = "7 days "', ["cooldown", "7 days, 36 hours or 2 weeks"]),
        ('cooldown = "P7D"', ["cooldown", '"P7D"', "7 days"]),
        ('cooldown = "--slim"', ["cooldown", '"--slim"', "7 days"]),
        ('refresh = "never"', ["refresh", '"never"', "true or false"]),
        ("rebuild = true", ["rebuild", "true", "text in quotes"]),
        ('rebuild = "always"', ["rebuild", '"always"', '"fixed", or leave it out']),
        ('vulnerability-ignore = "GHSA-48p4-8xcf-vxj5"', ["vulnerability-ignore", "list of texts"]),
        (
            'vulnerability-ignore = ["GHSA-48p4-8xcf-vxj5"]',
            ["vulnerability-ignore", "GHSA-48p4-8xcf-vxj5", "why"],
        ),
        ('vulnerability-ignore = ["GHSA-48p4-8xcf-vxj5: "]', ["vulnerability-ignore", "why it is none here"]),
        ('vulnerability-ignore = ["urllib3: fine"]', ["vulnerability-ignore", "an advisory's id"]),
        (f'vulnerability-ignore = ["CVE-2025-1: {"x" * 101}"]', ["vulnerability-ignore", "100 characters"]),
        ('vulnerability-ignore = ["CVE-2025-1: \\u001b[2J"]', ["vulnerability-ignore", "u001b"]),
        (
            f"vulnerability-ignore = {json.dumps([f'CVE-2025-{number}: x' for number in range(31)])}",
            ["vulnerability-ignore", "31 entries", "most 30"],
        ),
        ('cooldown-exempt = "boto3"', ["cooldown-exempt", "list of texts"]),
        ('cooldown-exempt = ["--slim"]', ["cooldown-exempt", '"--slim"', "package"]),
    ],
)
def test_refuses_and_names_key_value_and_the_good_ones(line: str, words: list[str]) -> None:
    problem = refusal(f"# /// layer\n# {line}\n# ///\n")
    for word in words:
        assert word in problem.message + problem.hint


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("# /// layer\n# name = 'a'\nrequests\n", "line 1"),
        ("x\n# /// layer\n", "line 2"),
        ("# /// layer\nname = 'a'\n# ///\n", "line 1"),
        ("# /// layer\n# ///\n\n# /// layer\n# ///\n", "Line 4"),
        ("#/// layer\n# ///\n", "Line 1"),
        ("# // layer\n# ///\n", "Line 1"),
        ("six\n# /// Layer\n# ///\n", "Line 2"),
        ("# /// layer\n# name = \n# ///\n", "line 1"),
    ],
)
def test_a_broken_block_is_told_with_its_line(text: str, word: str) -> None:
    assert word in refusal(text).message


def test_other_tools_blocks_are_theirs() -> None:
    text = "# /// script\n# dependencies = []\n# ///\n\n" + block({"name": "web"}) + "\n"
    assert settings.parse(text).name == "web"


def test_repeated_entries_count_once() -> None:
    parsed = settings.parse(block({"runtimes": ["python3.13", "python3.12", "python3.13"]}))
    assert parsed.runtimes == ("python3.13", "python3.12")
