"""Puts files beside the data that people read, e.g. a certificate, where others may have been before."""

import os
import stat

from beamferry_agent.answers import PublicationRequest
from beamferry_agent.places import open_below, place_error, refuse_shared, write_whole

# For everybody who may see the data, see docs/security.md.
_FOLDER_MODE = 0o755
_FILE_MODE = 0o644
_GROUP_READS = 0o050


def answer(text: str) -> str:
    """Answer a PublicationRequest. Raises PlaceError."""
    publish(PublicationRequest.from_json(text))
    return "{}"


def publish(request: PublicationRequest) -> None:
    """Write the request's files, each whole or not at all.

    Raises PlaceError when the folder is not this account's alone to write to, or a file cannot be written.
    """
    with open_below(request.root, request.folder, _FOLDER_MODE) as folder:
        refuse_shared(folder, request.folder)
        if request.opens:
            _open_to_group(folder, request.folder)
        for name, text in sorted(request.files.items()):
            write_whole(folder, name, text.encode("utf-8"), _FILE_MODE)


def _open_to_group(folder: int, path: str) -> None:
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & _GROUP_READS == _GROUP_READS:
        return
    try:
        os.fchmod(folder, mode | _GROUP_READS)
    except OSError as error:
        raise place_error(path, error)
