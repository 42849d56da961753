"""What Lambda takes (AWS Lambda Developer Guide, "Lambda quotas")."""

MAX_UNZIPPED_BYTES = 262_144_000
MAX_NAME = 140
MAX_DESCRIPTION = 256
MAX_LICENSE = 512

# Ours: a wheel of more bytes than a layer may have unzipped, and some for the zip's structure, is of no use.
MAX_FILE_BYTES = 300 << 20
MAX_DOWNLOAD_BYTES = 2 << 30  # of one build: room for layers that are not for Lambda
