"""The file: a ZIP archive with a CSV file for each table and, written last, ``manifest.json``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streak_client.errors import ConfigurationError, InvalidInputError

FORMAT: Literal["supabase-streaks backup"] = "supabase-streaks backup"
VERSION: Literal[1] = 1
MANIFEST = "manifest.json"
LONGEST_MANIFEST = 16 * 1024 * 1024
CHUNK = 256 * 1024


class Table(BaseModel):
    """The rows of one table.

    Attributes:
        name: With its schema, such as ``public.user_streaks``.
        columns: In the order of the file.
        rows: How many.
        sha256: Of the uncompressed file, in hexadecimal digits.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")
    columns: tuple[str, ...] = Field(min_length=1)
    rows: int = Field(ge=0)
    sha256: str

    @property
    def member(self) -> str:
        """The name of its file inside the archive."""
        return f"{self.name}.csv"


class Sequence(BaseModel):
    """Where a sequence stood.

    Attributes:
        table: The table that draws from it.
        column: Its column.
        last_value: The last value drawn; 0 if none was.
    """

    model_config = ConfigDict(frozen=True)

    table: str
    column: str
    last_value: int = Field(ge=0)


class Manifest(BaseModel):
    """What an archive holds.

    Attributes:
        format: Always the same words.
        version: Of the format.
        created_at: When the snapshot was taken.
        release: Of this package.
        server_version: PostgreSQL's.
        migrations: Versions that the database had applied; empty where nobody kept account.
        tables: In an order in which they can be filled.
        sequences: Of these tables.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal["supabase-streaks backup"] = FORMAT
    version: Literal[1] = VERSION
    created_at: datetime
    release: str
    server_version: str
    migrations: tuple[str, ...]
    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]

    def rows(self, name: str) -> int:
        """Count the rows of one table.

        Args:
            name: Such as ``public.user_streaks``.

        Returns:
            How many; 0 if the table is not there.
        """
        return sum(table.rows for table in self.tables if table.name == name)


class Writer:
    """Writes an archive.

    Args:
        file: Where to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)

    @contextlib.contextmanager
    def member(self, name: str) -> Iterator[Member]:
        """Write one file of it.

        Args:
            name: Its name.

        Yields:
            Takes the bytes.
        """
        with self._zip.open(name, "w", force_zip64=True) as file:
            yield Member(file)

    def abandon(self) -> None:
        """Let go of the file, which is not whole; without this the archive would try to end it later."""
        with contextlib.suppress(OSError, ValueError):
            self._zip.close()

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and the archive's end.

        Args:
            manifest: What the archive holds.
        """
        self._zip.writestr(MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        self._zip.close()


class Member:
    """Takes the bytes of one file and hashes them.

    Args:
        file: Where to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    async def write(self, data: bytes) -> None:
        """Append bytes.

        Args:
            data: As COPY sends them.
        """
        self._hash.update(data)
        self._file.write(data)

    def sha256(self) -> str:
        """Identify what was written.

        Returns:
            Its hash, in hexadecimal digits.
        """
        return self._hash.hexdigest()


@contextlib.contextmanager
def whole_file(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Make a file that only its owner reads, and that is whole or absent.

    Args:
        path: The file.
        force: Whether one that is there is replaced.

    Yields:
        Takes the bytes.

    Raises:
        InvalidInputError: The file is there, and not to be replaced.
        ConfigurationError: It cannot be written.
    """
    if path.exists() and not force:
        raise InvalidInputError(f"{path} exists; choose another name, or --force to replace it.", field="file")
    try:
        # Beside the file, so that it can be renamed; mode 0600 from the start.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            Path(name).replace(path)
        else:
            os.link(name, path)  # fails where another process has made it meanwhile
    except ConnectionError:
        raise  # the database's, not the disk's
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        Path(name).unlink(missing_ok=True)


class Reader:
    """Reads an archive, checked as far as its manifest goes.

    Args:
        path: The file.

    Raises:
        InvalidInputError: It is no archive of ours, damaged, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
            if self._zip.getinfo(MANIFEST).file_size > LONGEST_MANIFEST:
                raise self.damaged("its manifest is too long")
            text = self._zip.read(MANIFEST)
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no whole backup of streaks"
            raise InvalidInputError(f"{path} cannot be read: {reason}.", field="file") from error
        try:
            self.manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "manifest"
            raise self.damaged(
                f"{where} is not what release 1 of the format has; a later streaks may read it"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def damaged(self, why: str) -> InvalidInputError:
        """Say that the file is not to be trusted.

        Args:
            why: What is wrong with it.

        Returns:
            The error.
        """
        return InvalidInputError(f"{self._path} cannot be restored: {why}.", field="file")

    def verify(self) -> None:
        """Read everything once and compare it with the manifest.

        Raises:
            InvalidInputError: Something is missing or altered.
        """
        for table in self.manifest.tables:
            found = hashlib.sha256()
            for chunk in self.chunks(table):
                found.update(chunk)
            if found.hexdigest() != table.sha256:
                raise self.damaged(f"{table.member} was altered")

    def chunks(self, table: Table) -> Iterator[bytes]:
        """Read the rows of a table.

        Args:
            table: The table.

        Yields:
            Bytes, as COPY takes them.

        Raises:
            InvalidInputError: They are missing or damaged.
        """
        try:
            with self._zip.open(table.member) as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError, OSError) as error:
            raise self.damaged(f"{table.member} is missing or damaged") from error
