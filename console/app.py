"""The pages. Each takes what a request says, asks the module that knows, and renders a template."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from google.api_core.exceptions import GoogleAPICallError, PermissionDenied
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from balance.core.currencies import EXPONENTS
from balance.database.firestore import TransientError
from balance.database.retry import Retry
from balance.documents.outcome import Outcome
from balance.documents.sources import Kind, is_document_id, members
from balance.operations import reconcile
from balance.operations.explain import MAX_PAGE_SIZE, read_account
from balance.operations.explain import as_json as explanation_of
from balance.operations.reconcile import State
from console import charts, entries, group, groups, oncall, workbench
from console.deployment import Deployment, Refused
from console.entries import Form, field
from console.feed import Feed, figures
from console.gate import CSRF_FIELD, Gate
from console.words import ago, delta_in_words, duration, uids_of
from emulator.chaos import Chaos
from runner.session import CallFailed
from scripts.output import User, moment, shortened, stored

HERE = Path(__file__).resolve().parent
_LOOK_EVERY_S = 0.3
_LOOK_EVERY_IN_PRODUCTION_S = 5.0
_KEEP_ALIVE_S = 15.0
_OUTCOMES = (*Outcome, "ERROR", "NOTHING")


class Console:
    """The pages of one deployment."""

    def __init__(self, deployment: Deployment, feed: Feed, token: str) -> None:
        self.deployment = deployment
        self.feed = feed
        self.token = token
        self._csrf = secrets.token_urlsafe(18)
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= {
            "u": lambda text: quote(str(text), safe=""),
            "moment": moment,
            "ago": ago,
            "duration": duration,
            "short": shortened,
        }
        self._templates.globals |= {
            "root": f"/{token}",
            "csrf_field": CSRF_FIELD,
            "csrf": self._csrf,
            "deployment": deployment,
            "names": deployment.names,
            "is_user": lambda part: isinstance(part, User),
            "delta_in_words": lambda delta, source="": delta_in_words(delta, deployment.settings, source),
            "query": lambda **parameters: urlencode({name: value for name, value in parameters.items() if value}),
            "chart": charts,
            "now": lambda: datetime.now(UTC),
        }

    def application(self) -> Gate:
        """As ASGI."""
        get, post = ["GET"], ["POST"]
        routes = [
            Route("/", self.list_groups, methods=get),
            Route("/groups", self.create_group, methods=post),
            Route("/groups/{group_id}", self.show_group, methods=get),
            Route("/groups/{group_id}/live", self.live_group, methods=get),
            Route("/groups/{group_id}/verify", self.verify, methods=get),
            Route("/groups/{group_id}/rebuild", self.rebuild, methods=post),
            Route("/groups/{group_id}/why", self.explain, methods=get),
            Route("/groups/{group_id}/entries", self.list_entries, methods=get),
            Route("/groups/{group_id}/entries", self.save_entry, methods=post),
            Route("/groups/{group_id}/document", self.edit_document, methods=get),
            Route("/groups/{group_id}/document", self.change_document, methods=post),
            Route("/groups/{group_id}/delete", self.delete_group, methods=post),
            Route("/events", self.list_events, methods=get),
            Route("/events/live", self.live_events, methods=get),
            Route("/events/{number:int}", self.interfere, methods=post),
            Route("/control", self.control, methods=post),
            Route("/oncall", self.show_oncall, methods=get),
            Route("/runbook", self.show_runbook, methods=get),
            Route("/workbench", self.show_workbench, methods=[*get, *post]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]
        handlers: Mapping[Any, Callable[[Request, Any], Response]] = {
            404: self._not_found,
            Refused: self._refused,
            CallFailed: self._refused,
            TransientError: self._refused,
            GoogleAPICallError: self._refused,
        }
        return Gate(Starlette(routes=routes, exception_handlers=handlers), self.token, self._csrf)

    # ------------------------------------------------------------------------------------------------------------ groups

    def list_groups(self, request: Request) -> Response:
        """The page of groups, and what needs attention."""
        query = request.query_params
        search, by = query.get("q", "").strip(), query.get("by", "id")
        after = query.get("after") or None
        page = groups.page(self.deployment, search, by, after)
        faults, unseen = ([], "") if search or after else self._faults()
        urgent = [] if search or after else groups.attention(self.deployment, faults, self._suspected())
        return self._page("groups.html", request, page=page, q=search, by=by, after=after, urgent=urgent, unseen=unseen)

    def _faults(self) -> tuple[list[groups.Fault], str]:
        """All faults, and why they cannot be told."""
        try:
            return groups.all_faults(self.deployment), ""
        except GoogleAPICallError as error:
            return [], f"Faults of all groups cannot be listed: {error.message}"

    def _suspected(self) -> list[str]:
        named = [
            str(line["groupId"]) for line in reversed(self.feed.lines()) if line["severity"] == "ERROR" and line["groupId"]
        ]
        found = [group_id for group_id, (_, report) in self.deployment.verified.items() if report.state is not State.TRUE]
        return [*found, *named]

    def create_group(self, request: Request) -> Response:
        """Write a new group's document."""
        group_id = entries.create_group(self.deployment, _form(request))
        return self._to(f"/groups/{quote(group_id, safe='')}")

    def delete_group(self, request: Request) -> Response:
        """Delete a group's document."""
        entries.delete_group(self.deployment, _group_id(request))
        return self._to("/")

    def show_group(self, request: Request) -> Response:
        """One group."""
        group_id, choice = _group_id(request), _choice(request)
        view = group.view(self.deployment, group_id, choice)
        return self._page("group.html", request, view=view)

    async def live_group(self, request: Request) -> Response:
        """What is shown of a group, again whenever it has changed."""
        group_id, choice = _group_id(request), _choice(request)
        pause_s = _LOOK_EVERY_IN_PRODUCTION_S if self.deployment.is_production else _LOOK_EVERY_S

        def render() -> str:
            view = group.view(self.deployment, group_id, choice)
            return self._templates.get_template("_group.html").render(view=view)

        return _stream(lambda: run_in_threadpool(group.version, self.deployment, group_id), render, pause_s)

    def verify(self, request: Request) -> Response:
        """The stored document beside its recalculation."""
        group_id = _group_id(request)
        deployment = self.deployment
        report = Retry().run(lambda: reconcile.check(deployment.firestore, deployment.settings, group_id))
        (balance,) = deployment.firestore.get([deployment.settings.layout.balance(group_id)])
        deployment.verified[group_id] = (balance.update_time, report)
        compared = group.compare(deployment, group_id, report)
        view = group.view(deployment, group_id, group.Choice(records=1))
        return self._page("verify.html", request, group_id=group_id, report=report, compared=compared, view=view)

    def rebuild(self, request: Request) -> Response:
        """Rebuild a balance, its faults included."""
        group_id = _group_id(request)
        self.deployment.check_write(field(_form(request), "project"))
        reconcile.repair(self.deployment.firestore, self.deployment.keeper, group_id)
        return self._to(f"/groups/{quote(group_id, safe='')}/verify")

    def explain(self, request: Request) -> Response:
        """The documents that a debt is made of."""
        group_id, query = _group_id(request), request.query_params
        debtor = query.get("from", "")
        creditor = query.get("to") or debtor
        deployment = self.deployment
        (found,) = deployment.firestore.get([deployment.settings.layout.group(group_id)])
        account = read_account(
            deployment.firestore, deployment.settings, group_id, found.read_time, (debtor, creditor), size=MAX_PAGE_SIZE
        )
        told = explanation_of(group_id, account, debtor, creditor, deployment.settings.unit)
        currency = query.get("currency", "")
        parts = {code: part for code, part in told["byCurrency"].items() if currency in ("", code)}
        uids = [pair[side]["uid"] for part in parts.values() for pair in part["pairs"] for side in ("from", "to")]
        deployment.names.learn([debtor, creditor, *uids])
        return self._page(
            "why.html",
            request,
            group_id=group_id,
            debtor=debtor,
            creditor=creditor,
            currency=currency,
            parts=parts,
            money=partial(_money, deployment),
        )

    # ----------------------------------------------------------------------------------------------------------- entries

    def list_entries(self, request: Request, problem: str = "", status: int = 200) -> Response:
        """Expenses and settlements, with the form for new ones."""
        group_id, deployment = _group_id(request), self.deployment
        deployment.check_documents()
        (found,) = deployment.firestore.get([deployment.settings.layout.group(group_id)])
        uids = members(found.fields or {})
        path = request.query_params.get("edit", "")
        kind = deployment.settings.layout.kind(path) if path.count("/") % 2 == 1 else None
        form: Form | None = _form(request) if problem else {}
        if kind is not None and not problem:
            (edited,) = deployment.firestore.get([path])
            form = entries.form_of(deployment, kind, edited.fields or {})
            if form is None:
                return self._to(f"/groups/{quote(group_id, safe='')}/document?{urlencode({'path': path})}")
            uids = list(dict.fromkeys([*uids, *form.get("among", ())]))
        deployment.names.learn(uids)
        return self._page(
            "entries.html",
            request,
            status=status,
            group_id=group_id,
            members=uids,
            sources=group.sources(deployment, group_id),
            currencies=sorted(EXPONENTS),
            problem=problem,
            form=form,
            path=path if kind else "",
            kind=str(kind or request.query_params.get("kind", "expense")),
        )

    def save_entry(self, request: Request) -> Response:
        """A new expense or settlement."""
        group_id = _group_id(request)
        try:
            entries.save(self.deployment, group_id, _form(request))
        except Refused as error:
            return self.list_entries(request, str(error), 422)
        return self._to(f"/groups/{quote(group_id, safe='')}?{_kept(request)}")

    def edit_document(self, request: Request, problem: str = "", text: str = "") -> Response:
        """One document of the app, as JSON."""
        group_id, path = _group_id(request), request.query_params.get("path", "")
        self.deployment.check_documents()
        entries.check_source(self.deployment, path)
        (found,) = self.deployment.firestore.get([path])
        shown = text or entries.as_json(found.fields or {})
        return self._page(
            "document.html",
            request,
            status=422 if problem else 200,
            group_id=group_id,
            path=path,
            exists=found.fields is not None,
            is_deleted=bool((found.fields or {}).get("deletedAt")),
            text=shown,
            problem=problem,
        )

    def change_document(self, request: Request) -> Response:
        """Save, delete, mark as deleted or restore it."""
        group_id, form = _group_id(request), _form(request)
        path, action = request.query_params.get("path", ""), field(form, "action")
        try:
            match action:
                case "delete":
                    entries.remove(self.deployment, path)
                case "mark":
                    entries.mark(self.deployment, path, deleted=True)
                case "restore":
                    entries.mark(self.deployment, path, deleted=False)
                case _:
                    entries.save_json(self.deployment, path, field(form, "document"))
        except Refused as error:
            return self.edit_document(request, str(error), field(form, "document"))
        return self._to(f"/groups/{quote(group_id, safe='')}")

    # ------------------------------------------------------------------------------------------------------------ events

    def list_events(self, request: Request) -> Response:
        """What came, and what became of it."""
        local = self.deployment.local
        return self._page(
            "events.html",
            request,
            **self._events(request),
            outcomes=_OUTCOMES,
            functions=local.functions() if local else [],
            chaos=local.chaos() if local else {},
            statistics=local.statistics() if local else {},
            hostile=Chaos.hostile().as_dict(),
            nightly="reconcile_balances",
        )

    def _events(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        chosen, outcome = query.get("group", "").strip(), query.get("outcome", "")
        found = self.feed.events(group=chosen, outcome=outcome)
        self.deployment.names.learn([uid for event in found for line in event.said for uid in uids_of(line["delta"])])
        return {
            "events": found,
            "group": chosen,
            "outcome": outcome,
            "holding": self.feed.holding,
            "unseen": self.feed.unseen,
            "watched": self.deployment.local is not None,
        }

    async def live_events(self, request: Request) -> Response:
        """The same, again whenever there is something new."""

        async def version() -> tuple[Any, ...]:
            return (self.feed.version, self.feed.unseen)

        def render() -> str:
            return self._templates.get_template("_events.html").render(**self._events(request))

        return _stream(version, render, _LOOK_EVERY_S)

    def interfere(self, request: Request) -> Response:
        """Send, copy, delay or drop one delivery."""
        number, form = request.path_params["number"], _form(request)
        local = self._local()
        match field(form, "action"):
            case "send":
                local.send(number)
            case "delay":
                local.send(number, delay_ms=5_000)
            case "copy":
                local.copy(number)
            case "other":
                local.copy(number, other_id=True)
            case "drop":
                local.drop(number)
        return self._to(f"/events?{_kept(request)}")

    def control(self, request: Request) -> Response:
        """Hold events, chaos, kill a function, run the nightly check."""
        form, local = _form(request), self._local()
        match field(form, "action"):
            case "hold":
                local.hold(True)
            case "release":
                local.hold(False)
            case "chaos":
                local.set_chaos(Chaos.hostile().as_dict())
            case "calm":
                local.set_chaos({})
            case "kill":
                local.kill(field(form, "function"))
            case "nightly":
                local.run_schedule(field(form, "function"))
        return self._to(f"/events?{_kept(request)}")

    def _local(self) -> Any:
        if self.deployment.local is None:
            raise Refused("This works on this machine only, beside `balance dev`.")
        return self.deployment.local

    # ----------------------------------------------------------------------------------------------------------- on call

    def show_oncall(self, request: Request) -> Response:
        """What somebody on call wants to know."""
        faults, unseen = self._faults()
        local = self.deployment.local
        functions = [function["name"] for function in local.functions()] if local else []
        return self._page(
            "oncall.html",
            request,
            figures=figures(self.feed.lines()),
            reasons=oncall.by_reason(faults),
            unseen=[text for text in (unseen, self.feed.unseen) if text],
            most=groups.FAULTS_LOOKED_AT,
            written=oncall.written(self.deployment),
            cursor=oncall.cursor(self.deployment),
            switches=oncall.switches(self.deployment, functions),
            alerts=oncall.alerts(),
        )

    def show_runbook(self, request: Request) -> Response:
        """The runbook."""
        return self._page("runbook.html", request, html=oncall.runbook())

    # --------------------------------------------------------------------------------------------------------- workbench

    def show_workbench(self, request: Request) -> Response:
        """The adapter at work on a document."""
        form = _form(request) if request.method == "POST" else {}
        kind, path = field(form, "kind") or "expense", field(form, "path") or request.query_params.get("path", "")
        text, problem, reading = field(form, "document"), "", None
        try:
            if field(form, "action") == "fetch" or (request.method == "GET" and path):
                entries.check_source(self.deployment, path)
                (found,) = self.deployment.firestore.get([path])
                if found.fields is None:
                    raise Refused(f"There is no document {path}.")
                kind, text = str(self.deployment.settings.layout.kind(path)), entries.as_json(found.fields)
            if text:
                reading = workbench.look(self.deployment, str(entries.kind_named(kind)), path, text)
        except Refused as error:
            problem = str(error)
        return self._page(
            "workbench.html",
            request,
            status=422 if problem else 200,
            kind=kind,
            path=path,
            text=text,
            problem=problem,
            reading=reading,
            kinds=list(Kind),
        )

    # ------------------------------------------------------------------------------------------------------------- pages

    def _page(self, template: str, request: Request, status: int = 200, **values: Any) -> Response:
        path = request.url.path.removeprefix(f"/{self.token}")
        html = self._templates.get_template(template).render(here=path, asked=str(request.url.query), **values)
        return HTMLResponse(html, status)

    def _to(self, path: str) -> Response:
        return RedirectResponse(f"/{self.token}{path.rstrip('?')}", 303)

    def _not_found(self, request: Request, _: Any) -> Response:
        return self._page("problem.html", request, 404, problem="There is no such page.")

    def _refused(self, request: Request, error: Any) -> Response:
        if isinstance(error, PermissionDenied):
            text = f"You may not see this: {error.message} The role roles/datastore.viewer lets you."
        else:
            text = str(error)
        status = 422 if isinstance(error, Refused) else 503
        return self._page("problem.html", request, status, problem=text)


def _form(request: Request) -> Form:
    form: Form = request.scope.get("form", {})
    return form


def _group_id(request: Request) -> str:
    group_id = request.path_params["group_id"]
    if not is_document_id(group_id):
        raise Refused(f"{group_id!r} cannot be the id of a group.")
    return str(group_id)


def _choice(request: Request) -> group.Choice:
    query = request.query_params
    records = query.get("records", "")
    wanted = int(records) if records.isdecimal() and len(records) < 5 else group.RECORDS
    return group.Choice(
        currency=query.get("currency", ""),
        pairs=query.get("debts") == "pairs",
        who=query.get("who", ""),
        records=max(1, min(wanted, group.MAX_RECORDS)),
    )


def _kept(request: Request) -> str:
    """The query of the page that a form came from."""
    return str(request.url.query)


def _money(deployment: Deployment, amount: Any, currency: str) -> str:
    return stored(amount, currency, deployment.settings.unit)


def _stream(version: Callable[[], Any], render: Callable[[], str], pause_s: float) -> StreamingResponse:
    """Server-sent events: HTML, at once and again whenever the version is another.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    async def events() -> AsyncIterator[str]:
        seen: Any = None
        quiet_s = 0.0
        while True:
            try:
                present = await version()
                if present != seen:
                    html = await run_in_threadpool(render)
                    seen, quiet_s = present, 0.0
                    yield "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
            except (TransientError, GoogleAPICallError, CallFailed, OSError):
                quiet_s = _KEEP_ALIVE_S  # it may answer again
            if quiet_s >= _KEEP_ALIVE_S:
                quiet_s = 0.0
                yield ": still here\n\n"
            await asyncio.sleep(pause_s)
            quiet_s += pause_s

    return StreamingResponse(events(), media_type="text/event-stream")
