"""A file under construction that ends as an MCAP file must after every write.

    [ header | chunks              | end ]
                                    └─ the next flush puts its chunks here, and an end behind them
    [ header | chunks | new chunks        | end ]

The end has no summary; readers then read the chunks in order. Within one flush the new end is
written first and the place of the old one last, so that a process that is killed in between leaves
a file that reads as before. Knows the end of an MCAP file. Must not know messages.
"""

import contextlib
import os
from pathlib import Path
import shutil

from mcap.data_stream import RecordBuilder
from mcap.records import DataEnd, Footer
from mcap.writer import MCAP0_MAGIC


def _end() -> bytes:
    builder = RecordBuilder()
    DataEnd(data_section_crc=0).write(builder)
    Footer(summary_start=0, summary_offset_start=0, summary_crc=0).write(builder)
    return builder.end() + MCAP0_MAGIC


END = _end()
"""The records that end a file without a summary, 50 bytes; every MCAP chunk is longer."""


class EndedFile:
    """What is written waits in memory until `flush` or `finish`."""

    def __init__(self, path: Path) -> None:
        """Create the file.

        Raises:
            FileExistsError: There is a file or a link of that name; it is left alone.
            OSError: The file cannot be created.
        """
        self._path = path
        self._file = _create(path)
        self._committed = 0
        self._waiting = bytearray()

    @property
    def waiting(self) -> int:
        """Number of bytes that wait in memory."""
        return len(self._waiting)

    def write(self, data: bytes) -> int:
        """Append data to what waits."""
        self._waiting += data
        return len(data)

    def tell(self) -> int:
        """Return where the next byte will lie."""
        return self._committed + len(self._waiting)

    def flush(self) -> None:
        """Write what waits, and an end behind it.

        Raises:
            OSError: The disk is full, for example; the file reads as before.
        """
        self._commit(END)

    def finish(self) -> None:
        """Write what waits, which has an end of its own.

        Raises:
            OSError: The disk is full, for example; the file reads as before.
        """
        self._commit(b'')

    @property
    def in_place(self) -> bool:
        """Whether the file still lies where it was created; what is written to it is lost else."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except OSError:
            return False

    def move(self, path: Path) -> None:
        """Go on in a new file, with all that the present one holds, removed as it may be.

        Raises:
            FileExistsError: There is a file or a link of that name; it is left alone.
            OSError: The file cannot be created or written; the present one stays.
        """
        fresh = _create(path)
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
            with (
                open(self._file, 'rb', closefd=False) as old,
                open(fresh, 'wb', closefd=False) as new,
            ):
                shutil.copyfileobj(old, new)
        except OSError:
            os.close(fresh)
            path.unlink(missing_ok=True)
            raise
        os.close(self._file)
        self._file, self._path = fresh, path

    def close(self) -> None:
        """Close the file as it is; what waits is lost."""
        self._waiting.clear()
        os.close(self._file)

    def _commit(self, end: bytes) -> None:
        if not self._waiting:
            return
        data, start = memoryview(bytes(self._waiting)), self._committed
        old_end = len(END) if start else 0
        try:
            self._put(end, start + len(data))
            self._put(data[old_end:], start + old_end)
            self._put(data[:old_end], start)
        except OSError:
            os.ftruncate(self._file, start + old_end)
            # the last part may be there by half, over the old end
            with contextlib.suppress(OSError):
                self._put(END[:old_end], start)
            raise
        self._committed += len(data)
        self._waiting.clear()

    def _put(self, data: bytes | memoryview, place: int) -> None:
        view = memoryview(data)
        while view:  # a full disk may take a part first, and raise then
            count = os.pwrite(self._file, view, place)
            view, place = view[count:], place + count


def _create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
