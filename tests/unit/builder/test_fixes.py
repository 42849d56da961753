"""A fix is taken in a cooldown, and nothing else is: nothing later, nothing of other projects."""

from __future__ import annotations

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

from layer_builder.ground import cooldown, fixes
from layer_builder.ground.cooldown import Cooldown, Rule
from layer_builder.ground.errors import (
    BuildError,
    HashMismatchError,
    NoWheelError,
    ResolutionError,
    TooYoungError,
    UploadTimeUnknownError,
    UsageError,
)
from layer_builder.ground.settings import Settings
from layer_builder.indexes import index as pages
from layer_builder.indexes import sources
from layer_builder.options import Options
from layer_builder.requirements import parser
from layer_builder.resolution import fixing
from layer_builder.resolution.relay import Relay
from tests.unit.builder.test_cooldown import (
    COUNTING,
    NOW,
    PY311,
    PY313,
    TARGETS,
    WEEK,
    built,
    chosen,
    days_old,
    wheels,
)
from tests.unit.builder.test_cooldown import public as public
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from layer_builder.ground.target import Target
    from layer_builder.resolution.resolve import Resolution

FLOOR = Cooldown(NOW, Rule(timedelta(days=2)), Rule(WEEK))


def resolved(
    text: str,
    settings: Settings,
    *asked: str,
    counting: Cooldown | None = COUNTING,
    target: Target = PY313,
) -> Resolution:
    wanted, these = parser.parse(text), fixes.greatest(map(fixes.parse, asked))
    if counting:
        counting = fixing.admitted(these, counting, sources.of(settings, wanted.origins))
    return fixing.resolve_with(these, wanted, target, settings, (), counting)


def test_the_greatest_of_a_project_counts() -> None:
    found = fixes.greatest(
        map(fixes.parse, ["Some_Lib==1.9", "a==1!2.0rc1", "some.lib==1.10.0", "some-lib==1.2"])
    )
    assert [str(fix) for fix in found] == ["a==1!2.0rc1", "some-lib==1.10.0"]
    assert Options(inline="x", fixes=("b==2", "a==1", "b==3")).fixed == found[:0] + fixes.greatest(
        map(fixes.parse, ["a==1", "b==3"])
    )


@pytest.mark.parametrize(
    "text",
    ["", "a", "a==", "==1", "a>=1", "a==1.*", "a===1", "a == 1", "a==1+local", "a==one", "a==1,!=2",
     "a[x]==1", "a==1;x", "--no-binary==1", "a==1\n", "a==\u0661", f"a=={'1' * 200}", f"{'a' * 200}==1"],
)  # fmt: skip
def test_what_is_no_fix_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fix does not take"):
        Options(inline="x", fixes=(text,))


@TARGETS
@pytest.mark.parametrize("counting", [COUNTING, FLOOR], ids=["the build's", "the installation's"])
def test_a_fix_is_taken_and_nothing_later(
    index: Index, settings: Settings, counting: Cooldown, target: Target
) -> None:
    wheels(index, {"app-1.0": 30, "app-1.1": 1, "app-1.2": 0.9})
    assert chosen(resolved("app", settings, counting=counting, target=target)) == {"app": "1.0"}
    found = resolved("app", settings, "app==1.1", counting=counting, target=target)
    assert chosen(found) == {"app": "1.1"}
    assert [(one.version, one.taken, one.admitted_from) for one in found.waiting] == [
        ("1.2", "1.1", NOW + timedelta(days=6.1))
    ]


def test_uv_by_itself_takes_it_too(index: Index, public: Settings) -> None:
    """Without the relay, where uv alone compares times."""
    wheels(index, {"app-1.0": 30, "app-1.1": 1, "app-1.2": 0.9, "dep-1.0": 30, "dep-2.0": 1}, app_1_1="dep")
    assert chosen(resolved("app", public, "app==1.1")) == {"app": "1.1", "dep": "1.0"}
    assert chosen(resolved("app", public)) == {"app": "1.0"}


def test_what_it_needs_waits_like_the_rest(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-1.1": 1, "dep-1.0": 30, "dep-2.0": 1}, app_1_1="dep")
    assert chosen(resolved("app", settings, "app==1.1")) == {"app": "1.1", "dep": "1.0"}
    wheels(index, {"app-1.0": 30, "app-1.1": 1, "dep-1.0": 30, "dep-2.0": 1}, app_1_1="dep>=2")
    with pytest.raises(TooYoungError) as caught:
        resolved("app", settings, "app==1.1")
    assert caught.value.message == (
        "The fix app==1.1 cannot be taken: The requirements need what is too young: dep 2.0, uploaded on "
        "2026-11-20 12:00 UTC, and the cooldown is 7 days."
    )
    assert caught.value.details["fixes"] == ["app==1.1"]
    both = resolved("app", settings, "app==1.1", "dep==2.0")
    assert chosen(both) == {"app": "1.1", "dep": "2.0"}


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("app<1.1", ResolutionError, "The requirements cannot be satisfied together: "),
        ("app==1.0", ResolutionError, "The requirements cannot be satisfied together: "),
        ("app>=1.0,<2\nold", NoWheelError, None),
        (f"app --hash=sha256:{'0' * 64}", HashMismatchError, None),
        ("app\nnope", ResolutionError, None),
    ],
)
def test_an_error_names_the_fix_if_it_comes_from_it(
    index: Index, settings: Settings, text: str, error: type[BuildError], reason: str | None
) -> None:
    wheels(index, {"app-1.0": 30, "app-1.1": 1})
    make_wheel(index.folder, "old", tag="cp36-cp36m-win32")
    index.uploaded = lambda name: days_old(1 if "1.1" in name else 30)
    with pytest.raises(error) as caught:
        resolved(text, settings, "app==1.1")
    if reason:
        assert caught.value.message.startswith(f"The fix app==1.1 cannot be taken: {reason}")
        assert "app>=1.1" in caught.value.message
    else:
        assert "fix" not in caught.value.message


@pytest.mark.parametrize("fix", ["app==9", "app==1.1"])
def test_a_fix_that_there_is_not(index: Index, settings: Settings, fix: str) -> None:
    wheels(index, {"app-1.0": 30})
    for counting in (COUNTING, None):
        with pytest.raises(ResolutionError, match=rf"^The fix {fix} cannot be taken: "):
            resolved("app", settings, fix, counting=counting)


def test_without_upload_times_it_is_as_in_any_cooldown(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-1.1": None})
    with pytest.raises(
        UploadTimeUnknownError, match=r"^The fix app==1\.1 cannot be taken: The package index"
    ):
        resolved("app", settings, "app==1.1")
    spared = replace(settings, ageless=(index.url,))
    assert chosen(resolved("app", spared, "app==1.1")) == {"app": "1.1"}
    assert chosen(resolved("app", settings, "app==1.1", counting=None)) == {"app": "1.1"}


def test_a_version_that_is_old_enough_stays_what_it_is(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-1.1": 20, "app-1.2": 1})
    fixed = fixing.admitted([fixes.parse("app==1.1")], COUNTING, sources.of(settings))
    assert fixed == COUNTING
    assert chosen(resolved("app", settings, "app==1.1")) == {"app": "1.1"}


@pytest.mark.attack("a file that is added to the version of a fix has the cooldown end later")
@pytest.mark.parametrize("evil", [2.9, 0.5], ids=["the same day", "later"])
def test_what_is_added_to_a_version_after_something_newer_waits(
    index: Index, settings: Settings, evil: float
) -> None:
    """Stolen credentials: first 9.9 is uploaded, then a file for the version that layers are waiting for."""
    make_wheel(index.folder, "app", "1.0")
    times = {
        make_wheel(index.folder, "app", "1.1").name: 3.0,
        make_wheel(index.folder, "app", "1.1", tag="cp312-cp312-manylinux_2_17_x86_64").name: 2.99,
        make_wheel(index.folder, "app", "9.9").name: evil,
        make_wheel(index.folder, "app", "1.1", tag="cp313-cp313-manylinux_2_17_x86_64").name: evil - 0.1,
    }
    index.uploaded = lambda name: days_old(times.get(name, 30))
    (pick,) = resolved("app", settings, "app==1.1").picks
    assert pick.filename == "app-1.1-py3-none-any.whl"


@pytest.mark.attack("a file that is added to the version of a fix days later is taken at once")
def test_what_is_added_to_a_version_days_later_waits(index: Index, settings: Settings) -> None:
    times = {
        make_wheel(index.folder, "app", "1.1").name: 3.0,
        make_wheel(index.folder, "app", "1.1", tag="cp313-cp313-manylinux_2_17_x86_64").name: 1.9,
    }
    index.uploaded = lambda name: days_old(times[name])
    (pick,) = resolved("app", settings, "app==1.1").picks
    assert pick.filename == "app-1.1-py3-none-any.whl"
    times["app-1.1-cp313-cp313-manylinux_2_17_x86_64.whl"] = 2.1
    (pick,) = resolved("app", settings, "app==1.1").picks
    assert pick.filename == "app-1.1-cp313-cp313-manylinux_2_17_x86_64.whl"


@pytest.mark.attack("code of a source makes uv choose what is younger than a fix")
def test_what_is_younger_than_a_fix_leads_nowhere(index: Index, settings: Settings) -> None:
    wheels(index, {"app-1.0": 30, "app-1.1": 1, "app-1.2": 0.9, "dep-1.0": 1})
    places = sources.of(settings)
    counting = fixing.admitted([fixes.parse("app==1.1")], COUNTING, places)
    with Relay(places, counting) as relay:
        leads = {
            file.filename: file.url in relay.addresses
            for name in ("app", "dep")
            for file in pages.files_of(name, relay.url, places.access) or ()
        }
        (one,) = [address for address in relay.addresses if "1.1" in address]
        command = [sys.executable, "-c", "import sys, urllib.request as r; r.urlopen(sys.argv[1])", one]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert leads == {
        "app-1.0-py3-none-any.whl": True,
        "app-1.1-py3-none-any.whl": True,
        "app-1.2-py3-none-any.whl": False,
        "dep-1.0-py3-none-any.whl": False,
    }


def test_a_fix_of_a_wheel_that_loads_on_amazon_linux_2(index: Index, settings: Settings) -> None:
    """In each round of uv."""
    for version, glibc in (("1.0", 17), ("2.0", 28), ("2.1", 17), ("2.2", 28), ("3.0", 17)):
        make_wheel(index.folder, "num", version, tag=f"cp311-cp311-manylinux_2_{glibc}_x86_64")
    ages = {"1.0": 30, "2.0": 3, "2.1": 2, "2.2": 1.5, "3.0": 1}
    index.uploaded = lambda name: days_old(ages[name.split("-")[1]])
    assert chosen(resolved("num", settings, "num==2.1", target=PY311)) == {"num": "2.1"}
    with pytest.raises(BuildError, match=r"^The fix num==2\.2 cannot be taken: "):
        resolved("num", settings, "num==2.2", target=PY311)


AGES = st.sampled_from([0.0, 0.5, 1.0, 2.5, 3.0, 6.9999, 7.0, 7.0001, 400.0])


@pytest.mark.long
@hypothesis_settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_it_is_the_newest_of_what_there_was_by_then(tmp_path: Path, data: st.DataObject) -> None:
    """By looking at each file by itself: whatever was uploaded when, and how often."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    ages: dict[str, float] = {}
    for name in ("app", "dep"):
        for number in range(1, data.draw(st.integers(1, 4)) + 1):
            for tag in data.draw(
                st.lists(st.sampled_from(["py3-none-any", "cp313-none-any"]), min_size=1, unique=True)
            ):
                file = make_wheel(
                    folder, name, f"{number}.0", tag=tag, requires=("dep",) if name == "app" else ()
                )
                ages[file.name] = data.draw(AGES)
    version = f"{data.draw(st.integers(1, 4))}.0"
    own = [age for name, age in ages.items() if name.startswith(f"app-{version}-")]

    def admitted(name: str, age: float) -> bool:
        if age > 7:
            return True
        if not name.startswith("app-") or not own or age < min(own):
            return False
        later = [a for n, a in ages.items() if n[:4] == "app-" and Version(n[4:7]) > Version(version)]
        if name.startswith(f"app-{version}-"):
            first = max(own)
            return age == first or (first - age < 1 and not any(age <= other < first for other in later))
        counted = [a for a in own if admitted(f"app-{version}-", a)]
        return age >= min(counted)

    taken = {name for name, age in ages.items() if admitted(name, age)}
    good = {name: [Version(n[4:7]) for n in taken if n.startswith(name)] for name in ("app", "dep")}
    good["app"] = [one for one in good["app"] if one >= Version(version)]
    with Index(folder) as index:
        index.uploaded = lambda name: days_old(ages[name])
        settings = Settings(folder / "cache", index.url)
        if not all(good.values()):
            with pytest.raises((TooYoungError, ResolutionError)):
                resolved("app", settings, f"app=={version}")
            return
        found = resolved("app", settings, f"app=={version}")
    assert {name: Version(one) for name, one in chosen(found).items()} == {n: max(v) for n, v in good.items()}
    assert {pick.filename for pick in found.picks} <= taken


def test_report_lock_and_digest(index: Index, settings: Settings, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for version in ("1.0", "1.1", "1.2"):
        make_wheel(index.folder, "app", version)
    make_wheel(index.folder, "dep")
    ages = {"app-1.0": 30, "app-1.1": 1, "app-1.2": 0.5, "dep-1.0": 30}
    index.uploaded = lambda name: days_old(ages[name[:7]], now)
    asked = {"cooldown": "7 days", "fixes": ("app==1.1", "dep==0.5", "other==2")}
    floor = replace(settings, cooldown=Rule(WEEK))
    report, text = built(tmp_path, floor, inline="app|dep", **asked)
    assert [package["version"] for package in report["packages"]] == ["1.1", "1.0"]
    assert report["cooldown"]["exempt"] == ["app"]
    assert report["cooldown"]["fixes"] == [
        {"package": "app", "version": "1.1", "until": cooldown.stamp(now - timedelta(days=1))}
    ]
    assert [(one["package"], one["version"], one["taken"]) for one in report["cooldown"]["left_out"]] == [
        ("app", "1.2", "1.1")
    ]
    assert report["warnings"][-1] == "Nothing requires other, so the fix other==2 changes nothing."
    assert tomllib.loads(text)["tool"]["layerdrop"]["requirements"] == ["app", "dep"]
    straight, _ = built(tmp_path, settings, inline="app==1.1|dep")
    assert straight["layer"]["digest"] == report["layer"]["digest"]
    # A lock is taken by whoever has the fix as well, and by nobody else.
    place = tmp_path / "pylock.toml"
    place.write_text(text)
    again, _ = built(tmp_path, floor, path=str(place), **asked)
    assert again["layer"]["digest"] == report["layer"]["digest"]
    assert again["cooldown"]["fixes"] == report["cooldown"]["fixes"]
    with pytest.raises(TooYoungError, match=r"The lock names what is too young: app 1\.1"):
        built(tmp_path, floor, path=str(place))
    with pytest.raises(
        ResolutionError, match=r"^The fix app==1\.2 cannot be taken: the lock names app 1\.1\.$"
    ):
        built(tmp_path, floor, path=str(place), fixes=("app==1.2",))


def test_without_a_cooldown_it_is_at_least_that_version(
    index: Index, settings: Settings, tmp_path: Path
) -> None:
    wheels(index, {"app-1.0": 30, "app-1.1": 1, "app-1.2": 0.5})
    asked: dict[str, Any] = {"inline": "app", "fixes": ("app==1.1",)}
    report, _ = built(tmp_path, settings, **asked)
    assert (report["packages"][0]["version"], report["cooldown"]) == ("1.2", None)
    report, _ = built(tmp_path, settings, constraints=("app<1.2",), **asked)
    assert report["packages"][0]["version"] == "1.1"
