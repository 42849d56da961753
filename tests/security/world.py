"""Teams that share a stack, and a thief among them."""

import json
from pathlib import Path
from typing import Any

from local.server import EmbeddedAws
from local.settings import BUCKET

from .recording import until

SOURCES = '# /// layer\n# allow-sdist = ["odd"]\n# ///\n'


class World:
    """Teams that upload, and a place for what the thief is to do."""

    def __init__(self, aws: EmbeddedAws, notes: Path) -> None:
        self.aws, self.notes, self.s3 = aws, notes, aws.clients.s3

    def build(self, folder: str, text: str) -> Any:
        """Upload, wait, and return the manifest."""
        key = f"requirements/arm64/{folder}/requirements.txt"
        version = self.s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())["VersionId"]

        def look() -> Any:
            try:
                got = self.s3.get_object(Bucket=BUCKET, Key=f"requirements/arm64/{folder}/manifest.json")
            except self.s3.exceptions.NoSuchKey:
                return None
            manifest = json.load(got["Body"])
            ours = manifest["input"]["version_id"] == version and manifest["status"] != "BUILDING"
            return manifest if ours else None

        return until(look)

    def plan(self, folder: str, how: str, victim: dict[str, str]) -> None:
        plan = self.notes / f"{folder}-py313-arm64.plan"
        plan.write_text(json.dumps({"how": how, "victim": victim}))

    def told(self, folder: str) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.notes / f"{folder}-py313-arm64.told").read_text())
        return found

    def victim(self, manifest: Any) -> dict[str, str]:
        """The keys of a build, all of which the thief is told."""
        execution = manifest["execution"]["arn"].rpartition(":")[2]
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"builds/{execution}/")["Contents"]
        (report,) = (item["Key"] for item in listed if item["Key"].endswith("/report.json"))
        key = manifest["layers"][0]["zip"]["key"]
        return {"report": report, "zip": key, "record": key.replace(".zip", ".json")}

    def state(self, keys: dict[str, str]) -> Any:
        """All versions of some objects."""
        return {
            key: [
                (item["VersionId"], item["ETag"])
                for item in self.s3.list_object_versions(Bucket=BUCKET, Prefix=key).get("Versions", [])
            ]
            for key in keys.values()
        }
