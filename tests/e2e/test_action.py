"""The steps of GitHub's action as a runner runs them, against the embedded AWS; and its schema and shell."""

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.settings import REGION, ROOT

from .conftest import SHELL, Served

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
BIN = Path(sys.executable).parent
PAGE = (ROOT / "docs/ci.md").read_text()
EXAMPLES = dict(re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
_TERM = re.compile(
    r"'(?P<text>[^']*)'|(?P<name>[a-z_]+(?:\.[A-Za-z_-]+)+)|(?P<other>always\(\)|&&|\|\||==|!=|\s+)"
)


@dataclass
class Job:
    """A job on a runner, with this action as its one step."""

    folder: Path
    workspace: Path
    event_name: str
    event: Mapping[str, Any]
    variables: Mapping[str, str]
    inputs: dict[str, str] = field(default_factory=dict)
    log: str = ""
    summary: str = ""
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.temp = self.folder / "temp"
        self.temp.mkdir()
        (self.folder / "event.json").write_text(json.dumps(self.event))
        defaults = {name: declared.get("default", "") for name, declared in ACTION["inputs"].items()}
        self.inputs = defaults | self.inputs

    def run(self, installs: bool = False) -> int:
        """Run all steps; return the first exit status that is not 0."""
        if not installs:
            (self.temp / "layerdrop").symlink_to(BIN.parent)
        status = 0
        for number, step in enumerate(STEPS):
            condition = step.get("if", "success()")
            if status and "always()" not in condition:
                continue
            if "if" in step and not self.worth(condition):
                continue
            self.ran.append(step["name"])
            if step.get("id") == "python":
                self.steps["python"] = {"python-path": sys.executable}
            if "run" in step and (installs or not step["name"].startswith("Install")):
                status = self._run(number, step) or status
        return status

    def _run(self, number: int, step: Mapping[str, Any]) -> int:
        assert step["shell"] == "bash"
        files = {name: self.folder / f"{number}-{name}" for name in ("script", "output", "summary")}
        files["script"].write_text(step["run"])
        files["output"].touch()
        environment = {name: value for name, value in SHELL.items() if not name.startswith("AWS_")}
        environment |= self.variables | {
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_EVENT_NAME": self.event_name,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_REPOSITORY": "octo/layers",
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temp),
        }
        environment |= {name: self.filled(value) for name, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", files["script"]],
            cwd=self.workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.log += done.stdout
        if files["summary"].exists():
            self.summary += files["summary"].read_text()
        outputs = re.findall(
            r"^(\w+)<<(\w+)\n(.*?)\n\2\n", files["output"].read_text(), re.DOTALL | re.MULTILINE
        )
        self.steps[step.get("id", str(number))] = {name: value for name, _, value in outputs}
        return done.returncode

    @property
    def outputs(self) -> dict[str, str]:
        return {name: self.filled(declared["value"]) for name, declared in ACTION["outputs"].items()}

    @property
    def obeyed(self) -> str:
        """Where the runner looks for commands: not between a stop and its end."""
        return re.sub(r"^::stop-commands::(\w+)$.*?^::\1::$", "", self.log, flags=re.DOTALL | re.MULTILINE)

    @property
    def annotations(self) -> list[str]:
        return [line for line in self.obeyed.splitlines() if line.startswith("::")]

    def filled(self, text: str) -> str:
        return re.sub(r"\$\{\{(.*?)\}\}", lambda match: str(self.worth(match[1].strip())), text)

    def worth(self, expression: str) -> Any:
        """The value of as much of GitHub's expressions as the action uses."""
        python, at = "", 0
        while at < len(expression):
            match = _TERM.match(expression, at)
            assert match, expression
            at = match.end()
            if match["text"] is not None:
                python += repr(match["text"])
            elif match["name"]:
                python += repr(self._named(match["name"]))
            else:
                words = {"&&": " and ", "||": " or ", "always()": "True"}
                python += words.get(match["other"], match["other"])
        return eval(python, {"__builtins__": {}})

    def _named(self, name: str) -> str:
        first, *rest = name.split(".")
        if first == "inputs":
            return self.inputs[rest[0]]
        if first == "steps":
            return self.steps.get(rest[0], {}).get(rest[2], "")
        if first == "env":
            return self.variables.get(rest[0], "")
        return {"event_name": self.event_name, "token": "of-the-job"}[rest[0]]


def git(folder: Path, *arguments: object) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, "-C", folder, *map(str, arguments)], check=True, capture_output=True)


def write(folder: Path, path: str, text: str) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


@pytest.mark.long
def test_a_push_is_synced_and_told(served: Served, repository: Path, tmp_path: Path) -> None:
    batch = uuid.uuid4().hex[:8]
    variables = served.variables()
    inputs = {"aws-region": REGION}
    layer = f"web-{batch}-py313-arm64"
    for turn, version in enumerate(("3.9", "3.10")):
        write(repository, f"layers/arm64/web-{batch}/requirements.txt", f"idna == {version}\n")
        job = Job(tmp_path / f"push-{turn}", repository, "push", {}, variables, inputs)
        assert job.run() == 0, job.log
        arn = f"arn:aws:lambda:{REGION}:123456789012:layer:{layer}:{turn + 1}"
        assert json.loads(job.outputs["arns"]) == {layer: arn}
        [told] = json.loads(job.outputs["layers"])
        assert told["path"] == f"layers/arm64/web-{batch}/requirements.txt"
        assert (job.outputs["failed"], job.annotations) == ("0", [])
        assert f"<code>{arn}</code>" in job.summary
    assert "<code>idna 3.9</code> → <code>3.10</code>" in job.summary
    assert job.ran[-2:] == ["Install layerdrop", "Sync"]
    # What fails is told on its line, and nothing that is in the file is obeyed.
    write(
        repository,
        f"layers/arm64/bad-{batch}/requirements.txt",
        "idna\n::set-output name=arns::<b>${{ x }}\n",
    )
    job = Job(tmp_path / "bad", repository, "push", {}, variables, inputs)
    assert job.run() == 2
    [annotation] = job.annotations
    where = f"file=layers/arm64/bad-{batch}/requirements.txt,line=2,col=1,title=REQUIREMENTS_INVALID"
    assert annotation.startswith(f"::error {where}::")
    assert (job.outputs["failed"], list(json.loads(job.outputs["arns"]))) == ("1", [layer])
    assert "<b>" not in job.summary
    assert "error: Line 2" in job.log
    assert "error: Line 2" not in job.obeyed
    assert "1 failed, 1 unchanged" in job.summary
    dry = Job(tmp_path / "dry", repository, "push", {}, variables, {**inputs, "dry-run": "true"})
    write(repository, f"layers/arm64/more-{batch}/requirements.txt", "idna\n")
    assert dry.run() == 0, dry.log
    assert "1 upload, 2 unchanged" in dry.summary


class GitHub:
    """As much of its API as the comment takes."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str]] = []
        self.may_write = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                given = json.loads(self.rfile.read(length)) if length else None
                status, document = outer.answer(self.command, self.path, given)
                assert self.headers["Authorization"] == "Bearer of-the-job"
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            do_GET = do_POST = do_PATCH = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def answer(self, method: str, path: str, given: Any) -> tuple[int, Any]:
        self.calls.append((method, path))
        if method == "GET":
            page = int(path.rpartition("=")[2])
            return 200, self.comments[(page - 1) * 100 : page * 100]
        if not self.may_write:
            return 403, {"message": "Resource not accessible by integration"}
        if method == "POST":
            self.add(given["body"], "Bot")
            return 201, self.comments[-1]
        [found] = [one for one in self.comments if one["id"] == int(path.rpartition("/")[2])]
        found["body"] = given["body"]
        return 200, found

    def add(self, body: str, kind: str) -> None:
        number = len(self.comments) + 1
        self.comments.append({"id": number, "body": body, "user": {"type": kind}, "html_url": f"c{number}"})


@pytest.fixture
def github() -> Iterator[GitHub]:
    running = GitHub()
    yield running
    running.server.shutdown()
    running.thread.join()
    running.server.server_close()


@pytest.mark.long
@pytest.mark.parametrize("installs", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_pull_request_is_previewed_without_aws(
    repository: Path, tmp_path: Path, github: GitHub, installs: bool
) -> None:
    write(repository, "layers/arm64/web/requirements.txt", "idna == 3.9\n")
    write(repository, "layers/arm64/same/requirements.txt", "idna\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "base")
    git(repository, "switch", "--quiet", "--create", "change")
    write(repository, "layers/arm64/web/requirements.txt", "idna == 3.10\n")
    write(repository, "layers/arm64/bad/requirements.txt", "idna\n\nidna = <img>\n")
    write(repository, "layers/README.md", "no input\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "change")
    git(repository, "switch", "--quiet", "main")
    git(repository, "merge", "--quiet", "--no-ff", "--message", "merged", "change")
    # A clone as actions/checkout makes it: the merge and its parents.
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth=2", repository.as_uri(), clone)
    event = {"pull_request": {"number": 7, "base": {"sha": "0" * 40}}}
    variables = {"GITHUB_API_URL": f"http://127.0.0.1:{github.server.server_port}"}
    github.add("somebody quotes <!-- layerdrop", "User")
    job = Job(tmp_path / "first", clone, "pull_request", event, variables)
    assert job.run(installs) == 2, job.log
    assert job.ran[-2:] == ["Preview", "Comment"]
    [annotation] = job.annotations
    assert annotation.startswith("::error file=layers/arm64/bad/requirements.txt,line=3,col=1,")
    assert (job.outputs["layers"], job.outputs["failed"], job.outputs["published"]) == ("[]", "1", "0")
    [_, comment] = github.comments
    assert comment["body"].split("\n\n", 1)[1] == job.summary.removesuffix("\n")
    assert "<code>idna 3.9</code> → <code>3.10</code>" in comment["body"]
    assert "1 would fail, 1 would be built" in comment["body"]
    assert "<img>" not in comment["body"]
    assert "same" not in comment["body"]
    # A second push replaces the comment; what a person wrote, who knows the marker, is theirs.
    github.add(comment["body"], "User")
    write(repository, "layers/arm64/bad/requirements.txt", "idna == 3.10\n")
    git(repository, "commit", "--quiet", "--all", "--message", "mended")
    git(clone, "fetch", "--quiet", "--depth=3", "origin")
    git(clone, "reset", "--quiet", "--hard", "origin/main")
    again = Job(tmp_path / "again", clone, "pull_request", _based(repository, event), variables)
    assert again.run() == 0, again.log
    assert [one["user"]["type"] for one in github.comments] == ["User", "Bot", "User"]
    assert "2 would be built" in comment["body"]
    assert "❌" in github.comments[2]["body"]
    # A fork's token only reads.
    github.may_write = False
    forked = Job(tmp_path / "forked", clone, "pull_request", _based(repository, event), variables)
    assert forked.run() == 0, forked.log
    assert forked.annotations == [
        "::notice::No comment: the token may not write one, as on forks. The summary has it all."
    ]


def _based(repository: Path, event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with the base's commit, for a head that is no merge."""
    command = ["git", "-C", repository, "rev-parse", "HEAD~1^1"]
    sha = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return {"pull_request": {**event["pull_request"], "base": {"sha": sha}}}


def test_a_pull_request_without_its_base_says_what_to_do(repository: Path, tmp_path: Path) -> None:
    write(repository, "layers/arm64/web/requirements.txt", "idna\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "base")
    event = {"pull_request": {"number": 7, "base": {"sha": "0" * 40}}}
    job = Job(tmp_path / "job", repository, "pull_request", event, {})
    assert job.run() == 2
    assert "fetch-depth: 2" in job.log
    assert "Comment" not in job.ran


@pytest.mark.parametrize("name", ["pull_request_target"])
def test_a_pull_request_with_the_repository_s_secrets_is_refused(
    repository: Path, tmp_path: Path, name: str
) -> None:
    job = Job(tmp_path / "job", repository, name, {"pull_request": {"number": 7}}, {})
    assert job.run() == 2
    assert job.ran == ["Refuse pull_request_target"]


def test_nothing_is_filled_into_shell_text_and_every_action_is_pinned() -> None:
    source = (ROOT / "action.yml").read_text()
    for step in STEPS:
        assert "${{" not in step.get("run", "")
    used = re.findall(r"uses: (.*)", source + PAGE)
    assert len(used) > 2
    for one in used:
        if "layerdrop@" not in one.lower():
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one


def test_every_script_passes_shellcheck() -> None:
    for step in STEPS:
        if "run" in step:
            command = [BIN / "shellcheck", "--shell=bash", "--severity=style", "-"]
            done = subprocess.run(command, input=step["run"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "schema"),
    [(".github/workflows/layers.yml", "github-workflows"), (".gitlab-ci.yml", "gitlab-ci")],
)
def test_the_examples_are_what_their_schemas_say(name: str, schema: str, tmp_path: Path) -> None:
    (tmp_path / "example.yml").write_text(EXAMPLES[name])
    command = [BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", tmp_path / "example.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stdout


def test_the_page_has_every_input_and_output() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted([*ACTION["inputs"], *ACTION["outputs"]])


def test_the_workflow_gives_the_inputs_that_there_are() -> None:
    workflow = yaml.safe_load(EXAMPLES[".github/workflows/layers.yml"])
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            if "layerdrop" in step.get("uses", ""):
                assert step.get("with", {}).keys() <= ACTION["inputs"].keys()
