import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_builder import cli
from layer_builder.ground import cooldown
from layer_builder.resolution import lock
from layerdrop import input_key
from layerdrop.build_input import BuildInput, Execution
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.input_key import InputKey
from layerdrop.options_file import split
from layerdrop.plan import Workshop, plan
from layerdrop.settings import Settings
from layerdrop.settings import parse as parse_settings
from layerdrop.target import Target

EXECUTION = Execution("arn", "web-1", "now")
INPUT = BuildInput("bucket", "requirements/arm64/web/requirements.txt", "v1", "e", "0A", 1)
DEFAULTS = Settings()
WORKSHOPS: dict[Any, Workshop] = {
    "arm64": Workshop("queue-arm", "definition-arm", "source-arm"),
    "x86_64": Workshop("queue-x86", "definition-x86", "source-x86"),
}
lines = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp", "Zs")) | st.just(" "), min_size=1, max_size=40
)


def planned(
    key: InputKey, settings: Settings = DEFAULTS, build_input: BuildInput = INPUT, room: int = 262_144_000
) -> tuple[Target, ...]:
    return plan(build_input, EXECUTION, key, settings, "python3.12", WORKSHOPS, room)


@given(
    version=st.text(st.characters(codec="ascii", exclude_categories=("C",)), min_size=1),
    key=st.text(st.characters(exclude_categories=("C",)), min_size=1),
    description=st.none()
    | lines
    | st.sampled_from(["-s bucket", "--publish-bucket", "-n name", "-- x", "=", "-"]),
    license_text=st.none() | lines | st.sampled_from(["-p x", "--output=/tmp/x"]),
    sdists=st.lists(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", fullmatch=True), max_size=3),
    bytecode=st.booleans(),
    constraints=st.lists(st.sampled_from(["urllib3<2", "numpy >= 1; python_version < '3'"]), max_size=2),
    libraries=st.sampled_from([(), ("check",), ("auto",)])
    | st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}", fullmatch=True), max_size=3)
    .filter(lambda names: not {"check", "auto"} & set(names))
    .map(tuple),
    fit=st.booleans(),
    slim=st.booleans(),
    excluded=st.lists(
        st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,100}[A-Za-z0-9])?", fullmatch=True), max_size=3
    ),
    age=st.none() | st.builds("{} {}s".format, st.integers(1, 52), st.sampled_from(["Hour", "day", "week"])),
    limit=st.none() | st.integers(1, 262_144_000),
    room=st.integers(1, 262_144_000),
)
def test_the_builder_reads_the_command_as_it_was_meant(
    version: str,
    key: str,
    description: str | None,
    license_text: str | None,
    sdists: list[str],
    bytecode: bool,
    constraints: list[str],
    libraries: tuple[str, ...],
    fit: bool,
    slim: bool,
    excluded: list[str],
    age: str | None,
    limit: int | None,
    room: int,
) -> None:
    build_input = BuildInput("bucket", f"requirements/arm64/{key}/requirements.txt", version, "e", "0A", 1)
    settings = Settings(
        name="web",
        description=description,
        license=license_text,
        allow_sdist=tuple(sdists),
        bytecode=bytecode,
        constraints=tuple(constraints),
        system_libraries=libraries,
        fit=fit,
        slim=slim,
        exclude=tuple(excluded),
        size_limit=limit,
        cooldown=age,
        cooldown_exempt=tuple(excluded),
    )
    (target,) = planned(InputKey("arm64", None, (key,), ""), settings, build_input, room)
    # As the builder's main() does it, odd forms of the original tool included.
    options = cli.parse(cli.normalized(target.job.command))
    # And as the job gets it: what the settings ask in a file.
    ours, asked = split(target.job.command)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "options.json")
        file.write_text(json.dumps(asked, ensure_ascii=False))
        assert cli.parse(cli.normalized([*ours, f"--options-file={file}"])) == options
    assert options.path == f"s3://bucket/{build_input.key}"
    assert options.version_id == version
    assert options.name == target.layer_name
    assert (options.architecture, options.runtime) == ("arm64", "python3.12")
    assert options.constraints == tuple(constraints)
    assert (options.description, options.license) == (description, license_text)
    assert (options.allow_sdist, options.bytecode) == (tuple(sdists), bytecode)
    assert options.system_libraries == (libraries or ("auto",))
    assert (options.fit, options.slim, options.exclude) == (fit, slim, tuple(excluded))
    assert options.size_limit == min(limit or 262_144_000, room)
    assert (options.cooldown, options.cooldown_exempt) == (age or "", tuple(excluded))
    assert (options.rule is None) == (age is None)
    assert options.staging == f"s3://bucket/{target.staging}"
    assert options.report_place == f"s3://bucket/{target.staged('report.json', 1)}"
    assert options.reuse == f"s3://bucket/{target.shelf}"
    assert target.shelf == (f"layers/{target.layer_name}/" if sdists else "layers/")
    assert not options.output
    assert not options.publish_bucket, "publishing belongs to one function's role"


@given(st.integers(0, 9000), st.sampled_from(["hour", "hours", "Day", "days", "week", "WEEKS", "month", "d"]))
def test_a_cooldown_that_is_taken_is_one_for_the_builder_too(number: int, unit: str) -> None:
    try:
        parse_settings(f'# /// layer\n# cooldown = "{number} {unit}"\n# ///\n')
        taken = True
    except BuildError:
        taken = False
    try:
        cooldown.parse(f"{number} {unit}")
        assert taken
    except ValueError:
        assert not taken


def test_what_a_command_tells_is_short_whatever_the_settings_ask() -> None:
    """8,192 characters of overrides with the JSON around them, of which Batch's own variables take some."""
    many = tuple(f"{'p' * 117}{number:03}" for number in range(50))
    settings = Settings(
        name="n" * 127,
        description="\0" * 256,
        license="\0" * 512,
        allow_sdist=many,
        bytecode=True,
        system_libraries=many,
        constraints=many,
    )
    # S3's longest key, of what JSON writes at greatest length; so may be bucket and execution.
    key = ("requirements/x86_64/" + "\x01" * 1024)[: 1024 - len("/requirements.txt")] + "/requirements.txt"
    build_input = BuildInput("b" * 63, key, "v" * 32, "e", "0A", 1)
    execution = Execution("arn", "e" * 80, "now")
    (target,) = plan(
        build_input, execution, InputKey("x86_64", None, (), ""), settings, "python3.13", WORKSHOPS
    )
    ours, asked = split(target.job.command)
    ours.append(f"--options-file=s3://{'b' * 63}/plans/{'e' * 80}/{target.id}/{'s' * 24}.json")
    task = {"containerOverrides": [{"name": "default", "command": ours, "environment": []}]}
    batch = sum(len(name) + 40 for name in ("AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT")) + 2 * 170
    assert len(json.dumps(task)) + batch < 8192
    assert len(json.dumps(asked)) > 3 * 8192
    assert not {word.partition("=")[0] for word in asked} & {word.partition("=")[0] for word in ours}


@given(lines.filter(lambda stem: "/" not in stem and stem not in (".", "..")))
def test_the_builder_takes_for_a_lock_what_is_one_here(stem: str) -> None:
    for suffix in input_key.SUFFIXES:
        key = input_key.parse(f"requirements/arm64/{stem}{suffix}")
        build_input = replace(INPUT, key=f"requirements/arm64/{stem}{suffix}")
        (target,) = planned(key, build_input=build_input)
        path = cli.parse(cli.normalized(target.job.command)).path
        assert lock.is_lock(path) == key.is_lock == (suffix == "pylock.toml")


def test_constraints_are_refused_where_versions_are_locked() -> None:
    settings = Settings(constraints=("urllib3<2", "idna"))
    with pytest.raises(BuildError) as caught:
        planned(InputKey("arm64", None, ("web",), "", is_lock=True), settings)
    problem = caught.value.problem
    assert problem.code == ErrorCode.SETTINGS_INVALID
    assert "urllib3<2" in problem.message
    assert problem.details == {"setting": "constraints"}
    assert planned(InputKey("arm64", None, ("web",), ""), settings)


@pytest.mark.parametrize(
    ("is_lock", "refresh", "said"), [(True, True, "a lock"), (False, False, "refresh = false")]
)
def test_what_never_changes_is_not_built_again_when_fixed(is_lock: bool, refresh: bool, said: str) -> None:
    key = InputKey("arm64", None, ("web",), "", is_lock)
    with pytest.raises(BuildError) as caught:
        planned(key, Settings(rebuild="fixed", refresh=refresh))
    problem = caught.value.problem
    assert (problem.code, problem.details["setting"]) == (ErrorCode.SETTINGS_INVALID, "rebuild")
    assert said in problem.message


def test_fixes_go_to_the_builder_and_what_the_watch_is_to_know_with_the_target() -> None:
    settings = Settings(rebuild="fixed", vulnerability_ignore=("CVE-2025-1: unused",))
    key = InputKey("arm64", None, ("web",), "")
    [target] = plan(
        INPUT, EXECUTION, key, settings, "python3.12", WORKSHOPS, fixes=["urllib3==2.5.0", "idna==3.7"]
    )
    assert [word for word in target.job.command if "fix=" in word] == [
        "--fix=urllib3==2.5.0",
        "--fix=idna==3.7",
    ]
    assert [str(fix) for fix in cli.parse(list(target.job.command)).fixes] == ["urllib3==2.5.0", "idna==3.7"]
    assert not any("fix" in word for word in split(target.job.command)[0])  # they go into the options file
    assert (target.rebuild, target.vulnerability_ignore) == ("fixed", ("CVE-2025-1: unused",))
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_each_architecture_has_its_queue(architecture: Any) -> None:
    (target,) = planned(InputKey(architecture, None, (), ""))
    assert (target.job.queue, target.job.definition) == (
        WORKSHOPS[architecture].queue,
        WORKSHOPS[architecture].definition,
    )
    assert target.architecture == architecture


def test_runtime_comes_from_settings_then_path_then_stack() -> None:
    def runtimes(in_path: Any, *in_settings: Any) -> list[str]:
        targets = planned(InputKey("arm64", in_path, (), ""), Settings(runtimes=in_settings))
        return [target.runtime for target in targets]

    assert runtimes(None) == ["python3.12"]
    assert runtimes("python3.11") == ["python3.11"]
    assert runtimes(None, "python3.14", "python3.11") == ["python3.14", "python3.11"]
    assert runtimes("python3.11", "python3.11") == ["python3.11"]
    with pytest.raises(BuildError) as caught:
        runtimes("python3.11", "python3.11", "python3.12")
    assert caught.value.problem.code == ErrorCode.SETTINGS_INVALID
    assert "python3.11" in caught.value.problem.message


def test_targets_of_one_build_share_nothing_they_write() -> None:
    settings = Settings(runtimes=("python3.11", "python3.12", "python3.13", "python3.14"))
    targets = planned(InputKey("arm64", None, ("web",), ""), settings)
    for differs in ("id", "layer_name", "staging"):
        assert len({getattr(target, differs) for target in targets}) == 4
    assert len({target.job.name for target in targets}) == 4


@pytest.mark.attack("whoever holds another job's role guesses where a build leaves its results")
def test_where_a_job_writes_is_told_to_it_alone() -> None:
    """What is known of it is a folder; the rest is chance, new at each planning, and in no other field."""
    seen = set()
    for _ in range(100):
        (target,) = planned(InputKey("arm64", None, ("web",), ""))
        builds, execution, identity, secret, rest = target.staging.split("/")
        assert (builds, execution, identity, rest) == ("builds", "web-1", "py312-arm64", "")
        assert len(secret) >= 22, "128 bits, in 6 a character"
        document = target.to_json()
        command = document["job"].pop("command")
        del document["staging"]
        assert secret not in json.dumps(document)
        assert sum(secret in word for word in command) == 1
        seen.add(secret)
    assert len(seen) == 100


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_builds_from_source_have_a_definition_and_a_shelf_of_their_own(architecture: Any) -> None:
    key = InputKey(architecture, None, ("web",), "")
    (plain,), (source,) = planned(key), planned(key, Settings(allow_sdist=("odd",)))
    workshop = WORKSHOPS[architecture]
    assert (plain.job.definition, plain.from_source) == (workshop.definition, False)
    assert (source.job.definition, source.from_source) == (workshop.source_definition, True)
    assert source.job.queue == plain.job.queue
    assert (plain.shelf, source.shelf) == ("layers/", f"layers/{source.layer_name}/")


@pytest.mark.attack("an uploader has code of packages run where the stack forbids it")
def test_builds_from_source_can_be_forbidden() -> None:
    forbidding: dict[Any, Workshop] = {
        name: replace(workshop, source_definition=None) for name, workshop in WORKSHOPS.items()
    }
    key = InputKey("arm64", None, ("web",), "")
    with pytest.raises(BuildError) as caught:
        plan(INPUT, EXECUTION, key, Settings(allow_sdist=("odd",)), "python3.12", forbidding)
    problem = caught.value.problem
    assert problem.code == ErrorCode.SETTINGS_INVALID
    assert problem.details == {"setting": "allow-sdist", "parameter": "SourceBuilds"}
    assert "odd" in problem.message
    assert plan(INPUT, EXECUTION, key, DEFAULTS, "python3.12", forbidding)


def test_the_name_in_the_settings_wins() -> None:
    (target,) = planned(InputKey("arm64", None, ("folder",), "stem-"), Settings(name="my_layer"))
    assert target.layer_name == "my_layer-py312-arm64"


def test_a_target_survives_the_state_machine() -> None:
    settings = Settings(description="d", license="l", share_with=("111122223333",), bytecode=True)
    (target,) = planned(InputKey("x86_64", None, (), ""), settings)
    document = target.to_json()
    assert Target.from_json(document) == target
    document["job"]["ended"] = {"Attempts": [{}, {}]}
    assert Target.from_json(document).job.attempts == 2
