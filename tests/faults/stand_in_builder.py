"""Stands in for the builder's image in tests about everything around it: started in 50 ms, without an index.

It keeps the builder's contract: reads that version of the requirements, leaves zip, record and report. A
layer whose name begins with `real` is built by the real builder; a plan of its name has it killed after a
while. One whose name begins with `tried` has a module: with `failing` among the requirements, it cannot be
imported; with `lacking`, only once a library is added; with `path-file`, only where `.pth` files count.

Called as: stand_in_builder.py BUILDER PLANS ARGUMENT…
"""

import base64
import hashlib
import hmac
import http.client
import io
import json
import os
import signal
import sys
import time
import zipfile
from urllib.parse import quote, urlsplit


def signed(method: str, path: str, query: str, host: str, more: dict[str, str]) -> dict[str, str]:
    """Signature Version 4, of a request whose body is not signed; gives all of its headers."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    headers = {"host": host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
    headers = dict(sorted((headers | {name.lower(): value for name, value in more.items()}).items()))
    lines = [f"{name}:{value}" for name, value in headers.items()]
    names = ";".join(headers)
    request = "\n".join([method, path, query, *lines, "", names, "UNSIGNED-PAYLOAD"])
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    given = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "Authorization": given}


def option(name: str, default: str = "") -> str:
    given = sys.argv[3:]
    for argument, following in zip(given, [*given[1:], ""], strict=True):
        if argument == name:
            return following
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return default


def s3(method: str, url: str, body: bytes | None = None, more: dict[str, str] | None = None) -> bytes:
    host = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
    connection = http.client.HTTPConnection(host, timeout=60)
    path, _, query = url.removeprefix("s3://").partition("?")
    path = f"/{quote(path)}"
    headers = {"User-Agent": "stand-in", **signed(method, path, query, host, more or {})}
    connection.request(method, path + (f"?{query}" if query else ""), body, headers)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        sys.exit(75)
    return content


def leave(name: str, body: bytes, sha256: str = "") -> None:
    checksum = {"x-amz-checksum-sha256": sha256, "x-amz-sdk-checksum-algorithm": "SHA256"} if sha256 else {}
    place = f"{option('--staging')}{os.environ['AWS_BATCH_JOB_ATTEMPT']}/"
    s3("PUT", f"{place}{name}", body, {"If-None-Match": "*", **checksum})


def checks(lines: list[str]) -> dict[str, object]:
    if not option("--name").startswith("tried"):
        return {}
    modules = {"package": "tried", "essential": ["tried"], "others": [], "advice": ""}
    wrapped = "differs" if "path-file" in lines else "same"
    imports = {"status": "not_run", "reason": "left", "packages": [modules], "with_pythonpath": wrapped}
    return {"imports": imports}


def module(lines: list[str], added: list[str]) -> str:
    if "failing" in lines:
        return "import nowhere\n"
    if "lacking" in lines and len(added) < 2:
        return f"raise OSError(\"cannot load library 'libnumber{len(added)}.so.1': no\")\n"
    return "import inside\n" if "path-file" in lines else "x = 1\n"


def build() -> None:
    text = s3("GET", f"{option('--path')}?versionId={option('--version-id')}").decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    # A build takes its time, always the same, so that they end in another order than they began.
    time.sleep(int(hashlib.sha256(option("--version-id").encode()).hexdigest()[:2], 16) / 2000)
    added = [argument for argument in sys.argv if argument.startswith("--needed-library=")]
    content = "\n".join([*lines, *added]).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("python/content.txt"), content)
        if option("--name").startswith("tried"):
            archive.writestr(zipfile.ZipInfo("python/tried.py"), module(lines, added))
            if "path-file" in lines:
                archive.writestr(zipfile.ZipInfo("python/inner/inside.py"), "import colorsys\n")
                archive.writestr(zipfile.ZipInfo("python/inner.pth"), "inner\n")
    data = stream.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    sha256 = base64.b64encode(hashlib.sha256(data).digest()).decode()
    leave("layer.zip", data, sha256)
    record = {
        "schema": "layerdrop/layer/1",
        "builder": {"version": "stand-in"},
        "asked": {},
        "code_sha256": sha256,
        "bytes": len(data),
        "unzipped_bytes": len(content),
        "packages": [],
        "system_packages": [],
        "file_bytes": {},
        "checks": {},
        "warnings": [],
    }
    leave("layer.json", json.dumps(record).encode())
    report = {
        "schema": "layerdrop/report/1",
        "status": "SUCCEEDED",
        "builder": {"version": "stand-in"},
        "target": {"architecture": option("--architecture"), "runtime": option("--runtime")},
        "requirements": lines,
        "layer": {
            "name": option("--name"),
            "description": option("--description") or "|".join(lines)[:256],
            "license": option("--license") or None,
            "digest": digest,
            "code_sha256": sha256,
            "zip": {
                "location": "layer.zip",
                "bucket": None,
                "key": None,
                "bytes": len(data),
                "unzipped_bytes": len(content),
            },
        },
        "packages": [],
        "checks": checks(lines),
        "warnings": [],
        "timings": {},
        "error": None,
    }
    leave("report.json", json.dumps(report).encode())


def main() -> None:
    builder, plans, name = sys.argv[1], sys.argv[2], option("--name")
    plan = os.path.join(plans, name)  # noqa: PTH118 (pathlib costs a start some ms)
    if os.path.exists(plan):  # noqa: PTH110
        with open(plan) as file:  # noqa: PTH123
            delay = float(file.read())
        victim = os.getpid()
        if os.fork() == 0:
            time.sleep(delay)
            os.kill(victim, signal.SIGKILL)
            os._exit(0)
    if name.startswith("real"):
        os.execv(builder, [builder, *sys.argv[3:]])
    build()


main()
