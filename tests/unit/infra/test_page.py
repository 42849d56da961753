"""The catalogue behind CloudFront: who is shown it, and of what the bucket is open to it."""

from __future__ import annotations

import ipaddress
import json
import random
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from local.intrinsics import Scope, evaluate
from local.translate import read_template
from tests.unit.infra.templates import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE: dict[str, Any] = read_template((ROOT / "infra/page.yaml").read_text())
ROOT_TEMPLATE: dict[str, Any] = read_template((ROOT / "template.yaml").read_text())
RUN = """
const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const shown = asked.map(([code, address]) => {
    const handler = new Function(code + '; return handler;')();
    const event = {version: '1.0', viewer: {ip: address}, request: {uri: '/index.html'}};
    const answer = handler(event);
    return answer === event.request ? 200 : answer.statusCode;
});
console.log(JSON.stringify(shown));
"""

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on this machine")


def code(addresses: str) -> str:
    """The function's code with an allow-list in it, as CloudFormation makes it."""
    properties = PAGE["Resources"]["AllowList"]["Properties"]
    scope = Scope({"CatalogueAddresses": addresses, "StackName": "s"})
    made: str = evaluate(properties["FunctionCode"], scope)
    return made


def answers(asked: Sequence[tuple[str, str]]) -> list[int]:
    """What viewers are answered: 200 if their request goes on to the bucket."""
    made = {addresses: code(addresses) for addresses, _ in asked}
    given = json.dumps([(made[addresses], address) for addresses, address in asked])
    done = subprocess.run(["node", "-e", RUN], input=given, capture_output=True, text=True, check=True)
    found: list[int] = json.loads(done.stdout)
    return found


def may_look(addresses: str, address: str) -> bool:
    """What Python's own library says."""
    viewer = ipaddress.ip_address(address)
    return any(viewer in ipaddress.ip_network(network) for network in addresses.split(","))


def some(rng: random.Random) -> tuple[str, str]:
    """An allow-list and an address, which is near one of its networks more often than not."""
    networks = []
    for _ in range(rng.randint(1, 4)):
        bits = rng.choice([32, 128])
        network = ipaddress.ip_network((rng.getrandbits(bits), rng.randint(0, bits)), strict=False)
        networks.append(network)
    near = rng.choice(networks)
    number = int(near.network_address) ^ rng.getrandbits(
        rng.randint(0, near.max_prefixlen - near.prefixlen) or 1
    )
    if rng.random() < 0.5:
        number ^= 1 << rng.randrange(near.max_prefixlen)
    kind = ipaddress.IPv4Address if near.version == 4 else ipaddress.IPv6Address
    viewer = kind(number)
    written = [rng.choice([str(one), one.exploded, str(one).upper()]) for one in networks]
    return ",".join(written), rng.choice([str(viewer), viewer.exploded])


@needs_node
def test_the_allow_list_is_read_as_python_reads_networks() -> None:
    rng = random.Random(15)
    asked = [some(rng) for _ in range(3000)]
    expected = [200 if may_look(*one) else 403 for one in asked]
    assert 500 < expected.count(200) < 2500
    wrong = [one for one, got, want in zip(asked, answers(asked), expected, strict=True) if got != want]
    assert wrong == []


@needs_node
@pytest.mark.attack("viewer: is let in by a network that is none, or by an address that is none")
def test_what_is_not_understood_lets_nobody_in() -> None:
    networks = [
        "10.0.0.0/33", "10.0.0.0", "10.0.0/8", "10.0.0.0.0/8", "010.0.0.0/8", "256.0.0.0/8", "10.0.0.1/8",
        "/8", " 0.0.0.0/0", "10.0.0.0/08", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.0/ 8", "10.0.0.0/",
        "::/129", ":/0", ":::/0", "::1::/0", "1:2:3:4:5:6:7:8:9/0", "12345::/0", "::g/0", "2001:db8::1/32",
        "1:2:3:4:5:6:7::8/0", "::/0x0", "::1.2.3/0", "1.2.3.4::/0", "0x0.0.0.0/0", "1:/0", ":1/0", "", ",",
    ]  # fmt: skip
    viewers = ["10.0.0.1", "::1", "2001:db8::1", "0.0.0.0"]
    asked = [(network, viewer) for network in networks for viewer in viewers]
    # Nor does a good one beside them stop counting.
    beside = [(f"{network},192.0.2.0/24", "192.0.2.7") for network in networks]
    assert set(answers(asked)) == {403}
    assert set(answers(beside)) == {200}
    for network in networks:
        if network not in ("10.0.0.0", "10.0.0.0/08"):  # which Python reads, too
            with pytest.raises(ValueError):
                ipaddress.ip_network(network)
    none = [
        "",
        "unknown",
        "10.0.0.1.2",
        "10.0.0",
        "::ffff:10.0.0.1",
        "10.0.0.1, 10.0.0.2",
        "10.0.0.1%eth0",
        "[::1]",
    ]
    assert set(answers([("10.0.0.0/8", viewer) for viewer in none])) == {403}
    assert set(answers([("0.0.0.0/0", "::1"), ("::/0", "10.0.0.1")])) == {403}, "each family by itself"


@pytest.mark.attack("deployer's list: code in the place of networks")
def test_nothing_but_networks_gets_into_the_code() -> None:
    for where in (PAGE, ROOT_TEMPLATE):
        pattern = where["Parameters"]["CatalogueAddresses"]["AllowedPattern"]
        assert re.search(pattern, "203.0.113.0/24,2001:db8::/32")
        for other in (
            "'+x+'",
            "1.2.3.4/8'",
            "1.2.3.4/8\n,::/0",
            "1.2.3.4/8, ::/0",
            "${x}/8",
            "\\/8",
            "1.2.3.4/8;",
        ):
            assert not re.fullmatch(pattern, other), other
    longest = PAGE["Parameters"]["CatalogueAddresses"]["MaxLength"]
    # https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html
    assert len(code("1" * longest)) < 10 * 1024


def test_the_function_stands_before_every_object_if_there_is_a_list() -> None:
    configuration = PAGE["Resources"]["Distribution"]["Properties"]["DistributionConfig"]
    assert "CacheBehaviors" not in configuration
    behaviour = configuration["DefaultCacheBehavior"]
    condition, [association], none = behaviour["FunctionAssociations"]["Fn::If"]
    assert (condition, none) == ("OnlySome", {"Ref": "AWS::NoValue"})
    # Before the cache is looked at, and so at each request.
    assert association["EventType"] == "viewer-request"
    assert PAGE["Resources"]["AllowList"]["Condition"] == "OnlySome"
    assert behaviour["AllowedMethods"] == ["GET", "HEAD"]
    assert behaviour["ViewerProtocolPolicy"] in ("https-only", "redirect-to-https")
    [origin] = configuration["Origins"]
    assert origin["OriginPath"] == "/catalogue"
    access = PAGE["Resources"]["OriginAccess"]["Properties"]["OriginAccessControlConfig"]
    assert (access["SigningBehavior"], access["SigningProtocol"]) == ("always", "sigv4")


@pytest.mark.attack("whoever has CloudFront's address: reads another object of the bucket")
def test_the_bucket_is_open_to_this_distribution_and_three_objects_alone() -> None:
    [policy] = [r for r in ROOT_TEMPLATE["Resources"].values() if r["Type"] == "AWS::S3::BucketPolicy"]
    statements = policy["Properties"]["PolicyDocument"]["Statement"]
    [[condition, opened, none]] = [one["Fn::If"] for one in statements if "Fn::If" in one]
    assert (condition, none) == ("OpenCatalogue", {"Ref": "AWS::NoValue"})
    assert [one["Effect"] for one in statements if "Fn::If" not in one] == ["Deny", "Deny"]
    assert (opened["Principal"], opened["Action"]) == (
        {"Service": "cloudfront.amazonaws.com"},
        "s3:GetObject",
    )
    assert opened["Condition"] == {
        "StringEquals": {"aws:SourceArn": {"Fn::GetAtt": ["CataloguePage", "Outputs.DistributionArn"]}}
    }
    assert [one["Fn::Sub"].partition("/")[2] for one in opened["Resource"]] == [
        "catalogue/index.html", "catalogue/index.json", "catalogue/vulnerabilities.json",
    ]  # fmt: skip
