"""Files in forms, as requests, httpx and aiohttp write them: each client spells the name of a file
with blanks, quotes or letters outside ASCII in its own way.
"""

import asyncio

import aiohttp
import httpx
import requests
from common import Part, told_by_problem

NAMES = ["note.txt", "a note.txt", 'a "quoted" note.txt', "na\u00efve \u2713.txt"]
TEXT = "na\u00efve \u2713"


def by_requests(url, key, name):
    """One file by requests."""
    answer = requests.post(url, files={"text": (name, TEXT.encode())}, headers=key, timeout=30)
    return answer.status_code, answer.json()


def by_httpx(url, key, name):
    """One file by httpx."""
    answer = httpx.put(url, files={"text": (name, TEXT.encode())}, headers=key, timeout=30)
    return answer.status_code, answer.json()


def by_aiohttp(url, key, name):
    """One file by aiohttp."""

    async def send():
        form = aiohttp.FormData()
        form.add_field("text", TEXT.encode(), filename=name)
        async with aiohttp.ClientSession(headers=key) as session, session.post(url, data=form) as answer:
            return answer.status, await answer.json()

    return asyncio.run(send())


def ask(table, places):
    """Runs all calls."""
    table.head("files in forms")
    part = Part(table, "forms", 0, told_by_problem)
    url, key = f"http://{places.plain}/predictions/notes", {"x-api-key": places.keys["scorer"]}
    for client in (by_requests, by_httpx, by_aiohttp):
        for name in NAMES:
            part.same(f"{client.__name__[3:]}, {name}", lambda: (200, [[TEXT]]), lambda: client(url, key, name))
