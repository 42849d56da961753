"""The runner: what it tells a step, and what a step tells it.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerdrop_client.github.inert import data, line, property_value
from layerdrop_client.problems import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerdrop_client.github.outcome import Finding

MOST_SUMMARY_BYTES = 1024 * 1024
"""Of a step's summary: "a maximum of 1 MiB", in the page above, "Step isolation and limits"."""


@dataclass(frozen=True)
class Runner:
    """What a runner tells by its environment.

    Attributes:
        environment: The step's.
    """

    environment: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        """An input of the action, as the step has it."""
        return self.environment.get(f"INPUT_{name}", "").strip() or default

    def flag(self, name: str, default: bool) -> bool:
        """An input that is yes or no.

        Raises:
            CommandError: INPUT_INVALID.
        """
        told = self.text(name, "true" if default else "false").lower()
        if told not in ("true", "false"):
            written = name.lower().replace("_", "-")
            raise CommandError("INPUT_INVALID", f'The input {written} is "{told}".', "Give true or false.")
        return told == "true"

    @property
    def workspace(self) -> Path:
        """The repository's folder."""
        return Path(self.environment.get("GITHUB_WORKSPACE") or ".")

    @property
    def event(self) -> Mapping[str, Any]:
        """What set the workflow off; empty elsewhere than on a runner."""
        path = self.environment.get("GITHUB_EVENT_PATH")
        found = json.loads(Path(path).read_bytes()) if path else {}
        return found if isinstance(found, dict) else {}

    @property
    def pull_request(self) -> Mapping[str, Any] | None:
        """That of the event."""
        found = self.event.get("pull_request")
        return found if isinstance(found, dict) else None

    def summarize(self, markdown: str) -> None:
        """Add to what the step's page shows."""
        self._append("GITHUB_STEP_SUMMARY", markdown + "\n")

    def put_out(self, outputs: Mapping[str, str]) -> None:
        """Set the step's outputs."""
        self._append("GITHUB_OUTPUT", "".join(output(name, value) for name, value in outputs.items()))

    def _append(self, name: str, text: str) -> None:
        if path := self.environment.get(name):
            with Path(path).open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)


def output(name: str, value: str) -> str:
    """An output as GITHUB_OUTPUT takes it, whatever is in it: nobody can guess the line that ends it."""
    end = f"layerdrop_{secrets.token_hex(16)}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def annotation(finding: Finding) -> str:
    """The command that shows an error where it is in the file."""
    properties = {"file": finding.path}
    if finding.line is not None:
        properties |= {"line": str(finding.line), "col": str(finding.column)}
    properties["title"] = line(finding.problem.code, 80)
    told = ",".join(f"{name}={property_value(value)}" for name, value in properties.items())
    problem = finding.problem
    message = line(problem.message) + (f"\nhint: {line(problem.hint)}" if problem.hint else "")
    return f"::error {told}::{data(message)}"
