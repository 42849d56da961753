"""What people upload, by mistake or not: each is answered with its documented code, and harms nobody else."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerdrop.errors import ErrorCode
from tests.conftest import in_two_sizes

from .harness import Pipeline
from .index import dist_info, endless, good, moved, packed, plain, short, slow, status

ROOT = Path(__file__).parents[2]
ARM = "requirements/arm64/"

Poison = tuple[str, str | bytes, str]
"""Key, content, the code it must end in."""


def settings(block: str) -> str:
    return "# /// layer\n" + "".join(f"# {line}\n" for line in block.splitlines()) + "# ///\nsix\n"


KEYS: list[Poison] = [
    (key, "six", "KEY_INVALID")
    for key in (
        "requirements/requirements.txt",
        "requirements/amd64/poison/requirements.txt",
        "requirements/ARM64/poison/requirements.txt",
        "requirements//arm64/requirements.txt",
        "requirements/arm64//poison/requirements.txt",
        "requirements/arm64/../poison/requirements.txt",
        "requirements/arm64/python3.8/requirements.txt",
        "requirements/arm64/python3/requirements.txt",
        "requirements/arm64/team/python3.13/requirements.txt",
        "requirements/requirements.txt/requirements.txt",
    )
]
SETTINGS: list[Poison] = [
    (f"{ARM}setting{number:02}/requirements.txt", content, "SETTINGS_INVALID")
    for number, content in enumerate(
        (
            settings('nme = "x"'),
            settings("name = 5"),
            settings('name = "a/b"'),
            settings('name = "' + "x" * 200 + '"'),
            settings('runtimes = ["python2.7"]'),
            settings('runtimes = "python3.13"'),
            settings('description = "' + "x" * 300 + '"'),
            settings('share-with = ["*"]'),
            settings('share-with = ["12345"]'),
            settings('share-with = ["arn:aws:iam::111122223333:root"]'),
            settings('allow-sdist = ["../x"]'),
            settings('bytecode = "yes"'),
            settings('exclude = ["../x"]'),
            settings("size-limit = 900_000_000_000"),
            settings('alongside = ["arn:aws:lambda:us-east-1:123456789012:layer:nowhere:1"]'),
            settings("name = "),
            '# /// layer\n# name = "x"\nsix\n',
            settings('name = "a"') + settings('name = "b"'),
        )
    )
]
REQUIREMENTS: list[Poison] = [
    (f"{ARM}real-line{number:02}/requirements.txt", content, code)
    for number, (content, code) in enumerate(
        (
            ("==1", "REQUIREMENTS_INVALID"),
            ("-e .", "REQUIREMENTS_INVALID"),
            ("-r /etc/passwd", "REQUIREMENTS_INVALID"),
            ("-c https://127.0.0.1/x", "REQUIREMENTS_INVALID"),
            ("--index-url https://${HOME}.invalid/\nsix", "REQUIREMENTS_INVALID"),
            ("--no-binary six\nsix", "REQUIREMENTS_INVALID"),
            ("--extra-index-url https://127.0.0.1/simple\nsix", "REQUIREMENTS_INVALID"),
            ("six @ https://127.0.0.1/six-1.0-py3-none-any.whl#sha256=" + "0" * 64, "REQUIREMENTS_INVALID"),
            (settings('constraints = ["friendly =< nonsense"]'), "REQUIREMENTS_INVALID"),
            (settings('constraints = ["friendly==99"]').replace("six", "friendly"), "RESOLUTION_FAILED"),
            ("--find-links file:///\nsix", "REQUIREMENTS_INVALID"),
            ("six @ file:///etc/passwd", "REQUIREMENTS_INVALID"),
            ("git+https://127.0.0.1/x.git", "REQUIREMENTS_INVALID"),
            ("./local.whl", "REQUIREMENTS_INVALID"),
            ("$(touch /tmp/x)", "REQUIREMENTS_INVALID"),
            (b"\xff\xfe\x00s", "REQUIREMENTS_INVALID"),
            (b"six\0", "REQUIREMENTS_INVALID"),
            (b"#" * (1024 * 1024 + 1), "REQUIREMENTS_INVALID"),
            ("friendly==1\nfriendly==2", "RESOLUTION_FAILED"),
            ("friendly==99", "RESOLUTION_FAILED"),
            ("no-such-project-anywhere", "RESOLUTION_FAILED"),
            (settings('cooldown = "7 days"').replace("six", "friendly"), "UPLOAD_TIME_UNKNOWN"),
            ("friendly==1.0 --hash=sha256:" + "0" * 64, "HASH_MISMATCH"),
        )
    )
]


def locked(
    file: str = "friendly-1.0-py3-none-any.whl", sha256: str = "0" * 64, more: str = "", tool: str = ""
) -> str:
    """A lock of one file, with more about its package and of the tool that wrote it."""
    wheels = f'[{{ name = "{file}", url = "https://127.0.0.1/{file}", hashes = {{ sha256 = "{sha256}" }} }}]'
    package = f'[[packages]]\nname = "friendly"\nversion = "1.0"\nwheels = {wheels}\n{more}\n'
    return f'lock-version = "1.0"\ncreated-by = "poison"\n{package}{tool}\n'


LOCKS: list[Poison] = [
    (f"{ARM}real-lock{number:02}/pylock.toml", content, code)
    for number, (content, code) in enumerate(
        (
            (locked(), "HASH_MISMATCH"),
            (locked("friendly-1.0-py2-none-any.whl"), "NO_WHEEL_FOR_TARGET"),
            (locked("friendly-1.0-1-py3-none-any.whl"), "RESOLUTION_FAILED"),
            (locked("../../friendly-1.0-py3-none-any.whl"), "REQUIREMENTS_INVALID"),
            (locked(more='directory = { path = "/etc" }'), "REQUIREMENTS_INVALID"),
            (locked(tool='[tool.layerdrop]\nrequirements = ["-r /etc/passwd"]'), "REQUIREMENTS_INVALID"),
            (locked().replace("wheels", ".".join("a" * 50_000) + " = 1\nwheels"), "REQUIREMENTS_INVALID"),
            (locked() + "x = " + "[" * 50_000, "REQUIREMENTS_INVALID"),
            ("friendly==1.0", "REQUIREMENTS_INVALID"),
            (b"\xff\xfe[\0", "REQUIREMENTS_INVALID"),
            (b"#" * (8 * 1024 * 1024 + 1), "REQUIREMENTS_INVALID"),
            (settings('constraints = ["friendly<2"]').replace("six", locked()), "SETTINGS_INVALID"),
        )
    )
]


def wheel(name: str, files: dict[str, bytes], **mode: int) -> bytes:
    return packed(
        name, files, dist_info(name), {path.replace("__", "/"): bits for path, bits in mode.items()}
    )


def evil(name: str) -> bytes:
    return wheel(name, {f"{name}/__init__.py": b"", "../../escaped.py": b"x"})


WHEELS: dict[str, tuple[Callable[[str], dict[str, Any]], str]] = {
    "escapes": (lambda name: {"content": evil(name)}, "UNSAFE_WHEEL"),
    "absolute": (lambda name: {"content": wheel(name, {"/etc/x.py": b""})}, "UNSAFE_WHEEL"),
    "backslash": (lambda name: {"content": wheel(name, {"a\\..\\b.py": b""})}, "UNSAFE_WHEEL"),
    "link": (
        lambda name: {"content": packed(name, {"l.py": b"/etc/passwd"}, dist_info(name), {"l.py": 0o120777})},
        "UNSAFE_WHEEL",
    ),
    "nozip": (lambda _: {"content": b"this is no zip at all" * 99}, "UNSAFE_WHEEL"),
    "empty": (lambda _: {"content": b""}, "UNSAFE_WHEEL"),
    "cutoff": (lambda name: {"content": good(name)[:-30]}, "UNSAFE_WHEEL"),
    "broken": (lambda name: {"content": _flipped(good(name))}, "UNSAFE_WHEEL"),
    "otherone": (
        lambda name: {"content": packed(name, {"a.py": b""}, dist_info("someoneelse"))},
        "UNSAFE_WHEEL",
    ),
    "nometadata": (lambda name: {"content": packed(name, {"a.py": b""}, {})}, "UNSAFE_WHEEL"),
    "bomb": (
        lambda name: {"content": wheel(name, {f"{name}/{n}.bin": b"\0" * (90 << 20) for n in range(3)})},
        "LAYER_TOO_LARGE",
    ),
    "lyinghash": (lambda name: {"content": good(name), "sha256": "1" * 64}, "HASH_MISMATCH"),
    "wintag": (lambda name: {"content": good(name), "tag": "cp313-cp313-win_amd64"}, "NO_WHEEL_FOR_TARGET"),
    "gone": (lambda name: {"content": good(name), "serve": status(404)}, "INDEX_UNREACHABLE"),
    "refused": (
        lambda name: {"content": good(name), "serve": moved("http://127.0.0.1:1/x")},
        "INDEX_UNREACHABLE",
    ),
    "localfile": (
        lambda name: {"content": good(name), "serve": moved("file:///etc/passwd")},
        "ADDRESS_REFUSED",
    ),
    "metadata": (
        lambda name: {"content": good(name), "serve": moved("http://169.254.169.254/latest/meta-data/")},
        "ADDRESS_REFUSED",
    ),
    "credentials": (
        lambda name: {"content": good(name), "serve": moved("http://169.254.170.2/v2/credentials/x")},
        "ADDRESS_REFUSED",
    ),
    "neighbor": (
        lambda name: {"content": good(name), "serve": moved("http://10.0.0.1/admin")},
        "ADDRESS_REFUSED",
    ),
    "denied": (lambda name: {"content": good(name), "serve": status(403)}, "INDEX_DENIED"),
    "longer": (lambda name: {"content": good(name), "size": 100}, "DOWNLOAD_TOO_LARGE"),
    "enormous": (lambda name: {"content": good(name), "size": 9 << 30}, "LAYER_TOO_LARGE"),
    "foreverslow": (lambda name: {"content": good(name), "serve": slow}, "JOB_TIMED_OUT"),
    "endless": (lambda name: {"content": good(name), "serve": endless}, "DOWNLOAD_TOO_LARGE"),
    "half": (lambda name: {"content": good(name), "serve": short(good(name))}, "INDEX_UNREACHABLE"),
}
PAGES = {
    "nopage": (plain(b"<html>not an index"), "INDEX_UNREACHABLE"),
    "nojson": (status(500), "INDEX_UNREACHABLE"),
}


def _flipped(content: bytes) -> bytes:
    middle = content.index(b"/__init__.py") + 30
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def first_of_each_code(poisons: list[Poison]) -> list[Poison]:
    return list({code: (key, content, code) for key, content, code in reversed(poisons)}.values())


@pytest.fixture(scope="module", params=in_two_sizes("a sample", "all"))
def which(request: pytest.FixtureRequest) -> str:
    """Which of them: the first of each code, or all."""
    return str(request.param)


@pytest.fixture(scope="module")
def layers_before(pipeline: Pipeline, which: str) -> set[str]:
    return layers(pipeline)


def layers(pipeline: Pipeline) -> set[str]:
    return {layer["LayerName"] for layer in pipeline.aws.clients.lambda_.list_layers()["Layers"]}


@pytest.fixture(scope="module")
def answers(pipeline: Pipeline, which: str, layers_before: set[str]) -> dict[str, tuple[str, str, Any]]:
    """All uploaded at once: by key, the code wanted, the version and the manifest."""
    pipeline.index.add("friendly", good("friendly"))
    wheels, pages = [], []
    for name, (make, code) in WHEELS.items():
        project = f"bad{name}"
        pipeline.index.add(project, **make(project))
        wheels.append((f"{ARM}real-{name}/requirements.txt", project, code))
    for name, (serve, code) in PAGES.items():
        pipeline.index.add_page(f"bad{name}", serve)
        pages.append((f"{ARM}real-{name}/requirements.txt", f"bad{name}", code))
    wanted: list[Poison] = [*KEYS, *SETTINGS, *REQUIREMENTS, *LOCKS, *wheels, *pages]
    if which == "a sample":
        wanted = first_of_each_code(wanted)
    sent = {key: (code, pipeline.upload(key, content)) for key, content, code in wanted}
    pipeline.wait((version for _, version in sent.values()))
    return {key: (code, version, pipeline.manifest(key)) for key, (code, version) in sent.items()}


@pytest.mark.attack("uploader, package and index: poisoned inputs through the pipeline")
def test_each_ends_in_its_documented_code(
    answers: dict[str, tuple[str, str, Any]], which: str, tried: Any
) -> None:
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs/manifest.md").read_text()))
    wrong = []
    for key, (code, version, manifest) in answers.items():
        error = manifest["error"] or {}
        told = f"{error.get('message')} {error.get('hint')} {error.get('details')}"
        if (manifest["status"], error.get("code"), manifest["input"]["version_id"]) != (
            "FAILED",
            code,
            version,
        ):
            wrong.append(f"{key}: wanted {code}, got {error.get('code')}: {error.get('message')}")
        elif code not in documented or "Traceback" in told or not error["hint"]:
            wrong.append(f"{key}: {told}")
    assert not wrong, "\n".join(wrong)
    assert len(answers) >= {"a sample": 14, "all": 90}[which]
    tried("poisoned inputs", len(answers), len(answers))


def test_nothing_of_them_is_left(
    pipeline: Pipeline, answers: dict[str, tuple[str, str, Any]], layers_before: set[str]
) -> None:
    for _, _, manifest in answers.values():
        assert [
            layer["layer_version_arn"] for layer in manifest["layers"] if layer["layer_version_arn"]
        ] == []
    assert pipeline.leftovers() == []
    assert layers(pipeline) == layers_before


def test_the_next_good_upload_is_unaffected(
    pipeline: Pipeline, answers: dict[str, tuple[str, str, Any]]
) -> None:
    keys = [f"{ARM}real-escapes/requirements.txt", f"{ARM}setting00/requirements.txt"]
    pipeline.wait([pipeline.upload(key, "friendly") for key in keys])
    assert [pipeline.manifest(key)["status"] for key in keys] == ["SUCCEEDED"] * 2


def test_every_code_is_documented() -> None:
    documented = (ROOT / "docs/manifest.md").read_text()
    assert [code for code in ErrorCode if f"`{code}`" not in documented] == []
