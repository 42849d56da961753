import base64
import gzip
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
import zipfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from layer_builder.ground import interpreter
from local.settings import BUCKET, ROOT
from tests.integration.layers import import_from

from .conftest import SHELL, Served, eventually, exports, paste


def manifest(served: Served, key: str) -> dict:
    """Wait for the answer at a key."""

    def ended() -> dict | None:
        try:
            found = json.load(served.clients.s3.get_object(Bucket=BUCKET, Key=key)["Body"])
        except ClientError:
            return None
        return found if found["status"] != "BUILDING" else None

    return eventually(ended)


def test_the_printed_commands_work_as_pasted(served: Served) -> None:
    built = served.paste(f"{served.command('layerdrop sync ')} --output json")
    assert built.returncode == 0, built.stderr
    files = {file["key"]: file for file in json.loads(built.stdout)["files"]}
    [layer] = files["requirements/arm64/http/requirements.txt"]["layers"]
    arn = layer["arn"]
    listed = served.paste(f"{served.command('layerdrop list')} --output json")
    assert arn in [one["arn"] for one in json.loads(listed.stdout)["layers"]]
    # And it is told here, too.
    eventually(lambda: any("arm64/http" in line and arn in line for line in served.lines))


def test_a_synced_folder_is_answered_file_by_file(served: Served, tmp_path: Path) -> None:
    batch = uuid.uuid4().hex[:8]
    names = ["plain", "with space", "plus+sign", "hundert%", "ünï"]
    for name in names:
        folder = tmp_path / "arm64" / batch / name
        folder.mkdir(parents=True)
        (folder / "requirements.txt").write_text("idna == 3.10\n")
    (tmp_path / "arm64" / batch / "README.md").write_text("not a requirements file\n")
    for file in tmp_path.rglob("*"):
        # S3 counts in seconds: a file of this very second would look newer than its upload.
        os.utime(file, (1_700_000_000, 1_700_000_000))
    served.aws("s3", "sync", str(tmp_path), f"s3://{BUCKET}/requirements/")
    keys = [f"requirements/arm64/{batch}/{name}/" for name in names]
    answers = [manifest(served, f"{key}manifest.json") for key in keys]
    assert [answer["input"]["key"] for answer in answers] == [f"{key}requirements.txt" for key in keys]
    assert [answer["status"] for answer in answers] == ["SUCCEEDED"] * len(names)
    # Synced once more, nothing has changed and nothing is uploaded.
    assert "upload:" not in served.aws("s3", "sync", str(tmp_path), f"s3://{BUCKET}/requirements/")


def test_a_layer_fetched_by_its_version_is_imported(served: Served, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("cryptography == 44.0.0\n")
    name = f"fetched-{uuid.uuid4().hex[:8]}"
    key = f"requirements/x86_64/python3.12/{name}/"
    served.aws("s3", "cp", str(tmp_path / "requirements.txt"), f"s3://{BUCKET}/{key}")
    [layer] = manifest(served, f"{key}manifest.json")["layers"]
    described = json.loads(
        served.aws(
            "lambda", "get-layer-version", "--layer-name", layer["layer_name"], "--version-number", "1"
        )
    )
    assert described["LayerVersionArn"] == layer["layer_version_arn"]
    assert described["Content"]["CodeSha256"] == layer["code_sha256"]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(described["Content"]["Location"]) as response:
        content = response.read()
    files = import_from(content, "python3.12", ["cryptography.hazmat.bindings._rust"], tmp_path / "opt")
    assert "x86_64-linux-gnu.so" in files["cryptography.hazmat.bindings._rust"] or ".abi3.so" in str(files)


TRUST = (
    '{"Statement": {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:*"}}'
)
CODE = """
import sys
def handler(event, context):
    import idna
    print("hello")
    return [idna.__file__, "{}.{}".format(*sys.version_info[:2])]
"""


def test_a_function_runs_with_a_layer_of_the_pipeline(served: Served, tmp_path: Path) -> None:
    architecture = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    minor = next(minor for minor in ("3.13", "3.12", "3.11") if interpreter.find(minor))
    name = f"run-{uuid.uuid4().hex[:8]}"
    key, clients = f"requirements/{architecture}/python{minor}/{name}/", served.clients
    clients.s3.put_object(Bucket=BUCKET, Key=f"{key}requirements.txt", Body=b"idna == 3.10\n")
    [layer] = manifest(served, f"{key}manifest.json")["layers"]
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as package:
        package.writestr("mine.py", CODE)
    made_role = clients.get("iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    role = made_role["Role"]["Arn"]
    made = ["--function-name", name, "--role", role, "--zip-file", f"fileb://{tmp_path / 'code.zip'}"]
    made += [
        "--layers",
        layer["layer_version_arn"],
        "--handler",
        "mine.handler",
        "--runtime",
        f"python{minor}",
    ]
    served.aws("lambda", "create-function", *made, "--architectures", architecture)
    clients.lambda_.get_waiter("function_active_v2").wait(FunctionName=name)
    answer = tmp_path / "answer.json"
    told = json.loads(
        served.aws("lambda", "invoke", "--function-name", name, "--log-type", "Tail", str(answer))
    )
    assert told["StatusCode"] == 200
    assert "FunctionError" not in told, answer.read_text()
    file, version = json.loads(answer.read_text())
    assert file.startswith("/opt/python/")
    assert version == minor
    log = base64.b64decode(told["LogResult"]).decode()
    assert re.search(
        r"hello\nEND RequestId: .+\nREPORT .+ Memory Used: \d+ MB\tInit Duration: [\d.]+ ms", log
    )
    served.aws("lambda", "delete-function", "--function-name", name)
    with pytest.raises(clients.lambda_.exceptions.ResourceNotFoundException):
        clients.lambda_.invoke(FunctionName=name)


def test_a_layer_is_told_by_its_arn(served: Served, tmp_path: Path) -> None:
    name = f"by-arn-{uuid.uuid4().hex[:8]}"
    with zipfile.ZipFile(tmp_path / "layer.zip", "w") as layer:
        layer.writestr("python/there.py", "")
    zipped = f"fileb://{tmp_path / 'layer.zip'}"
    published = json.loads(
        served.aws("lambda", "publish-layer-version", "--layer-name", name, "--zip-file", zipped)
    )
    arn = published["LayerVersionArn"]
    told = json.loads(served.aws("lambda", "get-layer-version-by-arn", "--arn", arn))
    assert told["LayerVersionArn"] == arn
    assert told["Content"]["CodeSha256"] == published["Content"]["CodeSha256"]
    missing = served.run("lambda", "get-layer-version-by-arn", "--arn", arn.removesuffix("1") + "2")
    assert missing.stderr.strip() == (
        "An error occurred (ResourceNotFoundException) when calling the GetLayerVersionByArn operation: "
        f"The layer version {arn.removesuffix('1')}2 does not exist."
    )


def test_the_catalogue_is_at_the_address_that_is_printed_and_has_what_was_built(served: Served) -> None:
    name = f"shown-{uuid.uuid4().hex[:8]}"
    key = f"requirements/arm64/{name}/"
    served.clients.s3.put_object(Bucket=BUCKET, Key=f"{key}requirements.txt", Body=b"idna == 3.10\n")
    assert manifest(served, f"{key}manifest.json")["status"] == "SUCCEEDED"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address = served.command("/catalogue/index.html?")

    def page() -> str:
        # As a browser asks for what was typed in.
        asked = urllib.request.Request(address, headers={"Sec-Fetch-Site": "none", "Accept-Encoding": "gzip"})
        with direct.open(asked) as response:
            assert response.headers["Content-Type"] == "text/html; charset=utf-8"
            assert response.headers["Content-Encoding"] == "gzip"
            return gzip.decompress(response.read()).decode()

    eventually(lambda: f"{name}-py313-arm64" in page())
    # The command makes such an address itself, and needs no browser.
    done = served.paste("layerdrop catalogue --no-open --output json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with direct.open(found["address"]) as response:
        assert gzip.decompress(response.read()).decode() == page()
    for wrong in (address.replace("index.html", "index.json"), address.partition("?")[0]):
        with pytest.raises(urllib.error.HTTPError) as error:
            direct.open(wrong)
        assert error.value.code == 403


def test_a_copy_of_the_catalogue_needs_nothing_else(served: Served, tmp_path: Path) -> None:
    done = served.paste(f"layerdrop catalogue --save {tmp_path}/copy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy/index.html").read_bytes().lower().startswith(b"<!doctype html>")
    index = json.loads((tmp_path / "copy/index.json").read_text())
    assert index["schema"] == "layerdrop/catalogue/1"


def test_an_unknown_call_is_named_in_one_line(served: Served) -> None:
    for command, named in (
        ("lambda get-account-settings", "lambda:GetAccountSettings"),
        ("ec2 describe-capacity-blocks", "ec2:DescribeCapacityBlocks"),
    ):
        done = served.run(*command.split())
        assert done.returncode != 0
        operation = named.partition(":")[2]
        assert done.stderr.strip() == (
            f"An error occurred (NotImplemented) when calling the {operation} operation: "
            f"The embedded AWS does not know the call {named}."
        )


def test_a_wrong_key_is_one_clear_line(served: Served) -> None:
    for changed, code in (
        ({"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, "InvalidAccessKeyId"),
        ({"AWS_SECRET_ACCESS_KEY": "guessed"}, "SignatureDoesNotMatch"),
    ):
        done = served.run("s3", "ls", **changed)
        [line] = done.stderr.strip().splitlines()
        assert line.startswith(f"An error occurred ({code}) when calling the ListBuckets operation: ")
        assert line.endswith("export the lines that `make up` printed, in this shell.")


def test_a_mistake_is_told_where_it_is_served(served: Served, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("idna == 999\n")
    name = f"wrong-{uuid.uuid4().hex[:8]}"
    served.aws(
        "s3",
        "cp",
        str(tmp_path / "requirements.txt"),
        f"s3://{BUCKET}/requirements/arm64/{name}/requirements.txt",
    )
    line = eventually(lambda: [line for line in served.lines if name in line])[0]
    assert "RESOLUTION_FAILED" in line
    assert "999" in line


def test_it_listens_on_the_loopback_only(served: Served) -> None:
    port = int(served.endpoint.rsplit(":", 1)[1])
    addresses = {
        info[4][0]
        for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        if not str(info[4][0]).startswith("127.")
    }
    if not addresses:
        pytest.skip("this machine has no other address")
    for address in addresses:
        with socket.socket() as client, pytest.raises(OSError):
            client.settimeout(2)
            client.connect((str(address), port))


def test_a_port_in_use_is_one_clear_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = paste(f"{sys.executable} -m local up --port {port}")
    assert done.returncode == 1
    assert done.stderr.strip() == f"Port {port} is in use by another program"
    assert done.stdout == ""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are counted in /proc")
def test_nothing_is_left_when_it_is_stopped_in_the_middle_of_work(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "local", "up", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=SHELL | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("Answers:"):
                break
        [upload] = [line for line in lines if "layerdrop sync " in line]
        assert paste(f"{exports(lines)}\n{upload} --no-wait").returncode == 0
        family = eventually(lambda: (found := children(process.pid)) and len(found) > 2 and found)
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(30) == 0
    eventually(lambda: not [pid for pid in family if alive(pid)], 5)
    assert list(tmp_path.iterdir()) == []


def children(parent: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if int(re.split(r"\) ", text)[-1].split()[1]) == parent:
            found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
