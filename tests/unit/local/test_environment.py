import subprocess
import sys

from local.environment import FOR_THE_BUILDER, aws_variables, child_environment, key_variables
from local.keys import new_key

ENDPOINT = "http://127.0.0.1:4566"
DEVELOPER = {
    "PATH": "/bin",
    "HOME": "/home/dev",
    "SSL_CERT_FILE": "/ca.pem",
    "HTTPS_PROXY": "http://proxy:3128",
    "AWS_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "real",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_SESSION_TOKEN": "real",
    "AWS_ENDPOINT_URL_S3": "https://elsewhere",
    "PYTHONPATH": "/somewhere",
    "GITHUB_TOKEN": "secret",
    "LAYER_BUILDER_CACHE": "/cache",
}


def test_nothing_of_the_developers_account_or_secrets_is_passed_on() -> None:
    environment = child_environment(ENDPOINT, machine=DEVELOPER)
    assert {name: value for name, value in environment.items() if name.startswith("AWS_")} == aws_variables(
        ENDPOINT
    )
    # A key is added for a role; the owner's is for nobody that runs here.
    assert "AWS_ACCESS_KEY_ID" not in environment
    assert not {"real", "secret", "production", "/somewhere"} & set(environment.values())


def test_what_the_machine_needs_is_passed_on() -> None:
    environment = child_environment(ENDPOINT, machine=DEVELOPER)
    for name in ("PATH", "HOME", "SSL_CERT_FILE", "HTTPS_PROXY"):
        assert environment[name] == DEVELOPER[name]


def test_only_the_builder_gets_its_own_settings() -> None:
    assert "LAYER_BUILDER_CACHE" not in child_environment(ENDPOINT, machine=DEVELOPER)
    assert child_environment(ENDPOINT, FOR_THE_BUILDER, DEVELOPER)["LAYER_BUILDER_CACHE"] == "/cache"


def test_the_loopback_goes_past_any_proxy() -> None:
    for machine in ({}, {"no_proxy": "intranet"}, {"NO_PROXY": "intranet"}):
        environment = child_environment(ENDPOINT, machine=machine)
        assert environment["NO_PROXY"] == environment["no_proxy"]
        names = environment["no_proxy"].split(",")
        assert "127.0.0.1" in names
        assert ("intranet" in names) == bool(machine)


def test_an_sdk_in_that_environment_talks_to_the_embedded_aws_only(tmp_path) -> None:
    # Asked of boto3 itself, beside a configuration that says otherwise.
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[default]\nregion = eu-west-1\nendpoint_url = https://elsewhere\n"
    )
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = real\naws_secret_access_key = real\n"
    )
    key = new_key()
    environment = child_environment(ENDPOINT, machine={**DEVELOPER, "HOME": str(tmp_path)})
    environment |= key_variables(key)
    script = (
        "import boto3; client = boto3.client('s3'); "
        "print(client.meta.endpoint_url, client.meta.region_name, "
        "boto3.Session().get_credentials().access_key)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [ENDPOINT, "us-east-1", key.id]
