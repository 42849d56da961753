"""Which stack is meant: what sam keeps of its answers in samconfig.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import boto3

if TYPE_CHECKING:
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
    """

    name: str
    region: str | None
    profile: str | None
    s3_prefix: str

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
        given: dict[str, str] = {}
        for command in ("global", "deploy"):
            given |= sections.get(command, {}).get("parameters", {})
        if not given.get("stack_name"):
            raise ConfigError(f"{path} does not say which stack is meant: it has no stack_name")
        return cls(given["stack_name"], given.get("region"), given.get("profile"), given.get("s3_prefix", ""))

    def session(self) -> boto3.Session:
        """Return a session for the stack's region.

        Raises:
            botocore.exceptions.ProfileNotFound: The profile is gone.
        """
        return boto3.Session(profile_name=self.profile, region_name=self.region)
