"""Example documents of the catalogue, of any number of layers, for tests of whatever reads them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[1] / "functions/layerdrop/schemas"
ACCOUNT = "123456789012"
DATABASE = "https://api.osv.dev"

_PACKAGES = (
    "requests",
    "urllib3",
    "numpy",
    "pandas",
    "boto3",
    "pydantic",
    "cryptography",
    "httpx",
    "rich",
    "attrs",
)
_TEAMS = ("web", "data", "billing", "search", "mail", "reports", "images", "audio", "login", "stock")


def schema(name: str) -> dict[str, Any]:
    """A schema by its name, such as `catalogue`."""
    document: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return document


def arn(name: str, version: int) -> str:
    """The ARN of a layer's version."""
    return f"arn:aws:lambda:eu-central-1:{ACCOUNT}:layer:{name}:{version}"


def a_package(name: str, version: str = "1.0", **changes: Any) -> dict[str, Any]:
    """A package of a layer, as release documents and the index have it."""
    return {
        "name": name,
        "version": version,
        "license": "MIT",
        "unzipped_bytes": 1_000_000,
        "publisher": {
            "kind": "GitHub",
            "repository": f"{name}/{name}",
            "workflow": "release.yml",
            "environment": None,
        },
        "attested": True,
    } | changes


def a_release(name: str = "web-py313-arm64", version: int = 1, **changes: Any) -> dict[str, Any]:
    """A release document."""
    runtime, architecture = name.rsplit("-", 2)[1:]
    return {
        "schema": "layerdrop/release/1",
        "layer_name": name,
        "version": version,
        "layer_version_arn": arn(name, version),
        "architecture": architecture,
        "runtime": f"python3.{runtime.removeprefix('py3')}",
        "released": f"2026-11-{version % 20 + 1:02}T10:00:00.000Z",
        "built": f"2026-11-{version % 20 + 1:02}T10:00:00.000Z",
        "input": {
            "bucket": "layerdrop-test",
            "key": f"requirements/{architecture}/{name.rsplit('-', 2)[0]}/requirements.txt",
            "version_id": f"v{version}",
            "sequencer": f"{version:08X}",
        },
        "zip_key": f"layers/{version:064x}.zip",
        "code_sha256": "A" * 43 + "=",
        "bytes": 1_000_000,
        "unzipped_bytes": 3_000_000,
        "description": "requests 2.32.5",
        "license": None,
        "packages": [a_package("requests", f"2.32.{version}")],
        "system_packages": [],
        "import_seconds": 0.25,
        "shared_with": [],
        "warnings": [],
        "watch": {"rebuild": None, "ignore": {}},
    } | changes


def a_finding(package: str = "urllib3", version: str = "2.4.0", **changes: Any) -> dict[str, Any]:
    """A finding, as the watch writes it."""
    return {
        "id": "GHSA-48p4-8xcf-vxj5",
        "aliases": ["CVE-2025-50182"],
        "package": package,
        "version": version,
        "severity": "MEDIUM",
        "score": 5.3,
        "summary": "urllib3 does not control redirects in browsers and Node.js",
        "fixed_in": ["2.5.0"],
        "first_seen": "2026-11-20T06:00:00.000Z",
        "told": "2026-11-20T06:00:01.000Z",
        "ignored": None,
        "url": "https://osv.dev/vulnerability/GHSA-48p4-8xcf-vxj5",
    } | changes


def a_layer(name: str = "web-py313-arm64", version: int = 1, **changes: Any) -> dict[str, Any]:
    """A layer of the index; `changes` are of fields of the index."""
    release = a_release(name, version)
    same = ("architecture", "runtime", "version", "layer_version_arn", "released", "built", "description")
    more = ("license", "bytes", "unzipped_bytes", "import_seconds", "shared_with", "packages")
    return {
        "name": name,
        "input_key": release["input"]["key"],
        "pointer": f"/layerdrop/{name}",
        "limit_bytes": 262_144_000,
        **{field: release[field] for field in (*same, *more, "system_packages", "warnings", "watch")},
        "findings": [],
        "asked": "2026-11-21T06:00:00.000Z",
        "outdated": {"looked": "2026-11-21T06:00:00.000Z", "changes": [], "error": None},
        "history": [
            {
                "version": number,
                "layer_version_arn": arn(name, number),
                "released": f"2026-11-{number % 20 + 1:02}T10:00:00.000Z",
                "unzipped_bytes": 3_000_000,
                "changes": {
                    "added": [],
                    "removed": [],
                    "changed": [
                        {"package": "requests", "from": f"2.32.{number - 1}", "to": f"2.32.{number}"}
                    ],
                }
                if number > 1
                else None,
            }
            for number in range(version, 0, -1)
        ],
        "digest": f"{version:032x}",
    } | changes


def a_bare_layer(name: str = "old-py311-x86_64", version: int = 7) -> dict[str, Any]:
    """A layer of the index whose version was released before there was a catalogue."""
    nothing = ("released", "built", "description", "license", "bytes", "unzipped_bytes", "import_seconds")
    return a_layer(name, version) | {
        **dict.fromkeys((*nothing, "input_key", "asked", "outdated")),
        **{field: [] for field in ("packages", "system_packages", "history")},
    }


def an_index(layers: list[dict[str, Any]] | None = None, number: int = 0) -> dict[str, Any]:
    """An index of these layers and of a number of others, the same ones each time."""
    listed = [*(layers or []), *(_some_layer(random.Random(one), one) for one in range(number))]
    return {
        "schema": "layerdrop/catalogue/1",
        "written": "2026-11-22T06:00:00.000Z",
        "stack": "layerdrop",
        "region": "eu-central-1",
        "account": ACCOUNT,
        "watch": {"asked": "2026-11-21T06:00:00.000Z", "database": DATABASE},
        "layers": sorted(listed, key=lambda layer: str(layer["name"])),
    }


def _some_layer(chance: random.Random, number: int) -> dict[str, Any]:
    """One layer of many: a bit of everything."""
    target = chance.choice(("py313-arm64", "py313-x86_64", "py312-arm64", "py314-arm64", "py311-x86_64"))
    name = f"{chance.choice(_TEAMS)}-{number}-{target}"
    if number % 97 == 96:
        return a_bare_layer(name)
    packages = [
        a_package(
            one,
            f"{chance.randrange(1, 9)}.{chance.randrange(30)}",
            unzipped_bytes=chance.randrange(40_000_000),
        )
        for one in sorted(chance.sample(_PACKAGES, chance.randrange(1, len(_PACKAGES))))
    ]
    size = sum(one["unzipped_bytes"] for one in packages)
    found = [
        a_finding(one["name"], one["version"], severity=severity, score=score)
        for one, severity, score in zip(
            packages,
            chance.sample(("CRITICAL", "HIGH", "MEDIUM", "LOW"), 4),
            (9.8, 7.5, 5.3, 3.1),
            strict=False,
        )
        if chance.random() < 0.05
    ]
    changes = [
        {"package": one["name"], "from": one["version"], "to": "9.99"}
        for one in packages
        if chance.random() < 0.2
    ]
    return a_layer(
        name,
        chance.randrange(1, 12),
        packages=packages,
        unzipped_bytes=size,
        bytes=size // 3,
        import_seconds=round(chance.uniform(0.05, 6), 3),
        shared_with=["o-a1b2c3d4e5"] if chance.random() < 0.1 else [],
        warnings=["requests 2.32.5 was published by another project."] if chance.random() < 0.05 else [],
        findings=found,
        outdated={"looked": "2026-11-21T06:00:00.000Z", "changes": changes, "error": None},
    )
