"""MLflow's database in a home that was copied or moved: it records whole paths.

Left alone, a run of the copy would write its models into the folder of the home it came from.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fm_platform.errors import RegistryUnavailableError

_PATHS = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"), ("model_versions", "source"),
    ("model_versions", "storage_location"),
)  # fmt: skip


def follow(uri: str, artifact_root: Path, recorded: str, project: str) -> bool:
    """Let a database beside the artifacts name them where they are; return whether it did not.

    Args:
        uri: Of the database; one that lies elsewhere may belong to others and is left alone.
        artifact_root: Where the artifacts of this home are.
        recorded: What the database says of the artifacts of a project.
        project: Its name.

    Raises:
        RegistryUnavailableError: If somebody is writing for longer than 5 s.
    """
    database, root = Path(uri.removeprefix("sqlite:///")), artifact_root.absolute()
    before, _, name = recorded.rpartition("/")
    now = root.as_uri()
    if not uri.startswith("sqlite:///") or database.absolute().parent != root.parent:
        return False
    if before == now or name != project or not before.startswith("file:"):
        return False
    connection = sqlite3.connect(database, timeout=5.0)
    try:
        with connection:
            for table, column in _PATHS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?)"  # noqa: S608
                    f" WHERE substr({column}, 1, ?) = ?",
                    (now, len(before) + 1, len(before) + 1, before + "/"),
                )
    except sqlite3.OperationalError as error:
        raise RegistryUnavailableError(
            "MLflow's database is in use", where=database, found=str(error)
        ) from error
    finally:
        connection.close()
    return True
