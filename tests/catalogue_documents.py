"""Example documents of the catalogue: releases, findings, and indexes of any size, by their schemas."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parents[1] / "functions/layerdrop/schemas"
DATABASE = "https://api.osv.dev"
NOW = datetime.now(UTC)
REGION, ACCOUNT = "eu-central-1", "111122223333"
LIMIT = 262_144_000
SCRIPT = "<script>document.title='stolen'</script>"
ARABIC = "حزمة لمعالجة النصوص العربية"
_KNOWN = (
    "requests", "urllib3", "certifi", "idna", "numpy", "pandas", "pyarrow", "boto3", "botocore", "pydantic",
    "pydantic-core", "httpx", "anyio", "h11", "cryptography", "cffi", "pillow", "lxml", "sqlalchemy", "redis",
    "psycopg2-binary", "jinja2", "markupsafe", "click", "rich", "orjson", "pyyaml", "python-dateutil", "six",
    "attrs", "scipy", "scikit-learn", "joblib", "shapely", "aiohttp", "yarl", "multidict", "fastapi",
)  # fmt: skip
_NAMES = [*_KNOWN, *(f"internal-{number}" for number in range(160))]
_LICENSES = ("MIT", "Apache-2.0", "BSD-3-Clause", "MPL-2.0", "ISC", None)
_RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")
_SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN")


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


def schema(name: str) -> dict[str, Any]:
    """A schema by its name, such as `catalogue`."""
    document: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return document


def arn(name: str, version: int) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}:{version}"


def package(name: str, version: str = "1.0.0", **changed: Any) -> dict[str, Any]:
    """A package as releases and the index list it; attested, as it comes from its own repository."""
    return {
        "name": name,
        "version": version,
        "license": "MIT",
        "unzipped_bytes": 1_200_000,
        "publisher": {
            "kind": "GitHub",
            "repository": f"{name}/{name}",
            "workflow": "release.yml",
            "environment": None,
        },
        "attested": True,
    } | changed


def release_document(name: str = "web-py313-arm64", version: int = 1, **changed: Any) -> dict[str, Any]:
    """A release document; a layer's name ends in its runtime and architecture, as in `-py313-arm64`."""
    stem, runtime, architecture = name.rsplit("-", 2)
    day = version % 20 + 1
    return {
        "schema": "layerdrop/release/1",
        "layer_name": name,
        "version": version,
        "layer_version_arn": arn(name, version),
        "architecture": architecture,
        "runtime": f"python3.{runtime.removeprefix('py3')}",
        "released": f"2026-11-{day:02}T10:00:00.000Z",
        "built": f"2026-11-{day:02}T10:00:00.000Z",
        "input": {
            "bucket": "layerdrop-test",
            "key": f"requirements/{architecture}/{stem}/requirements.txt",
            "version_id": f"v{version}",
            "sequencer": f"{version:08X}",
        },
        "zip_key": f"layers/{version:064x}.zip",
        "code_sha256": "A" * 43 + "=",
        "bytes": 1_000_000,
        "unzipped_bytes": 3_000_000,
        "description": "requests 2.32.5",
        "license": None,
        "packages": [package("requests", f"2.32.{version}")],
        "system_packages": [],
        "import_seconds": 0.25,
        "shared_with": [],
        "warnings": [],
        "watch": {"rebuild": None, "ignore": {}},
    } | changed


def finding(identifier: str = "GHSA-48p4-8xcf-vxj5", **changed: Any) -> dict[str, Any]:
    """A finding, as the watch writes it."""
    return {
        "id": identifier,
        "aliases": [],
        "package": "urllib3",
        "version": "2.4.0",
        "severity": "HIGH",
        "score": 7.5,
        "summary": "urllib3 does not control redirects",
        "fixed_in": ["2.5.0"],
        "first_seen": ago(days=3),
        "told": ago(days=3),
        "ignored": None,
        "url": f"https://osv.dev/vulnerability/{identifier}",
    } | changed


def layer(name: str, version: int = 1, **changed: Any) -> dict[str, Any]:
    """A layer of the index, without anything special."""
    written = release_document(name, version)
    stem, architecture, python = name.rsplit("-", 2)[0], written["architecture"], written["runtime"]
    same = ("architecture", "runtime", "version", "layer_version_arn", "system_packages", "shared_with")
    return {
        **{field: written[field] for field in (*same, "warnings", "watch")},
        "name": name,
        "input_key": f"requirements/{architecture}/{python}/{stem}/requirements.txt",
        "pointer": f"/layerdrop/{name}",
        "released": ago(days=9),
        "built": ago(days=2),
        "description": f"Packages of {stem}",
        "license": "MIT",
        "bytes": 4_000_000,
        "unzipped_bytes": 15_000_000,
        "limit_bytes": LIMIT,
        "import_seconds": 0.42,
        "packages": [package("requests", "2.32.5"), package("urllib3", "2.5.0")],
        "findings": [],
        "asked": ago(hours=5),
        "outdated": {"looked": ago(hours=5), "changes": [], "error": None},
        "history": [
            {
                "version": version,
                "layer_version_arn": arn(name, version),
                "released": ago(days=9),
                "unzipped_bytes": 15_000_000,
                "changes": None,
            }
        ],
        "digest": "0" * 32,
    } | changed


def unknown(name: str) -> dict[str, Any]:
    """A layer whose pointer leads to a version that was released before there was a catalogue."""
    known = {"name", "architecture", "runtime", "version", "layer_version_arn", "pointer", "limit_bytes"}
    known |= {"watch", "digest"}
    return {
        key: value if key in known else [] if isinstance(value, list) else None
        for key, value in layer(name).items()
    }


def index(*layers: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "schema": "layerdrop/catalogue/1",
        "written": ago(minutes=4),
        "stack": "layerdrop",
        "region": REGION,
        "account": ACCOUNT,
        "watch": {"asked": ago(hours=5), "database": DATABASE},
        "layers": sorted(layers, key=lambda one: one["name"]),
    } | changed


def made_up(layers: int = 2000, packages: int = 30, seed: int = 15) -> dict[str, Any]:
    """A catalogue as a large company's: the same for the same arguments, but for the time."""
    chance = random.Random(seed)
    return index(*(_any_layer(chance, number, packages) for number in range(layers)))


def _any_layer(chance: random.Random, number: int, packages: int) -> dict[str, Any]:
    runtime = chance.choices(_RUNTIMES, (2, 4, 9, 5))[0]
    architecture = chance.choice(("arm64", "x86_64"))
    team = chance.choice(("billing", "search", "web", "data", "identity", "shipping", "media", "reports"))
    name = f"{team}-{number:04}-{runtime.replace('python3.', 'py3')}-{architecture}"
    version = chance.randrange(1, 60)
    size = int(min(chance.lognormvariate(17.3, 1.0), LIMIT))
    listed = [
        _any_package(one, f"{chance.randrange(1, 4)}.{chance.randrange(5)}.0")
        for one in sorted(chance.sample(_NAMES, packages))
    ]
    findings = [
        finding(
            f"GHSA-{chance.randrange(16**4):04x}-{chance.randrange(16**4):04x}-{number:04x}",
            aliases=[f"CVE-2025-{chance.randrange(10_000, 60_000)}"],
            package=one["name"], version=one["version"], severity=chance.choice(_SEVERITIES),
            score=round(chance.uniform(2, 9.9), 1),
            ignored=chance.choice((None, None, None, "not reachable here")),
        )
        for one in (chance.sample(listed, chance.randrange(1, 4)) if chance.random() < 0.12 else ())
    ]  # fmt: skip
    changes = [
        {"package": one["name"], "from": one["version"], "to": "4.0.0"}
        for one in (
            chance.sample(listed, min(packages, chance.randrange(1, 9))) if chance.random() < 0.4 else ()
        )
    ]
    built = chance.expovariate(1 / 30)
    before = [
        {
            "version": version - back, "released": ago(days=built + 20 * back),
            "layer_version_arn": arn(name, version - back),
            "unzipped_bytes": int(size * (1 - back / 100)),
            "changes": None if back == version - 1 else {
                "added": [], "removed": [],
                "changed": [{"package": one["name"], "from": "1.0.0", "to": one["version"]}
                            for one in chance.sample(listed, min(3, packages))],
            },
        }
        for back in range(min(version, 10))
    ]  # fmt: skip
    return layer(
        name, version, released=ago(days=built + 3), built=ago(days=built), bytes=size // 3,
        unzipped_bytes=size, packages=listed, findings=findings,
        import_seconds=chance.choice((None, round(chance.lognormvariate(-0.5, 0.8), 3))),
        outdated={"looked": ago(hours=5), "changes": changes, "error": None},
        shared_with=chance.choice(([], [], [], ["444455556666", "o-a1b2c3d4e5"])), history=before,
        warnings=chance.choice(([], [], [], [], ["urllib3 2.5.0 was published by another repository."])),
    )  # fmt: skip


def _any_package(name: str, version: str) -> dict[str, Any]:
    """A version is the same in each layer that has it."""
    chance = random.Random(f"{name} {version}")
    listed = package(
        name,
        version,
        license=chance.choice(_LICENSES),
        unzipped_bytes=int(chance.lognormvariate(13, 1.5)),
    )
    return listed if chance.random() < 0.5 else listed | {"publisher": None, "attested": None}
