"""The builder's report, as its reader sees it.

The job that wrote it may have run code that a requirements file brought along: what is read here is checked
against what was asked for before anything is published.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never, Self

from layerdrop import wording
from layerdrop.errors import BuildError, ErrorCode, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerdrop.target import Target

SCHEMA = "layerdrop/report/1"
_MAX_WARNINGS = 200
_MAX_LEFT_OUT = 200
_MAX_FIELDS, _LONGEST_FIELD = 10, 300  # of a publisher

_CODE = re.compile(r"[A-Z][A-Z0-9_]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHA256 = re.compile(r"[A-Za-z0-9+/]{43}=")
# API_PublishLayerVersion
_LONGEST_DESCRIPTION = 256


@dataclass(frozen=True)
class Zip:
    """A layer's zip: where it lies, and its sizes in bytes.

    `bucket` and `key` are those of a zip that was there before; one that the job made lies beside the report.
    """

    bucket: str | None
    key: str | None
    bytes: int
    unzipped_bytes: int


@dataclass(frozen=True)
class BuiltLayer:
    """A layer that was built; `code_sha256` is Base64, as Lambda shows it."""

    name: str
    description: str
    license: str | None
    digest: str
    code_sha256: str
    zip: Zip

    @property
    def is_reused(self) -> bool:
        """Whether its zip was there before."""
        return self.zip.key is not None


@dataclass(frozen=True)
class Report:
    """What the builder says of one target: a layer, or an error; the rest is handed on as it came."""

    layer: BuiltLayer | None
    error: Problem | None
    packages: Sequence[Mapping[str, Any]]
    system_packages: Sequence[Mapping[str, Any]]
    checks: Mapping[str, Any]
    warnings: Sequence[str]
    cooldown: Mapping[str, Any] | None = None

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a report.

        Raises:
            BuildError: REPORT_INVALID, when it is no report or lacks a part.
        """
        try:
            return cls._from_json(json.loads(text, parse_constant=_no_number, parse_float=_number))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise invalid(f"The build's report cannot be read: {type(error).__name__}: {error}.") from error

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> Self:
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}")
        layer, error = document["layer"], document["error"]
        return cls(
            layer=None if layer is None else _layer(layer),
            error=None if error is None else _problem(error),
            packages=tuple(_package(package) for package in document["packages"]),
            # A job that began before the builder knew of them reports none.
            system_packages=tuple(map(_system_package, document.get("system_packages", ()))),
            checks=_shallow(dict(document["checks"])),
            warnings=tuple(wording.sentence(str(one)) for one in document["warnings"][:_MAX_WARNINGS]),
            # A job that began before the builder knew of it reports none.
            cooldown=_cooldown(document.get("cooldown")),
        )

    def layer_for(self, target: Target, bucket: str) -> BuiltLayer:
        """The layer, if it is the one that the target asked for.

        Raises:
            BuildError: REPORT_INVALID, when there is none or it is another.
        """
        if self.layer is None:
            raise invalid("The build ended well, but its report names no layer.")
        if self.layer.name != target.layer_name:
            raise invalid(f'The report is about "{self.layer.name}", not "{target.layer_name}".')
        self._require_words_of(target, self.layer)
        place = (self.layer.zip.bucket, self.layer.zip.key)
        if place not in ((None, None), (bucket, f"{target.shelf}{self.layer.digest}.zip")):
            raise invalid(f"The report names a zip where none of its digest is kept: {place[0]}/{place[1]}.")
        return self.layer

    def _require_words_of(self, target: Target, layer: BuiltLayer) -> None:
        """See that it says what the settings say; without a description there, the job makes one."""
        if layer.license != target.license or target.description not in (None, layer.description):
            raise invalid(f'The report gives "{layer.name}" another description or license than was set.')


def _layer(document: Mapping[str, Any]) -> BuiltLayer:
    zip_file = document["zip"]
    license_text = document["license"]
    # Both become part of a key, or are compared with what S3 and Lambda say.
    for name, form in (("digest", _DIGEST), ("code_sha256", _SHA256)):
        if not form.fullmatch(str(document[name])):
            raise ValueError(f"{name} is {str(document[name])[:100]!r}")
    if len(str(document["description"])) > _LONGEST_DESCRIPTION:
        raise ValueError("its description is too long")
    return BuiltLayer(
        name=str(document["name"]),
        description=str(document["description"]),
        license=None if license_text is None else str(license_text),
        digest=str(document["digest"]),
        code_sha256=str(document["code_sha256"]),
        zip=Zip(
            bucket=None if zip_file["bucket"] is None else str(zip_file["bucket"]),
            key=None if zip_file["key"] is None else str(zip_file["key"]),
            bytes=int(zip_file["bytes"]),
            unzipped_bytes=int(zip_file["unzipped_bytes"]),
        ),
    )


def _package(document: Mapping[str, Any]) -> Mapping[str, Any]:
    license_text = document["license"]
    return {
        "name": str(document["name"]),
        "version": str(document["version"]),
        "wheel": str(document["wheel"]),
        "sha256": str(document["sha256"]),
        "unzipped_bytes": int(document["unzipped_bytes"]),
        "license": None if license_text is None else str(license_text),
        # A job that began before the builder looked for publishers tells of none.
        "publisher": _publisher(document.get("publisher")),
        "attested": _attested(document.get("attested")),
    }


def _publisher(document: Any) -> Mapping[str, str | None] | None:
    """Who published a file, as its index attests it: texts of few and bounded fields."""
    if document is None:
        return None
    if len(document) > _MAX_FIELDS:
        raise ValueError("a publisher has too many fields")
    texts = {str(name): None if one is None else str(one) for name, one in document.items()}
    if any(len(text or "") > _LONGEST_FIELD for text in (*texts, *texts.values())):
        raise ValueError("a publisher's field is too long")
    return {"kind": str(texts.pop("kind")), **texts}


def _attested(value: Any) -> bool | None:
    if value not in (True, False, None):
        raise ValueError("attested is neither true nor false")
    return None if value is None else bool(value)


def _system_package(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        **{key: str(document[key]) for key in ("name", "version", "architecture", "license", "source")},
        "files": [
            {
                "path": str(file["path"]),
                "sha256": str(file["sha256"]),
                "bytes": int(file["bytes"]),
                # A job that began before the builder told that tells of nobody.
                "needed_by": [str(one) for one in file.get("needed_by", ())],
            }
            for file in document["files"]
        ],
    }


def _cooldown(document: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if document is None:
        return None

    def text(value: Any) -> str | None:
        return None if value is None else str(value)

    return {
        "duration": str(document["duration"]),
        "cutoff": str(document["cutoff"]),
        "exempt": [str(one) for one in document["exempt"][:_MAX_LEFT_OUT]],
        # A job that began before the builder knew of fixes tells of none.
        "fixes": [
            {key: str(one[key]) for key in ("package", "version", "until")}
            for one in document.get("fixes", ())[:_MAX_LEFT_OUT]
        ],
        "left_out": [
            {
                "package": str(one["package"]),
                "version": str(one["version"]),
                **{key: text(one[key]) for key in ("taken", "uploaded", "admitted_from")},
            }
            for one in document["left_out"][:_MAX_LEFT_OUT]
        ],
    }


def _problem(document: Mapping[str, Any]) -> Problem:
    code = str(document["code"])
    if not _CODE.fullmatch(code):
        raise ValueError(f"{code!r} is no error code")
    return Problem(
        code=code,
        message=str(document["message"]),
        hint=str(document["hint"]) or "The job's log has more.",
        details=_shallow(dict(document["details"])),
    )


def _shallow(value: Any, levels: int = 20) -> Any:
    """The value, if it nests so little that it can be written again wherever it is read."""
    if levels == 0:
        raise ValueError("it nests too deep")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _shallow(item, levels - 1)
    return value


def _number(text: str) -> float:
    """A number that can be written again: `1e999` is JSON, and infinite to Python."""
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> Never:
    raise ValueError(f"{text} is no JSON")


def invalid(message: str) -> BuildError:
    """What to say of a report, or of what lies beside it, that cannot be right."""
    return BuildError(
        ErrorCode.REPORT_INVALID,
        message,
        "This is a fault of the pipeline; the job's log has more.",
    )
