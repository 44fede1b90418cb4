"""What a console looks like that is used: two collections, tenants, a migration, judgements, dead letters."""

from __future__ import annotations

from revec.app import App
from revec.model.document import Draft
from revec.model.index import Collection
from revec.model.judging import JudgedQuery, Quality
from revec.model.reading import Mode
from revec.postgres import judgements
from tests import steps
from tests.loopback import Loopback

OLD, NEW = "openai:text-embedding-ada-002", "openai:text-embedding-3-small"
TENANTS = ("acme", "globex", "initech")
ARTICLES = {
    "Reset a password": "Open Settings, choose Security, and follow the link in the mail that we send you.",
    "Invite a colleague": "An owner invites by mail; whoever accepts within a week joins the workspace.",
    "Export all invoices": "Billing keeps seven years of invoices. Choose a range and export them as PDF.",
    "Change the plan": "A larger plan begins at once, a smaller one with the next month.",
    "Two-factor login": "Scan the code with an app of your choice, and keep the recovery codes offline.",
    "Delete a workspace": "Only its owner may. It can be brought back for thirty days.",
    "Connect a calendar": "Events of a connected calendar show in your week, and are never written to.",
    "Why a payment failed": "Most often the card has expired, or the bank wants a second confirmation.",
    "Limits of the API": "A key may ask fifty times a second; who asks more often is told to wait.",
    "Keyboard shortcuts": "Press the question mark anywhere to see all of them.",
    "Import from a spreadsheet": "The first row names the columns; rows that do not fit are listed.",
    "Notifications": "Choose for each project what is sent by mail, and what waits for you here.",
}
ASKED = {
    "I forgot how to get in": "Reset a password",
    "my card was declined": "Why a payment failed",
    "how do I get a receipt": "Export all invoices",
    "add somebody to the team": "Invite a colleague",
    "429 too many requests": "Limits of the API",
}
REFUSED = "Scanned contract"


def articles() -> list[Draft]:
    return [
        Draft(key=f"{tenant}/{number}", title=title, body=body, tenant=tenant)
        for tenant in TENANTS
        for number, (title, body) in enumerate(ARTICLES.items(), 1)
    ]


async def built(app: App, loopback: Loopback) -> Collection:
    """`articles` before a decision, three of its documents refused; `tickets`, just filled."""
    tickets = await steps.collection(app, "tickets", OLD)
    await steps.put(
        app, tickets, [Draft(f"{n}", f"Ticket {n}", "It does not work.", "acme") for n in range(9)]
    )
    made = await steps.collection(app, "articles", OLD)
    await steps.put(app, made, articles())
    async with app.database.transaction() as conn:
        await judgements.put(conn, made, "default", judged())
    await steps.drain(app)
    for words in ASKED:
        await app.retriever.search("articles", words, k=5, tenant="acme")
    loopback.fault("refuse", times=None, match=REFUSED)
    scans = [Draft(f"scan/{n}", REFUSED, f"Page {n}", "globex") for n in range(3)]
    await steps.put(app, made, scans)
    await app.start(made, NEW, judged=Quality("default", mode=Mode.VECTOR))
    await steps.drain(app)
    loopback.clear()
    return made


def judged() -> list[JudgedQuery]:
    number = {title: n for n, title in enumerate(ARTICLES, 1)}
    return [
        JudgedQuery(words, words, {("push", f"acme/{number[title]}"): 3}, "acme")
        for words, title in ASKED.items()
    ]
