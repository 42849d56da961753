"""What Lambda takes (AWS Lambda Developer Guide, "Lambda quotas")."""

MAX_UNZIPPED_BYTES = 262_144_000
MAX_NAME = 140
MAX_DESCRIPTION = 256
MAX_LICENSE = 512
