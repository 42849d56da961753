"""What came out of the uploads: files kept, a table of layers, and what went wrong in words."""

import hashlib
import json
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.clients import Clients
from local.progress import label
from local.watch import Progress, Upload

FIGURES: Final = ("Zip", "Unzipped", "Time")
TRIED: Final = ("Import", "Cold start")


@dataclass(frozen=True)
class Result:
    """The answer to one upload.

    Attributes:
        upload: Whose.
        manifest: The manifest, in its end state.
        seconds: From the beginning of the upload to the end of the execution.
    """

    upload: Upload
    manifest: Mapping[str, Any]
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether every layer is published."""
        return bool(self.manifest["status"] == "SUCCEEDED")


def no_manifest(progress: Progress) -> dict[str, Any]:
    """Return what stands in for a manifest when the state machine ended without one."""
    message = f"The execution ended as {progress.status} and left no manifest for this upload."
    hint = "Run `make up`, upload the file again and look at the execution's history."
    error = {"code": "NO_MANIFEST", "message": message, "hint": hint}
    return {"status": progress.status, "layers": [], "error": error}


class LayerDiffersError(Exception):
    """A layer version does not hold the zip that the manifest names."""


def keep(result: Result, clients: Clients, out: Path) -> None:
    """Write the manifest and each published layer, fetched by its version, to a folder named as the upload.

    Raises:
        LayerDiffersError: What Lambda serves is not what was built.
    """
    folder = out / label(result.upload)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(result.manifest, indent=2) + "\n")
    for layer in result.manifest["layers"]:
        if layer["layer_version_arn"]:
            content = fetch_layer(layer["layer_version_arn"], clients)
            if b64encode(hashlib.sha256(content).digest()).decode() != layer["code_sha256"]:
                raise LayerDiffersError(f"{layer['layer_version_arn']} is not the zip that was built")
            (folder / f"{layer['layer_name']}.zip").write_bytes(content)


def fetch_layer(arn: str, clients: Clients) -> bytes:
    """Return the zip file that Lambda serves for a layer version."""
    *_, name, version = arn.split(":")
    described = clients.lambda_.get_layer_version(LayerName=name, VersionNumber=int(version))
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(described["Content"]["Location"]) as response:
        return bytes(response.read())


def show_results(results: list[Result], console: Console) -> None:
    """Show the published layers in a table, then every failure."""
    layers = [
        (layer, result.seconds)
        for result in results
        for layer in result.manifest["layers"]
        if layer["layer_version_arn"]
    ]
    if layers:
        _show_layers(layers, console)
    for result in results:
        if not result.succeeded:
            _show_failure(result, console)


def _show_layers(layers: list[tuple[dict[str, Any], float]], console: Console) -> None:
    longest = max(len(layer["layer_name"]) + len(layer["layer_version_arn"]) for layer, _ in layers)
    tried = any(_tried(layer) for layer, _ in layers)
    wide = console.width >= longest + (74 if tried else 50)  # the figures' columns and the space between all
    # Names are to be read whole, and what a function takes to start says more than how many packages it has.
    name = max(len(layer["layer_name"]) for layer, _ in layers)
    counted = not tried or console.width >= name + 66
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("Layer", style="bold", overflow="fold")
    if wide:
        table.add_column("Version", style="cyan", no_wrap=True)
    for figure in (*(("Packages",) if counted else ()), *FIGURES, *(TRIED if tried else ())):
        table.add_column(figure, justify="right", no_wrap=True)
    for layer, seconds in layers:
        size = layer["zip"]
        table.add_row(
            layer["layer_name"],
            *([layer["layer_version_arn"]] if wide else []),
            *([str(len(layer["packages"]))] if counted else []),
            f"{size['bytes'] / 1e6:.1f} MB",
            f"{size['unzipped_bytes'] / 1e6:.1f} MB",
            f"{seconds:.1f} s",
            *((_tried(layer) or ("", "")) if tried else ()),
        )
    console.print(table)
    if not wide:
        for layer, _ in layers:
            # Never wrapped or cut: they are there to be copied.
            console.print(Text(layer["layer_version_arn"], style="cyan"), soft_wrap=True)
        console.print()
    for layer, _ in layers:
        trial = layer.get("trial") or {}
        if trial.get("result") == "not_run":
            console.print(
                Text(f"! {layer['layer_name']}: not tried: {trial.get('reason', '')}", style="yellow")
            )
        for warning in layer["warnings"]:
            console.print(Text(f"! {layer['layer_name']}: {warning}", style="yellow"))


def _tried(layer: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return how long a real function took to import it, and to start cold, if one has tried."""
    trial = layer.get("trial") or {}
    if "imports_ms" not in trial or "cold_start_ms" not in trial:
        return None
    start = trial["cold_start_ms"]  # None where Lambda does not tell
    return f"{sum(trial['imports_ms'].values()):,.0f} ms", "-" if start is None else f"{start:,.0f} ms"


def _show_failure(result: Result, console: Console) -> None:
    failed = [layer for layer in result.manifest["layers"] if layer["error"]]
    errors = {layer["layer_name"]: layer["error"] for layer in failed} or {
        label(result.upload): result.manifest["error"]
    }
    for name, error in errors.items():
        console.print(Text.assemble(("✗ ", "bold red"), (f"{name}: {error['code']}", "bold red")))
        console.print(Text(f"  {error['message']}"), soft_wrap=True)
        if error["hint"]:
            console.print(Text(f"  {error['hint']}", style="dim"), soft_wrap=True)
