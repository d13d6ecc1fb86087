"""One folder of links to the databases of several sources, each under an id of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from floe.cluster.databases.places import database_path, has_own_folder
from floe.configs.errors import UserError
from floe.configs.files.home_folder import make_writable

FOLDER, DESCRIPTIONS = "mixtures", "database_description"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDatabase:
    """A database of a source; `suite` holds its further contents as `<database_id>/*.sqlite`."""

    databases_dir: Path
    database_id: str
    suite: Path | None


def joined_databases(home_dir: Path, databases: Mapping[str, SourceDatabase]) -> Path:
    """Return a folder with `<id>/<id>.sqlite` of each database by its new id, its descriptions and suite next to it.

    The folder is named by all its links, and made whole or not at all. Raises UserError for a database or a suite that
    can't be read.
    """
    links = {name: target for new_id, one in databases.items() for name, target in _links(new_id, one).items()}
    listed = json.dumps([[name, str(target)] for name, target in sorted(links.items())])
    home = home_dir / FOLDER
    place = home / hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    if place.is_dir():
        return place
    make_writable(home)
    unfinished = Path(tempfile.mkdtemp(dir=home, prefix=".unfinished-"))
    try:
        unfinished.chmod(0o755)
        for name, target in links.items():
            (unfinished / name).parent.mkdir(exist_ok=True)
            (unfinished / name).symlink_to(target)
        os.rename(unfinished, place)
    except OSError:
        if not place.is_dir():  # else another run has made it in the meantime
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return place


def _links(new_id: str, one: SourceDatabase) -> dict[str, Path]:
    """Return the targets by the link's name in the joined folder."""
    main = database_path(one.databases_dir, one.database_id)
    links = {f"{new_id}/{new_id}.sqlite": main.resolve()}
    log = Path(f"{main}-wal")
    if log.is_file():  # without it the database would count as one that nobody has changed since
        links[f"{new_id}/{new_id}.sqlite-wal"] = log.resolve()
    if has_own_folder(main):
        if (main.parent / DESCRIPTIONS).is_dir():
            links[f"{new_id}/{DESCRIPTIONS}"] = (main.parent / DESCRIPTIONS).resolve()
        links |= {f"{new_id}/own-{path.name}": path.resolve() for path in _contents(main.parent) if path != main}
    if one.suite is not None:
        further = _contents(one.suite / one.database_id)
        links |= {f"{new_id}/suite-{path.name}": path.resolve() for path in further}
    return links


def _contents(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as fault:
        raise UserError(f"Can't look into {folder} ({fault.strerror}): check its permissions.") from None
    return [path for path in found if path.suffix == ".sqlite" and not path.name.startswith(".")]
