"""Which stack is meant: what sam keeps of its answers in samconfig.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import boto3

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


# As samcli/cli/types.py (CfnParameterOverridesType) takes a text apart: a space ends a value without quotes.
_PAIR = re.compile(
    r"""(?:^|\s)(?:ParameterKey=)?(\w+)(?:,ParameterValue)?=("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|\S)*)"""
)


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


def _parameters(overrides: Any) -> Mapping[str, str]:
    """Read parameters in the forms that sam reads: a text, a table, or a list of both.

    A text is ``Name="value" Other="value"``, as sam writes it, or ``ParameterKey=Name,ParameterValue=value``.
    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-cli-command-reference-sam-deploy.html
    """
    if isinstance(overrides, list):
        return {name: value for each in overrides for name, value in _parameters(each).items()}
    if isinstance(overrides, dict):
        return {
            name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in overrides.items()
        }
    return {name: _bare(value) for name, value in _PAIR.findall(str(overrides))}


def _bare(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return re.sub(r"\\([ \"'])", r"\1", value)
