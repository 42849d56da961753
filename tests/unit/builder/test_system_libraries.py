"""Which libraries are bundled, out of which packages; how they change a layer's zip and digest.

Packages come from a stand-in for the package manager: tests/native has the real one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import sys
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from layer_builder.build import build
from layer_builder.ground import interpreter
from layer_builder.ground.errors import BuildError, OutputError
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.options import Options
from layer_builder.proof import import_check
from layer_builder.proof.import_check import ImportCheckError
from layer_builder.proof.libraries import MissingLibraryError
from layer_builder.proof.prove import RuntimeTooOldError
from layer_builder.proof.sizes import LayerTooLargeError
from layer_builder.results.report import Report
from layer_builder.system_libraries import bundling, rpm
from layer_builder.system_libraries.bundling import NotInRepositoryError
from layer_builder.system_libraries.package_manager import (
    PackageManager,
    RepositoryError,
    SystemLibrariesUnavailableError,
)
from layer_builder.system_libraries.rpm import PackageBrokenError, Rpm, SharedLibrary
from tests.unit.builder.native_maker import (
    HERE,
    MACHINES,
    Library,
    compile_one,
    facts_of,
    module_source,
    needs_gcc,
)
from tests.unit.builder.wheel_maker import make_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layer_builder.ground.settings import Settings
    from tests.unit.builder.wheel_maker import Index

pytestmark = [needs_gcc, pytest.mark.skipif(not HERE, reason="no runtime is for this kind of machine")]


@dataclass
class Repository:
    """Packages and their libraries; `asked` is what was asked, question by question.

    A package is a file of its own name, whose libraries are compiled at once.
    """

    folder: Path
    packages: dict[str, list[SharedLibrary]] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)

    def add(self, package: str, *libraries: Library) -> None:
        for library in libraries:
            compiled = compile_one(self.folder, library)
            content = compiled.read_bytes()
            facts = facts_of(compiled, library.path)
            names = frozenset({facts.soname or compiled.name})
            digest = hashlib.sha256(content).hexdigest()
            file = self.folder / f"{digest}.so"
            file.write_bytes(content)
            place = f"usr/lib64/{library.path}"
            made = SharedLibrary(names, place, file, digest, zlib.crc32(content), facts)
            self.packages.setdefault(package, []).append(made)

    def download(self, wanted: Sequence[str]) -> list[Path]:
        self.asked.append(list(wanted))
        for name, libraries in self.packages.items():
            provided = {f"{one}()(64bit)" for library in libraries for one in library.names}
            if name in wanted or provided & set(wanted):
                (self.folder / f"{name}.rpm").touch()
        return sorted(self.folder.glob("*.rpm"))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    folder = tmp_path / "repository"
    folder.mkdir()
    one = Repository(folder)
    manager = PackageManager("dnf", MACHINES[HERE])
    monkeypatch.setattr(PackageManager, "find", lambda _: manager)
    monkeypatch.setattr(PackageManager, "download", lambda _, wanted, __: one.download(wanted))
    monkeypatch.setattr(
        Rpm, "read", lambda file: Rpm(file, file.stem, "1-1", "any", "MIT", f"{file.stem}.src.rpm")
    )
    monkeypatch.setattr(rpm, "unpack", lambda package, *_: tuple(one.packages[package.name]))
    return one


class Builder:
    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.report = Report()

    def __call__(self, *how: str, **options: Any) -> dict[str, bytes]:
        """Build a layer of the package `app`; return its files in `lib/`."""
        self.report = Report()
        file = self.folder / "layer.zip"
        file.unlink(missing_ok=True)
        given = {"architecture": HERE, "runtime": "python3.13", "import_check": False, **options}
        chosen = Options(inline="app", output=str(file), system_libraries=how or ("auto",), **given)
        build(chosen, self.settings, self.report)
        with zipfile.ZipFile(file) as layer:
            assert layer.testzip() is None
            return {
                name.removeprefix("lib/"): layer.read(name)
                for name in layer.namelist()
                if name.startswith("lib/")
            }

    @property
    def digest(self) -> str:
        assert self.report.layer
        return self.report.layer.digest


@pytest.fixture
def builder(tmp_path: Path, settings: Settings) -> Builder:
    folder = tmp_path / "out"
    folder.mkdir()
    return Builder(folder, settings)


def app(index: Index, tmp_path: Path, *sonames: str) -> None:
    """Make a wheel whose module needs libraries of these names."""
    for soname in sonames:
        compile_one(tmp_path / "made", Library(soname, soname=soname))
    library = Library("app.abi3.so", source=module_source("app"), needed=sonames)
    make_wheel(
        index.folder, "app", files={"app.abi3.so": compile_one(tmp_path / "made", library).read_bytes()}
    )


def library(name: str, *needed: str, source: str = "") -> Library:
    return Library(name, soname=name, needed=needed, source=source)


def test_what_is_missing_comes_with_what_it_needs_and_nothing_else(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    app(index, tmp_path, "liba.so.1")
    repository.add("b", library("libb.so.1"), library("libunneeded.so.1"))
    repository.add("a", library("liba.so.1", "libb.so.1"))
    files = builder()
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == {
        one.facts.soname: one.sha256
        for found in repository.packages.values()
        for one in found
        if one.facts.soname != "libunneeded.so.1"
    }
    assert repository.asked == [["liba.so.1()(64bit)"], ["libb.so.1()(64bit)"]]
    assert [package.name for package in builder.report.system_packages] == ["a", "b"]
    # The sizes count them, under names that no Python package can have.
    largest = {one["package"] for one in builder.report.checks["size"]["largest"]}
    assert {"a (rpm)", "b (rpm)"} <= largest


def test_of_several_packages_the_named_the_used_or_the_shortest_is_taken(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    app(index, tmp_path, "libcurl.so.4")
    repository.add("libcurl-minimal", library("libcurl.so.4", source="int minimal;"))
    repository.add("libcurl", library("libcurl.so.4", source="int whole;"))
    builder()
    assert [package.name for package in builder.report.system_packages] == ["libcurl"]
    builder("libcurl-minimal")
    assert [package.name for package in builder.report.system_packages] == ["libcurl-minimal"]


def test_a_name_that_is_no_librarys_is_never_asked_for(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    for name in ("--installroot=x", "lib*.so", "lib a.so"):
        app(index, tmp_path, name)
        repository.asked.clear()
        with pytest.raises(MissingLibraryError):
            builder()
        assert repository.asked == []


def test_what_the_runtime_may_have_is_bundled_if_it_can_be_and_else_warned_of(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    app(index, tmp_path, "libglib-2.0.so.0", "libpython3.13.so.1.0")
    assert builder() == {}
    assert repository.asked == [["libglib-2.0.so.0()(64bit)"]], "Python's own library is not to be doubled"
    assert any("libglib-2.0.so.0" in warning for warning in builder.report.warnings)
    repository.add("glib2", library("libglib-2.0.so.0"))
    assert list(builder()) == ["libglib-2.0.so.0"]
    assert not any("libglib-2.0.so.0" in warning for warning in builder.report.warnings)

    def unavailable(_: Target) -> PackageManager:
        raise SystemLibrariesUnavailableError("There is no dnf.")

    monkeypatch.setattr(PackageManager, "find", unavailable)
    assert builder() == {}
    assert any("libglib-2.0.so.0" in warning for warning in builder.report.warnings)
    with pytest.raises(SystemLibrariesUnavailableError):
        builder("glib2")


def test_what_a_trial_found_missing_is_bundled_with_what_it_needs_and_counts_in_the_digest(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    app(index, tmp_path)
    repository.add("b", library("libb.so.1"))
    repository.add("vips", library("libvips.so.42", "libb.so.1"), library("libunneeded.so.1"))
    assert builder() == {}
    plain = builder.digest
    assert builder(needed_libraries=("libvips.so.42", "libc.so.6")).keys() == {"libvips.so.42", "libb.so.1"}
    assert builder.digest != plain
    assert repository.asked == [["libvips.so.42()(64bit)"], ["libb.so.1()(64bit)"]], "of libc nobody is asked"
    takers = {
        file.path: file.needed_by for package in builder.report.system_packages for file in package.files
    }
    assert takers == {"lib/libvips.so.42": (), "lib/libb.so.1": ("vips (rpm)",)}
    with pytest.raises(NotInRepositoryError, match=r"No package repository has libnone\.so\.1"):
        builder(needed_libraries=("libnone.so.1",))


def test_a_package_of_the_table_gets_what_it_loads_by_name(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    make_wheel(index.folder, "app", requires=("cairocffi",))
    make_wheel(index.folder, "cairocffi")
    # Where no repository has it, the warning remains.
    assert builder() == {}
    assert any("loads libcairo.so.2" in warning for warning in builder.report.warnings)
    repository.add("cairo", library("libcairo.so.2"))
    assert list(builder("check")) == []
    assert list(builder()) == ["libcairo.so.2"]
    [package] = builder.report.system_packages
    assert package.files[0].needed_by == ("cairocffi",)
    assert not any("libcairo" in warning for warning in builder.report.warnings)


def test_without_a_repository_the_error_is_the_one_of_what_is_missing(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    app(index, tmp_path, "liba.so.1")
    for reason, status in (
        (SystemLibrariesUnavailableError("There is no dnf."), 2),
        (RepositoryError("It does not answer."), 75),
    ):

        def unavailable(*_: object, reason: BuildError = reason) -> list[Path]:
            raise reason

        monkeypatch.setattr(PackageManager, "download", unavailable)
        with pytest.raises(MissingLibraryError, match=r"app needs liba\.so\.1") as caught:
            builder()
        assert caught.value.exit_status == status
        assert f"could not be bundled: {reason.message}" in caught.value.hint
        # Whoever asks for something by name is told of that.
        with pytest.raises(type(reason)):
            builder("unixODBC")
        with pytest.raises(type(reason)):
            builder(needed_libraries=("libb.so.1",))
    with pytest.raises(MissingLibraryError) as caught:
        builder("check")
    assert 'system-libraries = "auto"' in caught.value.hint


RUNTIME = "python{}.{}".format(*sys.version_info[:2])
imports = pytest.mark.skipif(
    RUNTIME not in RUNTIMES or interpreter.find(RUNTIME.removeprefix("python")) is None,
    reason="this Python is not one of Lambda's",
)


def loading(index: Index, *sonames: str) -> None:
    """Make a wheel whose module loads libraries by their names, one after the other."""
    lines = "".join(f"ctypes.CDLL({name!r})\n" for name in sonames)
    make_wheel(index.folder, "app", files={"app.py": f"import ctypes\n{lines}"})


@imports
def test_what_imports_lack_is_bundled_until_they_work(
    builder: Builder, index: Index, repository: Repository
) -> None:
    loading(index, "libone.so.1", "libtwo.so.2")
    repository.add("b", library("libb.so.1"))
    repository.add("one", library("libone.so.1", "libb.so.1"))
    repository.add("two", library("libtwo.so.2"))
    files = builder(import_check=True, runtime=RUNTIME)
    assert files.keys() == {"libone.so.1", "libb.so.1", "libtwo.so.2"}
    assert builder.report.checks["imports"]["status"] == "passed"
    takers = {
        file.path: file.needed_by for package in builder.report.system_packages for file in package.files
    }
    assert takers == {
        "lib/libone.so.1": ("app",),
        "lib/libb.so.1": ("one (rpm)",),
        "lib/libtwo.so.2": ("app",),
    }
    assert len(builder.report.warnings) == len({*builder.report.warnings})
    # What a trial elsewhere found is the same layer.
    digest, content = builder.digest, (builder.folder / "layer.zip").read_bytes()
    builder(import_check=True, runtime=RUNTIME, needed_libraries=("libtwo.so.2", "libone.so.1"))
    assert (builder.digest, (builder.folder / "layer.zip").read_bytes()) == (digest, content)
    with pytest.raises(ImportCheckError, match=r"libone\.so\.1") as caught:
        builder("check", import_check=True, runtime=RUNTIME)
    # There are none for Amazon Linux 2.
    assert ('system-libraries = "auto"' in caught.value.hint) == (RUNTIME != "python3.11")


@imports
def test_imports_are_tried_five_times_more_and_what_is_nowhere_ends_it(
    builder: Builder, index: Index, repository: Repository
) -> None:
    names = [f"lib{number}.so.1" for number in range(7)]
    loading(index, *names)
    for name in names[:-1]:
        repository.add(name.partition(".")[0], library(name))
    with pytest.raises(ImportCheckError, match=r"lib5\.so\.1"):
        builder(import_check=True, runtime=RUNTIME)
    loading(index, "libnowhere.so.1")
    repository.asked.clear()
    with pytest.raises(ImportCheckError, match=r"libnowhere\.so\.1"):
        builder(import_check=True, runtime=RUNTIME)
    assert repository.asked == [["libnowhere.so.1()(64bit)"]]
    assert not list(builder.folder.iterdir())


@imports
@pytest.mark.attack("code of a package changes what is built after its import failed")
def test_after_an_import_that_could_reach_the_builders_files_nothing_is_built(
    builder: Builder, index: Index, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading(index, "libone.so.1")
    repository.add("one", library("libone.so.1"))
    checked = import_check.check

    def reaching(*given: Any, **named: Any) -> import_check.Result:
        result = checked(*given, **named)
        return replace(result, confined=result.confined | {"files": "the user's"})

    monkeypatch.setattr(import_check, "check", reaching)
    with pytest.raises(ImportCheckError):
        builder(import_check=True, runtime=RUNTIME)
    assert repository.asked == []


def test_what_a_layer_can_do_without_is_not_worth_an_error(
    builder: Builder, index: Index, repository: Repository
) -> None:
    make_wheel(index.folder, "app", requires=("cairocffi",))
    make_wheel(index.folder, "cairocffi")
    repository.add("cairo", library("libcairo.so.2", source="int large[1 << 20] = {1};"))
    assert builder(size_limit=1 << 20) == {}
    assert any("could not be bundled: The layer unzips to" in one for one in builder.report.warnings)
    with pytest.raises(LayerTooLargeError):
        builder(size_limit=1 << 20, needed_libraries=("libcairo.so.2",))


def test_libraries_of_gpus_are_asked_for_nowhere(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    app(index, tmp_path, "libcudart.so.12", "liba.so.1")
    with pytest.raises(MissingLibraryError, match=r"libcudart\.so\.12") as caught:
        builder()
    assert "GPU" in caught.value.hint
    assert repository.asked == []


@pytest.mark.attack("a wheel that needs hundreds of libraries has a package manager asked for each")
def test_more_libraries_than_any_real_layer_lacks_are_asked_for_nowhere(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bundling.MOST == 100
    monkeypatch.setattr(bundling, "MOST", 3)
    app(index, tmp_path, *(f"lib{number}.so.1" for number in range(4)))
    with pytest.raises(MissingLibraryError):
        builder()
    assert repository.asked == []


def test_a_layer_that_lacks_nothing_asks_nothing_and_is_the_one_it_was(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    app(index, tmp_path)
    assert builder("check") == {}
    digest = builder.digest
    assert builder("auto") == {}
    assert (builder.digest, repository.asked) == (digest, [])


def test_the_libraries_bytes_are_part_of_the_digest(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    app(index, tmp_path, "liba.so.1")
    repository.add("a", library("liba.so.1", source="int one;"))
    builder()
    first, content = builder.digest, (builder.folder / "layer.zip").read_bytes()
    builder("a")
    assert (builder.digest, (builder.folder / "layer.zip").read_bytes()) == (first, content)
    repository.packages.clear()
    repository.add("a", library("liba.so.1", source="int another[2];"))
    builder()
    assert builder.digest != first


def test_the_proof_judges_what_was_bundled(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    app(index, tmp_path, "liba.so.1")
    repository.add("a", library("liba.so.1", source="int large[1 << 20] = {1};"))
    with pytest.raises(LayerTooLargeError):
        builder(size_limit=1 << 20)
    from layer_builder.proof import base_libraries

    monkeypatch.setattr(
        base_libraries, "is_newer", lambda family, version, _: (family, version) == ("GLIBC", "2.17")
    )
    repository.packages.clear()
    versioned = "extern int clock_gettime(); int now(void) { return clock_gettime(); }"
    repository.add("a", library("liba.so.1", source=versioned))
    if HERE == "x86_64":
        with pytest.raises(RuntimeTooOldError, match=r"a \(rpm\): lib/liba\.so\.1") as caught:
            builder()
        assert "wheel" not in caught.value.hint
    assert not list(builder.folder.iterdir())


def test_with_another_fault_no_package_is_asked_for(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository
) -> None:
    app(index, tmp_path, "liba.so.1")
    with pytest.raises(MissingLibraryError) as caught:
        builder(size_limit=10)
    assert repository.asked == []
    assert [one["code"] for one in caught.value.details["also"]] == ["LAYER_TOO_LARGE"]


def test_a_full_disk_is_no_bug(
    builder: Builder, index: Index, tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[Path]:
        raise OSError(errno.ENOSPC, "No space left on device")

    app(index, tmp_path, "liba.so.1")
    monkeypatch.setattr(PackageManager, "download", full)
    with pytest.raises(OutputError, match="No space left"):
        builder()


@mock_aws
def test_a_bundled_layer_that_is_there_is_taken(
    index: Index, tmp_path: Path, settings: Settings, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = boto3.resource("s3").create_bucket(Bucket="bundled")
    app(index, tmp_path, "liba.so.1")
    repository.add("a", library("liba.so.1", source="int one;"))

    def run(*how: str) -> Report:
        report = Report()
        options = Options(
            inline="app", output="s3://bundled/layers/", architecture=HERE, runtime="python3.13",
            import_check=False, system_libraries=how,
        )  # fmt: skip
        build(options, settings, report)
        return report

    first, again = run("auto"), run("auto")
    assert "upload" in first.timings
    assert "upload" not in again.timings
    assert again.layer == first.layer
    assert again.warnings == first.warnings
    assert [package.name for package in again.system_packages] == ["a"]
    assert json.loads(again.to_json())["system_packages"] == json.loads(first.to_json())["system_packages"]
    # Without the setting it is still an error, whatever is there.
    with pytest.raises(MissingLibraryError):
        run("check")
    # Another state of the repository is another layer; the old one stays.
    repository.packages.clear()
    repository.add("a", library("liba.so.1", source="int another[2];"))
    other = run("auto")
    assert other.layer
    assert first.layer
    assert other.layer.digest != first.layer.digest
    assert len(list(bucket.objects.filter(Prefix="layers/"))) == 4


@mock_aws
def test_a_layer_that_lacks_nothing_is_known_before_anything_is_fetched(
    index: Index, tmp_path: Path, settings: Settings, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.resource("s3").create_bucket(Bucket="complete")
    app(index, tmp_path)
    timings = []
    for _ in range(2):
        report = Report()
        options = Options(
            inline="app", output="s3://complete/layers/", architecture=HERE, runtime="python3.13",
            import_check=False, system_libraries=("auto",),
        )  # fmt: skip
        build(options, settings, report)
        timings.append(report.timings)
    assert "fetch" in timings[0]
    assert "fetch" not in timings[1]


def test_for_amazon_linux_2_there_is_none() -> None:
    with pytest.raises(SystemLibrariesUnavailableError, match=r"python3\.11 runs on Amazon Linux 2"):
        PackageManager.find(Target.of("python3.11", "arm64"))


def test_a_machine_without_a_package_manager_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemLibrariesUnavailableError, match="no dnf on this machine"):
        PackageManager.find(Target.of("python3.13", HERE))
    for name in ("dnf", "rpm"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(SystemLibrariesUnavailableError, match="no rpm2archive on this machine"):
        PackageManager.find(Target.of("python3.13", HERE))


@pytest.mark.parametrize("program", ["rpm", "rpm2archive"])
def test_a_package_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    bad = tmp_path / "bad-1.rpm"
    bad.write_bytes(b"\xed\xab\xee\xdb and no more")
    # Whether rpm's programs are here or not: these fail as theirs do, the second one in the middle.
    (tmp_path / "rpm").write_text("#!/bin/sh\necho 'error: not an rpm package' >&2\nexit 1\n")
    (tmp_path / "rpm2archive").write_text("#!/bin/sh\necho garbage; echo 'cannot read it' >&2; exit 1\n")
    for name in ("rpm", "rpm2archive"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(PackageBrokenError, match=r"bad-1\.rpm cannot be read"):
        if program == "rpm":
            Rpm.read(bad)
        else:
            rpm.unpack(Rpm(bad, "bad", "1", "any", "MIT", ""), "x86_64", tmp_path / "store")


def test_wanted_is_what_imports_may_need() -> None:
    def missing(name: str, **flags: bool) -> Any:
        from layer_builder.proof.libraries import MissingLibrary

        known = {"essential": True, "doubtful": False, "accepted": False} | flags
        return MissingLibrary(name, (("app", "app.so"),), **known)

    listed = [
        missing("liba.so.1"),
        missing("libb.so.1", essential=False),
        missing("libc.so.1", accepted=True),
        missing("libd.so.1", doubtful=True),
        missing("libpython3.13.so.1.0", doubtful=True),
    ]
    assert [one.library for one in bundling.wanted(listed)] == ["liba.so.1", "libd.so.1"]
