"""What is too young is not chosen, and that is told; judged by uv itself, and by trying every version."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from packaging.version import Version

from layer_builder import environment
from layer_builder.build import build
from layer_builder.ground import cooldown
from layer_builder.ground.cooldown import Cooldown, Rule
from layer_builder.ground.errors import (
    ResolutionError,
    SdistBuildError,
    TooYoungError,
    UploadTimeUnknownError,
    UsageError,
)
from layer_builder.ground.settings import Settings
from layer_builder.ground.target import Target
from layer_builder.indexes import index as pages
from layer_builder.indexes import public_index
from layer_builder.options import Options
from layer_builder.requirements import parser
from layer_builder.resolution import lock, resolve, sdist, uv
from layer_builder.resolution.relay import Relay
from layer_builder.results.report import Report
from tests.unit.builder.test_report import VALIDATOR
from tests.unit.builder.test_sdist import here as here
from tests.unit.builder.test_sdist import make_source
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from layer_builder.resolution.resolve import Resolution

PY311 = Target.of("python3.11", "x86_64")
PY313 = Target.of("python3.13", "x86_64")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
COUNTING = Cooldown(NOW, Rule(WEEK))
TARGETS = pytest.mark.parametrize("target", [PY311, PY313], ids=lambda target: target.runtime.name)


def days_old(days: float, now: datetime = NOW) -> str:
    return (now - timedelta(days=days)).isoformat().replace("+00:00", "Z")


def wheels(index: Index, ages: dict[str, float | None], **requires: str) -> None:
    """Publish wheels by `name-version`, each so many days ago; with None nobody knows when."""
    for which in ages:
        name, version = which.split("-")
        needs = requires.get(which.replace("-", "_").replace(".", "_"), "")
        make_wheel(index.folder, name, version, requires=(needs,) if needs else ())
    times = {f"{which}-py3-none-any.whl": age for which, age in ages.items()}

    def uploaded(filename: str) -> str | None:
        age = times.get(filename)
        return None if age is None else days_old(age)

    index.uploaded = uploaded


def chosen(resolution: Resolution) -> dict[str, str]:
    return {pick.name: pick.version for pick in resolution.picks}


def resolved(
    text: str, settings: Settings, counting: Cooldown | None = COUNTING, target: Target = PY313
) -> Resolution:
    return resolve.resolve(parser.parse(text), target, settings, cooldown=counting)


@given(hours=st.integers(1, 365 * 24))
def test_a_duration_that_is_written_is_read_again(hours: int) -> None:
    age = timedelta(hours=hours)
    assert cooldown.parse(cooldown.worded(age)) == age


@pytest.mark.parametrize(
    ("text", "days"), [("7 days", 7), ("1 day", 1), ("36 hours", 1.5), ("2 Weeks", 14), (" 365 days ", 365)]
)
def test_durations_as_people_write_them(text: str, days: float) -> None:
    assert cooldown.parse(text) == timedelta(days=days)


@pytest.mark.parametrize(
    "text",
    ["", "7", "days", "0 days", "-7 days", "7days", "7  days", "1.5 days", "P7D", "7 days ago", "366 days",
     "9999 weeks", "99999999999 days", "\u0667 days", "7 minutes", "7 days\n2 weeks", "2026-11-01", "false"],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        cooldown.parse(text)
    if text:
        with pytest.raises(UsageError, match="--cooldown does not take"):
            Options(inline="x", cooldown=text)


@pytest.mark.parametrize(
    "text",
    ["yesterday", 5, None, "2024-01-01", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "x" * 99],
)
def test_a_time_that_is_none_counts_as_none(text: object) -> None:
    """A date has no time zone either: whose midnight it is decides whether a file is taken."""
    assert cooldown.time_of(text) is None
    assert not COUNTING.admits("app", cooldown.time_of(text))


@TARGETS
def test_the_newest_that_is_old_enough(index: Index, settings: Settings, target: Target) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 7.001, "app-3.0": 7, "app-4.0": 1})
    assert chosen(resolved("app", settings, target=target)) == {"app": "2.0"}
    assert chosen(resolved("app", settings, None, target)) == {"app": "4.0"}


def test_a_young_file_of_an_old_version_is_not_taken(index: Index, settings: Settings) -> None:
    make_wheel(index.folder, "app")
    make_wheel(index.folder, "app", tag="cp313-cp313-manylinux_2_17_x86_64")
    index.uploaded = lambda name: days_old(1 if "cp313" in name else 30)
    (pick,) = resolved("app", settings).picks
    assert pick.filename == "app-1.0-py3-none-any.whl"


def test_what_a_package_needs_counts_too(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "dep-1.0": 30, "dep-2.0": 1}, app_1_0="dep")
    found = resolved("app", settings)
    assert chosen(found) == {"app": "1.0", "dep": "1.0"}
    (one,) = found.waiting
    assert (one.package, one.version, one.taken) == ("dep", "2.0", "1.0")
    assert (one.uploaded, one.admitted_from) == (NOW - timedelta(days=1), NOW + timedelta(days=6))
    assert found.warnings == (
        "For the cooldown of 7 days, this was left out: dep 2.0 (old enough on 2026-11-27 12:00 UTC; 1.0 was "
        "taken).",
    )


def test_what_is_held_back_by_something_young_is_told(index: Index, settings: Settings) -> None:
    """uv goes back years for that, and says nothing."""
    wheels(index, {"app-1.0": 2000, "app-2.0": 30, "dep-1.0": 1}, app_2_0="dep")
    found = resolved("app", settings)
    assert chosen(found) == {"app": "1.0"}
    told = {(one.package, one.version, one.taken, one.admitted_from is None) for one in found.waiting}
    assert told == {("app", "2.0", "1.0", True), ("dep", "1.0", None, False)}
    assert "app 2.0 (it needs what is too young; 1.0 was taken)" in found.warnings[0]


def test_nothing_is_said_where_nothing_was_left_out(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 1})
    found = resolved("app<2", settings)
    assert (chosen(found), found.warnings, found.waiting) == ({"app": "1.0"}, (), ())


@TARGETS
@pytest.mark.parametrize("line", ["app==2.0", "app>=2", "App == 2.0"])
def test_a_line_that_wants_what_is_too_young_is_named(
    index: Index, settings: Settings, line: str, target: Target
) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 1, "other-1.0": 2})
    with pytest.raises(TooYoungError) as caught:
        resolved(f"# why\n{line}", settings, target=target)
    error = caught.value
    asked = parser.parse(line).lines[0].text
    assert error.message == (
        f"Line 2, {asked}, asks for what is too young: app 2.0, uploaded on 2026-11-20 12:00 UTC, and the "
        "cooldown is 7 days."
    )
    assert error.hint == (
        "Wait until 2026-11-27 12:00 UTC, take an older version, or exempt app with --cooldown-exempt app "
        "(cooldown-exempt in the settings block)."
    )
    assert (error.code, error.exit_status) == ("PACKAGE_TOO_YOUNG", 2)


def test_what_is_wrong_without_a_cooldown_stays_what_it_is(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 1})
    with pytest.raises(ResolutionError, match="no version that matches ==3"):
        resolved("app==3", settings)
    with pytest.raises(ResolutionError, match="There is no package named nope"):
        resolved("app\nnope", settings)


def test_amazon_linux_2_waits_for_wheels_it_loads(index: Index, settings: Settings) -> None:
    """In each round what is too young is left aside, and told in the end; what never loads is not."""
    for version, glibc in (("1.0", 17), ("2.0", 28), ("3.0", 17), ("4.0", 28)):
        make_wheel(index.folder, "num", version, tag=f"cp311-cp311-manylinux_2_{glibc}_x86_64")
    index.uploaded = lambda name: days_old(1 if name[4] in "34" else 30)
    found = resolved("num", settings, target=PY311)
    assert chosen(found) == {"num": "1.0"}
    # 4.0 is younger still, and never loads: nobody is told to wait for it.
    assert [(one.version, one.taken) for one in found.waiting] == [("3.0", "1.0")]


@pytest.mark.parametrize("exempt", ["by the build", "by the installation"])
def test_who_is_exempt_may_be_young(index: Index, settings: Settings, exempt: str) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 1, "dep-1.0": 30, "dep-2.0": 1}, app_2_0="dep")
    rule = Rule(WEEK, frozenset({"app"}))
    counting = Cooldown(NOW, rule) if exempt == "by the build" else Cooldown(NOW, None, rule)
    assert chosen(resolved("app", settings, counting)) == {"app": "2.0", "dep": "1.0"}


def test_a_build_cannot_lower_what_the_installation_wants(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 5, "app-3.0": 1})
    counting = Cooldown(NOW, Rule(timedelta(days=2), frozenset({"app"})), Rule(WEEK))
    assert chosen(resolved("app", settings, counting)) == {"app": "1.0"}
    with pytest.raises(TooYoungError) as caught:
        resolved("app==3.0", settings, counting)
    assert "have the installation exempt app (CooldownExempt of the stack)" in caught.value.hint
    spared = Cooldown(NOW, Rule(timedelta(days=2)), Rule(WEEK, frozenset({"app"})))
    assert chosen(resolved("app", settings, spared)) == {"app": "2.0"}


@pytest.mark.parametrize("text", ["dep", "app"])
def test_without_upload_times_nothing_is_chosen_and_that_is_said(
    index: Index, settings: Settings, text: str
) -> None:
    """Left to itself, uv would take app 1.0, of years ago, and not say so."""
    wheels(index, {"app-1.0": 2000, "app-2.0": 30, "dep-1.0": None}, app_2_0="dep")
    with pytest.raises(UploadTimeUnknownError) as caught:
        resolved(text, settings)
    assert caught.value.message == (
        "The package index does not say since when it has dep, so nobody can tell whether the cooldown of "
        "7 days has passed."
    )
    assert "or exempt dep with --cooldown-exempt dep (cooldown-exempt in" in caught.value.hint
    exempt = Cooldown(NOW, Rule(WEEK, frozenset({"dep"})))
    assert chosen(resolved("app", settings, exempt)) == {"app": "2.0", "dep": "1.0"}


def test_an_index_in_html_gives_no_upload_times(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30})
    index.html = True
    with pytest.raises(UploadTimeUnknownError):
        resolved("app", settings)


def test_a_file_without_a_time_is_left_out_and_said(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": None})
    found = resolved("app", settings)
    assert chosen(found) == {"app": "1.0"}
    assert "Of app, files were left out of which the package index does not say" in found.warnings[0]


def test_an_index_is_exempt_if_the_installation_says_so_and_it_is_said(
    index: Index, settings: Settings
) -> None:
    wheels(index, {"app-1.0": None})
    spared = replace(settings, ageless=(index.url,))
    found = resolved("app", spared)
    assert chosen(found) == {"app": "1.0"}
    assert found.warnings == ("No cooldown was applied to app: the installation spares their index.",)
    for other in (f"{index.url}x", index.url.replace("127.0.0.1", "127.0.0.2"), f"{index.url}/app"):
        with pytest.raises(UploadTimeUnknownError):
            resolved("app", replace(settings, ageless=(other,)))


PLATFORMS = [f"manylinux_2_{glibc}_x86_64" for glibc in (17, 27, 28)]
AGES = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 6.9999, 7.0, 7.0001, 8.0, 400.0]))


@pytest.mark.long
@hypothesis_settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_it_is_what_uv_chooses_by_itself(tmp_path: Path, data: st.DataObject) -> None:
    """`uv pip compile --exclude-newer`, of the same index, without anything of ours between."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    ages: dict[str, float] = {}
    needs: dict[str, str] = {}
    for name in ("app", "dep"):
        for number in range(1, data.draw(st.integers(1, 4)) + 1):
            ages[f"{name}-{number}.0"] = data.draw(
                st.sampled_from([0.0, 1.0, 6.9999, 7.0, 7.0001, 8.0, 400.0])
            )
            if name == "app":
                needs[f"app_{number}_0"] = data.draw(st.sampled_from(["", "dep", "dep>=2", "dep<2"]))
    with Index(folder) as index:
        wheels(index, dict(ages), **needs)
        command = [public_index.uv(), "pip", "compile", "-", "--python", sys.executable, "--no-config",
                   "--default-index", index.url, "--cache-dir", str(folder / "uv"),
                   "--python-version", "3.13", "--only-binary", ":all:", "--exclude-newer",
                   cooldown.stamp(COUNTING.cutoff), "--format", "pylock.toml",
                   "--no-header", "-q"]  # fmt: skip
        done = subprocess.run(command, input="app", capture_output=True, text=True, check=False)
        settings = Settings(folder / "cache", index.url)
        if done.returncode:
            with pytest.raises((TooYoungError, ResolutionError)):
                resolved("app", settings)
            return
        found = chosen(resolved("app", settings))
        packages = tomllib.loads(done.stdout)["packages"]
        assert found == {package["name"]: package["version"] for package in packages}
        assert all(ages[f"{name}-{version}"] > 7 for name, version in found.items())


@pytest.mark.long
@hypothesis_settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_nothing_chosen_is_younger_than_the_cutoff_in_all_rounds(tmp_path: Path, data: st.DataObject) -> None:
    """By trying every version, for the target that takes several rounds of uv."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    times: dict[str, float | None] = {}
    for number in range(1, data.draw(st.integers(1, 5)) + 1):
        for platform in data.draw(st.lists(st.sampled_from(PLATFORMS), min_size=1, unique=True)):
            file = make_wheel(folder, "num", f"{number}.0", tag=f"cp311-cp311-{platform}")
            times[file.name] = data.draw(AGES)
    with Index(folder) as index:
        index.uploaded = lambda name: None if times[name] is None else days_old(times[name] or 0)
        settings = Settings(folder / "cache", index.url)
        loads = [
            wheel.version
            for wheel in pages.wheels_among([pages.IndexedFile(name, "", None) for name in times])
            if wheel.tags & set(PY311.tags) and (times[wheel.filename] or 0) > 7
        ]
        if loads:
            (pick,) = resolved("num", settings, target=PY311).picks
            assert Version(pick.version) == max(loads)
            assert (times[pick.filename] or 0) > 7
        else:
            with pytest.raises(
                (TooYoungError, UploadTimeUnknownError, ResolutionError, resolve.NoWheelError)
            ):
                resolved("num", settings, target=PY311)


@pytest.fixture
def public(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with which the loopback index is uv's own, public one."""
    monkeypatch.setattr(public_index, "address", lambda _: index.url)
    return Settings(tmp_path / "public")


def test_a_cutoff_that_moves_keeps_the_pages(index: Index, public: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 1})
    assert chosen(resolved("app", public)) == {"app": "1.0"}
    asked = len(index.requested)
    later = Cooldown(NOW + timedelta(seconds=100), Rule(WEEK))
    assert chosen(resolved("app", public, later)) == {"app": "1.0"}
    assert index.requested[asked:] == []
    assert chosen(resolved("app", public, Cooldown(NOW + timedelta(days=7), Rule(WEEK)))) == {"app": "2.0"}
    assert index.requested[asked:] == []


def test_the_public_index_is_asked_for_upload_times_too(index: Index, public: Settings) -> None:
    wheels(index, {"app-1.0": None})
    with pytest.raises(UploadTimeUnknownError):
        resolved("app", public)


def test_a_lock_is_no_way_around_it(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 1})
    young = resolved("app", settings, None)
    assert lock.located(young.picks, settings) == list(young.picks)
    with pytest.raises(TooYoungError, match=r"The lock names what is too young: app 2\.0"):
        lock.located(young.picks, settings, cooldown=COUNTING)
    exempt = Cooldown(NOW, Rule(WEEK, frozenset({"app"})))
    assert lock.located(young.picks, settings, cooldown=exempt) == list(young.picks)
    old = resolved("app<2", settings, None)
    assert lock.located(old.picks, settings, cooldown=COUNTING) == list(old.picks)
    index.uploaded = lambda _: None
    with pytest.raises(UploadTimeUnknownError):
        lock.located(old.picks, settings, cooldown=COUNTING)
    spared = replace(settings, ageless=(index.url,))
    assert lock.located(old.picks, spared, cooldown=COUNTING) == list(old.picks)


def built(tmp_path: Path, settings: Settings, **options: Any) -> tuple[dict[str, Any], str]:
    """Build; return the report and the lock beside it."""
    report, place = Report("x86_64", "python3.13"), tmp_path / "out" / "report.json"
    place.parent.mkdir(exist_ok=True)
    given = {"architecture": "x86_64", "import_check": False, "bytecode": False, **options}
    build(Options(output=str(tmp_path / "layer.zip"), report=str(place), **given), settings, report)
    report.timings["total"] = 0
    document = json.loads(report.to_json())
    VALIDATOR.validate(document)
    return document, (place.parent / "pylock.toml").read_text()


def test_report_and_lock_have_the_cutoff(index: Index, settings: Settings, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    make_wheel(index.folder, "app", "1.0")
    make_wheel(index.folder, "app", "2.0")
    index.uploaded = lambda name: days_old(30 if "1.0" in name else 1, now)
    report, text = built(tmp_path, settings, inline="app", cooldown="1 week", cooldown_exempt=("Other_one",))
    found = report["cooldown"]
    cutoff = datetime.fromisoformat(found["cutoff"])
    assert timedelta() <= cutoff + WEEK - now.replace(microsecond=0) < timedelta(minutes=2)
    assert (found["duration"], found["exempt"]) == ("7 days", ["other-one"])
    (one,) = found["left_out"]
    assert (one["package"], one["version"], one["taken"]) == ("app", "2.0", "1.0")
    assert one["admitted_from"] == cooldown.stamp(now + timedelta(days=6))
    assert tomllib.loads(text)["tool"]["layerdrop"]["exclude-newer"] == cutoff
    place = tmp_path / "pylock.toml"
    place.write_text(text)
    again, _ = built(tmp_path, settings, path=str(place), cooldown="7 days")
    assert again["layer"]["digest"] == report["layer"]["digest"]
    none, text = built(tmp_path, settings, inline="app")
    assert none["cooldown"] is None
    assert "exclude-newer" not in text


def test_a_lock_of_a_layer_without_what_is_excluded_is_taken_with_the_same_options(
    index: Index, settings: Settings, tmp_path: Path
) -> None:
    wheels(index, {"app-1.0": 30, "dep-1.0": 30}, app_1_0="dep")
    _, text = built(tmp_path, settings, inline="app", exclude=("dep",))
    (tmp_path / "pylock.toml").write_text(text)
    again, _ = built(tmp_path, settings, path=str(tmp_path / "pylock.toml"), exclude=("dep",))
    assert [package["name"] for package in again["packages"]] == ["app"]
    assert again["warnings"] == []


def test_a_lock_that_is_too_young_is_refused_before_anything_is_built(
    index: Index, settings: Settings, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    make_wheel(index.folder, "app")
    index.uploaded = lambda _: days_old(1, now)
    _, text = built(tmp_path, settings, inline="app")
    (tmp_path / "pylock.toml").write_text(text)
    (tmp_path / "layer.zip").unlink()
    floor = replace(settings, cooldown=Rule(WEEK))
    with pytest.raises(TooYoungError):
        built(tmp_path, floor, path=str(tmp_path / "pylock.toml"))
    assert not (tmp_path / "layer.zip").exists()


def test_who_asks_for_less_than_the_installation_is_told(
    index: Index, settings: Settings, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    make_wheel(index.folder, "app")
    index.uploaded = lambda _: days_old(30, now)
    floor = replace(settings, cooldown=Rule(WEEK))
    report, _ = built(tmp_path, floor, inline="app", cooldown="2 days", cooldown_exempt=("app",))
    assert report["cooldown"]["duration"] == "7 days"
    assert report["warnings"] == [
        "The installation's cooldown of 7 days counts, which is longer than the 2 days asked for.",
        "The installation's cooldown of 7 days counts for app, too: --cooldown-exempt does not lower it.",
    ]
    report, _ = built(tmp_path, settings, inline="app", cooldown_exempt=("app",))
    assert report["warnings"] == ["There is no cooldown, so --cooldown-exempt exempts from nothing."]


def test_the_installations_cooldown_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYER_BUILDER_COOLDOWN", "2 weeks")
    arn = "arn:aws:codeartifact:eu-central-1:111122223333:repository/d/r"
    monkeypatch.setenv(
        "LAYER_BUILDER_COOLDOWN_EXEMPT", f"Our_Lib, other,https://packages.example.com/simple/ {arn}"
    )
    found = environment.read()
    assert found.cooldown == Rule(timedelta(days=14), frozenset({"our-lib", "other"}))
    assert found.ageless == ("https://packages.example.com/simple/", arn)
    monkeypatch.setenv("LAYER_BUILDER_COOLDOWN", "two weeks")
    with pytest.raises(UsageError, match="LAYER_BUILDER_COOLDOWN is 'two weeks'"):
        environment.read()
    monkeypatch.setenv("LAYER_BUILDER_COOLDOWN", "")
    monkeypatch.setenv("LAYER_BUILDER_COOLDOWN_EXEMPT", "a,--no-binary")
    with pytest.raises(UsageError, match="has '--no-binary', which is neither a package nor an index"):
        environment.read()


@pytest.mark.attack("code of a source makes uv choose a file that is too young")
def test_a_file_that_is_too_young_leads_nowhere(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 1})
    from layer_builder.indexes import sources

    with Relay(sources.of(settings), COUNTING) as relay:
        page = pages.files_of("app", relay.url, sources.of(settings).access)
        assert {file.filename[4]: file.url in relay.addresses for file in page or ()} == {
            "1": True,
            "2": False,
        }
        (young,) = [file.url for file in page or () if "2.0" in file.filename]
        command = [sys.executable, "-c", "import sys, urllib.request as r; r.urlopen(sys.argv[1])", young]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "404" in done.stderr


@pytest.mark.attack("what a build from source needs is too young")
def test_what_a_source_needs_for_its_build_counts_too(
    index: Index,
    settings: Settings,
    here: Target,
    tmp_path: Path,
) -> None:
    make_source(index.folder, tmp_path / "builds")
    for name in ("tool", "dep"):
        make_wheel(index.folder, name)
    index.uploaded = lambda name: days_old(1 if name.startswith("tool") else 30)
    with pytest.raises(SdistBuildError):
        found = resolve.resolve(parser.parse("src"), here, settings, ["src"], COUNTING)
        sdist.as_wheels(found.picks, here, settings, cooldown=COUNTING)
    assert not (tmp_path / "builds").exists()
    assert not [path for path in index.downloads() if "tool" in path]


@pytest.mark.attack("nothing that is young is ever built, not even to explain")
def test_what_explains_builds_nothing(
    index: Index, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels(index, {"app-1.0": 30, "app-2.0": 1})
    asked: list[dict[str, Any]] = []
    usual = uv.compile_lock

    def noted(*given: Any, **more: Any) -> uv.Outcome:
        asked.append(more)
        return usual(*given, **more)

    monkeypatch.setattr(uv, "compile_lock", noted)
    resolve.resolve(parser.parse("app"), PY313, settings, ["app"], COUNTING)
    assert [bool(more.get("counting")) for more in asked] == [True, False]
    assert all(not more.get("sources") and not more.get("python") for more in asked)
