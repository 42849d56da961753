"""Which wheels are chosen, and what is said when there are none. Most of it against an index on loopback."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from packaging.tags import parse_tag
from packaging.version import Version

from layer_builder.ground.errors import (
    HashMismatchError,
    IndexUnreachableError,
    NoWheelError,
    RequirementsError,
    ResolutionError,
)
from layer_builder.ground.settings import Settings
from layer_builder.ground.target import Target
from layer_builder.indexes import public_index
from layer_builder.requirements import parser
from layer_builder.resolution.resolve import resolve
from tests.unit.builder.wheel_maker import Index, make_sdist, make_wheel

PY311 = Target.of("python3.11", "x86_64")
PY313 = Target.of("python3.13", "arm64")


def chosen(text: str, target: Target, settings: Settings) -> dict[str, str]:
    return {pick.name: pick.version for pick in resolve(parser.parse(text), target, settings).picks}


def native(
    folder: Path, name: str, version: str, platform: str, python: str = "cp311-cp311", **more: object
) -> Path:
    return make_wheel(folder, name, version, tag=f"{python}-{platform}", **more)  # type: ignore[arg-type]


def test_the_newest_that_loads_on_amazon_linux_2(index: Index, settings: Settings) -> None:
    """glibc 2.26: uv knows 2.17 and 2.28 only, and would take too little or too much."""
    for version, platform in (
        ("1.0", "manylinux_2_17_x86_64.manylinux2014_x86_64"),
        ("2.0", "manylinux_2_24_x86_64"),
        ("3.0", "manylinux_2_27_x86_64.manylinux_2_28_x86_64"),
        ("4.0", "manylinux_2_28_x86_64"),
        ("5.0", "musllinux_1_2_x86_64"),
        ("6.0", "win_amd64"),
    ):
        native(index.folder, "num", version, platform)
    assert chosen("num", PY311, settings) == {"num": "2.0"}


def test_what_depends_on_what_does_not_load_is_chosen_anew(index: Index, settings: Settings) -> None:
    native(index.folder, "num", "1.0", "manylinux_2_17_x86_64")
    native(index.folder, "num", "2.0", "manylinux_2_28_x86_64")
    make_wheel(index.folder, "frame", "1.0", requires=("num>=1",))
    make_wheel(index.folder, "frame", "2.0", requires=("num>=2",))
    native(index.folder, "other", "1.0", "manylinux_2_28_x86_64")
    native(index.folder, "other", "0.9", "manylinux2014_x86_64")
    assert chosen("frame\nother", PY311, settings) == {"frame": "1.0", "num": "1.0", "other": "0.9"}


def test_an_index_in_html_serves_amazon_linux_2_too(index: Index, settings: Settings) -> None:
    index.html = True
    native(index.folder, "num", "1.0", "manylinux_2_17_x86_64")
    native(index.folder, "num", "2.0", "manylinux_2_28_x86_64")
    assert chosen("num", PY311, settings) == {"num": "1.0"}


PLATFORMS = [f"manylinux_2_{glibc}_x86_64" for glibc in (17, 26, 27, 28, 34)]
PLATFORMS += ["manylinux2014_x86_64", "win_amd64"]


@pytest.mark.long
@hypothesis_settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), runtime=st.sampled_from(["python3.11", "python3.13"]))
def test_it_is_what_trying_every_version_would_give(
    tmp_path: Path, data: st.DataObject, runtime: str
) -> None:
    target = Target.of(runtime, "x86_64")
    python = f"cp3{target.runtime.version[1]}"
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    published: dict[str, list[str]] = {}
    for number in range(1, data.draw(st.integers(1, 5)) + 1):
        tags = data.draw(st.lists(st.sampled_from(PLATFORMS), min_size=1, max_size=2, unique=True))
        published[f"{number}.0"] = [f"{python}-{python}-{platform}" for platform in tags]
        for tag in published[f"{number}.0"]:
            make_wheel(folder, "num", f"{number}.0", tag=tag)
    loads = [v for v, tags in published.items() if any(parse_tag(tag) & set(target.tags) for tag in tags)]
    with Index(folder) as index:
        settings = Settings(folder / "cache", index.url)
        if loads:
            assert chosen("num", target, settings) == {"num": max(loads, key=Version)}
        else:
            with pytest.raises(NoWheelError):
                chosen("num", target, settings)


def test_of_several_wheels_the_nearest_to_the_target(index: Index, settings: Settings) -> None:
    for tag in ("py3-none-any", "cp38-abi3-manylinux_2_17_aarch64", "cp313-cp313-manylinux_2_17_aarch64",
                "cp313-cp313-manylinux_2_28_aarch64", "cp313-cp313-manylinux_2_17_x86_64"):  # fmt: skip
        make_wheel(index.folder, "num", tag=tag)
    (pick,) = resolve(parser.parse("num"), PY313, settings).picks
    assert pick.filename == "num-1.0-cp313-cp313-manylinux_2_28_aarch64.whl"
    assert pick.sha256 == hashlib.sha256((index.folder / pick.filename).read_bytes()).hexdigest()


def test_markers_are_those_of_the_target_not_of_this_machine(index: Index, settings: Settings) -> None:
    for name in ("arm", "intel", "new", "old", "mac"):
        make_wheel(index.folder, name)
    make_wheel(
        index.folder,
        "app",
        requires=(
            "arm; platform_machine == 'aarch64'",
            "intel; platform_machine == 'x86_64'",
            "new; python_version >= '3.13'",
            "old; python_version < '3.13'",
            "mac; sys_platform == 'darwin'",
        ),
    )
    assert chosen("app", PY313, settings).keys() == {"app", "arm", "new"}
    assert chosen("app", PY311, settings).keys() == {"app", "intel", "old"}
    assert chosen("app; python_version < '3.12'\narm", PY313, settings).keys() == {"arm"}


def test_requires_python_is_compared_with_the_runtimes_patch_version(
    index: Index, settings: Settings
) -> None:
    make_wheel(index.folder, "app", "1.0")
    make_wheel(index.folder, "app", "2.0", requires_python=">=3.13.5")
    make_wheel(index.folder, "app", "3.0", requires_python=">=3.13.99")
    assert chosen("app", PY313, settings) == {"app": "2.0"}


def test_extras_bring_what_they_name(index: Index, settings: Settings) -> None:
    make_wheel(index.folder, "socks")
    make_wheel(index.folder, "app", requires=("socks; extra == 'net'",), metadata="Provides-Extra: net\n")
    assert chosen("app[net]", PY313, settings).keys() == {"app", "socks"}
    assert chosen("app", PY313, settings).keys() == {"app"}
    (warning,) = resolve(parser.parse("app[nope]"), PY313, settings).warnings
    assert "nope" in warning


def test_nothing_is_ever_built(index: Index, settings: Settings, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    make_sdist(index.folder, "evil", "2.0", f"open({str(canary)!r}, 'w')")
    make_wheel(index.folder, "evil", "1.0")
    assert chosen("evil", PY313, settings) == {"evil": "1.0"}
    with pytest.raises(NoWheelError, match="source code only"):
        chosen("evil==2.0", PY313, settings)
    assert not canary.exists()


def test_the_environment_of_this_process_does_not_count(
    index: Index, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_wheel(index.folder, "app")
    (tmp_path / "uv.toml").write_text('index-url = "http://127.0.0.1:9/simple"\n')
    monkeypatch.chdir(tmp_path)
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "PIP_INDEX_URL", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CONSTRAINT", "/nowhere")
    assert chosen("app", PY313, settings) == {"app": "1.0"}


def test_only_a_wheel_with_an_allowed_hash_is_taken(index: Index, settings: Settings) -> None:
    best = make_wheel(index.folder, "num", tag="cp313-cp313-manylinux_2_17_aarch64")
    pure = make_wheel(index.folder, "num", tag="py3-none-any")
    digests = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in (best, pure)}

    def filename(text: str) -> str:
        return resolve(parser.parse(text), PY313, settings).picks[0].filename

    assert filename(f"num --hash=sha256:{digests[best]} --hash=sha256:{digests[pure]}") == best.name
    assert filename(f"num --hash=sha256:{digests[pure]}") == pure.name
    with pytest.raises(HashMismatchError) as caught:
        filename("num --hash=sha256:" + "0" * 64)
    assert caught.value.exit_status == 2
    assert digests[best] in caught.value.hint


def test_one_hash_means_that_every_package_needs_one(index: Index, settings: Settings) -> None:
    app = make_wheel(index.folder, "app", requires=("dep",))
    make_wheel(index.folder, "dep")
    digest = hashlib.sha256(app.read_bytes()).hexdigest()
    with pytest.raises(HashMismatchError, match=r"dep 1\.0 .* no --hash"):
        chosen(f"app --hash=sha256:{digest}", PY313, settings)
    with pytest.raises(HashMismatchError, match="no --hash"):
        chosen("--require-hashes\ndep", PY313, settings)


def test_requirements_that_all_are_for_others_are_an_error(index: Index, settings: Settings) -> None:
    make_wheel(index.folder, "app")
    with pytest.raises(RequirementsError, match="No requirement applies"):
        chosen("app; python_version < '3'", PY313, settings)


def test_a_contradiction_is_told_in_the_users_words(index: Index, settings: Settings) -> None:
    make_wheel(index.folder, "app", "1.0", requires=("dep>=2",))
    make_wheel(index.folder, "dep", "1.0")
    make_wheel(index.folder, "dep", "2.0")
    with pytest.raises(ResolutionError) as caught:
        chosen("app==1.0\ndep<2", PY313, settings)
    message = caught.value.message
    assert {"app", "dep>=2", "dep<2"} <= set(message.replace(";", "").replace(".", " ").split())
    assert "conclude" not in message
    assert caught.value.code == "RESOLUTION_FAILED"


def test_an_unknown_package_and_an_unknown_version_are_named(index: Index, settings: Settings) -> None:
    make_wheel(index.folder, "app", "1.0")
    with pytest.raises(ResolutionError, match="no package named nope"):
        chosen("app\nnope", PY313, settings)
    with pytest.raises(ResolutionError, match=r"app has no version that matches ==9\.9"):
        chosen("app==9.9", PY313, settings)


def test_no_wheel_says_what_there_is_and_the_way_out(index: Index, settings: Settings) -> None:
    native(index.folder, "num", "1.0", "manylinux_2_17_aarch64", "cp311-cp311")
    native(index.folder, "num", "2.0", "manylinux_2_17_aarch64", "cp313-cp313")
    with pytest.raises(NoWheelError) as caught:
        chosen("num<2", PY313, settings)
    assert caught.value.code == "NO_WHEEL_FOR_TARGET"
    assert caught.value.message.startswith("num==1.0 has no wheel for python3.13 on arm64")
    assert "cp311 manylinux_2_17_aarch64" in caught.value.message
    assert "python3.11" in caught.value.hint
    assert "2.0" in caught.value.hint
    assert caught.value.details["wheels"] == ["num-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"]


def test_no_wheel_for_amazon_linux_2_names_the_package(index: Index, settings: Settings) -> None:
    native(index.folder, "num", "1.0", "manylinux_2_28_x86_64", "cp311-cp311")
    native(index.folder, "num", "1.0", "manylinux_2_28_x86_64", "cp312-cp312")
    make_wheel(index.folder, "app", requires=("num",))
    with pytest.raises(NoWheelError) as caught:
        chosen("app", PY311, settings)
    assert "num" in caught.value.message
    assert "python3.12" in caught.value.hint


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uv give up at once."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setattr(public_index, "_PASSED_ON", (*public_index._PASSED_ON, "UV_HTTP_RETRIES"))


@pytest.mark.long
@pytest.mark.usefixtures("impatient")
def test_an_index_that_nobody_answers_for_is_worth_another_try(tmp_path: Path) -> None:
    with pytest.raises(IndexUnreachableError) as caught:
        chosen("app", PY313, Settings(tmp_path, "http://127.0.0.1:9/simple"))
    assert caught.value.exit_status == 75
    assert "refused" in caught.value.message


@pytest.mark.usefixtures("impatient")
@pytest.mark.long  # uv waits between its tries
def test_a_broken_index_is_worth_another_try(index: Index, settings: Settings) -> None:
    index.status = lambda _: 503
    with pytest.raises(IndexUnreachableError):
        chosen("app", PY313, settings)
