"""`layerdrop catalogue`: an address that ends, CloudFront's, or a copy."""

import argparse
import gzip
import webbrowser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from layerdrop_client import cli
from layerdrop_client.aws import Aws
from layerdrop_client.commands.catalogue import Wish, catalogue
from layerdrop_client.place import Place
from layerdrop_client.problems import CommandError
from layerdrop_client.screen import Screen

from .fakes import FakeAws, document

PAGE = "catalogue/index.html"
HTML = b"<!doctype html><title>Layers</title>"


@pytest.fixture
def aws() -> Any:
    made = FakeAws()
    made.kept = {PAGE: gzip.compress(HTML), "catalogue/index.json": b"{}"}
    return made


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was to open."""
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: asked.append(address) or True)
    return asked


def told(aws: Any, capsys: Any, wish: Wish) -> Any:
    assert catalogue(aws, Screen(as_json=True), wish) == 0
    return document(capsys.readouterr().out)


def test_the_address_is_good_for_as_long_as_is_asked(aws: Any, capsys: Any, opened: list[str]) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    found = told(aws, capsys, Wish(good_for=timedelta(hours=12)))
    assert found["schema"] == "layerdrop/client/catalogue/1"
    assert found["address"].endswith("index.html?X-Amz-Expires=43200")
    lasts = datetime.fromisoformat(found["expires"]) - before
    assert timedelta(hours=12) <= lasts < timedelta(hours=12, minutes=1)
    assert (found["saved"], opened) == ([], [])


def test_it_is_printed_and_opened_only_if_that_is_asked_for_or_somebody_looks(
    aws: Any, capsys: Any, opened: list[str]
) -> None:
    assert catalogue(aws, Screen(), Wish()) == 0
    printed = capsys.readouterr()
    assert printed.out == "https://box.example/catalogue/index.html?X-Amz-Expires=3600\n"
    assert "Whoever has this address can read the catalogue until 20" in printed.err
    assert opened == []
    catalogue(aws, Screen(), Wish(opens=True))
    assert opened == ["https://box.example/catalogue/index.html?X-Amz-Expires=3600"]
    watched = Screen()
    watched._out._force_terminal = True
    catalogue(aws, watched, Wish(opens=False))
    assert len(opened) == 1
    catalogue(aws, watched, Wish())
    assert len(opened) == 2


def test_no_browser_is_no_failure(aws: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _address: False)
    assert catalogue(aws, Screen(), Wish(opens=True)) == 0
    assert "open the address yourself" in capsys.readouterr().err


def test_cloudfront_s_address_needs_no_signature(aws: Any, capsys: Any) -> None:
    aws.catalogue_address, aws.kept = "https://d1.cloudfront.net/", {}
    found = told(aws, capsys, Wish())
    assert (found["address"], found["expires"]) == ("https://d1.cloudfront.net/", None)


def test_a_copy_is_as_a_browser_reads_it(aws: Any, capsys: Any, tmp_path: Path, opened: list[str]) -> None:
    folder = tmp_path / "new" / "folder"
    found = told(aws, capsys, Wish(folder=folder, opens=True))
    assert (folder / "index.html").read_bytes() == HTML
    assert (folder / "index.json").read_bytes() == b"{}"
    assert not (folder / "vulnerabilities.json").exists(), "the watch has not asked yet"
    assert found["saved"] == [str(folder / "index.html"), str(folder / "index.json")]
    assert opened == [(folder / "index.html").as_uri()]
    aws.kept["catalogue/vulnerabilities.json"] = b"[]"
    assert len(told(aws, capsys, Wish(folder=folder))["saved"]) == 3


@pytest.mark.parametrize("wish", [Wish(), Wish(folder=Path("x"))])
def test_there_may_be_none_yet(aws: Any, wish: Wish, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    aws.kept = {}
    with pytest.raises(CommandError) as error:
        catalogue(aws, Screen(), wish)
    assert (error.value.problem.code, error.value.status) == ("CATALOGUE_NOT_FOUND", 75)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "page", [b"", b"<html>", gzip.compress(HTML, mtime=0)[:-4]], ids=["empty", "plain", "cut"]
)
def test_a_page_that_is_none_is_said(aws: Any, page: bytes, tmp_path: Path) -> None:
    aws.kept[PAGE] = page
    with pytest.raises(CommandError) as error:
        catalogue(aws, Screen(), Wish(folder=tmp_path / "x"))
    assert (error.value.problem.code, error.value.status) == ("CATALOGUE_BROKEN", 75)


def test_a_folder_that_cannot_be_written_is_the_users(aws: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CommandError) as error:
        catalogue(aws, Screen(), Wish(folder=tmp_path / "file"))
    assert (error.value.problem.code, error.value.status) == ("FOLDER_NOT_FOUND", 2)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m", 60), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("168h", 604800)]
)
def test_times_are_read(text: str, seconds: int) -> None:
    assert cli._options(["catalogue", "--for", text]).good_for.total_seconds() == seconds


@pytest.mark.parametrize("text", ["8d", "169h", "0h", "1", "h", "1s", "-1h", "1.5h", "99999d", "1h "])
def test_other_times_are_refused(text: str, capsys: Any) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="7d"):
        cli._time(text)
    with pytest.raises(SystemExit) as error:
        cli._options(["catalogue", f"--for={text}"])
    assert error.value.code == 2


def test_an_hour_is_usual_and_a_terminal_decides() -> None:
    options = cli._options(["catalogue"])
    assert (options.good_for, options.open, options.save) == (timedelta(hours=1), None, None)


@pytest.mark.parametrize(
    ("region", "endpoint"), [("eu-central-2", None), ("us-east-1", "http://127.0.0.1:4566")]
)
def test_the_signature_is_one_that_every_region_takes(
    region: str, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, value)
    made = Aws(Place(region=region, endpoint_url=endpoint))
    made.__dict__["_outputs"] = {"Bucket": "box", "StateMachine": "arn"}
    address = urlsplit(made.presigned(PAGE, timedelta(days=7)))
    query = parse_qs(address.query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["604800"]
    # To the region itself: a redirect would break the signature.
    assert address.netloc == (f"box.s3.{region}.amazonaws.com" if endpoint is None else "127.0.0.1:4566")
