"""The command line: options in both forms of the original tool, words for people, statuses for machines."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from layer_builder import __version__, environment
from layer_builder.ground import redaction, wording
from layer_builder.ground.errors import EXIT_BUG, EXIT_OK, BuildError, InterruptedBuildError, UsageError
from layer_builder.ground.limits import MAX_UNZIPPED_BYTES
from layer_builder.ground.target import ARCHITECTURES, RUNTIMES
from layer_builder.options import AUTO, DEFAULT_ARCHITECTURE, DEFAULT_RUNTIME, Options, staged
from layer_builder.results.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from layer_builder.results.report import Layer

log = logging.getLogger("layer_builder")

# Options that have a value, by their short and long names.
_LONG_NAMES = {
    "-p": "--path",
    "-r": "--requirements",
    "-n": "--name",
    "-s": "--publish-bucket",
    "-k": "--publish-prefix",
    "-l": "--license",
    "-d": "--description",
    "-o": "--output",
}
_VALUED = {
    *_LONG_NAMES.values(),
    "--architecture",
    "--runtime",
    "--report",
    "--staging",
    "--reuse",
    "--version-id",
    "--allow-sdist",
    "--system-libraries",
    "--needed-library",
    "--constraint",
    "--options-file",
} | {"--size-limit", "--exclude", "--cooldown", "--cooldown-exempt", "--fix"}
_TOGETHER = re.compile(r"(-[prnskldo])(.+)", re.DOTALL)
_EPILOG = """\
examples:
  layer-builder -r 'requests==2.32.3|httpx==0.27.2' -n http
  layer-builder -p requirements.txt -n data --architecture x86_64 --runtime python3.12 --output layers/
  layer-builder "-p s3://bucket/requirements.txt" "-n web" "-s bucket"

environment:
  LAYER_BUILDER_CACHE      folder for wheels and index pages (default: ~/.cache/layer-builder)
  LAYER_BUILDER_INDEX_URL  the package index (default: the public one)
  LAYER_BUILDER_EXTRA_INDEX_URLS  indexes to ask before it, with commas between
  LAYER_BUILDER_ALLOWED_INDEXES   beginnings of addresses that the requirements may name, with commas between
  LAYER_BUILDER_INDEX_SECRET      name of a secret in AWS Secrets Manager with the indexes' credentials
  LAYER_BUILDER_CODEARTIFACT      ARN of a CodeArtifact repository to take as the package index
  LAYER_BUILDER_COOLDOWN          the least --cooldown, for every build
  LAYER_BUILDER_COOLDOWN_EXEMPT   packages, or beginnings of addresses of indexes, exempt from that
  HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE  as for most tools
  AWS_…                    as for any AWS tool, AWS_ENDPOINT_URL among them
  AWS_BATCH_JOB_ATTEMPT    with --staging, the number of the attempt (default: 1)

exit status: 0 done; 2 the requirements or options are at fault; 75 try again; 70 a bug of layer-builder
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one build; return the exit status.

    Every status but 0 leaves a report with the error, if the command line names a place for one.
    """
    log_to_stderr()
    given = normalized(sys.argv[1:] if arguments is None else arguments)
    started, report, place = time.perf_counter(), Report(), _report_of(given)
    is_new = bool(_staging_of(given))
    try:
        _stop_on_signals()
        options = parse(given)
        place, report.architecture, report.runtime = (
            options.report_place,
            options.architecture,
            options.runtime,
        )
        from layer_builder.build import build

        build(options, environment.read(), report)
    except BuildError as error:
        report.error = error
    except Exception:
        log.exception("layer-builder met a bug of its own")
        report.error = _bug()
    status = _close(report, place, time.perf_counter() - started, is_new=is_new)
    if report.layer and status == EXIT_OK:
        sys.stdout.write(wording.visible(_result(report.layer, report)))
    return status


def parse(arguments: Sequence[str]) -> Options:
    """Read a normalized command line, and the file of options that it may name.

    Raises:
        UsageError: it makes no sense.
        OptionsFileError, StorageDeniedError, StorageUnavailableError: the file cannot be used.
    """
    values = vars(_parser().parse_args(_expanded(arguments)))
    values["allow_sdist"] = tuple(values["allow_sdist"])
    values["system_libraries"] = tuple(values["system_libraries"]) or (AUTO,)
    values["needed_libraries"] = tuple(values["needed_libraries"])
    values["constraints"] = tuple(values["constraints"])
    values["exclude"] = tuple(values["exclude"])
    values["cooldown_exempt"] = tuple(values["cooldown_exempt"])
    values["fixes"] = tuple(values["fixes"])
    return Options(**values, attempt=_attempt())


def _expanded(arguments: Sequence[str]) -> list[str]:
    """Put what a normalized command line's file of options holds in front of the rest, which counts more."""
    name = "--options-file"
    files = [one for one in arguments if one.startswith(f"{name}=")]
    if not files:
        return list(arguments)
    if len(files) > 1:
        raise UsageError(f"{name} is given {len(files)} times.", hint="Put all options into one file.")
    from layer_builder import options_file

    location = _value_of(name, files)
    found = normalized(options_file.read(location))
    options_file.check(location, found)
    return [*found, *(one for one in arguments if one not in files)]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"The command line is wrong: {message}.", hint="layer-builder -h lists the options.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="layer-builder",
        description="Build an AWS Lambda layer from Python requirements, by merging wheels.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-p", "--path", default="", metavar="PATH", help="requirements file, a path or s3://BUCKET/KEY")
    add(
        "-r",
        "--requirements",
        dest="inline",
        default="",
        metavar="LINES",
        help="requirements, | between lines",
    )
    add("-n", "--name", default="layer", help="the layer's name (default: %(default)s)")
    add(
        "-s",
        "--publish-bucket",
        default="",
        metavar="BUCKET",
        help="upload the zip there and publish a version",
    )
    add(
        "-k",
        "--publish-prefix",
        default="python",
        metavar="PREFIX",
        help="with -s: the key's prefix (default: python)",
    )
    add("-l", "--license", help="the layer's license")
    add("-d", "--description", help="the layer's description (default: the requirements)")
    add("--architecture", default=DEFAULT_ARCHITECTURE, metavar="NAME",
        help=f"{' or '.join(ARCHITECTURES)} (default: %(default)s)")  # fmt: skip
    add(
        "--runtime",
        default=DEFAULT_RUNTIME,
        metavar="NAME",
        help=f"{', '.join(RUNTIMES)} (default: %(default)s)",
    )
    add(
        "-o",
        "--output",
        default="",
        metavar="WHERE",
        help="the zip: a file, or a folder or s3:// prefix ending in /",
    )
    add("--report", default="", metavar="WHERE", help="write a report there, a path or s3://BUCKET/KEY")
    add(
        "--staging",
        default="",
        metavar="S3_PREFIX",
        help="put all that the build leaves there, below the attempt's number; nothing there is replaced",
    )
    add("--reuse", default="", metavar="S3_PREFIX", help="with --staging: where finished layers are found")
    # For the help: by now it has been replaced by what is in it.
    add(
        "--options-file",
        default=argparse.SUPPRESS,
        metavar="WHERE",
        help="more options, as a JSON list of texts: a path or s3://BUCKET/KEY",
    )
    add("--version-id", default="", metavar="ID", help="with an s3:// path: the object's version")
    add(
        "--allow-sdist",
        action="append",
        default=[],
        metavar="PROJECT",
        help="may be built from source (repeatable)",
    )
    add("--system-libraries", action="append", default=[], metavar="HOW",
        help="missing shared libraries: auto (the default) bundles them, check fails, the name of a system "
        "package bundles that one's too (repeatable)")  # fmt: skip
    add("--needed-library", dest="needed_libraries", action="append", default=[], metavar="SONAME",
        help="a library that a trial of the layer found missing, such as libvips.so.42: it is bundled as "
        "well (repeatable)")  # fmt: skip
    add(
        "--constraint",
        dest="constraints",
        action="append",
        default=[],
        metavar="REQUIREMENT",
        help="a version that a package must have if it is needed, such as 'urllib3<2' (repeatable)",
    )
    add(
        "--bytecode",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="add compiled bytecode while there is room (the default), or not",
    )
    add(
        "--no-import-check",
        dest="import_check",
        action="store_false",
        help="do not import what was asked for from the finished zip",
    )
    add("--size-limit", type=int, default=MAX_UNZIPPED_BYTES, metavar="BYTES",
        help="how large the layer may be unzipped (default: %(default)s, what Lambda takes)")  # fmt: skip
    add(
        "--no-fit",
        dest="fit",
        action="store_false",
        help="do not leave tests, headers and the like out of a layer that is too large",
    )
    add("--slim", action="store_true", help="leave tests, headers and the like out of a layer of any size")
    add("--exclude", action="append", default=[], metavar="PROJECT",
        help="leave a package out that the runtime or another layer has (repeatable)")  # fmt: skip
    add("--cooldown", default="", metavar="DURATION",
        help="choose only what was uploaded that long ago, such as '7 days' (default: anything)")  # fmt: skip
    add("--cooldown-exempt", action="append", default=[], metavar="PROJECT",
        help="with --cooldown: of this package the newest may be taken (repeatable)")  # fmt: skip
    add("--fix", dest="fixes", action="append", default=[], metavar="PROJECT==VERSION",
        help="at least this version, also in a cooldown, if it was there by then (repeatable)")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def normalized(arguments: Sequence[str]) -> list[str]:
    """Write every option that has a value as `--long-name=value`.

    The original tool was called with both in one argument, `"-p VALUE"`; and argparse would take a value that
    begins with a dash for an option.
    """
    written: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, value = argument, None
        if match := _TOGETHER.fullmatch(argument):
            name, value = match[1], match[2].strip()
        name = _LONG_NAMES.get(name, name)
        if name in _VALUED and value is None:
            value = next(rest, None)
        written.append(name if value is None else f"{name}={value}")
    return written


def log_to_stderr() -> None:
    """Show our own lines, and of the libraries' what they warn of."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(redaction.Formatter("%(message)s"))
    if logging.lastResort:
        logging.lastResort.setFormatter(handler.formatter)
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _report_of(arguments: Sequence[str]) -> str:
    """Find the report's place even in a command line that is wrong elsewhere."""
    if staging := _staging_of(arguments):
        # Whoever knows the prefix could write there in our place: it is nothing for the log.
        redaction.remember(*(part for part in staging.rpartition("/")[0].split("/")[-1:] if part))
        return staged("report.json", staging, _attempt())
    return _value_of("--report", arguments)


def _staging_of(arguments: Sequence[str]) -> str:
    return _value_of("--staging", arguments)


def _value_of(option: str, arguments: Sequence[str]) -> str:
    prefix = f"{option}="
    return next((one.removeprefix(prefix) for one in arguments if one.startswith(prefix)), "")


def _attempt() -> int:
    """Which try of a Batch job this is, from 1 (AWS Batch User Guide, "Automated job retries")."""
    number = os.environ.get("AWS_BATCH_JOB_ATTEMPT", "")
    return int(number) if re.fullmatch(r"[1-9]\d{0,2}", number, re.ASCII) else 1


def _stop_on_signals() -> None:
    """End the build on SIGTERM or Ctrl-C as on an error: no half-written file stays, a report is left."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        raise InterruptedBuildError(
            f"The build was told to stop ({signal.Signals(number).name}).", hint="Start it again."
        )

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _bug() -> BuildError:
    error = BuildError(
        "layer-builder met a bug of its own.", hint="The log has the details; please report them."
    )
    error.exit_status = EXIT_BUG
    return error


def _close(report: Report, place: str, seconds: float, *, is_new: bool = False) -> int:
    """Leave the report, say what went wrong, give the exit status."""
    report.timings["total"] = round(seconds, 4)
    for warning in report.warnings:
        log.warning("warning: %s", wording.sentence(warning))
    failures = [report.error] if report.error else []
    if place:
        from layer_builder.results import storage

        try:
            storage.write(place, report.to_json(), "application/json", is_new=is_new)
        except BuildError as error:
            failures.append(error)
    for failure in failures:
        log.error("error %s: %s", failure.code, failure.message)
        if failure.hint:
            log.error("hint: %s", failure.hint)
    return failures[0].exit_status if failures else EXIT_OK


def _result(layer: Layer, report: Report) -> str:
    published = f"{layer.layer_version_arn} from " if layer.layer_version_arn else ""
    sizes = f"{layer.zip.bytes / 1e6:.1f} MB ({layer.zip.unzipped_bytes / 1e6:.1f} MB unzipped)"
    what = f"{len(report.packages)} packages for {report.runtime} on {report.architecture}"
    return f"{published}{layer.zip.location}: {what}, {sizes}, {report.timings['total']:.2f} s\n"
