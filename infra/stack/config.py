"""Which stack is meant: what sam keeps of its answers in samconfig.toml."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import boto3

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class ConfigError(Exception):
    """The file does not say which stack is meant."""


@dataclass(frozen=True)
class StackConfig:
    """Where the stack is.

    Attributes:
        name: The stack's name.
        region: Its region; None for the shell's.
        profile: The AWS profile to use; None for the shell's.
        s3_prefix: What sam's uploads for the stack begin with; empty when it says nothing.
        parameters: The template's parameters that were given, by name; None when sam was never answered.
    """

    name: str
    region: str | None
    profile: str | None
    s3_prefix: str
    parameters: Mapping[str, str] | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read samconfig.toml: the section of ``sam deploy``, then what holds for all commands.

        Raises:
            ConfigError: There is no such file, it is no TOML, or names no stack.
        """
        try:
            sections = tomllib.loads(path.read_text())["default"]
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
            raise ConfigError(f"{path} does not say which stack is meant: {error}") from error
        given: dict[str, Any] = {}
        for command in ("global", "deploy"):
            given |= sections.get(command, {}).get("parameters", {})
        if not given.get("stack_name"):
            raise ConfigError(f"{path} does not say which stack is meant: it has no stack_name")
        return cls(
            given["stack_name"],
            given.get("region"),
            given.get("profile"),
            given.get("s3_prefix", ""),
            _parameters(given["parameter_overrides"]) if "parameter_overrides" in given else None,
        )

    def session(self) -> boto3.Session:
        """Return a session for the stack's region.

        Raises:
            botocore.exceptions.ProfileNotFound: The profile is gone.
        """
        return boto3.Session(profile_name=self.profile, region_name=self.region)


def _parameters(overrides: str | Sequence[str]) -> Mapping[str, str]:
    """Read parameters as sam writes them, ``Name="value" Other="value"``, or as a list of such.

    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-cli-command-reference-sam-deploy.html
    """
    words = shlex.split(overrides if isinstance(overrides, str) else shlex.join(overrides))
    return {
        name: value.strip('"') for name, equals, value in (word.partition("=") for word in words) if equals
    }
