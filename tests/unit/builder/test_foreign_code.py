"""What code of a source can do to the build that runs it: nothing that gets under another layer's name.

Builds are not confined here, as on a kernel that can do nothing of the sort.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from layer_builder.build import build, digest
from layer_builder.ground.errors import HashMismatchError, ResolutionError
from layer_builder.ground.target import Target
from layer_builder.indexes import credentials
from layer_builder.options import Options
from layer_builder.requirements import parser
from layer_builder.resolution import lock, resolve, uv
from layer_builder.results.report import Report
from layer_builder.wheels import fetch as fetch_module
from layer_builder.wheels.pick import Pick
from tests.unit.builder.test_publishers import GITHUB, GITLAB, attested
from tests.unit.builder.test_sdist import here, make_source  # noqa: F401 (a fixture)
from tests.unit.builder.wheel_maker import Index, make_wheel, pick_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from layer_builder.ground.settings import Settings

GOOD, EVIL = "good = 1\n", "evil = 1\n"


@pytest.fixture(autouse=True)
def unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        uv, "_run_confined", lambda command, lines, environment, *_: uv._run(command, lines, environment)
    )


@pytest.fixture
def dep(index: Index, tmp_path: Path) -> tuple[Path, Path]:
    """A wheel that many layers have, and one that somebody would rather have there."""
    make_wheel(index.folder, "tool")
    folder = tmp_path / "forged"
    folder.mkdir()
    return (
        make_wheel(index.folder, "dep", files={"dep.py": GOOD}),
        make_wheel(folder, "dep", files={"dep.py": EVIL}),
    )


def built(
    text: str, target: Target, settings: Settings, tmp_path: Path, *allowed: str
) -> tuple[Report, dict[str, str]]:
    """Build, and read the modules of the layer."""
    report, file = Report(), tmp_path / "layer.zip"
    options = Options(
        inline=text,
        output=str(file),
        allow_sdist=allowed,
        architecture=target.architecture,
        runtime=target.runtime.name,
        import_check=False,
    )
    build(options, settings, report)
    with zipfile.ZipFile(file) as layer:
        modules = {
            name.rpartition("/")[2]: layer.read(name).decode()
            for name in layer.namelist()
            if name[-3:] == ".py"
        }
    return report, modules


def planting(place: Path, forged: Path) -> str:
    return (
        f"import pathlib, shutil; place = pathlib.Path({str(place)!r}); "
        f"place.parent.mkdir(parents=True, exist_ok=True); "
        f"[old.unlink() for old in place.parent.iterdir() if old.is_file()]; "
        f"shutil.copy({str(forged)!r}, place)"
    )


@pytest.mark.attack("code of a source puts a forged wheel into the cache")
@pytest.mark.parametrize(
    "cached", [False, True], ids=["before it is fetched", "in the place of the good one"]
)
def test_a_forged_wheel_in_the_cache_is_not_taken(
    index: Index,
    settings: Settings,
    here: Target,  # noqa: F811
    dep: tuple[Path, Path],
    tmp_path: Path,
    cached: bool,
) -> None:
    good, forged = dep
    place = fetch_module.path_of(pick_of(good), settings)
    make_source(index.folder, tmp_path / "builds", more=planting(place, forged))
    if cached:
        assert built("dep", here, settings, tmp_path)[1] == {"dep.py": GOOD}
    report, modules = built("dep\nsrc", here, settings, tmp_path, "src")
    assert modules == {"dep.py": GOOD, "src.py": "x = 1\n"}
    assert {package.sha256 for package in report.packages if package.name == "dep"} == {pick_of(good).sha256}


@pytest.mark.attack("code of a source says who published another package")
def test_forged_publishers_in_the_cache_are_not_taken(
    index: Index,
    settings: Settings,
    here: Target,  # noqa: F811
    dep: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    attested(index, dep=(GITHUB,), src=(GITLAB,))
    forged = tmp_path / "forged" / "publishers.json"
    evil = {"kind": "GitHub", "repository": "trusted/dep"}
    forged.write_text(json.dumps({"attested": True, "provenance": "https://x/", "publishers": [evil]}))
    place = fetch_module.path_of(pick_of(dep[0]), settings).with_name("publishers.json")
    make_source(index.folder, tmp_path / "builds", more=planting(place, forged))
    report, _ = built("dep\nsrc", here, settings, tmp_path, "src")
    assert json.loads(place.read_bytes())["publishers"] == [evil]
    found = {package.name: package.publishers for package in report.packages}
    assert found == {"dep": (GITHUB,), "src": (GITLAB,)}


@pytest.mark.attack("code of a source has AWS asked for an index's credentials by its own configuration")
def test_nothing_is_asked_of_aws_once_code_of_a_source_has_run(
    index: Index,
    settings: Settings,
    here: Target,  # noqa: F811
    dep: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that is made then would read files that are in its user's hands: ~/.aws/models, say."""
    ran, asked = tmp_path / "ran", []
    monkeypatch.setattr(credentials, "of_secret", lambda *_: asked.append(ran.exists()) or {})
    make_source(index.folder, tmp_path / "builds", more=f"open({str(ran)!r}, 'w').close()")
    report, _ = built("dep\nsrc", here, replace(settings, index_secret="credentials"), tmp_path, "src")
    assert ran.exists()
    assert len(report.packages) == 2
    assert asked == [False]


@pytest.mark.attack("code of a source replaces a wheel that was built from another source")
def test_a_built_wheel_that_changed_is_not_taken(
    index: Index, settings: Settings, dep: tuple[Path, Path], tmp_path: Path
) -> None:
    good, forged = dep
    pick = replace(pick_of(good), url="")  # as one that was built
    place = fetch_module.path_of(pick, settings)
    place.parent.mkdir(parents=True)
    place.write_bytes(forged.read_bytes())
    with pytest.raises(HashMismatchError, match=r"dep.*was changed"):
        fetch_module.fetch([pick], settings, own=tmp_path / "own")
    assert not list((tmp_path / "own").rglob("*.whl"))


@pytest.mark.attack("code of a source puts a forged source into the cache")
def test_a_forged_source_in_the_cache_is_not_built(
    index: Index, settings: Settings, dep: tuple[Path, Path]
) -> None:
    from layer_builder.requirements.origins import Origins

    good, forged = dep
    pick = replace(pick_of(good), url=f"{index.url.removesuffix('/simple')}/files/{good.name}")
    place = fetch_module.path_of(pick, settings)
    place.parent.mkdir(parents=True)
    place.write_bytes(forged.read_bytes())
    assert fetch_module.fetch_file(pick, settings, Origins()).read_bytes() == good.read_bytes()


@pytest.fixture
def survivor(tmp_path: Path) -> Iterator[Path]:
    """Where a process that outlives its build notes its id; it is ended after the test."""
    note = tmp_path / "survivor"
    yield note
    if note.exists():
        with suppress(ProcessLookupError):
            os.kill(int(note.read_text()), signal.SIGKILL)


@pytest.mark.attack("code of a source holds uv's output open, and writes into it")
def test_uv_s_output_ends_with_uv(
    index: Index,
    settings: Settings,
    here: Target,  # noqa: F811
    dep: tuple[Path, Path],
    tmp_path: Path,
    survivor: Path,
) -> None:
    """A child in a session of its own has uv's standard output, found by way of /proc, for a minute."""
    holding = (
        "import subprocess; pid = os.getpid()\n"
        "    while os.path.basename(os.readlink(f'/proc/{pid}/exe')) != 'uv':\n"
        "        pid = int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])\n"
        "    out = os.open(f'/proc/{pid}/fd/1', os.O_WRONLY)\n"
        "    null = subprocess.DEVNULL\n"
        "    child = subprocess.Popen(['sleep', '60'], stdout=out, stderr=null, start_new_session=True)\n"
        f"    open({str(survivor)!r}, 'w').write(str(child.pid))"
    )
    make_source(index.folder, tmp_path / "builds", more=holding)
    began = time.monotonic()
    _, modules = built("dep\nsrc", here, settings, tmp_path, "src")
    assert modules == {"dep.py": GOOD, "src.py": "x = 1\n"}
    assert time.monotonic() - began < 30


@pytest.mark.attack("code of a source makes uv choose a file that no index lists")
def test_what_uv_chooses_must_be_listed(
    index: Index,
    settings: Settings,
    here: Target,  # noqa: F811
    dep: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, forged = dep
    sha256 = hashlib.sha256(forged.read_bytes()).hexdigest()
    text = (
        'lock-version = "1.0"\ncreated-by = "uv"\n[[packages]]\nname = "dep"\nversion = "1.0"\n'
        f'wheels = [{{ url = "http://127.0.0.1:9/{forged.name}", hashes = {{ sha256 = "{sha256}" }} }}]\n'
    )
    listed = {f"http://127.0.0.1:9/x/files/0/{good.name}": f"https://packages.example.com/{good.name}"}
    monkeypatch.setattr(uv, "compile_lock", lambda *_, **__: uv.Outcome(0, text, "", listed))
    with pytest.raises(ResolutionError, match="none that the package indexes list"):
        resolve.resolve(parser.parse("dep"), here, settings)


@pytest.mark.attack("a build from source comes to the digest of a layer that is made of the same wheels")
def test_projects_that_may_be_built_count_in_the_digest(dep: tuple[Path, Path]) -> None:
    """Also when all of them turn out to have wheels, by a lock that their code has rewritten, say."""
    target, pick = Target.of("python3.13", "arm64"), pick_of(dep[0])

    def of(*allowed: str) -> str:
        return digest([pick], target, Options(inline="dep", allow_sdist=allowed), None)

    plain = digest([pick], target, Options(inline="dep"), None)
    assert len({plain, of("src"), of("dep"), of("src", "dep")}) == 4
    assert of() == plain
    assert of("Src", "dep") == of("dep", "src", "src")


@pytest.mark.attack("a lock's address is asked for a wheel that code of a source spoilt in the cache")
def test_a_lock_with_a_source_is_located_whole(
    index: Index, settings: Settings, dep: tuple[Path, Path], tmp_path: Path
) -> None:
    good, _ = dep
    source = make_source(index.folder, tmp_path / "builds")
    bad = "https://evil.example.com/dep-1.0-py3-none-any.whl"
    picks = [
        replace(pick_of(good), url=bad),
        Pick("src", "1.0", source.name, bad, hashlib.sha256(source.read_bytes()).hexdigest()),
    ]
    place = fetch_module.path_of(picks[0], settings)
    place.parent.mkdir(parents=True)
    place.write_bytes(good.read_bytes())
    assert all(
        pick.url.startswith(index.url.removesuffix("/simple")) for pick in lock.located(picks, settings)
    )
