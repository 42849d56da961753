"""How long an upload takes to its answer, with ResolveLayer and straight to the job; and crowds of uploads.

    python -m benchmarks.pipeline [--rounds 5] [--crowd 100:10] …

On the embedded AWS with the real template, state machine, handlers and builder, as `make up` serves it, in a
process of its own. Here a job starts at once; on AWS it waits half a minute and more for its machine. Wheels
are in the cache: a first build, not counted, puts them there. Three kinds of uploads: a mistake, a file that
is uploaded again unchanged, and a file whose layer is not there yet.

A crowd of FOLDERS:NEW folders goes up by one `aws s3 sync`: so many layers are new, each another one, and the
others are known.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from local.clients import Clients
from local.environment import child_environment, key_variables
from local.inputs import EXAMPLES
from local.keys import Keyring, machine_key
from local.settings import BUCKET, ROOT
from local.watch import Upload, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ARTICLE = (EXAMPLES / "requirements/arm64/http/requirements.txt").read_text()
SMALL = (
    *("attrs", "certifi", "click", "colorama", "idna", "iniconfig", "packaging", "pluggy", "six", "toml"),
    "typing-extensions",
)
"""Packages of one small wheel each, that need no other: any of them together are a layer."""
LOOK = 0.02
PATIENCE = 1800.0  # seconds, for anything to end


@contextmanager
def served() -> Iterator[tuple[Clients, int]]:
    """Serve an embedded AWS; give its clients, and its process."""
    command = [sys.executable, "-m", "local", "up", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        shown = ""
        while "Answers:" not in shown:
            line = process.stdout.readline()
            if not line:
                raise SystemExit("The embedded AWS did not start")
            shown += line
        keys = Keyring(machine_key())
        clients = Clients(re.findall(r"http://127\.0\.0\.1:\d+", shown)[0], keys)
        try:
            yield clients, process.pid
        finally:
            clients.close()
            process.send_signal(signal.SIGTERM)
            process.communicate()


def ended(clients: Clients, key: str) -> dict[str, Any] | None:
    """Return the manifest at a key, if the build has ended."""
    try:
        manifest = json.load(clients.s3.get_object(Bucket=BUCKET, Key=key)["Body"])
    except clients.s3.exceptions.NoSuchKey:
        return None
    return manifest if manifest["status"] != "BUILDING" else None


def give_up(start: float) -> None:
    """End all when an answer takes too long: a state machine that failed may have left none."""
    if time.perf_counter() - start > PATIENCE:
        raise SystemExit("An upload was not answered")


@dataclass(frozen=True)
class Kind:
    """A kind of upload: its text, how it ends, whether it comes again, and whether layers are removed."""

    name: str
    text: str
    status: str = "SUCCEEDED"
    again: bool = False
    forgotten: bool = False


KINDS = (
    Kind("a mistake", ARTICLE.replace("requests", "requets"), status="FAILED"),
    Kind("unchanged", ARTICLE, again=True),
    # Else its zip would be found by its digest, and nothing would be built.
    Kind("new", ARTICLE, forgotten=True),
)


def forget(clients: Clients) -> None:
    """Remove the layers that builds could take, and what leads to them."""
    pages = clients.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="layers/")
    for layer in [one for page in pages for one in page.get("Contents", ())]:
        clients.s3.delete_object(Bucket=BUCKET, Key=layer["Key"])


def one_build(clients: Clients, kind: Kind) -> float:
    """Upload, and return the seconds until the manifest says how it ended."""
    folder = "again" if kind.again else uuid.uuid4().hex[:12]
    key = f"requirements/arm64/{folder}/requirements.txt"
    if kind.forgotten:
        forget(clients)
    start = time.perf_counter()
    version = clients.s3.put_object(Bucket=BUCKET, Key=key, Body=kind.text.encode())["VersionId"]
    place = Upload(BUCKET, key, version).manifest_key
    while not (manifest := ended(clients, place)) or manifest["input"]["version_id"] != version:
        give_up(start)
        time.sleep(LOOK)
    seconds = time.perf_counter() - start
    if manifest["status"] != kind.status:
        raise SystemExit(f"A build ended otherwise: {manifest['error']}")
    return seconds


def jobs(clients: Clients) -> int:
    """Count the jobs that have ended."""
    batch = clients.get("batch")
    queues = [one["jobQueueName"] for one in batch.describe_job_queues()["jobQueues"]]
    return sum(
        len(batch.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"])
        for queue in queues
        for status in ("SUCCEEDED", "FAILED")
    )


def resolve_before(clients: Clients, wanted: bool) -> None:
    """Have PlanBuild plan builds with ResolveLayer, or straight to the job."""
    functions = clients.lambda_.list_functions()["Functions"]
    [plan] = [one for one in functions if "PlanBuild" in one["FunctionName"]]
    variables = plan["Environment"]["Variables"] | {"RESOLVE_LAYERS": "ENABLED" if wanted else "DISABLED"}
    clients.lambda_.update_function_configuration(
        FunctionName=plan["FunctionName"], Environment={"Variables": variables}
    )


def compare(clients: Clients, rounds: int) -> Table:
    """Measure each kind of upload both ways, one after the other."""
    table = Table(title=f"Upload to answer, medians of {rounds} in seconds, {os.cpu_count()} cores")
    for name in ("An upload", "With ResolveLayer", "Jobs", "Straight to the job", "Jobs"):
        table.add_column(name, justify="left" if name == "An upload" else "right")
    cells: dict[str, list[str]] = {kind.name: [kind.name] for kind in KINDS}
    for wanted in (True, False):
        resolve_before(clients, wanted)
        for kind in (KINDS[2], KINDS[1]):  # starts the workers, fills caches, and is what comes unchanged
            one_build(clients, kind)
        for kind in KINDS:
            if kind.again:
                one_build(clients, kind)
            before = jobs(clients)
            seconds = [one_build(clients, kind) for _ in range(rounds)]
            cells[kind.name].append(
                f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
            )
            cells[kind.name].append(f"{(jobs(clients) - before) / rounds:g}")
    for row in cells.values():
        table.add_row(*row)
    resolve_before(clients, wanted=True)
    return table


@dataclass(frozen=True)
class Crowd:
    """What became of a crowd.

    Attributes:
        command: the seconds that the command took.
        whole: those until all had ended.
        once: how many were answered once, by success.
        jobs: how many jobs there were.
        memory: MB that the embedded AWS grew by.
    """

    command: float
    whole: float
    once: int
    jobs: int
    memory: int


def texts(folders: int, new: int) -> list[str]:
    """Write so many files of which so many ask for layers that are not there."""
    some = [one for size in range(len(SMALL)) for one in combinations(SMALL, size + 1)]
    if new > len(some):
        raise SystemExit(f"There are {len(some)} different layers at most")
    different = ["\n".join(one) + "\n" for one in some[::-1][:new]]
    return different + [ARTICLE] * (folders - new)


def sync(clients: Clients, folders: int, new: int, process: int) -> Crowd:
    """Upload that many folders by one command."""
    forget(clients)
    one_build(clients, KINDS[1])  # the one that is known
    [machine] = clients.stepfunctions.list_state_machines()["stateMachines"]
    watcher = Watcher(clients, machine["stateMachineArn"])
    watcher.newly_ended()  # the builds before
    batch = uuid.uuid4().hex[:8]
    names = [f"{batch}-{number:04}" for number in range(folders)]
    jobs_before, memory_before = jobs(clients), resident_mb(process)
    with tempfile.TemporaryDirectory() as root:
        for name, text in zip(names, texts(folders, new), strict=True):
            folder = Path(root, "arm64", name)
            folder.mkdir(parents=True)
            (folder / "requirements.txt").write_text(text)
        aws = Path(sys.executable).with_name("aws")
        start = time.perf_counter()
        subprocess.run(
            [aws, "s3", "sync", "--only-show-errors", root, f"s3://{BUCKET}/requirements/"],
            env=child_environment(clients.s3.meta.endpoint_url) | key_variables(machine_key()),
            check=True,
        )
        command = time.perf_counter() - start
    run: list[str] = []
    while len(run) < folders:
        give_up(start)
        began = time.perf_counter()
        run += [upload.version_id for upload, _ in watcher.newly_ended()]
        time.sleep(max(0.5, 10 * (time.perf_counter() - began)))  # looking slows down what is looked at
    whole = time.perf_counter() - start
    manifests = [ended(clients, f"requirements/arm64/{name}/manifest.json") for name in names]
    once = sum(
        manifest is not None
        and manifest["status"] == "SUCCEEDED"
        and run.count(manifest["input"]["version_id"]) == 1
        for manifest in manifests
    )
    grown = resident_mb(process) - memory_before
    return Crowd(command, whole, once, jobs(clients) - jobs_before, grown)


def resident_mb(process: int) -> int:
    """Return the memory that the embedded AWS itself holds; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except OSError:
        return 0


def crowds(clients: Clients, sizes: Sequence[str], process: int) -> Table:
    """Measure crowds.

    Raises:
        SystemExit: not every upload was answered once.
    """
    table = Table(title=f"Folders by one aws s3 sync, {os.cpu_count()} cores, wheels cached")
    for name in ("Folders", "New", "Jobs", "Seconds", "A second", "The command", "Memory"):
        table.add_column(name, justify="right")
    missing = 0
    for size in sizes:
        folders, new = map(int, size.split(":"))
        crowd = sync(clients, folders, new, process)
        missing += folders - crowd.once
        table.add_row(
            f"{folders:,}",
            f"{new:,}",
            f"{crowd.jobs:,}",
            f"{crowd.whole:.1f}",
            f"{folders / crowd.whole:.1f}",
            f"{crowd.command:.1f}",
            f"+{crowd.memory} MB",
        )
    if missing:
        raise SystemExit(f"{missing} uploads were not answered once")
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crowd", action="append", default=[], metavar="FOLDERS:NEW")
    options = parser.parse_args()
    console = Console()
    with served() as (clients, process):
        if options.rounds:
            console.print(compare(clients, options.rounds))
        if options.crowd:
            console.print(crowds(clients, options.crowd, process))


if __name__ == "__main__":
    main()
