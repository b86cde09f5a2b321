"""Alerts in Airflow: look whether anything is due, mail it, and leave a sign that the alerts are alive."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseOperator, BaseSensorOperator

from beamferry import mail
from beamferry.airflow.post import Post
from beamferry.airflow.state import BeamtimeState
from beamferry.alerts import RecipientRefusedError
from beamferry.digest import Watched, deliver, quiet, recipients
from beamferry.errors import PermanentError, TransientError
from beamferry.ledger import Refusal, Summaries, refusals
from beamferry.plan import count
from beamferry.watch import Sign, last_sign, leave, status_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow.sdk import Context

    from beamferry.airflow.state import Memory
    from beamferry.beamtime import Beamtime, Site
    from beamferry.registry import Registry

# Holds what concerns no single beamtime: when alerts last ran, and the weekly summary's own memory.
ALERTS_ASSET = "beamferry/alerts"
_MONDAY = 0
# Tries of a morning's mails reach into the night, and end before the next morning's run is kept waiting.
RETRIES = 12
RETRY_DELAY = timedelta(seconds=conf.getint("beamferry", "mail_retry_delay_seconds", fallback=300))
MAX_RETRY_DELAY = timedelta(minutes=90)
LOOK_SECONDS = conf.getint("beamferry", "alerts_look_seconds", fallback=900)
_HEALTH_SECONDS = 10.0


def link(beamtime: Beamtime) -> str:
    """Return the address of a beamtime's DAG in the web interface, '' where Airflow does not know its own."""
    return f"{base}/dags/{beamtime.dag_id}" if (base := board()) else ""


def board() -> str:
    """Return the address of the web interface, '' where Airflow does not know it."""
    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def watched(registry: Registry, memory: Memory, now: datetime) -> list[Watched]:
    """Return every beamtime with what its asset says; ``memory`` is the key of the ledger."""
    found = []
    for beamtime in registry.beamtimes:
        if beamtime.archived:
            continue
        state = BeamtimeState(beamtime.asset_name)
        before = state.ledger(memory)
        ledger = before.seen(now)
        if ledger is not before:
            state.set(memory, ledger.stored())
        found.append(Watched(beamtime, state.known(), ledger, link(beamtime)))
    return found


def keeper(memory: Memory) -> Callable[[Watched], None]:
    """Return what stores the ledger of a beamtime."""

    def keep(one: Watched) -> None:
        BeamtimeState(one.beamtime.asset_name).set(memory, one.ledger.stored())

    return keep


def rehearsed(context: Context) -> date | None:
    """Return the day whose morning is rehearsed, None for the real thing."""
    day = context["params"].get("as_of")
    return None if day is None else date.fromisoformat(str(day))


class _Alerting(BaseOperator):
    """What the sensor and the sender share."""

    def __init__(self, *, registry: Registry, site: Site, **kwargs: Any) -> None:
        """Keep the registry; it is read again each time the DAG is parsed."""
        super().__init__(**kwargs)
        self.registry = registry
        self.site = site

    def moment(self, context: Context) -> datetime:
        """Return the present, or the morning of the day that is rehearsed."""
        day = rehearsed(context)
        if day is None:
            return datetime.now(UTC)
        return datetime.combine(day, time(7), tzinfo=self.zone)

    def memory(self, context: Context) -> Memory:
        """Return the key of the ledger; a rehearsal has its own, so that it silences no real alert."""
        return "alerts" if rehearsed(context) is None else "rehearsal"

    @property
    def warning(self) -> str:
        """What keeps beamtimes from being watched."""
        if not (problems := len(self.registry.problems)):
            return ""
        return f"{count(problems, 'problem')} in the registry: those beamtimes are not watched. Run 'beamferry check'."

    def day(self, now: datetime) -> date:
        """Return the day at the site."""
        return now.astimezone(self.zone).date()

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.site.time_zone)

    def summary_owed(self, person: str, now: datetime) -> bool:
        """Say whether the weekly summary is wanted, it is Monday, and this person was not sent it today."""
        day, wanted = self.day(now), self.site.weekly_summary
        return wanted and day.weekday() == _MONDAY and summaries().owed(person, day, self.zone)

    def refused(self, everything: Collection[Watched]) -> dict[str, Refusal]:
        """Return whom the mail server refused when it was last given a mail for them."""
        known = chain(summaries().outcomes, *(one.ledger.outcomes for one in everything))
        return refusals(known, recipients(everything, self.site))

    def awake(self, everything: Collection[Watched], now: datetime) -> list[str]:
        """Return whom a mail can be tried for; who was refused for good today is tried again tomorrow.

        That everybody is refused is the server's own fault: then all are tried.
        """
        people, refused = recipients(everything, self.site), self.refused(everything)
        resting = {
            person for person, one in refused.items() if one.for_good and self.day(one.at) == self.day(now)
        }
        return [person for person in people if person not in resting or len(resting) == len(people)]

    def sign(self, *, mails: int, people: Collection[str], refused: Mapping[str, Refusal]) -> None:
        """Leave the sign of life on disk, in the asset, and where a health check listens.

        Where the server refuses everybody, the alarm did not do its work: the last sign is kept, and says whom.
        """
        whom = tuple(refused.values())
        if people and len(refused) >= len(people):
            if (last := last_sign(status_file(os.environ))) is not None:
                self._leave(last.model_copy(update={"refused": whom}))
            return
        self._leave(Sign(at=datetime.now(UTC), mails=mails, recipients=len(people), refused=whom))
        address = conf.get("beamferry", "health_check_url", fallback="")
        if not address:
            return
        try:
            httpx.get(address, timeout=_HEALTH_SECONDS).raise_for_status()
        except httpx.HTTPError as error:
            # Whoever listens there notices by himself that nothing came. The address may hold a key: not logged.
            self.log.warning("The health check could not be told: %s", type(error).__name__)

    @staticmethod
    def _leave(sign: Sign) -> None:
        leave(status_file(os.environ), sign)
        BeamtimeState(ALERTS_ASSET).set("alerts_ran", sign.model_dump(mode="json"))


class AlertsDue(_Alerting, BaseSensorOperator):
    """Fire when anybody has anything to be told; while nobody has, prove that the mail server would take it."""

    def poke(self, context: Context) -> bool:
        """Look once.

        Raises:
            PermanentError: the registry names nobody to be told.
        """
        now = self.moment(context)
        everything = watched(self.registry, self.memory(context), now)
        people = recipients(everything, self.site)
        if everything and not people:
            raise PermanentError(
                "alerts-nobody",
                "The registry names nobody who is told of deadlines",
                "write mail addresses under site: notify:",
            )
        if rehearsed(context) is not None or any(
            self.summary_owed(person, now) or any(one.ripe(self.site, person, now) for one in everything)
            for person in self.awake(everything, now)
        ):
            return True
        try:
            Post(self.site).prove()
        except (PermanentError, TransientError) as error:
            self.log.warning("Nothing is due, but a mail could not be sent: %s", error)
        else:
            self.log.info("Nothing is due; the mail server answers")
            self.sign(mails=0, people=people, refused=self.refused(everything))
        return False


class SendDigests(_Alerting):
    """Mail to everybody what is outstanding, one digest each, most urgent first."""

    at_once = False

    def execute(self, context: Context) -> int:
        """Send; returns how many mails the server took.

        What became of one person's mail is kept before the next one's is sent.

        Raises:
            TransientError: somebody's mail was not taken; the others have theirs, and the next try sends the rest.
        """
        now, memory = self.moment(context), self.memory(context)
        rehearsal = rehearsed(context) is not None
        everything = watched(self.registry, memory, now)
        people, refused = recipients(everything, self.site), self.refused(everything)
        warning = " ".join(filter(None, (self.warning, *(f"{one.error}." for one in refused.values()))))
        sent, failed = 0, dict[str, RecipientRefusedError | TransientError]()
        for person in people if rehearsal else self.awake(everything, now):
            try:
                sent += self._tell(person, everything, now, warning, memory)
            except (RecipientRefusedError, TransientError) as error:
                self.log.warning("%s was not told: %s", person, error)
                failed[person] = error
            # The next person's mail must see what this one's changed; what is known stays that of the morning.
            everything = [
                replace(one, ledger=BeamtimeState(one.beamtime.asset_name).ledger(memory))
                for one in everything
            ]
        self.log.info("%d of %d people were told", sent, len(people))
        self._conclude(sent, failed, people, self.refused(everything), rehearsal=rehearsal)
        return sent

    def _tell(
        self, person: str, everything: list[Watched], now: datetime, warning: str, memory: Memory
    ) -> bool:
        """Send one person what is outstanding, else the summary where that is wanted; returns whether a mail went."""
        rehearsal, post = memory == "rehearsal", Post(self.site)
        summary = not rehearsal and not self.at_once and self.summary_owed(person, now)
        made = deliver(
            person,
            everything,
            self.site,
            now,
            board=board(),
            warning=warning,
            at_once=self.at_once,
            keep=keeper(memory),
            send=lambda found: post.send(mail.digest(found, rehearsal=rehearsal)),
        )
        if not summary:
            return made is not None
        if made is None:
            week = quiet(person, everything, self.site, now, board=board(), warning=warning)
            try:
                post.send(mail.all_well(week))
            except RecipientRefusedError as error:
                _keep_summary(person, now, error.words)
                raise
        _keep_summary(person, now)
        return True

    def _conclude(
        self,
        sent: int,
        failed: Mapping[str, RecipientRefusedError | TransientError],
        people: Collection[str],
        refused: Mapping[str, Refusal],
        *,
        rehearsal: bool,
    ) -> None:
        """Leave the sign of life where the alarm did its work, and raise what has to be tried again."""
        server = [error for error in failed.values() if isinstance(error, TransientError)]
        if not rehearsal and (sent or failed or not self.at_once) and (sent or not server):
            self.sign(mails=sent, people=people, refused=refused)
        if server:
            raise server[-1]
        owed = [one for person, one in refused.items() if person in failed and not one.for_good]
        if failed and len(refused) >= len(people):
            owed = list(refused.values())
        if owed:
            raise TransientError("mail-recipient-refused", owed[-1].error.problem, "this is tried again")


class MailsAgain(SendDigests):
    """Mail what should have been told at once and was not: nothing else, and nothing where there is none."""

    at_once = True


def summaries() -> Summaries:
    """Return who got the weekly summary."""
    return Summaries.read(BeamtimeState(ALERTS_ASSET).get("alerts"))


def _keep_summary(person: str, now: datetime, refusal: str | None = None) -> None:
    BeamtimeState(ALERTS_ASSET).set("alerts", summaries().sent(person, now, refusal).stored())
