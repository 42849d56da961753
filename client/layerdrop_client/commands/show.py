"""`layerdrop show`: everything about one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerdrop_client import screen as shown
from layerdrop_client.answers import document
from layerdrop_client.keys import short
from layerdrop_client.lookup import content_of, number_in, resolve, told_of
from layerdrop_client.problems import DONE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerdrop_client.aws import Aws
    from layerdrop_client.changes import Content
    from layerdrop_client.manifests import Layer, Manifest
    from layerdrop_client.screen import Screen

_SHOWN_VERSIONS = 10


def show(aws: Aws, screen: Screen, word: str) -> int:
    """Tell of a layer: the version that its pointer names, what is in it, and its other versions.

    Raises:
        CommandError: LAYER_NOT_FOUND.
    """
    name = resolve(aws, word)
    claim, pointer, versions = aws.claim(name), aws.pointer(name), aws.versions(name)
    number = number_in(pointer)
    manifest = aws.manifest(claim.key) if claim and claim.key else None
    layer = told_of(aws, name, number) if number else None
    listed = {item["Version"] for item in versions}
    content = content_of(aws, name, number) if number in listed and number else None
    key = claim.key if claim else None
    findings = aws.findings(key, name, number) if key and number else []
    screen.document(
        _document(name, manifest, layer, content, versions)
        | {"arn": pointer, "key": key, "findings": findings}
    )
    _tell_facts(screen, name, pointer, manifest, content)
    if layer:
        _tell_packages(screen, layer)
        _tell_checks(screen, layer)
    elif content:
        screen.line("\nNo manifest of this version is kept any more; its zip has:\n")
        screen.table(["Package", "Version"], sorted(content.packages.items()))
    _tell_findings(screen, findings)
    _tell_versions(screen, versions, number)
    if manifest and manifest.problem:
        screen.line()
        screen.line(shown.bad(f"The last upload failed: {manifest.problem.code}: {manifest.problem.message}"))
    return DONE


def _tell_facts(
    screen: Screen, name: str, pointer: str | None, manifest: Manifest | None, content: Content | None
) -> None:
    screen.title(name)
    facts: list[tuple[str, shown.Cell]] = [("version", pointer or "none is released")]
    if manifest:
        ended = (manifest.finished or "building")[:16].replace("T", " ")
        facts.append(("file", f"{short(manifest.key)}, last built {ended} UTC"))
    if content:
        size = f"{shown.size(content.zip_bytes)} zip, {shown.size(content.unzipped_bytes)} unzipped"
        facts.append(("size", size))
        if content.imports_ms:
            total = shown.milliseconds(sum(content.imports_ms.values()))
            facts.append(
                ("imports", f"{total} in a function, cold start {shown.milliseconds(content.cold_start_ms)}")
            )
    facts.append(("pointer", f"/layerdrop/{name}"))
    screen.facts(facts)


def _tell_packages(screen: Screen, layer: Layer) -> None:
    times = layer.imports_ms
    rows = [
        (
            one["name"],
            one["version"],
            shown.size(one.get("unzipped_bytes")),
            shown.milliseconds(times.get(one["name"].replace("-", "_"))),
            one.get("license") or "-",
        )
        for one in layer.packages
    ]
    screen.line()
    screen.table(["Package", "Version", "Unzipped", "Import", "License"], rows, right=["Unzipped", "Import"])


def _tell_checks(screen: Screen, layer: Layer) -> None:
    system = ", ".join(f"{one['name']} {one['version']}" for one in layer.told.get("system_packages", ()))
    if system:
        screen.line(f"\nFrom the operating system: {system}")
    for warning in layer.warnings:
        screen.warning(warning)


def _tell_findings(screen: Screen, findings: list[Mapping[str, Any]]) -> None:
    if not findings:
        return
    rows = [
        (
            _severity(one),
            f"{one.get('package', '')} {one.get('version', '')}",
            str(one.get("id", "")),
            ", ".join(map(str, one.get("fixed_in") or ())) or "-",
            f"ignored: {one['ignored']}" if one.get("ignored") else str(one.get("summary") or ""),
        )
        for one in findings
    ]
    screen.line()
    screen.table(["Severity", "Package", "Finding", "Fixed in", "What"], rows, spare=["Fixed in"])


def _severity(finding: Mapping[str, Any]) -> shown.Cell:
    told = str(finding.get("severity", "UNKNOWN")).lower()
    if finding.get("ignored"):
        return shown.dim(told)
    return shown.bad(told) if told in ("critical", "high") else told


def _tell_versions(screen: Screen, versions: list[Mapping[str, Any]], number: int | None) -> None:
    if not versions:
        return
    rows = [
        (
            f"{'→' if item['Version'] == number else ' '} {item['Version']}",
            item["CreatedDate"][:16].replace("T", " "),
            item.get("Description", ""),
        )
        for item in versions[:_SHOWN_VERSIONS]
    ]
    screen.line()
    screen.table(["Version", "Made (UTC)", "Description"], rows)
    if len(versions) > _SHOWN_VERSIONS:
        screen.line(shown.dim(f"and {len(versions) - _SHOWN_VERSIONS} older ones"))


def _document(
    name: str,
    manifest: Manifest | None,
    layer: Layer | None,
    content: Content | None,
    versions: list[Mapping[str, Any]],
) -> dict[str, Any]:
    return document(
        "show",
        name=name,
        version=content.version if content else None,
        source=content.source if content else None,
        packages=content.packages if content else {},
        zip_bytes=content.zip_bytes if content else None,
        unzipped_bytes=content.unzipped_bytes if content else None,
        layer=layer.told if layer else None,
        last_upload=manifest.status if manifest else None,
        versions=[
            {"version": item["Version"], "arn": item["LayerVersionArn"], "created": item["CreatedDate"]}
            for item in versions
        ],
    )
