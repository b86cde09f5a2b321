"""The board's API: three routes that read, each for users who are logged in, and the page's own files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser  # noqa: TC002 - FastAPI reads it
from airflow.api_fastapi.common.db.common import SessionDep  # noqa: TC002
from airflow.api_fastapi.core_api.security import GetUserDep, get_user
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Response, status
from fastapi.staticfiles import StaticFiles

from beamferry.airflow.dag import registry
from beamferry.beamtime import Transport
from beamferry.board import alive, flaws, page, row, space, urgency
from beamferry.board.answers import Board, Folder, Zone
from beamferry.board.rows import certificate_text
from beamferry.engine import engine
from beamferry.errors import BeamferryError
from beamferry.lftp import Totals
from beamferry.show import commands
from beamferry.web import permission
from beamferry.web.reading import Snapshot, listing, paths, runs, teams

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from beamferry.beamtime import Beamtime, Frozen, Site
    from beamferry.board import May
    from beamferry.board.answers import Row

STATIC = Path(__file__).parent / "static"
# What is known of people's data belongs in no cache, and is no page whatever a browser makes of it.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

router = APIRouter(prefix="/api")


class _Files(StaticFiles):
    """The page's files; a browser asks each time whether they changed, so that an upgrade is seen at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a file, or that it did not change."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def app() -> FastAPI:
    """Return the API; a route that is added to it needs a log-in without further ado."""
    # Airflow's own page of routes does not know these, and a page of our own would be open to all.
    made = FastAPI(
        title="Beamferry",
        dependencies=[Depends(get_user)],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    made.include_router(router)
    made.mount("/static", _Files(directory=STATIC, check_dir=False))
    return made


@router.get("/beamtimes")
def beamtimes(user: GetUserDep, session: SessionDep) -> Response:
    """Answer with all beamtimes that the user may read, most urgent first."""
    now, known = datetime.now(UTC), registry()
    site = known.site
    entries = _readable(_entries(), user, session)
    held = Snapshot.of(session, entries)
    allowed = permission.may(teams(session, [one.dag_id for one in entries]), user)
    zone = "UTC" if site is None else site.time_zone
    lines = [] if site is None else [_row(one, site, held, allowed[one.dag_id], now) for one in entries]
    return _json(
        Board(
            now=now,
            site=Zone(time_zone=zone),
            alerts=alive(held.sign, now, zone),
            registry=flaws(known.problems, shown=permission.sees_registry_problems(user)),
            space=space(map(held.known, entries), now, zone),
            beamtimes=tuple(sorted(lines, key=urgency)),
        )
    )


@router.get("/beamtimes/{key}")
def beamtime(key: str, user: GetUserDep, session: SessionDep) -> Response:
    """Answer with one beamtime in full."""
    now = datetime.now(UTC)
    one, site = _entry(key, user, session)
    held = Snapshot.of(session, [one], course=True)
    allowed = permission.may(teams(session, [one.dag_id]), user)
    return _json(
        page(
            _row(one, site, held, allowed[one.dag_id], now),
            one,
            site,
            held.known(one),
            folders=_folders(one, site, session),
            runs=runs(session, one.dag_id),
            commands=commands(one, site),
            now=now,
        )
    )


@router.get("/beamtimes/{key}/certificate")
def certificate(key: str, user: GetUserDep, session: SessionDep) -> Response:
    """Answer with the text of the last certificate as a file."""
    one, _ = _entry(key, user, session)
    text = certificate_text(Snapshot.of(session, [one]).known(one))
    if text is None:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, "The certificate is on RDS; Airflow keeps no copy of it"
        )
    # An id is made of letters, digits, - and _ alone.
    name = {"Content-Disposition": f'attachment; filename="certificate-{one.id}.txt"'}
    return Response(text, media_type="text/plain; charset=utf-8", headers=_HEADERS | name)


def _entries() -> list[Beamtime]:
    return [one for one in registry().beamtimes if not one.archived]


def _readable(entries: list[Beamtime], user: BaseUser, session: Session) -> list[Beamtime]:
    allowed = permission.readable(teams(session, [one.dag_id for one in entries]), user)
    return [one for one in entries if one.dag_id in allowed]


def _entry(key: str, user: BaseUser, session: Session) -> tuple[Beamtime, Site]:
    """Return a beamtime that the user may read, and the group's own side."""
    site, found = registry().site, [one for one in _entries() if one.key == key]
    if site is None or not found:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "The registry has no such beamtime")
    if not _readable(found, user, session):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Airflow does not let you read this beamtime's DAG")
    return found[0], site


def _row(one: Beamtime, site: Site, held: Snapshot, allowed: May, now: datetime) -> Row:
    seen = held.seen(one)
    return row(one, site, held.known(one), seen, paths(one, seen.run), allowed, now)


def _folders(one: Beamtime, site: Site, session: Session) -> tuple[Folder, ...] | None:
    """Return the folders of the source, None where its tool does not count them one by one."""
    if one.protocol is Transport.RSYNC:
        return None
    stats = listing(session, one.dag_id)
    if stats is None:
        return None
    try:
        totals = engine(one, site).totals(stats)
    except BeamferryError:
        # The run itself has told that its figures cannot be read.
        return None
    if not isinstance(totals, Totals):
        return None
    return tuple(Folder(name=each.name, bytes=each.bytes, files=each.files) for each in totals.folders)


def _json(answer: Frozen) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json", headers=_HEADERS)
