"""What can go wrong, as a reader of the report or a caller of the command sees it.

An error has a documented code, a message of one sentence in the user's own words, a hint that says what to
do, and details for programs. Exit statuses: 2 the requirements are at fault (never retried), 75 try again
(sysexits' EX_TEMPFAIL), 70 a bug of ours (EX_SOFTWARE).
"""

from typing import Any, ClassVar, Self

from layer_builder.ground import wording

EXIT_OK = 0
EXIT_INPUT = 2
EXIT_BUG = 70
EXIT_RETRY = 75


class BuildError(Exception):
    """A build that cannot go on. Subclasses give the code; an instance may change the exit status.

    Message and hint are brought into one line of bounded length, without what a terminal would obey.
    """

    code: ClassVar[str] = "INTERNAL"
    exit_status: int = EXIT_INPUT

    def __init__(self, message: str, *, hint: str = "", details: dict[str, Any] | None = None) -> None:
        self.message = wording.sentence(message)
        self.hint = wording.sentence(hint)
        super().__init__(self.message)
        self.details = details or {}


class UsageError(BuildError):
    """The command line makes no sense."""

    code = "USAGE_INVALID"


class OptionsFileError(BuildError):
    """The file of `--options-file` is not there, or holds no options."""

    code = "OPTIONS_FILE_INVALID"


class RequirementsNotFoundError(BuildError):
    """The requirements file is not where the command line says."""

    code = "REQUIREMENTS_NOT_FOUND"


class RequirementsError(BuildError):
    """A line that is not a requirement, or one that a server must not follow."""

    code = "REQUIREMENTS_INVALID"


class ResolutionError(BuildError):
    """No set of versions satisfies the requirements."""

    code = "RESOLUTION_FAILED"


class NoWheelError(BuildError):
    """A package has no wheel that the runtime can load."""

    code = "NO_WHEEL_FOR_TARGET"


class SdistNotBuildableError(BuildError):
    """A source may be built, but not where the builder runs: it is another machine than the target's."""

    code = "SDIST_NOT_BUILDABLE_HERE"


class SdistBuildError(BuildError):
    """The build of a source distribution failed."""

    code = "SDIST_BUILD_FAILED"


class TooYoungError(BuildError):
    """What is asked for was uploaded too short a time ago for the cooldown."""

    code = "PACKAGE_TOO_YOUNG"


class UploadTimeUnknownError(BuildError):
    """There is a cooldown, and an index does not say since when it has a package's files."""

    code = "UPLOAD_TIME_UNKNOWN"


class HashMismatchError(BuildError):
    """A file is not the one that a `--hash` or the lock names."""

    code = "HASH_MISMATCH"


class IndexUnreachableError(BuildError):
    """The package index does not answer, or answers with an error."""

    code = "INDEX_UNREACHABLE"
    exit_status = EXIT_RETRY


class IndexDeniedError(BuildError):
    """The package index refuses the installation's credentials, or they cannot be had."""

    code = "INDEX_DENIED"


class AddressRefusedError(BuildError):
    """An index leads where a build must not go: this machine, a private network, another scheme."""

    code = "ADDRESS_REFUSED"


class DownloadTooLargeError(BuildError):
    """A file is longer than announced or than any that is of use, or all of them together are."""

    code = "DOWNLOAD_TOO_LARGE"


class UnsafeWheelError(BuildError):
    """A wheel that lies, is broken, or would write outside its place."""

    code = "UNSAFE_WHEEL"


class WheelTooComplexError(BuildError):
    """A wheel of which reading, or judging, takes far more time or memory than of any real one."""

    code = "WHEEL_TOO_COMPLEX"

    @classmethod
    def of(cls, wheel: str, reason: str) -> Self:
        """Word it of the wheel with this file name."""
        package = wheel.partition("-")[0]
        return cls(
            f"The wheel {wheel} is refused: {reason}, far more than in any real one.",
            hint=f"Take another version of {package}, and tell its authors.",
            details={"package": package, "wheel": wheel, "reason": reason},
        )


class LayerTooLargeError(BuildError):
    """The layer would pass what Lambda takes."""

    code = "LAYER_TOO_LARGE"


class StorageDeniedError(BuildError):
    """S3 refuses: a permission, a bucket or a setting is wrong, and trying again changes nothing."""

    code = "STORAGE_DENIED"


class StorageUnavailableError(BuildError):
    """S3 or Lambda does not answer, or is busy."""

    code = "STORAGE_UNAVAILABLE"
    exit_status = EXIT_RETRY


class PublishRefusedError(BuildError):
    """Lambda does not take the layer."""

    code = "PUBLISH_REFUSED"


class OutputError(BuildError):
    """A file of the output cannot be written."""

    code = "OUTPUT_UNWRITABLE"


class InterruptedBuildError(BuildError):
    """The process was told to stop (SIGTERM, Ctrl-C)."""

    code = "INTERRUPTED"
    exit_status = EXIT_RETRY
