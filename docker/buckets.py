"""Make the buckets of the lake and of MLflow's artifacts, once; they may be there already.

    python docker/buckets.py BUCKET...

Reads AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION.
"""

from __future__ import annotations

import os
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE_S = 120
ALREADY_THERE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def main(buckets: list[str]) -> int:
    """Make every bucket, waiting for a store that is still starting; return an exit code."""
    client = boto3.client(
        "s3",
        region_name=os.environ.get("AWS_REGION", "us-east-1"),
        config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}),
    )
    deadline = time.monotonic() + PATIENCE_S
    for bucket in buckets:
        while True:
            try:
                client.create_bucket(Bucket=bucket)
                break
            except ClientError as error:
                if error.response["Error"]["Code"] in ALREADY_THERE:
                    break
                sys.stderr.write(f"error: bucket {bucket}: {error}\n")
                return 1
            except BotoCoreError as error:
                if time.monotonic() > deadline:
                    sys.stderr.write(f"error: the object store does not answer: {error}\n")
                    return 1
                time.sleep(2)
        sys.stdout.write(f"bucket {bucket} is there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
