"""Puts files beside the data that people read, e.g. a certificate, where others may have been before."""

from beamferry_agent.answers import PublicationRequest
from beamferry_agent.places import open_below, refuse_shared, write_whole

# For everybody who may see the data, see docs/security.md.
_FOLDER_MODE = 0o755
_FILE_MODE = 0o644


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
        for name, text in sorted(request.files.items()):
            write_whole(folder, name, text.encode("utf-8"), _FILE_MODE)
