"""A running server as the command line sees it: where it is, and JSON from it. Standard library only."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Annotated, Any

import typer

from serving.cli.configured import configuration
from serving.cli.output import fail

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The server.  [default: that of --config]"),
]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key", envvar="LIGHTBOX_API_KEY", help="The tenant's key, where one is set."),
]
TIMEOUT_S = 30.0


class Client:
    """Asks one server; every failure is one sentence and exit code 2."""

    def __init__(self, url: str | None, api_key: str | None) -> None:
        self._url = (url or _running_server()).rstrip("/")
        self._headers = {"X-Api-Key": api_key} if api_key else {}

    def json(self, path: str, **query: str | int | None) -> Any:
        """The JSON document at `path`, with the queries that are not None."""
        return json.loads(self.bytes(path, **query))

    def bytes(self, path: str, **query: str | int | None) -> bytes:
        given = {key: value for key, value in query.items() if value is not None}
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")
        if not url.startswith(("http://", "https://")):
            fail(f"{self._url} is no http or https address")
        request = urllib.request.Request(url, headers=self._headers)  # noqa: S310 - checked above
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
                data: bytes = response.read()
                return data
        except urllib.error.HTTPError as error:
            fail(_said(error))
        except (urllib.error.URLError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            fail(f"no server answers at {self._url}: {reason}")


def _said(error: urllib.error.HTTPError) -> str:
    try:
        body = json.loads(error.read())
        return str(body.get("error") or body.get("detail"))
    except (ValueError, AttributeError):
        return f"the server answered {error.code} {error.reason}"


def _running_server() -> str:
    folder = configuration().data_dir
    try:
        return str(json.loads((folder / "server.json").read_text())["http"])
    except (OSError, ValueError, KeyError):
        fail(f"no server runs on {folder}; name one with --url, or start it with 'lightbox serve'")
