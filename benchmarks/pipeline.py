"""How long an upload takes to its answer, one at a time and a hundred at once.

    python -m benchmarks.pipeline [--rounds 5] [--folders 100]

On the embedded AWS with the real template, state machine, handlers and builder, as `make up` serves it, in a
process of its own. Wheels are in the cache: a first build, not counted, puts them there. Each measured upload
has a folder of its own, so that each publishes a new layer. The hundred folders go up by one `aws s3 sync`.
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
    from collections.abc import Iterator

ARTICLE = (EXAMPLES / "requirements/arm64/http/requirements.txt").read_text()
LIMIT = 3.0  # seconds, the goal for the article's example
LOOK = 0.02
PATIENCE = 1800.0  # seconds, for anything to end


@contextmanager
def served() -> Iterator[Clients]:
    """Serve an embedded AWS and give its clients."""
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
            yield clients
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


def one_build(clients: Clients) -> float:
    """Upload the article's example to a new folder; return the seconds until its manifest says SUCCEEDED."""
    key = f"requirements/arm64/{uuid.uuid4().hex[:12]}/requirements.txt"
    upload = Upload(BUCKET, key, "")
    # Else the zip of the build before would be found by its digest, and nothing would be built.
    for layer in clients.s3.list_objects_v2(Bucket=BUCKET, Prefix="layers/").get("Contents", ()):
        clients.s3.delete_object(Bucket=BUCKET, Key=layer["Key"])
    start = time.perf_counter()
    clients.s3.put_object(Bucket=BUCKET, Key=key, Body=ARTICLE.encode())
    while not (manifest := ended(clients, upload.manifest_key)):
        give_up(start)
        time.sleep(LOOK)
    seconds = time.perf_counter() - start
    if manifest["status"] != "SUCCEEDED":
        raise SystemExit(f"A build failed: {manifest['error']}")
    return seconds


def sync(clients: Clients, folders: int) -> tuple[float, float, list[dict[str, Any]], list[str]]:
    """Upload that many folders by one command.

    Returns:
        The seconds the command took, those until all had ended, the manifests, and the version ids of the
        uploads that were run, one for each execution.
    """
    [machine] = clients.stepfunctions.list_state_machines()["stateMachines"]
    watcher = Watcher(clients, machine["stateMachineArn"])
    watcher.newly_ended()  # the builds before
    batch = uuid.uuid4().hex[:8]
    names = [f"{batch}-{number:04}" for number in range(folders)]
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            folder = Path(root, "arm64", name)
            folder.mkdir(parents=True)
            (folder / "requirements.txt").write_text(ARTICLE)
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
    return command, whole, [manifest for manifest in manifests if manifest], run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folders", type=int, default=100)
    options = parser.parse_args()
    console = Console()
    with served() as clients:
        one_build(clients)
        rounds = [one_build(clients) for _ in range(options.rounds)]
        command, whole, manifests, run = sync(clients, options.folders)
    answered = {manifest["input"]["version_id"] for manifest in manifests}
    succeeded = sum(manifest["status"] == "SUCCEEDED" for manifest in manifests)
    once = sum(run.count(version) == 1 for version in answered)
    table = Table(title=f"Upload to answer, {os.cpu_count()} cores, wheels cached")
    for name in ("What", "Seconds", "Note"):
        table.add_column(name, justify="right" if name == "Seconds" else "left")
    spread = f"{min(rounds):.2f} to {max(rounds):.2f}, goal {LIMIT:.1f}"
    table.add_row(f"requests + httpx, median of {len(rounds)}", f"{statistics.median(rounds):.2f}", spread)
    note = f"{once} answered once, {options.folders / whole:.1f} a second"
    table.add_row(f"{options.folders} folders by one aws s3 sync", f"{whole:.1f}", note)
    table.add_row("the command itself", f"{command:.1f}", "")
    console.print(table)
    if succeeded != options.folders or once != options.folders:
        raise SystemExit("Not every upload was answered once")


if __name__ == "__main__":
    main()
